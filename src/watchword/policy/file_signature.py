"""File signatures in the runtime log: "or signed by an allowed key" (clause D5).

A signature in an ima-sig entry is the file's ``security.ima`` attribute:

    type 3 | version 2 or 3 | hash algorithm | key id (4 bytes) | big-endian size (2 bytes) | signature

Version 2 signs the file's digest; version 3 signs a hash over a type, the algorithm and the digest, so that the digest
of one kind (a file's, an fs-verity tree's) is never taken for another.
Source: Linux, security/integrity/integrity.h (signature_v2_hdr, ima_file_id), ima_appraise.c, digsig_asymmetric.c;
hash numbers from include/uapi/linux/hash_info.h.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import struct
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

__all__ = ["Signers", "compile_signers", "is_signed"]

_Key: TypeAlias = rsa.RSAPublicKey | ec.EllipticCurvePublicKey
Signers: TypeAlias = Mapping[bytes, tuple[_Key, ...]]  # by the 4-byte key id, which is a hint and need not be unique

_HEADER = struct.Struct(">BBB4sH")
_DIGSIG = 3  # EVM_IMA_XATTR_DIGSIG; 6 signs an fs-verity digest, which is not that of the content
_KERNEL_HASHES: Mapping[Alg, tuple[int, hashes.HashAlgorithm]] = MappingProxyType(
    {Alg.SHA256: (4, hashes.SHA256()), Alg.SHA384: (5, hashes.SHA384()), Alg.SHA512: (6, hashes.SHA512())}
)
_MIN_RSA_BITS = 2048
_CURVES = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)


def compile_signers(what: str, path: str, texts: Sequence[str]) -> Signers:
    """Public keys from base64 of their SubjectPublicKeyInfo in DER. Raises MalformedError naming ``path``."""
    keys: dict[bytes, tuple[_Key, ...]] = {}
    for i, text in enumerate(texts):
        key = _load(text)
        if key is None:
            fail(what, f"{path}[{i}]", "not base64 of an RSA (2048 bits or more) or NIST curve public key in DER")
        keys[_key_id(key)] = (*keys.get(_key_id(key), ()), key)
    return keys


def is_signed(alg: Alg, digest: bytes, signature: bytes, signers: Signers) -> bool:
    """Whether ``signature`` (the ``security.ima`` attribute) over a file's ``digest`` is by one of ``signers``."""
    if len(signature) < _HEADER.size or alg not in _KERNEL_HASHES:
        return False
    kind, version, hash_number, key_id, size = _HEADER.unpack_from(signature)
    number, hash_algorithm = _KERNEL_HASHES[alg]
    blob = signature[_HEADER.size :]
    if kind != _DIGSIG or hash_number != number or size != len(blob) or version not in (2, 3):
        return False
    if version == 3:
        digest = hashlib.new(hash_algorithm.name, bytes((_DIGSIG, number)) + digest).digest()
    return any(_verifies(key, blob, digest, hash_algorithm) for key in signers.get(key_id, ()))


def _verifies(key: _Key, blob: bytes, digest: bytes, hash_algorithm: hashes.HashAlgorithm) -> bool:
    try:
        if isinstance(key, rsa.RSAPublicKey):
            key.verify(blob, digest, PKCS1v15(), Prehashed(hash_algorithm))
        else:
            key.verify(blob, digest, ec.ECDSA(Prehashed(hash_algorithm)))
    except InvalidSignature:
        return False
    return True


def _load(text: str) -> _Key | None:
    try:
        key = load_der_public_key(base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError, UnsupportedAlgorithm):
        return None
    if isinstance(key, rsa.RSAPublicKey) and _MIN_RSA_BITS <= key.key_size <= 8192:
        return key
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, _CURVES):
        return key
    return None


def _key_id(key: _Key) -> bytes:
    """The last four bytes of the subject key identifier: SHA-1 of the key's bits (RFC 5280, 4.2.1.2, method 1)."""
    if isinstance(key, rsa.RSAPublicKey):
        bits = key.public_bytes(Encoding.DER, PublicFormat.PKCS1)
    else:
        bits = key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    return hashlib.sha1(bits, usedforsecurity=False).digest()[-4:]
