"""``access.toml``: who people are, and their roles. Read whole and strictly, or not at all.

Documented in ``docs/reference/access-file.md``.
"""

from __future__ import annotations

import os
import re
import stat
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Final, Self
from urllib.parse import urlsplit

import msgspec
from cryptography import x509
from msgspec import Meta

from watchword.authority.access.certificate import Identity, identities, subject_identity
from watchword.authority.access.roles import Caller, How, Role
from watchword.authority.access.tokens import ALGORITHMS, TokenRules
from watchword.errors import UsageError

__all__ = ["MAX_FILE", "People"]

MAX_FILE: Final = 256 * 1024  # bytes
MAX_PEOPLE: Final = 1000
FORMAT: Final = "watchword-access/1"
_NAME: Final = r"^[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}$"
_HEX: Final = re.compile(r"[0-9a-f]{64}")
_Text = Annotated[str, Meta(min_length=1, max_length=512)]
_Roles = Annotated[tuple[Role, ...], Meta(min_length=1, max_length=len(Role))]


class _Person(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: Annotated[str, Meta(pattern=_NAME)]
    roles: _Roles
    certificates: Annotated[tuple[_Text, ...], Meta(min_length=1, max_length=16)]


class _Issuer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    url: _Text
    audience: _Text
    roles: dict[_Text, _Roles]
    ca_file: _Text | None = None
    algorithms: Annotated[tuple[_Text, ...], Meta(min_length=1, max_length=16)] = ("RS256", "PS256", "ES256")
    name_claim: _Text = "sub"
    roles_claim: _Text | Annotated[tuple[_Text, ...], Meta(min_length=1, max_length=8)] = "groups"
    refused_subjects: Annotated[tuple[_Text, ...], Meta(max_length=MAX_PEOPLE)] = ()
    skew_seconds: Annotated[int, Meta(ge=0, le=300)] = 30


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: str
    person: Annotated[tuple[_Person, ...], Meta(max_length=MAX_PEOPLE)] = ()
    revoked_certificates: Annotated[tuple[_Text, ...], Meta(max_length=MAX_PEOPLE)] = ()
    issuer: _Issuer | None = None


@dataclass(frozen=True, slots=True)
class People:
    """Who is who, by what their certificates say; ``revoked`` has SHA-256 hashes of certificates, in hex.

    ``tokens`` says which bearer tokens count; None: none does.
    """

    by_identity: Mapping[Identity, Caller] = field(default_factory=lambda: MappingProxyType({}))
    revoked: frozenset[str] = frozenset()
    tokens: TokenRules | None = None

    @classmethod
    def read(cls, path: Path) -> Self:
        """What the file says; nobody when there is none. Raises :class:`UsageError` (``access-file``)."""
        try:
            with path.open("rb") as file:
                status = os.fstat(file.fileno())
                data = file.read(MAX_FILE + 1)
        except FileNotFoundError:
            return cls()
        except OSError as error:
            raise _wrong(path, f"it cannot be read: {error.strerror}") from None
        if stat.S_IMODE(status.st_mode) & 0o022:
            raise _wrong(path, f"others may write it: chmod 600 {path}")
        if len(data) > MAX_FILE:
            raise _wrong(path, f"it is larger than {MAX_FILE} bytes")
        return cls.parse(data, path)

    @classmethod
    def parse(cls, data: bytes, path: Path) -> Self:
        """What ``data`` says, which was read from ``path``. Raises :class:`UsageError` (``access-file``)."""
        try:
            document = msgspec.convert(tomllib.loads(data.decode()), _File)
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError, msgspec.ValidationError) as error:
            raise _wrong(path, str(error)) from None
        if document.format != FORMAT:
            raise _wrong(path, f"its format is {document.format!r}, not {FORMAT!r}")
        try:
            revoked = frozenset(map(_fingerprint, document.revoked_certificates))
            return cls(_people(document.person), revoked, _tokens(document.issuer) if document.issuer else None)
        except ValueError as error:
            raise _wrong(path, str(error)) from None

    def holders(self, certificate: x509.Certificate) -> frozenset[Caller]:
        """Everybody whom ``certificate`` could be: one, unless its issuer or the file made a mistake."""
        found = list(identities(certificate))
        if any(kind == "sha256" and value in self.revoked for kind, value in found):
            return frozenset()
        return frozenset(self.by_identity[each] for each in found if each in self.by_identity)


def _people(persons: Iterable[_Person]) -> Mapping[Identity, Caller]:
    found: dict[Identity, Caller] = {}
    names: set[str] = set()
    for person in persons:
        if person.name in names:
            raise ValueError(f"{person.name} is there twice")
        names.add(person.name)
        caller = Caller(person.name, frozenset(person.roles), How.CERTIFICATE)
        for text in person.certificates:
            identity = _identity(text)
            if identity in found:
                raise ValueError(f"{text!r} is there twice: it must be one person's")
            found[identity] = caller
    return MappingProxyType(found)


def _tokens(issuer: _Issuer) -> TokenRules:
    parts = urlsplit(issuer.url)
    if parts.scheme != "https" or not parts.hostname or parts.username or parts.query or parts.fragment:
        raise ValueError(f"{issuer.url!r} is no issuer: https://HOST[:PORT][/PATH]")
    unknown = sorted(set(issuer.algorithms) - set(ALGORITHMS))
    if unknown:
        raise ValueError(f"{unknown[0]!r} is no algorithm for tokens here: {', '.join(ALGORITHMS)}")
    if issuer.ca_file is not None and not Path(issuer.ca_file).is_absolute():
        raise ValueError("ca_file is not an absolute path")
    return TokenRules(
        url=issuer.url,
        audience=issuer.audience,
        ca_file=Path(issuer.ca_file) if issuer.ca_file is not None else None,
        algorithms=issuer.algorithms,
        name_claim=issuer.name_claim,
        roles_claim=(issuer.roles_claim,) if isinstance(issuer.roles_claim, str) else issuer.roles_claim,
        roles=MappingProxyType({text: frozenset(roles) for text, roles in issuer.roles.items()}),
        refused=frozenset(issuer.refused_subjects),
        skew=issuer.skew_seconds,
    )


def _identity(text: str) -> Identity:
    kind, _, value = text.partition(":")
    if kind == "sha256":
        return kind, _fingerprint(text)
    if kind == "subject":
        try:
            return subject_identity(value)
        except ValueError:
            raise ValueError(f"{text!r} is no subject as RFC 4514 writes it: subject:CN=alice,O=Example") from None
    if kind not in ("email", "dns", "uri") or not value:
        raise ValueError(f"{text!r} names no certificate: email:, dns:, uri:, subject: or sha256:")
    return kind, value


def _fingerprint(text: str) -> str:
    kind, _, value = text.partition(":")
    if kind != "sha256" or not _HEX.fullmatch(value):
        raise ValueError(f"{text!r} is no fingerprint: sha256: and 64 lower-case hex digits")
    return value


def _wrong(path: Path, why: str) -> UsageError:
    return UsageError("access-file", f"{path}: {why}", hint="docs/reference/access-file.md says what it may have")
