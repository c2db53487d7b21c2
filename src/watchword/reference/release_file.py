"""Release files: what a release consists of, in TOML (``docs/reference/release-file.md``).

As strict as the other documents: a key that is not known, a value of the wrong kind or a name that does not fit is
refused with its place, before any artifact is read.
"""

from __future__ import annotations

import re
import tomllib
import uuid
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from watchword.errors import MalformedError
from watchword.policy.document import fail
from watchword.policy.known_bad import KnownBadDocument
from watchword.policy.stack import Name, Time

__all__ = [
    "MAX_RELEASE_SIZE",
    "BootTable",
    "Grub",
    "Kernel",
    "Release",
    "SecureBootTable",
    "ShimGrub",
    "SystemdBoot",
    "Uki",
    "parse_release",
]

MAX_RELEASE_SIZE = 1 << 20  # bytes
_WHAT = "release file"
_AT = re.compile(r"^(?P<why>.*?) - at `(?:key in )?\$\.?(?P<path>.*)`$", re.DOTALL)

_File = Annotated[str, Meta(min_length=1, max_length=4096)]
_Files = Annotated[tuple[_File, ...], Meta(max_length=64)]
_Commands = Annotated[tuple[Annotated[str, Meta(min_length=1, max_length=65536)], ...], Meta(min_length=1)]


class _Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename=lambda name: name.replace("_", "-")):
    """A table of a release file: keys with hyphens."""


class FirmwareTable(_Table, frozen=True):
    sheets: Annotated[tuple[_File, ...], Meta(min_length=1, max_length=256)]


class SecureBootTable(
    msgspec.Struct,
    frozen=True,
    forbid_unknown_fields=True,
    rename={"pk": "PK", "kek": "KEK"},
):
    state: Literal["on", "off", "not-enrolled"]
    variables: _File | None = None
    owner: str | None = None
    pk: _Files = ()
    kek: _Files = ()
    db: _Files = ()
    dbx: _Files = ()
    dbt: _Files = ()
    dbr: _Files = ()

    def lists(self) -> dict[str, tuple[str, ...]]:
        """The files of each key database that are named one by one."""
        named = {"PK": self.pk, "KEK": self.kek, "db": self.db, "dbx": self.dbx, "dbt": self.dbt, "dbr": self.dbr}
        return {name: files for name, files in named.items() if files}


class BootTable(_Table, frozen=True, kw_only=True, tag_field="kind"):
    name: Name = ""


class Uki(BootTable, frozen=True, kw_only=True, tag="uki"):
    image: _File
    credentials: _Files = ()
    global_credentials: _Files = ()
    sysexts: _Files = ()


class SystemdBoot(BootTable, frozen=True, kw_only=True, tag="systemd-boot"):
    loader: _File
    image: _File | None = None
    esp: _File | None = None
    entry: _File | None = None


class ShimGrub(BootTable, frozen=True, kw_only=True, tag="shim-grub"):
    shim: _File
    grub: _File
    commands: _Commands
    files: dict[str, _File]
    built_in: tuple[str, ...] = ()


class Grub(BootTable, frozen=True, kw_only=True, tag="grub"):
    grub: _File
    commands: _Commands
    files: dict[str, _File]
    built_in: tuple[str, ...] = ()


class Kernel(BootTable, frozen=True, kw_only=True, tag="kernel"):
    kernel: _File
    command_line: Annotated[str, Meta(max_length=2048)]
    memory: Annotated[int, Meta(ge=128, le=1 << 24)]
    initrd: _File | None = None


class Release(_Table, frozen=True):
    format: Literal["watchword-release/1"]
    name: Name
    version: Name
    serial: Annotated[int, Meta(ge=1, le=2**53)]
    secure_boot: SecureBootTable
    boot: Annotated[tuple[Uki | SystemdBoot | ShimGrub | Grub | Kernel, ...], Meta(min_length=1, max_length=64)]
    banks: Annotated[tuple[Literal["sha256", "sha384", "sha512"], ...], Meta(min_length=1)] = ("sha256",)
    pool: Name = "default"
    channel: Name = "stable"
    issued: Time | None = None
    not_before: Time | None = None
    not_after: Time | None = None
    supersedes: _Files = ()
    known_bad: Annotated[tuple[KnownBadDocument, ...], Meta(max_length=1024)] = ()
    firmware: FirmwareTable | None = None
    disk: _File | None = None
    runtime: dict[str, Any] | None = None


def parse_release(data: bytes) -> Release:
    """Read a release file of at most 1 MiB. Raises MalformedError with the line or the key that is wrong."""
    if len(data) > MAX_RELEASE_SIZE:
        fail(_WHAT, "", f"is {len(data)} bytes long, {MAX_RELEASE_SIZE} are allowed")
    try:
        value = tomllib.loads(data.decode("utf-8"))
        release = msgspec.convert(value, Release, strict=True)
    except UnicodeDecodeError:
        fail(_WHAT, "", "is not valid UTF-8")
    except (tomllib.TOMLDecodeError, RecursionError) as error:  # the decoder's message has line and column
        fail(_WHAT, "", str(error))
    except msgspec.ValidationError as error:
        at = _AT.match(str(error))
        fail(_WHAT, at["path"] if at else "", at["why"] if at else str(error))
    _check(release)
    return release


def _check(release: Release) -> None:
    if len(set(release.banks)) != len(release.banks):
        fail(_WHAT, "banks", "a bank is there twice")
    names = [boot_name(release, i) for i in range(len(release.boot))]
    for i, name in enumerate(names):
        if name in names[:i]:
            fail(_WHAT, f"boot[{i}].name", f"{name} is already used")
    _check_secure_boot(release.secure_boot)
    for i, boot in enumerate(release.boot):
        _check_boot(boot, release.secure_boot.state == "on", f"boot[{i}]")


def boot_name(release: Release, index: int) -> str:
    """What the variant of ``boot[index]`` is called: its name, or its kind."""
    boot = release.boot[index]
    return boot.name or str(boot.__struct_config__.tag)


def _check_secure_boot(table: SecureBootTable) -> None:
    lists = table.lists()
    if table.state == "not-enrolled" and (table.variables or lists):
        fail(_WHAT, "secure-boot", "the state not-enrolled means that there are no keys: leave them out")
    if table.variables and lists:
        fail(_WHAT, "secure-boot.variables", "give a variable store or the files of the key databases, not both")
    if table.state == "on" and not table.variables and not {"PK", "KEK", "db"} <= set(lists):
        fail(_WHAT, "secure-boot", "the state on needs variables, or PK, KEK and db")
    if table.owner is not None:
        owner_guid(table)


def owner_guid(table: SecureBootTable) -> uuid.UUID | None:
    """The owner of certificates that are given as such. Raises MalformedError."""
    try:
        return None if table.owner is None else uuid.UUID(table.owner)
    except ValueError:
        raise MalformedError(f"{_WHAT}: secure-boot.owner: not a GUID") from None


def _check_boot(boot: BootTable, secure: bool, path: str) -> None:
    match boot:
        case SystemdBoot():
            if (boot.image is None) == (boot.entry is None) or (boot.entry is None) != (boot.esp is None):
                fail(_WHAT, path, "give image, or esp and entry")
        case Grub() if secure:
            fail(_WHAT, path, "with Secure Boot on, GRUB starts no kernel without shim: use shim-grub")
        case Kernel() if secure:
            fail(_WHAT, path, "with Secure Boot on, firmware refuses a kernel that QEMU has changed")
