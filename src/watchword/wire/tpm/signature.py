"""TPMT_SIGNATURE for the three schemes an attestation key may use (TPM 2.0 Part 2, 11.3)."""

from __future__ import annotations

from dataclasses import dataclass

from watchword.errors import MalformedError
from watchword.wire.reader import Reader, Writer, parse_whole
from watchword.wire.tpm.algorithms import Alg, read_alg, read_hash

__all__ = ["Signature"]

_MAX_RSA = 512
_MAX_COORDINATE = 80
_SCHEMES = {int(alg): alg for alg in (Alg.RSASSA, Alg.RSAPSS, Alg.ECDSA)}


@dataclass(frozen=True, slots=True)
class Signature:
    """TPMT_SIGNATURE: ``rsa`` (at most 512 bytes) for RSASSA and RSAPSS, ``r`` and ``s`` (80) for ECDSA.

    Raises MalformedError when the values do not belong to the scheme.
    """

    scheme: Alg
    hash_alg: Alg
    rsa: bytes | None = None
    r: bytes | None = None
    s: bytes | None = None

    def __post_init__(self) -> None:
        ecdsa = self.scheme is Alg.ECDSA
        if ecdsa is not (self.rsa is None) or ecdsa is (self.r is None) or ecdsa is (self.s is None):
            raise MalformedError("the values of a signature do not belong to its scheme")

    @classmethod
    def read(cls, reader: Reader) -> Signature:
        scheme, hash_alg = read_alg(reader, _SCHEMES), read_hash(reader)
        if scheme is not Alg.ECDSA:
            return cls(scheme, hash_alg, rsa=reader.sized16(_MAX_RSA, "signature"))
        return cls(scheme, hash_alg, r=reader.sized16(_MAX_COORDINATE, "r"), s=reader.sized16(_MAX_COORDINATE, "s"))

    @classmethod
    def parse(cls, data: bytes) -> Signature:
        """Parse a whole TPMT_SIGNATURE. Raises MalformedError."""
        return parse_whole(data, "TPMT_SIGNATURE", cls.read)

    def encode(self) -> bytes:
        writer = Writer().u16(self.scheme).u16(self.hash_alg)
        for value in (self.rsa, self.r, self.s):
            if value is not None:
                writer.sized16(value)
        return writer.done()
