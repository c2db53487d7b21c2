"""The agent's settings: one small TOML file, every value of which a flag can replace.

[authority]
trust = "/etc/watchword/authority.json"    # a file that `watchword trust add` made; or, in its place:
url = "https://authority.example:8443"
keys = "/etc/watchword/keys.json"          # what GET /v1/keys of the authority answered
fingerprint = "SHA256:…"                   # of its first root key, from somebody you trust
relay = "http://controller.example:8444"   # instead of the direct way; optional

A host that serves tenants who split their secrets has several sections [[authority]] in the place of the one.

[tpm]
address = "device:/dev/tpmrm0"
event_log = "/sys/kernel/security/tpm0/binary_bios_measurements"
runtime_log = "/sys/kernel/security/ima/binary_runtime_measurements"
intermediates = ["/etc/watchword/tpm-maker-intermediate.der"]

[host]
state = "/var/lib/watchword-agent"
"""

from __future__ import annotations

import contextlib
import json
import os
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec

from watchword.agent.host import EVENT_LOG, RUNTIME_LOG, Link
from watchword.agent.transport import DEFAULT_TIMEOUT, Exchange, HttpsExchange, RelayExchange
from watchword.crypto.keylist import KeyList, verify_chain
from watchword.errors import UsageError
from watchword.wire.share import MAX_SHARES
from watchword.wire.tpm.templates import EkKind

__all__ = ["DEFAULT_FILE", "AuthoritySettings", "Config", "Enrolment", "load", "load_authority"]

DEFAULT_FILE = Path("/etc/watchword/agent.toml")
_MAX_FILE = 64 * 1024
_MAX_KEYS = 8 << 20
_MAX_CERTIFICATE = 8192
_KEYS = {
    "authority": {"trust": "trust", "url": "url", "keys": "keys", "fingerprint": "fingerprint", "relay": "relay"},
    "tpm": {"address": "tpm", "event_log": "event_log", "runtime_log": "runtime_log", "intermediates": "intermediates"},
    "host": {"state": "state"},
}
_ONE = ("trust", "url", "keys", "fingerprint", "relay")
_OTHERS = ("serve", "status")  # of `watchword agent serve`, which reads them itself


@dataclass(frozen=True, slots=True)
class AuthoritySettings:
    """One authority; empty strings are unset."""

    trust: Path | None = None
    url: str = ""
    keys: Path | None = None
    fingerprint: str = ""
    relay: str = ""

    def authority_keys(self) -> KeyList:
        """The pinned keys. Raises :class:`UsageError`, and what :func:`verify_chain` raises."""
        if self.trust is not None:
            # Made on this host, or brought here, by somebody who compared the fingerprint: it may name its own.
            pinned = _decode(self.trust, _TrustFile)
            return verify_chain([bytes(envelope) for envelope in pinned.keys], self.fingerprint or pinned.fingerprint)
        if self.keys is None or not self.fingerprint:
            raise UsageError(
                "authority-unset",
                "no authority is pinned on this host",
                hint="Pin one with 'watchword trust add' and give that file with --trust, or --keys and --fingerprint.",
            )
        # The authority's own answer: nothing that it says about its fingerprint counts.
        envelopes = _decode(self.keys, _KeyFile).keys
        return verify_chain([bytes(envelope) for envelope in envelopes], self.fingerprint)

    def exchange(self, keys: KeyList, timeout: float = DEFAULT_TIMEOUT) -> Exchange:
        """The way to the authority: the relay when there is one; ``timeout`` in seconds for each exchange.

        Raises :class:`UsageError`.
        """
        if self.relay:
            return RelayExchange(self.relay, timeout)
        return HttpsExchange(self.address(), keys, timeout)

    def address(self) -> str:
        """The authority's own address. Raises :class:`UsageError`."""
        url = self.url or (_decode(self.trust, _TrustFile).url if self.trust is not None else "")
        if not url:
            raise UsageError("authority-unset", "neither the authority's address nor a relay is set")
        return url


@dataclass(frozen=True, slots=True)
class Config(AuthoritySettings):
    """The settings; its own authority is the first of the ``authorities``.

    ``tpm`` is an address as the TPM transport reads it.
    """

    tpm: str = "device:/dev/tpmrm0"
    event_log: Path = EVENT_LOG
    runtime_log: Path = RUNTIME_LOG
    intermediates: tuple[Path, ...] = ()
    state: Path = Path("/var/lib/watchword-agent")
    others: tuple[AuthoritySettings, ...] = ()

    @property
    def authorities(self) -> tuple[AuthoritySettings, ...]:
        """All of them, in the order of the settings."""
        return (self, *self.others)

    def only(self, authority: AuthoritySettings) -> Config:
        """These settings with one authority alone."""
        return replace(self, **{name: getattr(authority, name) for name in _ONE}, others=())

    def with_flags(self, *, trust: Sequence[Path] = (), **flags: Any) -> Config:
        """These settings with every flag that is not None in place of the file's value.

        Several files to ``trust`` are several authorities. Raises :class:`UsageError` (``config``) for a flag that does
        not say which authority it is about.
        """
        given = {name: value for name, value in flags.items() if value is not None}
        several = len(trust) > 1 or (not trust and bool(self.others))
        if several and given.keys() & set(_ONE):
            raise UsageError(
                "config", "there are several authorities, and a flag does not say which of them it is about",
                hint="Give one --trust FILE for each authority, or write sections [[authority]].",
            )  # fmt: skip
        base = self.only(AuthoritySettings()) if several and trust else self
        if trust:
            base = replace(base, trust=trust[0], others=tuple(AuthoritySettings(trust=path) for path in trust[1:]))
        return replace(base, **given)

    def pinned(self) -> tuple[KeyList, ...]:
        """The keys of all authorities. Raises as :meth:`authority_keys` does, ``config`` when two have one name."""
        found = tuple(each.authority_keys() for each in self.authorities)
        if len({keys.authority for keys in found}) != len(found):
            raise UsageError(
                "config", "two of the authorities have the same name, so nobody could tell which is meant",
                hint="Is one of them there twice? Otherwise one of them has to be set up under another name.",
            )  # fmt: skip
        return found

    @contextlib.contextmanager
    def links(self, timeout: float = DEFAULT_TIMEOUT) -> Iterator[tuple[Link, ...]]:
        """A way to each authority; ``timeout`` in seconds for each exchange. Raises :class:`UsageError`."""
        with contextlib.ExitStack() as stack:
            found = []
            for each, keys in zip(self.authorities, self.pinned(), strict=True):
                found.append(Link(stack.enter_context(contextlib.closing(each.exchange(keys, timeout))), keys))
            yield tuple(found)

    def intermediate_certificates(self) -> tuple[bytes, ...]:
        """The DER certificates between the TPM's and its maker's root."""
        return tuple(_read(path, _MAX_CERTIFICATE) for path in self.intermediates)


