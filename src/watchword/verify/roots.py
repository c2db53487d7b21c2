"""Root bundles: the certificates of TPM makers that an auditor trusts, each with where it came from.

A bundle is one JSON document ("watchword-roots/1", see ``docs/reference/ek-certificates.md``). Every certificate stands
beside its own SHA-256, its source and the class of TPM it vouches for, so that a second person can check the bundle
against the makers' sites entry by entry, and a difference between two bundles can be read.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from watchword.errors import MalformedError
from watchword.verify.certificate import (
    MAX_CERTIFICATE,
    MAX_CHAIN,
    Certificate,
    fingerprint,
    pem_certificates,
    read_stored,
    subject_text,
)
from watchword.verify.chain import MAX_DEPTH, issuer_fault
from watchword.verify.distinguished_name import name_key
from watchword.verify.ek import EkClass, TrustAnchor

__all__ = ["Collected", "IntermediatePool", "Root", "RootBundle", "Skipped", "collect"]

MAX_BUNDLE: Final = 16 << 20  # bytes
MAX_ENTRIES: Final = 4096
_FORMAT: Final = "watchword-roots/1"
_CODE: Final = "roots-malformed"
_MAX_TEXT: Final = 300  # characters
_PEM_MARK: Final = b"-----BEGIN CERTIFICATE-----"


@dataclass(frozen=True, slots=True)
class Root:
    """One certificate authority of a maker.

    ``source`` says where its bytes came from (an address, or a file and its collection). With ``is_anchor`` False it is
    an intermediate: it vouches for nothing by itself and only fills a gap between an EK and an anchor.
    """

    der: bytes
    ek_class: EkClass
    label: str
    source: str
    is_anchor: bool = True


@dataclass(frozen=True, slots=True)
class RootBundle:
    """A named, numbered set of roots and intermediates. ``serial`` counts its editions, ``about`` is for people."""

    name: str
    serial: int
    about: str
    roots: tuple[Root, ...]

    @classmethod
    def parse(cls, data: bytes) -> RootBundle:
        """Read and check a bundle of at most 16 MiB and 4096 certificates.

        Raises MalformedError (roots-malformed) for anything unknown or missing, a certificate whose SHA-256 is another
        one, the same certificate twice, and one that may not certify endorsement keys.
        """
        document = _object(_json(data), "", {"format", "name", "serial", "about", "certificates"})
        if document["format"] != _FORMAT:
            raise _malformed("", f"the format is not {_FORMAT}")
        entries = document["certificates"]
        if not isinstance(entries, list) or not 1 <= len(entries) <= MAX_ENTRIES:
            raise _malformed("certificates", f"not a list of 1 to {MAX_ENTRIES}")
        serial = document["serial"]
        if type(serial) is not int or not 1 <= serial < 1 << 53:
            raise _malformed("serial", "not a positive integer")
        roots = tuple(_root(entry, f"certificates[{at}]") for at, entry in enumerate(entries))
        _refuse_twice(roots)
        return cls(_text(document, "name", ""), serial, _text(document, "about", ""), roots)

    def encode(self) -> bytes:
        """The document; the same bundle gives the same bytes."""
        document = {
            "format": _FORMAT,
            "name": self.name,
            "serial": self.serial,
            "about": self.about,
            "certificates": [_entry(root) for root in self.roots],
        }
        return json.dumps(document, indent=2, ensure_ascii=False).encode() + b"\n"

    def anchors(self) -> tuple[TrustAnchor, ...]:
        """What the authority is asked to trust."""
        return tuple(TrustAnchor(root.der, root.ek_class, root.label) for root in self.roots if root.is_anchor)

    def pool(self) -> IntermediatePool:
        """The intermediates, ready to fill gaps."""
        return IntermediatePool.of(root.der for root in self.roots if not root.is_anchor)


@dataclass(frozen=True, slots=True)
class IntermediatePool:
    """Intermediate certificates by name. They vouch for nothing: a chain over them is checked like any other."""

    _named: Mapping[object, tuple[Certificate, ...]]

    @classmethod
    def of(cls, ders: Iterable[bytes]) -> IntermediatePool:
        """A pool of DER certificates. Raises MalformedError."""
        named: dict[object, tuple[Certificate, ...]] = {}
        for each in map(Certificate.parse, ders):
            key = name_key(each.subject)
            named[key] = (*named.get(key, ()), each)
        return cls(named)

    def complete(self, certificate: bytes, given: Sequence[bytes] = ()) -> tuple[bytes, ...]:
        """What a host should have sent with its EK ``certificate``: ``given``, and what of the pool can be above it.

        At most 8 certificates, those of the host first. Raises MalformedError.
        """
        found = {der: read_stored(der).certificate for der in given}
        below = [read_stored(certificate).certificate, *found.values()]
        for _ in range(MAX_DEPTH):
            above = {each.der: each for child in below for each in self._named.get(name_key(child.issuer), ())}
            below = [each for der, each in above.items() if der not in found]
            found |= {each.der: each for each in below}
        return tuple(found)[:MAX_CHAIN]


@dataclass(frozen=True, slots=True)
class Skipped:
    """A certificate of a collection that is no use as a root: which one, and why."""

    source: str
    reason: str


@dataclass(frozen=True, slots=True)
class Collected:
    """What :func:`collect` made of other people's files."""

    roots: tuple[Root, ...]
    skipped: tuple[Skipped, ...]


