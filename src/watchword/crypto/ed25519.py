"""What signs with Ed25519, wherever its private half is: in memory, read from a file, or in a token."""

from __future__ import annotations

from typing import Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

__all__ = ["Ed25519Signer"]


class Ed25519Signer(Protocol):
    """A key that signs: cryptography's ``Ed25519PrivateKey`` is one, ``watchword.pkcs11.held.TokenKey`` another.

    Source of the algorithm: RFC 8032, Ed25519 without a context.
    """

    def sign(self, data: bytes, /) -> bytes:
        """The signature (64 bytes) over ``data``. Raises WatchwordError when the key cannot be reached."""
        ...

    def public_key(self) -> Ed25519PublicKey:
        """The public half, which is known without asking a token."""
        ...
