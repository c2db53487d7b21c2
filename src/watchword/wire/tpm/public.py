"""The public area of a TPM object and its name (TPM 2.0 Part 2, 12.2; Part 1, 16)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntFlag
from typing import TypeAlias

from watchword.errors import MalformedError
from watchword.wire.reader import Reader, Writer, parse_whole
from watchword.wire.tpm.algorithms import HASHES, Alg, digest, read_alg
from watchword.wire.tpm.schemes import (
    EccParameters,
    EccPoint,
    KeyedHashParameters,
    RsaParameters,
    SymCipherParameters,
)

__all__ = ["Attributes", "Parameters", "Public", "Unique"]

_MAX_PUBLIC = 1024  # bytes; the largest we know (RSA-4096) has about 600
_MAX_DIGEST = 64
_MAX_RSA = 512


class Attributes(IntFlag):
    """TPMA_OBJECT. Reserved bits are kept as they came."""

    FIXED_TPM = 1 << 1
    ST_CLEAR = 1 << 2
    FIXED_PARENT = 1 << 4
    SENSITIVE_DATA_ORIGIN = 1 << 5
    USER_WITH_AUTH = 1 << 6
    ADMIN_WITH_POLICY = 1 << 7
    NO_DA = 1 << 10
    ENCRYPTED_DUPLICATION = 1 << 11
    RESTRICTED = 1 << 16
    DECRYPT = 1 << 17
    SIGN = 1 << 18


Parameters: TypeAlias = RsaParameters | EccParameters | KeyedHashParameters | SymCipherParameters
Unique: TypeAlias = bytes | EccPoint
_PARAMETERS: dict[Alg, type[Parameters]] = {
    Alg.RSA: RsaParameters,
    Alg.ECC: EccParameters,
    Alg.KEYEDHASH: KeyedHashParameters,
    Alg.SYMCIPHER: SymCipherParameters,
}
_TYPES = {int(alg): alg for alg in _PARAMETERS}


@dataclass(frozen=True, slots=True)
class Public:
    """TPMT_PUBLIC.

    ``name_alg`` may be NULL. ``unique`` is the modulus (RSA, at most 512 bytes), a point (ECC) or a digest
    (KEYEDHASH, SYMCIPHER, at most 64 bytes). Raises MalformedError when the type and the parameters disagree.
    """

    type: Alg
    name_alg: Alg
    attributes: Attributes
    auth_policy: bytes
    parameters: Parameters
    unique: Unique

    def __post_init__(self) -> None:
        expected = _PARAMETERS.get(self.type)
        if expected is None or not isinstance(self.parameters, expected):
            raise MalformedError("the parameters of a public area do not belong to its type")
        if isinstance(self.unique, EccPoint) is not (self.type is Alg.ECC):
            raise MalformedError("the unique field of a public area does not belong to its type")

    @classmethod
    def read(cls, reader: Reader) -> Public:
        kind = read_alg(reader, _TYPES)
        name_alg = read_alg(reader)
        if name_alg is not Alg.NULL and name_alg not in HASHES:
            raise reader.fail(f"name algorithm 0x{name_alg:04x} is not a hash")
        attributes = Attributes(reader.u32())
        policy = reader.sized16(_MAX_DIGEST, "authPolicy")
        parameters = _PARAMETERS[kind].read(reader)
        return cls(kind, name_alg, attributes, policy, parameters, _read_unique(kind, reader))

    @classmethod
    def parse(cls, data: bytes) -> Public:
        """Parse a whole TPMT_PUBLIC. Raises MalformedError."""
        return parse_whole(data[: _MAX_PUBLIC + 1], "TPMT_PUBLIC", cls._read_bounded)

    @classmethod
    def parse_2b(cls, data: bytes) -> Public:
        """Parse a whole TPM2B_PUBLIC. Raises MalformedError."""
        inner = parse_whole(data, "TPM2B_PUBLIC", lambda reader: reader.sized16(_MAX_PUBLIC, "public area"))
        return cls.parse(inner)

    @classmethod
    def _read_bounded(cls, reader: Reader) -> Public:
        if reader.left > _MAX_PUBLIC:
            raise reader.fail(f"longer than {_MAX_PUBLIC} bytes")
        return cls.read(reader)

    def encode(self) -> bytes:
        """The TPMT_PUBLIC."""
        writer = Writer().u16(self.type).u16(self.name_alg).u32(self.attributes).sized16(self.auth_policy)
        writer.raw(self.parameters.encode())
        if isinstance(self.unique, EccPoint):
            return writer.raw(self.unique.encode()).done()
        return writer.sized16(self.unique).done()

    def encode_2b(self) -> bytes:
        """The TPM2B_PUBLIC."""
        return Writer().sized16(self.encode()).done()

    def name(self) -> bytes:
        """The object's name: its name algorithm, then the hash of the public area; empty for NULL."""
        if self.name_alg is Alg.NULL:
            return b""
        return self.name_alg.to_bytes(2, "big") + digest(self.name_alg, self.encode())


def _read_unique(kind: Alg, reader: Reader) -> Unique:
    if kind is Alg.ECC:
        return EccPoint.read(reader)
    return reader.sized16(_MAX_RSA if kind is Alg.RSA else _MAX_DIGEST, "unique")
