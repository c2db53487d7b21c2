"""Algorithm and curve identifiers, and the hash functions behind them (TPM 2.0 Part 2, 6.3 and 6.4)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from enum import IntEnum
from types import MappingProxyType
from typing import Any

from watchword.errors import MalformedError, UsageError
from watchword.wire.reader import Reader

__all__ = [
    "Alg",
    "Curve",
    "HASHES",
    "alg_by_name",
    "digest",
    "digest_size",
    "hash_name",
    "hasher",
    "read_alg",
    "read_curve",
    "read_hash",
]


class Alg(IntEnum):
    """TPM_ALG_ID: the algorithms that may appear in the structures we read."""

    RSA = 0x0001
    TDES = 0x0003
    SHA1 = 0x0004
    HMAC = 0x0005
    AES = 0x0006
    MGF1 = 0x0007
    KEYEDHASH = 0x0008
    XOR = 0x000A
    SHA256 = 0x000B
    SHA384 = 0x000C
    SHA512 = 0x000D
    NULL = 0x0010
    SM3_256 = 0x0012
    SM4 = 0x0013
    RSASSA = 0x0014
    RSAES = 0x0015
    RSAPSS = 0x0016
    OAEP = 0x0017
    ECDSA = 0x0018
    ECDH = 0x0019
    ECDAA = 0x001A
    SM2 = 0x001B
    ECSCHNORR = 0x001C
    ECMQV = 0x001D
    KDF1_SP800_56A = 0x0020
    KDF2 = 0x0021
    KDF1_SP800_108 = 0x0022
    ECC = 0x0023
    SYMCIPHER = 0x0025
    CAMELLIA = 0x0026
    SHA3_256 = 0x0027
    SHA3_384 = 0x0028
    SHA3_512 = 0x0029
    CTR = 0x0040
    OFB = 0x0041
    CBC = 0x0042
    CFB = 0x0043
    ECB = 0x0044


class Curve(IntEnum):
    """TPM_ECC_CURVE."""

    P192 = 0x0001
    P224 = 0x0002
    P256 = 0x0003
    P384 = 0x0004
    P521 = 0x0005
    BN_P256 = 0x0010
    BN_P638 = 0x0011
    SM2_P256 = 0x0020


#: The hash algorithms a PCR bank, a name or a signature may use, by their ``hashlib`` name.
HASHES: Mapping[Alg, str] = MappingProxyType(
    {
        Alg.SHA1: "sha1",
        Alg.SHA256: "sha256",
        Alg.SHA384: "sha384",
        Alg.SHA512: "sha512",
        Alg.SM3_256: "sm3",
        Alg.SHA3_256: "sha3_256",
        Alg.SHA3_384: "sha3_384",
        Alg.SHA3_512: "sha3_512",
    }
)
_SIZES = {
    Alg.SHA1: 20,
    Alg.SHA256: 32,
    Alg.SHA384: 48,
    Alg.SHA512: 64,
    Alg.SM3_256: 32,
    Alg.SHA3_256: 32,
    Alg.SHA3_384: 48,
    Alg.SHA3_512: 64,
}
# SM3 is missing here because hashlib has no constructor for it and OpenSSL may be built without it.
_CONSTRUCTORS: dict[Alg, Callable[..., Any]] = {
    Alg.SHA1: hashlib.sha1,
    Alg.SHA256: hashlib.sha256,
    Alg.SHA384: hashlib.sha384,
    Alg.SHA512: hashlib.sha512,
    Alg.SHA3_256: hashlib.sha3_256,
    Alg.SHA3_384: hashlib.sha3_384,
    Alg.SHA3_512: hashlib.sha3_512,
}
_BY_NAME = {name: alg for alg, name in HASHES.items()} | {"sm3_256": Alg.SM3_256}
_ALGS: dict[int, Alg] = {int(alg): alg for alg in Alg}
_CURVES: dict[int, Curve] = {int(curve): curve for curve in Curve}
_HASH_IDS: dict[int, Alg] = {int(alg): alg for alg in HASHES}


def digest_size(alg: Alg) -> int:
    """Size of a digest of hash algorithm ``alg``, in bytes. Raises MalformedError when it is not a hash."""
    size = _SIZES.get(alg)
    if size is None:
        raise MalformedError(f"algorithm 0x{alg:04x} is not a hash")
    return size


def hash_name(alg: Alg) -> str:
    """The ``hashlib`` name of ``alg``. Raises MalformedError when it is not a hash."""
    name = HASHES.get(alg)
    if name is None:
        raise MalformedError(f"algorithm 0x{alg:04x} is not a hash")
    return name


def alg_by_name(name: str) -> Alg:
    """The hash algorithm that people call ``name`` ("sha256"). Raises UsageError when there is none."""
    alg = _BY_NAME.get(name)
    if alg is None:
        raise UsageError(
            "unknown-hash",
            f"there is no hash algorithm {name[:32]!r}",
            hint="one of " + ", ".join(sorted(_BY_NAME)),
        )
    return alg


def hasher(alg: Alg) -> Callable[..., Any]:
    """The constructor of hash objects for ``alg``. Raises MalformedError when we cannot compute it."""
    constructor = _CONSTRUCTORS.get(alg)
    if constructor is not None:
        return constructor
    name = hash_name(alg)
    if name not in hashlib.algorithms_available:
        raise MalformedError(f"hash {name} is not available on this machine")
    return lambda data=b"": hashlib.new(name, data)


def digest(alg: Alg, *parts: bytes) -> bytes:
    """Hash of the concatenated ``parts``. Raises MalformedError when ``alg`` is not a hash we can compute."""
    value: bytes = hasher(alg)(b"".join(parts)).digest()
    return value


def read_alg(reader: Reader, allowed: Mapping[int, Alg] = _ALGS) -> Alg:
    """Read a TPM_ALG_ID; one that is unknown or not in ``allowed`` raises MalformedError."""
    value = reader.u16()
    alg = allowed.get(value)
    if alg is None:
        raise reader.fail(f"algorithm 0x{value:04x} is unknown or not allowed here")
    return alg


def read_hash(reader: Reader) -> Alg:
    """Read a TPMI_ALG_HASH other than NULL."""
    return read_alg(reader, _HASH_IDS)


def read_curve(reader: Reader) -> Curve:
    """Read a TPM_ECC_CURVE; an unknown one raises MalformedError."""
    value = reader.u16()
    curve = _CURVES.get(value)
    if curve is None:
        raise reader.fail(f"curve 0x{value:04x} is unknown")
    return curve
