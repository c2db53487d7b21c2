"""The secret salt of a session, on its way to a key of the TPM: TPM 2.0 Library, Part 1, annexes B.10.2 and C.6.1."""

from __future__ import annotations

import secrets

from cryptography.hazmat.primitives.asymmetric import ec, padding

from watchword.crypto.tpm_key import hash_of, point, public_key
from watchword.wire.tpm.algorithms import digest_size
from watchword.wire.tpm.kdf import kdfe
from watchword.wire.tpm.public import Public

__all__ = ["protect_salt"]

_LABEL = "SECRET"


def protect_salt(key: Public) -> tuple[bytes, bytes]:
    """A fresh salt, and its encryption to ``key`` (the content of a TPM2B_ENCRYPTED_SECRET).

    The salt has the size of the key's name algorithm. Raises MalformedError when ``key`` is not one to encrypt to.
    """
    public, size = public_key(key), digest_size(key.name_alg)
    if isinstance(public, ec.EllipticCurvePublicKey):
        ephemeral = ec.generate_private_key(public.curve)
        ours = point(ephemeral.public_key())
        shared = ephemeral.exchange(ec.ECDH(), public)
        return kdfe(key.name_alg, shared, _LABEL, ours.x, point(public).x, size * 8), ours.encode()
    salt, algorithm = secrets.token_bytes(size), hash_of(key.name_alg)
    oaep = padding.OAEP(padding.MGF1(algorithm), algorithm, _LABEL.encode() + b"\0")
    return salt, public.encrypt(salt, oaep)
