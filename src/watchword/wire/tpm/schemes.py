"""The parts of a public area: symmetric definitions, schemes, points, parameters.

TPM 2.0 Part 2, 11 and 12.2.3.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from watchword.wire.reader import Reader, Writer, parse_whole
from watchword.wire.tpm.algorithms import Alg, Curve, read_alg, read_curve, read_hash

__all__ = [
    "EccParameters",
    "EccPoint",
    "KeyedHashParameters",
    "RsaParameters",
    "Scheme",
    "SymCipherParameters",
    "Symmetric",
]

_MAX_COORDINATE = 80  # bytes; the largest curve we know (BN_P638) needs 80


def _ids(algs: Iterable[Alg]) -> Mapping[int, Alg]:
    return {int(alg): alg for alg in algs}


_SYMMETRIC = _ids((Alg.NULL, Alg.AES, Alg.SM4, Alg.CAMELLIA, Alg.TDES))
_MODES = _ids((Alg.NULL, Alg.CTR, Alg.OFB, Alg.CBC, Alg.CFB, Alg.ECB))
_RSA_SCHEMES = _ids((Alg.NULL, Alg.RSASSA, Alg.RSAES, Alg.RSAPSS, Alg.OAEP))
_ECC_SCHEMES = _ids((Alg.NULL, Alg.ECDSA, Alg.ECDH, Alg.ECDAA, Alg.SM2, Alg.ECSCHNORR, Alg.ECMQV))
_KDFS = _ids((Alg.NULL, Alg.MGF1, Alg.KDF1_SP800_56A, Alg.KDF2, Alg.KDF1_SP800_108))
_KEYEDHASH_SCHEMES = _ids((Alg.NULL, Alg.HMAC, Alg.XOR))
_WITHOUT_HASH = (Alg.NULL, Alg.RSAES)


@dataclass(frozen=True, slots=True)
class EccPoint:
    """TPMS_ECC_POINT: big-endian coordinates, each at most 80 bytes, kept with the padding they came with."""

    x: bytes
    y: bytes

    @classmethod
    def read(cls, reader: Reader) -> EccPoint:
        return cls(reader.sized16(_MAX_COORDINATE, "x"), reader.sized16(_MAX_COORDINATE, "y"))

    @classmethod
    def parse(cls, data: bytes) -> EccPoint:
        """Parse a whole TPMS_ECC_POINT. Raises MalformedError."""
        return parse_whole(data, "TPMS_ECC_POINT", cls.read)

    def encode(self) -> bytes:
        return Writer().sized16(self.x).sized16(self.y).done()


@dataclass(frozen=True, slots=True)
class Symmetric:
    """TPMT_SYM_DEF_OBJECT: when ``alg`` is NULL, ``key_bits`` and ``mode`` are not on the wire."""

    alg: Alg
    key_bits: int = 0
    mode: Alg = Alg.NULL

    @classmethod
    def read(cls, reader: Reader) -> Symmetric:
        alg = read_alg(reader, _SYMMETRIC)
        if alg is Alg.NULL:
            return cls(alg)
        return cls(alg, reader.u16(), read_alg(reader, _MODES))

    def encode(self) -> bytes:
        if self.alg is Alg.NULL:
            return Writer().u16(self.alg).done()
        return Writer().u16(self.alg).u16(self.key_bits).u16(self.mode).done()


@dataclass(frozen=True, slots=True)
class Scheme:
    """A signing, encryption or key-derivation scheme with its hash.

    ``extra`` is the second field of the two schemes that have one: the count of ECDAA, the KDF of XOR.
    """

    alg: Alg
    hash_alg: Alg | None = None
    extra: int | None = None

    @classmethod
    def read(cls, reader: Reader, allowed: Mapping[int, Alg]) -> Scheme:
        alg = read_alg(reader, allowed)
        if alg in _WITHOUT_HASH:
            return cls(alg)
        hash_alg = read_hash(reader)
        if alg is Alg.ECDAA:
            return cls(alg, hash_alg, reader.u16())
        if alg is Alg.XOR:
            return cls(alg, hash_alg, int(read_alg(reader, _KDFS)))
        return cls(alg, hash_alg)

    def encode(self) -> bytes:
        writer = Writer().u16(self.alg)
        if self.hash_alg is not None:
            writer.u16(self.hash_alg)
        if self.extra is not None:
            writer.u16(self.extra)
        return writer.done()


@dataclass(frozen=True, slots=True)
class RsaParameters:
    """TPMS_RSA_PARMS: ``exponent`` 0 stands for 65537."""

    symmetric: Symmetric
    scheme: Scheme
    key_bits: int
    exponent: int = 0

    @classmethod
    def read(cls, reader: Reader) -> RsaParameters:
        symmetric = Symmetric.read(reader)
        return cls(symmetric, Scheme.read(reader, _RSA_SCHEMES), reader.u16(), reader.u32())

    def encode(self) -> bytes:
        writer = Writer().raw(self.symmetric.encode()).raw(self.scheme.encode())
        return writer.u16(self.key_bits).u32(self.exponent).done()


@dataclass(frozen=True, slots=True)
class EccParameters:
    """TPMS_ECC_PARMS."""

    symmetric: Symmetric
    scheme: Scheme
    curve: Curve
    kdf: Scheme

    @classmethod
    def read(cls, reader: Reader) -> EccParameters:
        symmetric = Symmetric.read(reader)
        scheme = Scheme.read(reader, _ECC_SCHEMES)
        return cls(symmetric, scheme, read_curve(reader), Scheme.read(reader, _KDFS))

    def encode(self) -> bytes:
        writer = Writer().raw(self.symmetric.encode()).raw(self.scheme.encode())
        return writer.u16(self.curve).raw(self.kdf.encode()).done()


@dataclass(frozen=True, slots=True)
class KeyedHashParameters:
    """TPMS_KEYEDHASH_PARMS: scheme NULL makes a sealed data object."""

    scheme: Scheme

    @classmethod
    def read(cls, reader: Reader) -> KeyedHashParameters:
        return cls(Scheme.read(reader, _KEYEDHASH_SCHEMES))

    def encode(self) -> bytes:
        return self.scheme.encode()


@dataclass(frozen=True, slots=True)
class SymCipherParameters:
    """TPMS_SYMCIPHER_PARMS."""

    symmetric: Symmetric

    @classmethod
    def read(cls, reader: Reader) -> SymCipherParameters:
        return cls(Symmetric.read(reader))

    def encode(self) -> bytes:
        return self.symmetric.encode()