def collect(files: Mapping[str, bytes], ek_class: EkClass, source: str, *, all_anchors: bool = False) -> Collected:
    """Make roots of the ``files`` of a directory or of one PEM bundle (name to contents), all of one class.

    A file is DER, or PEM with any number of certificates and any text between them. A certificate that is its own
    issuer becomes an anchor, others intermediates, unless ``all_anchors``. ``source`` and the file's name become each
    one's source. The same bytes twice count once; what may not certify endorsement keys is skipped and named. Time is
    not looked at: a bundle may hold makers whose certificates have ended.
    """
    roots: dict[bytes, Root] = {}
    skipped: list[Skipped] = []
    for name in sorted(files):
        origin = _printable(f"{source} {name}".strip())[:_MAX_TEXT] or "(unknown)"
        for der in _certificates(files[name]):
            try:
                root, reason = _candidate(der, ek_class, origin, all_anchors)
            except MalformedError as error:
                skipped.append(Skipped(origin, error.message))
                continue
            if reason:
                skipped.append(Skipped(f"{origin}: {root.label}", reason))
            else:
                roots.setdefault(der, root)
    return Collected(tuple(roots.values()), tuple(skipped))


def _certificates(data: bytes) -> list[bytes]:
    if _PEM_MARK not in data:
        return [data]
    try:
        return list(pem_certificates(data))
    except MalformedError:
        return [b""]  # one that does not parse


def _candidate(der: bytes, ek_class: EkClass, origin: str, anchor: bool) -> tuple[Root, str]:
    certificate = Certificate.parse(der)
    label = _printable(subject_text(certificate))[:_MAX_TEXT] or "(no name)"
    is_anchor = anchor or certificate.subject == certificate.issuer
    return Root(der, ek_class, label, origin, is_anchor), issuer_fault(certificate, None)


# --- the document ---------------------------------------------------------------------------------------------------


def _entry(root: Root) -> dict[str, str]:
    return {
        "label": root.label,
        "class": str(root.ek_class),
        "role": "anchor" if root.is_anchor else "intermediate",
        "source": root.source,
        "sha256": fingerprint(root.der),
        "certificate": base64.b64encode(root.der).decode("ascii"),
    }


def _root(value: object, at: str) -> Root:
    entry = _object(value, at, {"label", "class", "role", "source", "sha256", "certificate"})
    der = _der(_text(entry, "certificate", at, 2 * MAX_CERTIFICATE), f"{at}.certificate")
    if fingerprint(der) != _text(entry, "sha256", at):
        raise _malformed(f"{at}.sha256", "it is not that of the certificate")
    role = _text(entry, "role", at)
    if role not in ("anchor", "intermediate"):
        raise _malformed(f"{at}.role", "neither anchor nor intermediate")
    try:
        ek_class = EkClass(_text(entry, "class", at))
    except ValueError:
        raise _malformed(f"{at}.class", "not one of " + ", ".join(EkClass)) from None
    try:
        fault = issuer_fault(Certificate.parse(der), None)
    except MalformedError as error:
        fault = error.message
    if fault:
        raise _malformed(f"{at}.certificate", fault)
    return Root(der, ek_class, _text(entry, "label", at), _text(entry, "source", at), role == "anchor")


def _refuse_twice(roots: Iterable[Root]) -> None:
    seen: set[bytes] = set()
    for at, root in enumerate(roots):
        if root.der in seen:
            raise _malformed(f"certificates[{at}]", f"{root.label} is there twice")
        seen.add(root.der)


def _der(text: str, at: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise _malformed(at, "not base64") from None


def _object(value: object, at: str, members: set[str]) -> dict[str, Any]:
    if not isinstance(value, dict) or set(value) != members:
        raise _malformed(at, "not an object with exactly the members " + ", ".join(sorted(members)))
    return value


def _text(document: Mapping[str, Any], member: str, at: str, limit: int = _MAX_TEXT) -> str:
    value = document[member]
    if not isinstance(value, str) or not 1 <= len(value) <= limit or not value.isprintable():
        raise _malformed(f"{at}.{member}".lstrip("."), f"not 1 to {limit} printable characters")
    return value


def _json(data: bytes) -> object:
    if len(data) > MAX_BUNDLE:
        raise _malformed("", f"longer than {MAX_BUNDLE} bytes")
    try:
        return json.loads(data.decode("utf-8"), object_pairs_hook=_members)
    except (ValueError, RecursionError) as error:
        raise _malformed("", f"not JSON: {str(error)[:120]}") from None


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a member appears twice in one object")
    return found


def _printable(text: str) -> str:
    return "".join(each if each.isprintable() else "?" for each in text)


def _malformed(at: str, why: str) -> MalformedError:
    return MalformedError(f"root bundle: {at + ': ' if at else ''}{why}", code=_CODE)
