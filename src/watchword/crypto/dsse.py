"""Signed documents: DSSE envelopes with any number of signatures by Ed25519, ECDSA P-256 and ECDSA P-384 keys.

The payload is kept as the exact bytes that were signed and is parsed only after enough signatures over it verified.
Source: DSSE protocol and envelope, version 1 (secure-systems-lab). Signatures cover the pre-authentication encoding
``DSSEv1 <len> <type> <len> <payload>``; those of ECDSA are in DER, over SHA-256 for P-256 and SHA-384 for P-384.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256, SHA384
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from watchword.crypto.ed25519 import Ed25519Signer
from watchword.errors import Finding, MalformedError, Rejected

__all__ = [
    "PrivateKey",
    "PublicKey",
    "Signed",
    "Signer",
    "add_signature",
    "key_id",
    "key_type",
    "open_unverified",
    "sign",
    "signer",
    "verify",
]

PublicKey: TypeAlias = Ed25519PublicKey | ec.EllipticCurvePublicKey
PrivateKey: TypeAlias = Ed25519PrivateKey | ec.EllipticCurvePrivateKey
_CURVES: Final = {"secp256r1": ("ecdsa-p256", SHA256()), "secp384r1": ("ecdsa-p384", SHA384())}
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


def key_type(key: PublicKey) -> str:
    """ "ed25519", "ecdsa-p256" or "ecdsa-p384". Raises MalformedError for a key on another curve."""
    if isinstance(key, Ed25519PublicKey):
        return "ed25519"
    if key.curve.name not in _CURVES:
        raise MalformedError(f"signing key: is on the curve {key.curve.name}, not P-256 or P-384", code="key-file")
    return _CURVES[key.curve.name][0]


def key_id(key: PublicKey) -> str:
    """The id of a key, lower-case hex: SHA-256 of the 32 raw bytes of Ed25519, else of the SubjectPublicKeyInfo.

    What is hashed never has the same length for two kinds of key, so an id names one key of one kind.
    """
    if isinstance(key, Ed25519PublicKey):
        return hashlib.sha256(key.public_bytes_raw()).hexdigest()
    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


@dataclass(frozen=True, slots=True)
class Signer:
    """A key wherever it lives: its public half, and what signs a message with it (ECDSA signatures in DER)."""

    public: PublicKey
    sign: Callable[[bytes], bytes]


_SigningKey: TypeAlias = Ed25519Signer | ec.EllipticCurvePrivateKey | Signer


def signer(key: Ed25519Signer | ec.EllipticCurvePrivateKey) -> Signer:
    """A private key as a signer. Raises MalformedError (``key-file``) for a curve that does not sign documents."""
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        return Signer(key.public_key(), key.sign)
    public = key.public_key()
    key_type(public)
    algorithm = ec.ECDSA(_CURVES[public.curve.name][1])
    return Signer(public, lambda message: key.sign(message, algorithm))


def sign(payload: bytes, payload_type: str, keys: Sequence[_SigningKey]) -> bytes:
    """A JSON envelope around ``payload`` with one signature per key."""
    envelope = _Envelope(payload_type, base64.b64encode(payload).decode(), ())
    return _with_signatures(envelope, payload, keys)


def add_signature(envelope: bytes, keys: Sequence[_SigningKey], *, max_size: int = 1 << 20) -> bytes:
    """``envelope`` (at most ``max_size`` bytes) with one more signature per key over the payload that it has.

    A signature under the id of such a key is replaced; the others are kept as they are, unchecked.
    Raises :class:`MalformedError`, also when there would be more than 64 signatures.
    """
    parsed, payload = _parse(envelope, max_size)
    return _with_signatures(parsed, payload, keys)


def _with_signatures(envelope: _Envelope, payload: bytes, keys: Sequence[_SigningKey]) -> bytes:
    signers = [key if isinstance(key, Signer) else signer(key) for key in keys]
    message = _pae(envelope.payloadType, payload)
    added = tuple(_Signature(key_id(s.public), base64.b64encode(s.sign(message)).decode()) for s in signers)
    new = {each.keyid for each in added}
    kept = tuple(each for each in envelope.signatures if each.keyid not in new)
    if len(kept) + len(added) > _MAX_SIGNATURES:
        raise MalformedError(f"signed document: more than {_MAX_SIGNATURES} signatures")
    return msgspec.json.encode(_Envelope(envelope.payloadType, envelope.payload, kept + added))


def verify(
    envelope: bytes,
    payload_type: str,
    trusted: Mapping[str, PublicKey],
    threshold: int,
    *,
    max_size: int = 1 << 20,
) -> Signed:
    """Check ``envelope`` (at most ``max_size`` bytes) against ``trusted`` keys by id.

    A signature is checked with the one key that its id names (:func:`key_id`), by that key's own algorithm. At least
    ``threshold`` different trusted keys must have signed; signatures by unknown keys do not count, but a wrong
    signature under a trusted key's id refuses the whole. Raises :class:`MalformedError`, :class:`Rejected`.
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
            _verify_one(key, _b64(signature.sig, "signature"), message)
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


def _verify_one(key: PublicKey, signature: bytes, message: bytes) -> None:
    if isinstance(key, Ed25519PublicKey):
        key.verify(signature, message)
        return
    key_type(key)
    key.verify(signature, message, ec.ECDSA(_CURVES[key.curve.name][1]))


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
