"""The keys whose signatures make a file good, and the one place where such a signature is verified."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TypeAlias

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from watchword.policy.document import fail
from watchword.wire.tpm.algorithms import Alg

__all__ = ["HASHES", "MAX_VERIFICATIONS", "Key", "Signers", "Work", "WorkDone", "compile_signers", "verifies"]

Key: TypeAlias = rsa.RSAPublicKey | ec.EllipticCurvePublicKey
Signers: TypeAlias = Mapping[bytes, tuple[Key, ...]]  # by the 4-byte key id, which is a hint and need not be unique

#: The hashes that may be signed. SHA-1 is not among them.
HASHES: Mapping[Alg, hashes.HashAlgorithm] = MappingProxyType(
    {Alg.SHA256: hashes.SHA256(), Alg.SHA384: hashes.SHA384(), Alg.SHA512: hashes.SHA512()}
)
MAX_VERIFICATIONS = 1 << 17  # public-key operations in one appraisal; one for each signed file that is not listed
_MIN_RSA_BITS = 2048
_CURVES = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)


class WorkDone(Exception):
    """An appraisal has done all the public-key operations that it may do: nothing is known about this signature."""


class Work:
    """How many public-key operations an appraisal may still do: a hostile log must not keep an authority busy."""

    __slots__ = ("left",)

    def __init__(self, left: int = MAX_VERIFICATIONS) -> None:
        self.left = left

    def spend(self) -> None:
        """Count one. Raises :class:`WorkDone`."""
        if self.left <= 0:
            raise WorkDone
        self.left -= 1


def compile_signers(what: str, path: str, texts: Sequence[str]) -> Signers:
    """Public keys from base64 of their SubjectPublicKeyInfo in DER. Raises MalformedError naming ``path``."""
    keys: dict[bytes, tuple[Key, ...]] = {}
    for i, text in enumerate(texts):
        key = _load(text)
        if key is None:
            fail(what, f"{path}[{i}]", "not base64 of an RSA (2048 bits or more) or NIST curve public key in DER")
        keys[_key_id(key)] = (*keys.get(_key_id(key), ()), key)
    return keys


def verifies(key: Key, signature: bytes, alg: Alg, digest: bytes, work: Work) -> bool:
    """Whether ``signature`` (RSA PKCS#1 v1.5, or ECDSA in DER) over ``digest``, made with ``alg``, is by ``key``.

    Raises :class:`WorkDone` instead of doing more than ``work``.
    """
    work.spend()
    try:
        if isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, digest, PKCS1v15(), Prehashed(HASHES[alg]))
        else:
            key.verify(signature, digest, ec.ECDSA(Prehashed(HASHES[alg])))
    except InvalidSignature:
        return False
    return True


def _load(text: str) -> Key | None:
    try:
        key = load_der_public_key(base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError, UnsupportedAlgorithm):
        return None
    if isinstance(key, rsa.RSAPublicKey) and _MIN_RSA_BITS <= key.key_size <= 8192:
        return key
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, _CURVES):
        return key
    return None


def _key_id(key: Key) -> bytes:
    """The last four bytes of the subject key identifier: SHA-1 of the key's bits (RFC 5280, 4.2.1.2, method 1)."""
    if isinstance(key, rsa.RSAPublicKey):
        bits = key.public_bytes(Encoding.DER, PublicFormat.PKCS1)
    else:
        bits = key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    return hashlib.sha1(bits, usedforsecurity=False).digest()[-4:]
