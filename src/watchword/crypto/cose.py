"""COSE_Sign1: signed CBOR with one signature, by ES256, ES384 or EdDSA with Ed25519.

The key decides about the algorithm: a message that names another one is refused, and so is one with critical header
parameters, with a label in both headers, or without its payload. What is signed is kept as the exact bytes.
Source: RFC 9052 (structures), RFC 9053 (algorithms), tag 18.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import (
    ECDSA,
    SECP256R1,
    SECP384R1,
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256, SHA384
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from watchword.crypto.cbor import Tag, dump, load
from watchword.errors import Finding, MalformedError, Rejected, UsageError

__all__ = ["ALGORITHMS", "SIGN1_TAG", "PrivateKey", "PublicKey", "Sign1", "key_id", "sign", "verify"]

PublicKey = EllipticCurvePublicKey | Ed25519PublicKey
PrivateKey = EllipticCurvePrivateKey | Ed25519PrivateKey

SIGN1_TAG = 18
ALGORITHMS = {-7: "ES256", -35: "ES384", -8: "EdDSA"}
_ALG, _CRIT, _KID = 1, 2, 4
_MAX_HEADER = 64 * 1024  # bytes
_CURVES: dict[str, tuple[int, int, SHA256 | SHA384]] = {
    SECP256R1.name: (-7, 32, SHA256()),
    SECP384R1.name: (-35, 48, SHA384()),
}


@dataclass(frozen=True, slots=True)
class Sign1:
    """A message that was read and not verified. ``headers`` are the protected ones, ``key_id`` is a claim."""

    headers: Mapping[int | str, Any]
    payload: bytes
    algorithm: int
    key_id: bytes | None
    protected: bytes
    signature: bytes

    @classmethod
    def parse(cls, data: bytes, what: str, limit: int) -> Sign1:
        """Read a tagged COSE_Sign1 of at most ``limit`` bytes. Raises MalformedError."""
        message = load(data, what, limit)
        if not isinstance(message, Tag) or message.tag != SIGN1_TAG:
            raise MalformedError(f"{what}: is not a COSE_Sign1 with its tag, {SIGN1_TAG}")
        parts = message.value
        if not isinstance(parts, tuple) or len(parts) != 4:
            raise MalformedError(f"{what}: a COSE_Sign1 has four parts")
        protected, unprotected, payload, signature = parts
        if not isinstance(protected, bytes) or not isinstance(unprotected, dict) or not isinstance(signature, bytes):
            raise MalformedError(f"{what}: the headers or the signature of the COSE_Sign1 are of another type")
        if not isinstance(payload, bytes):
            raise MalformedError(f"{what}: what was signed is kept somewhere else, and only what is inside is read")
        headers = _headers(protected, unprotected, what)
        kid = headers.get(_KID, unprotected.get(_KID))
        if kid is not None and not isinstance(kid, bytes):
            raise MalformedError(f"{what}: the key id is no byte string")
        return cls(headers, payload, headers[_ALG], kid, protected, signature)


def key_id(key: PublicKey) -> bytes:
    """SHA-256 of the key as SubjectPublicKeyInfo in DER: 32 bytes."""
    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()


def sign(payload: bytes, headers: Mapping[int, Any], key: PrivateKey) -> bytes:
    """A tagged COSE_Sign1 around ``payload`` whose protected headers are ``headers``, the algorithm and the key's id.

    Raises UsageError (``cose-key``) for a key of another curve than P-256, P-384 and Ed25519.
    """
    algorithm = _algorithm_of(key.public_key())
    protected = dump({**headers, _ALG: algorithm, _KID: key_id(key.public_key())})
    message = _signed_bytes(protected, payload)
    if isinstance(key, Ed25519PrivateKey):
        signature = key.sign(message)
    else:
        _, size, hashed = _CURVES[key.curve.name]
        r, s = decode_dss_signature(key.sign(message, ECDSA(hashed)))
        signature = r.to_bytes(size, "big") + s.to_bytes(size, "big")
    return dump(Tag(SIGN1_TAG, [protected, {}, payload, signature]))


def verify(message: Sign1, key: PublicKey) -> bytes:
    """The payload, when ``key`` signed it. Raises Rejected (``document-signature``), UsageError (``cose-key``)."""
    algorithm = _algorithm_of(key)
    if message.algorithm != algorithm:
        raise _rejected(
            "the document is signed with another algorithm than this key has",
            ALGORITHMS[algorithm],
            ALGORITHMS.get(message.algorithm, str(message.algorithm)),
        )
    signed = _signed_bytes(message.protected, message.payload)
    try:
        if isinstance(key, Ed25519PublicKey):
            key.verify(message.signature, signed)
        else:
            _, size, hashed = _CURVES[key.curve.name]
            key.verify(_der(message.signature, size), signed, ECDSA(hashed))
    except InvalidSignature:
        raise _rejected("this key did not sign the document", actual=key_id(key).hex()) from None
    return message.payload


def _headers(protected: bytes, unprotected: Mapping[int | str, Any], what: str) -> dict[int | str, Any]:
    headers = load(protected, f"{what}: protected header", _MAX_HEADER)
    if not isinstance(headers, dict) or type(headers.get(_ALG)) is not int:
        raise MalformedError(f"{what}: the protected header names no algorithm")
    if _CRIT in headers or _CRIT in unprotected:
        raise MalformedError(f"{what}: the header demands an extension that is not understood")
    both = sorted(map(str, set(headers) & set(unprotected)))
    if both:
        raise MalformedError(f"{what}: parameter {both[0]!a} is in both headers")
    return headers


def _algorithm_of(key: PublicKey) -> int:
    if isinstance(key, Ed25519PublicKey):
        return -8
    if key.curve.name not in _CURVES:
        raise UsageError("cose-key", f"a key on the curve {key.curve.name}", hint="use P-256, P-384 or Ed25519")
    return _CURVES[key.curve.name][0]


def _signed_bytes(protected: bytes, payload: bytes) -> bytes:
    """RFC 9052, 4.4, without external data."""
    return dump(["Signature1", protected, b"", payload])


def _der(signature: bytes, size: int) -> bytes:
    if len(signature) != 2 * size:
        raise _rejected("the signature has another length", str(2 * size), str(len(signature)))
    return encode_dss_signature(int.from_bytes(signature[:size], "big"), int.from_bytes(signature[size:], "big"))


def _rejected(message: str, expected: str = "", actual: str = "") -> Rejected:
    return Rejected(Finding("S1", "document-signature", message, expected, actual))
