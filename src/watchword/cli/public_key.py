"""Reading a public key that signs documents from a file."""

from __future__ import annotations

from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key, load_ssh_public_key

from watchword.cli.profile import read_bounded
from watchword.crypto import dsse
from watchword.errors import MalformedError, UsageError

__all__ = ["public_key", "read_public_key"]

_PEM = b"-----BEGIN "
_MAX_FILE = 16 * 1024


def read_public_key(file: Path) -> dsse.PublicKey:
    """The key in ``file``: see :func:`public_key`."""
    return public_key(read_bounded(file, _MAX_FILE))


def public_key(data: bytes) -> dsse.PublicKey:
    """An Ed25519, P-256 or P-384 public key: PEM, or one line as OpenSSH writes it.

    Raises :class:`UsageError` (``endorser-key``).
    """
    try:
        key = load_pem_public_key(data) if data.lstrip().startswith(_PEM) else load_ssh_public_key(data)
        if isinstance(key, Ed25519PublicKey | EllipticCurvePublicKey):
            dsse.key_type(key)
            return key
    except (ValueError, UnsupportedAlgorithm, MalformedError):
        pass
    raise UsageError("endorser-key", "the file does not hold an Ed25519, P-256 or P-384 public key")
