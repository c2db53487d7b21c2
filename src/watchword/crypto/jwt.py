"""Signed JSON for other people's software: a JWT in compact form, signed with Ed25519.

The algorithm is pinned by the reader and never chosen by the token: ``none``, a symmetric algorithm or another curve
are refused before any key is looked at, and so are headers that carry or fetch a key (``jwk``, ``jku``, ``x5c``) or
that name extensions which must be understood (``crit``). What is signed is kept as the exact bytes.
Source: RFC 7515 (JWS), RFC 7519 (JWT), RFC 8037 (EdDSA), RFC 8725 (best current practice).
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from watchword.crypto.dsse import key_id
from watchword.crypto.ed25519 import Ed25519Signer
from watchword.errors import Finding, MalformedError, Rejected

__all__ = ["ALGORITHM", "MAX_TOKEN", "SignedToken", "open_unverified", "sign", "verify"]

ALGORITHM = "EdDSA"
MAX_TOKEN = 512 * 1024  # characters
_TYPE = "JWT"
_MAX_HEADER = 1024  # bytes: three short members need 120
_MEMBERS = frozenset({"alg", "kid", "typ"})


@dataclass(frozen=True, slots=True)
class SignedToken:
    """``payload`` as it was signed, and the id of the trusted key that signed it."""

    payload: bytes
    key_id: str


def sign(payload: bytes, key: Ed25519Signer) -> bytes:
    """The compact JWT around ``payload`` (a JSON object), with the key's id as ``kid``."""
    header = {"alg": ALGORITHM, "kid": key_id(key.public_key()), "typ": _TYPE}
    message = _encode(json.dumps(header, separators=(",", ":")).encode()) + b"." + _encode(payload)
    return message + b"." + _encode(key.sign(message))


def verify(token: bytes, trusted: Mapping[str, Ed25519PublicKey], *, max_size: int = MAX_TOKEN) -> SignedToken:
    """Check ``token`` (at most ``max_size`` characters) against ``trusted`` keys by id.

    Raises :class:`MalformedError`, or :class:`Rejected` with ``jwt-algorithm``, ``jwt-critical``, ``jwt-header``,
    ``jwt-key`` or ``jwt-signature``.
    """
    header, payload, message, signature = _split(token, max_size)
    _check_header(header)
    key = trusted.get(header["kid"])
    if key is None:
        raise _rejected("J2", "jwt-key", "no trusted key has the id in the token", actual=header["kid"])
    try:
        key.verify(signature, message)
    except InvalidSignature:
        raise _rejected("J3", "jwt-signature", "the signature does not fit the token", actual=header["kid"]) from None
    return SignedToken(payload, header["kid"])


def open_unverified(token: bytes, *, max_size: int = MAX_TOKEN) -> tuple[Mapping[str, Any], bytes]:
    """Header and payload of a token, nothing checked: for display. Raises :class:`MalformedError`."""
    header, payload, _, _ = _split(token, max_size)
    return header, payload


def _split(token: bytes, max_size: int) -> tuple[dict[str, Any], bytes, bytes, bytes]:
    if len(token) > max_size:
        raise MalformedError(f"JWT: {len(token)} characters, at most {max_size} are allowed")
    parts = token.split(b".")
    if len(parts) != 3:
        raise MalformedError(f"JWT: {len(parts)} parts, a signed token has 3")
    head, payload, signature = (_decode(part) for part in parts)
    return _header(head), payload, parts[0] + b"." + parts[1], signature


def _header(data: bytes) -> dict[str, Any]:
    if len(data) > _MAX_HEADER:
        raise MalformedError(f"JWT: a header of {len(data)} bytes, at most {_MAX_HEADER} are allowed")
    try:
        header = json.loads(data.decode("utf-8"), object_pairs_hook=_members)
    except (ValueError, RecursionError):
        raise MalformedError("JWT: the header is not a JSON object without repeated members") from None
    if not isinstance(header, dict):
        raise MalformedError("JWT: the header is not a JSON object")
    return header


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("repeated")  # two readers would take different ones
    return found


def _check_header(header: Mapping[str, Any]) -> None:
    if header.get("alg") != ALGORITHM:
        actual = str(header.get("alg"))[:40]
        raise _rejected("J1", "jwt-algorithm", "the token is not signed the way that is accepted", ALGORITHM, actual)
    if "crit" in header:
        raise _rejected("J1", "jwt-critical", "the token demands an extension that is not understood")
    surplus = sorted(set(header) - _MEMBERS)
    if surplus:
        names = ", ".join(surplus)[:80]
        raise _rejected("J1", "jwt-header", "the header says more than it may", ", ".join(sorted(_MEMBERS)), names)
    if not isinstance(header.get("kid"), str):
        raise _rejected("J2", "jwt-key", "the token does not say which key signed it")
    if header.get("typ", _TYPE) != _TYPE:
        raise _rejected("J1", "jwt-header", "the token is of another type", _TYPE, str(header["typ"])[:40])


def _rejected(clause: str, code: str, message: str, expected: str = "", actual: str = "") -> Rejected:
    return Rejected(Finding(clause, code, message, expected, actual))


def _encode(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def _decode(part: bytes) -> bytes:
    """Base64url without padding, of which there is one form only: a second form would be a second token."""
    try:
        data = base64.b64decode(part + b"=" * (-len(part) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise MalformedError("JWT: a part is not base64url") from None
    if _encode(data) != part:
        raise MalformedError("JWT: a part is not written in its one form of base64url")
    return data
