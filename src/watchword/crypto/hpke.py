"""HPKE with one domain per purpose.

RFC 9180 single-shot base mode, DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, ChaCha20Poly1305. The ``info`` string names
the purpose and binds what travels beside the ciphertext, so nothing sealed for one purpose opens for another.
"""

from __future__ import annotations

from enum import Enum

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from watchword.errors import MalformedError

__all__ = ["OVERHEAD", "Domain", "open_sealed", "seal"]

OVERHEAD = 32 + 16  # encapsulated key and tag, bytes
_SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)


class Domain(Enum):
    """What a ciphertext is for."""

    TOKEN = b"watchword/token/1"
    SHARE = b"watchword/share-token/1"
    REQUEST = b"watchword/request/1"


def seal(domain: Domain, header: bytes, plaintext: bytes, key: X25519PublicKey) -> bytes:
    """Seal ``plaintext`` to ``key``; ``header`` (any size) is bound but not contained. Adds 48 bytes."""
    return _SUITE.encrypt(plaintext, key, info=domain.value + b"\0" + header)


def open_sealed(domain: Domain, header: bytes, ciphertext: bytes, key: X25519PrivateKey) -> bytes:
    """Open what :func:`seal` made with the same domain and header. Raises :class:`MalformedError` otherwise."""
    try:
        return _SUITE.decrypt(ciphertext, key, info=domain.value + b"\0" + header)
    except (InvalidTag, ValueError):
        raise MalformedError(
            f"{domain.name.lower()}: does not open with this key",
            code="sealed-unopenable",
            hint="It was made for another authority, for another purpose, or was damaged on the way.",
        ) from None
