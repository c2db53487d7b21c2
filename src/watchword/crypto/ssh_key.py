"""The SSH host key that a launch secret stands for.

The machine installs the private half, the tenant knows the public half before the machine exists. An SSH handshake
signs the whole key exchange with it, so it proves knowledge of the secret *on this channel*: unlike a
challenge-response it cannot be relayed.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

__all__ = ["SshHostKey", "derive"]


@dataclass(frozen=True, slots=True)
class SshHostKey:
    """``private_openssh`` is the OpenSSH PEM file, ``public_openssh`` the line ``ssh-ed25519 AAAA…``,
    ``fingerprint`` what ``ssh-keygen -l`` prints (``SHA256:…``)."""

    private_openssh: bytes
    public_openssh: str
    fingerprint: str

    def __repr__(self) -> str:
        return f"SshHostKey({self.fingerprint})"


def derive(secret: bytes, launch_id: bytes) -> SshHostKey:
    """The Ed25519 host key for a 32-byte launch ``secret`` and its 16-byte ``launch_id``.

    HKDF-SHA256 (RFC 5869), salt = launch id, info = ``watchword/ssh-host-key/1``; the 32 bytes are the Ed25519 seed
    (RFC 8032 section 5.1.5). The public half reveals nothing about the secret.
    """
    seed = HKDF(hashes.SHA256(), 32, salt=launch_id, info=b"watchword/ssh-host-key/1").derive(secret)
    key = Ed25519PrivateKey.from_private_bytes(seed)
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    blob = base64.b64decode(public.split(b" ")[1])
    digest = base64.b64encode(hashlib.sha256(blob).digest()).rstrip(b"=").decode()
    return SshHostKey(private, public.decode(), f"SHA256:{digest}")