class _KeyFile(msgspec.Struct):
    keys: list[msgspec.Raw]


class _TrustFile(_KeyFile):
    format: Literal["watchword-authority/1"]
    url: str
    fingerprint: str


_D = TypeVar("_D", bound=_KeyFile)


def _decode(path: Path, kind: type[_D]) -> _D:
    try:
        return msgspec.json.decode(_read(path, _MAX_KEYS), type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError("keys-file", f"{path} is not a list of keys: {error}") from None


@dataclass(frozen=True, slots=True)
class Enrolment:
    """What a host remembers of its enrolment: nothing secret, and nothing that cannot be had again by enrolling."""

    host_id: bytes
    ek_kind: EkKind

    def save(self, state: Path) -> None:
        """Write it below the folder ``state``, whole or not at all."""
        text = json.dumps({"host_id": self.host_id.hex(), "ek_kind": self.ek_kind.name})
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = state / f".enrolment.{os.getpid()}"
        temporary.write_text(text + "\n")
        temporary.replace(state / "enrolment.json")

    @classmethod
    def read(cls, state: Path) -> Enrolment | None:
        """What :meth:`save` wrote, or None. Raises :class:`UsageError` (``enrolment-file``) when it is damaged."""
        path = state / "enrolment.json"
        if not path.exists():
            return None
        try:
            document = json.loads(_read(path, _MAX_FILE))
            enrolment = cls(bytes.fromhex(document["host_id"]), EkKind[document["ek_kind"]])
        except (ValueError, KeyError, TypeError, RecursionError):
            enrolment = None
        if enrolment is None or len(enrolment.host_id) != 32:
            raise UsageError("enrolment-file", f"{path} is damaged", hint="Enrol again: watchword agent enrol")
        return enrolment


def load(path: Path | None) -> Config:
    """Read a settings file; without ``path`` the default one if it exists. Raises :class:`UsageError` (``config``)."""
    if path is None and not DEFAULT_FILE.exists():
        return Config()
    return _load(path or DEFAULT_FILE, _OTHERS)


def load_authority(path: Path) -> Config:
    """The section [authority] of the settings of a service that is no agent. Raises :class:`UsageError`."""
    config = _load(path, ("service", "hosts"))
    if config.others:
        raise UsageError("config", f"{path}: this service asks one authority, and there are several")
    return config


def _load(source: Path, others: tuple[str, ...]) -> Config:
    try:
        document = tomllib.loads(_read(source, _MAX_FILE).decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError("config", f"{source}: {error}") from None
    values: dict[str, Any] = {}
    for section, content in document.items():
        if section in others:
            continue
        if section == "authority" and isinstance(content, list):
            values |= _authorities(source, content)
            continue
        if section not in _KEYS or not isinstance(content, dict):
            raise UsageError("config", f"{source}: there is no section [{section}]")
        values |= _section(source, section, content)
    return Config(**values)


def _authorities(source: Path, content: list[Any]) -> dict[str, Any]:
    """Sections [[authority]]: the first is the settings' own, the others are beside it."""
    if not 1 <= len(content) <= MAX_SHARES or not all(isinstance(each, dict) for each in content):
        raise UsageError("config", f"{source}: there are 1 to {MAX_SHARES} sections [[authority]]")
    found = [_section(source, "authority", each) for each in content]
    return {**found[0], "others": tuple(AuthoritySettings(**each) for each in found[1:])}


def _section(source: Path, section: str, content: Mapping[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, value in content.items():
        name = _KEYS[section].get(key)
        if name is None:
            raise UsageError("config", f"{source}: [{section}] has no setting {key!r}")
        values[name] = _value(f"{source}: [{section}] {key}", name, value)
    return values


def _value(where: str, name: str, value: object) -> object:
    if name == "intermediates":
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return tuple(Path(item) for item in value)
        raise UsageError("config", f"{where} must be a list of file names")
    if not isinstance(value, str) or not value:
        raise UsageError("config", f"{where} must be a text that is not empty")
    paths = {field.name for field in fields(Config) if "Path" in str(field.type)}
    return Path(value) if name in paths else value


def _read(path: Path, limit: int) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise UsageError("file-unreadable", f"{path} cannot be read: {error.strerror}") from None
    if len(data) > limit:
        raise UsageError("file-size", f"{path} is larger than {limit} bytes")
    return data
