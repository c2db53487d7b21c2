"""Signed documents: DSSE envelopes with Ed25519 signatures.

The payload is kept as the exact bytes that were signed and is parsed only after enough signatures over it verified.
Source: DSSE protocol and envelope, version 1 (secure-systems-lab). Signatures cover the pre-authentication encoding
``DSSEv1 <len> <type> <len> <payload>``.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from watchword.errors import Finding, MalformedError, Rejected

__all__ = ["Signed", "key_id", "open_unverified", "sign", "verify"]

_MAX_SIGNATURES = 64


class _Signature(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    keyid: str
    sig: str


class _Envelope(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    payloadType: str  # the name in the specification
    payload: str
    signatures: tuple[_Signature, ...]


@dataclass(frozen=True, slots=True)
class Signed:
    """``payload`` as signed, and the ids of the trusted keys whose signatures verified."""

    payload: bytes
    key_ids: frozenset[str]


def key_id(key: Ed25519PublicKey) -> str:
    """The id of a key: SHA-256 of its 32 raw bytes, lower-case hex."""
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()


def sign(payload: bytes, payload_type: str, keys: Sequence[Ed25519PrivateKey]) -> bytes:
    """A JSON envelope around ``payload`` with one signature per key."""
    message = _pae(payload_type, payload)
    signatures = tuple(
        _Signature(key_id(key.public_key()), base64.b64encode(key.sign(message)).decode()) for key in keys
    )
    return msgspec.json.encode(_Envelope(payload_type, base64.b64encode(payload).decode(), signatures))


def verify(
    envelope: bytes,
    payload_type: str,
    trusted: Mapping[str, Ed25519PublicKey],
    threshold: int,
    *,
    max_size: int = 1 << 20,
) -> Signed:
    """Check ``envelope`` (at most ``max_size`` bytes) against ``trusted`` keys by id.

    At least ``threshold`` different trusted keys must have signed; signatures by unknown keys do not count, but a
    wrong signature under a trusted key's id refuses the whole. Raises :class:`MalformedError`, :class:`Rejected`.
    """
    if threshold < 1:
        raise ValueError("a threshold below 1 would accept anything")
    parsed, payload = _parse(envelope, max_size)
    if parsed.payloadType != payload_type:
        raise MalformedError(f"signed document: is a {parsed.payloadType[:80]!r}, not a {payload_type!r}")
    message = _pae(payload_type, payload)
    good: set[str] = set()
    for signature in parsed.signatures:
        key = trusted.get(signature.keyid)
        if key is None:
            continue
        try:
            key.verify(_b64(signature.sig, "signature"), message)
        except InvalidSignature:
            raise Rejected(
                Finding("S1", "document-signature", "a signature does not fit the document", actual=signature.keyid)
            ) from None
        good.add(signature.keyid)
    if len(good) < threshold:
        raise Rejected(
            Finding(
                "S2",
                "document-signers",
                "too few trusted keys signed the document",
                expected=f"{threshold} of {len(trusted)}",
                actual=str(len(good)),
            )
        )
    return Signed(payload, frozenset(good))


def open_unverified(envelope: bytes, *, max_size: int = 1 << 20) -> tuple[str, bytes, tuple[str, ...]]:
    """Payload type, payload and claimed key ids, nothing checked: for display and for finding the right keys."""
    parsed, payload = _parse(envelope, max_size)
    return parsed.payloadType, payload, tuple(s.keyid for s in parsed.signatures)


def _parse(envelope: bytes, max_size: int) -> tuple[_Envelope, bytes]:
    if len(envelope) > max_size:
        raise MalformedError(f"signed document: {len(envelope)} bytes, at most {max_size} are allowed")
    try:
        parsed = msgspec.json.decode(envelope, type=_Envelope)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedError(f"signed document: {error}") from None
    if len(parsed.signatures) > _MAX_SIGNATURES:
        raise MalformedError(f"signed document: more than {_MAX_SIGNATURES} signatures")
    return parsed, _b64(parsed.payload, "payload")


def _b64(text: str, what: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise MalformedError(f"signed document: the {what} is not base64") from None


def _pae(payload_type: str, payload: bytes) -> bytes:
    kind = payload_type.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)
