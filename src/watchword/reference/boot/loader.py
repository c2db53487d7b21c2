"""PCR 12: systemd-boot measures the load options that it passes on. Its configuration files are not measured.

Source: systemd 252, src/boot/efi/boot.c; only that version was compared with real boots.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from watchword.errors import MalformedError, UsageError
from watchword.reference.boot.events import Measure, Predicted
from watchword.wire.pe import PeImage

__all__ = ["Entry", "check_loader", "entry_initrd", "entry_options", "loader_event", "parse_entry"]

_VERSION = "252"
_KEYS = frozenset({"title", "version", "machine-id", "sort-key", "architecture", "linux", "initrd", "options"})
_MAGIC = re.compile(rb"#### LoaderInfo: systemd-boot (\d+)[^#]* ####")


@dataclass(frozen=True, slots=True)
class Entry:
    """A boot loader entry (UAPI group, Boot Loader Specification, type 1): paths as they are written."""

    linux: str
    initrds: tuple[str, ...]
    options: str


def parse_entry(data: bytes) -> Entry:
    """Read an entry. Raises MalformedError, and UsageError for keys that change what is booted in other ways."""
    try:
        lines = data.decode("utf-8").splitlines()
    except UnicodeDecodeError:
        raise MalformedError("boot loader entry: not UTF-8") from None
    found: dict[str, list[str]] = {}
    for line in lines:
        key, _, value = line.strip().partition(" ")
        if key and not key.startswith("#"):
            found.setdefault(key, []).append(value.strip())
    strange = sorted(set(found) - _KEYS)
    if strange:
        raise UsageError("boot-unknown", f"boot loader entry: the key {strange[0]} is not understood")
    if len(found.get("linux", [])) != 1:
        raise MalformedError("boot loader entry: not one line linux")
    return Entry(found["linux"][0], tuple(found.get("initrd", [])), " ".join(found.get("options", [])))


def check_loader(image: PeImage) -> None:
    """Raise unless ``image`` is systemd-boot of a version that is understood."""
    section = image.section(".sdmagic")
    magic = None if section is None else _MAGIC.search(image.content(section))
    if magic is None:
        raise MalformedError("not systemd-boot: it does not say so")
    if magic[1].decode("ascii") != _VERSION:
        raise UsageError(
            "boot-unknown",
            f"what systemd-boot {magic[1].decode('ascii')} measures is not known here, only that of {_VERSION}",
            hint="capture this component from a host, and please tell us",
        )


def entry_options(options: str, initrds: Sequence[str]) -> str:
    """The load options of an entry with ``initrds``, paths as its file writes them."""
    return " ".join([*("initrd=" + path.replace("/", "\\") for path in initrds), options])


def entry_initrd(parts: Sequence[bytes]) -> bytes | None:
    """The initrds of an entry as the kernel gets them: one after the other, with nothing between."""
    return b"".join(parts) if parts else None


def loader_event(measure: Measure, options: str) -> Predicted:
    """The command line, measured before the program is started."""
    if not options.isascii() or not options.isprintable():
        raise UsageError("boot-unknown", "a command line with other than printable ASCII characters")
    return measure.command_line(12, options, "command line from systemd-boot")
