"""TPMS_ATTEST, the structure that a TPM signs (TPM 2.0 Part 2, 10.12).

Parsed with fixed offsets rather than field by field, because the authority does it for every request.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import lru_cache

from watchword.errors import MalformedError
from watchword.wire.reader import Reader, Writer
from watchword.wire.tpm.pcr import Selections, encode_selections, parse_selections

__all__ = ["GENERATED_VALUE", "ST_ATTEST_QUOTE", "Attest", "ClockInfo", "QuoteInfo"]

GENERATED_VALUE = 0xFF544347  # TPM_GENERATED_VALUE: "\xffTCG", what only a TPM may sign with a restricted key
ST_ATTEST_QUOTE = 0x8018

_MAX_ATTEST = 2048  # bytes; a quote over sixteen banks stays far below
_MAX_NAME = 66
_MAX_DATA = 66
_MAX_DIGEST = 64
_HEAD = struct.Struct(">IHH")
_SIZE = struct.Struct(">H")
_CLOCK = struct.Struct(">QIIBQ")


@dataclass(frozen=True, slots=True)
class ClockInfo:
    """TPMS_CLOCK_INFO: ``clock`` in milliseconds since the last clear; not ``safe`` means it may repeat."""

    clock: int
    reset_count: int
    restart_count: int
    safe: bool


@dataclass(frozen=True, slots=True)
class QuoteInfo:
    """TPMS_QUOTE_INFO."""

    selections: Selections
    pcr_digest: bytes

    @classmethod
    def read(cls, reader: Reader) -> QuoteInfo:
        return cls(parse_selections(reader), reader.sized16(_MAX_DIGEST, "pcrDigest"))

    def encode(self) -> bytes:
        return encode_selections(self.selections) + Writer().sized16(self.pcr_digest).done()


@dataclass(frozen=True, slots=True)
class Attest:
    """TPMS_ATTEST.

    ``magic`` and ``type`` are whatever arrived: the verifier judges them. ``attested`` is a QuoteInfo when
    ``type`` is TPM_ST_ATTEST_QUOTE, and otherwise the bytes as they are.
    """

    magic: int
    type: int
    qualified_signer: bytes
    extra_data: bytes
    clock_info: ClockInfo
    firmware_version: int
    attested: QuoteInfo | bytes

    @classmethod
    def parse(cls, data: bytes) -> Attest:
        """Parse a whole TPMS_ATTEST of at most 2048 bytes. Raises MalformedError."""
        if len(data) > _MAX_ATTEST:
            raise MalformedError(f"TPMS_ATTEST: longer than {_MAX_ATTEST} bytes")
        try:
            return _parse(data)
        except struct.error:
            raise MalformedError(f"TPMS_ATTEST: cut short after {len(data)} bytes") from None

    def encode(self) -> bytes:
        clock = self.clock_info
        writer = Writer().u32(self.magic).u16(self.type)
        writer.sized16(self.qualified_signer).sized16(self.extra_data)
        writer.u64(clock.clock).u32(clock.reset_count).u32(clock.restart_count).u8(clock.safe)
        writer.u64(self.firmware_version)
        attested = self.attested if isinstance(self.attested, bytes) else self.attested.encode()
        return writer.raw(attested).done()


@lru_cache(maxsize=64)
def _parse(data: bytes) -> Attest:
    """Whoever answers a request looks at its quote twice: at what it is about, and whether it is true."""
    magic, kind, size = _HEAD.unpack_from(data)
    signer, pos = _slice(data, _HEAD.size, size, _MAX_NAME, "qualifiedSigner")
    (size,) = _SIZE.unpack_from(data, pos)
    extra, pos = _slice(data, pos + 2, size, _MAX_DATA, "extraData")
    clock, resets, restarts, safe, firmware = _CLOCK.unpack_from(data, pos)
    if safe > 1:
        raise MalformedError(f"TPMS_ATTEST: safe is {safe}, neither yes nor no")
    attested = _parse_attested(kind, data[pos + _CLOCK.size :])
    clock_info = ClockInfo(clock, resets, restarts, bool(safe))
    return Attest(magic, kind, signer, extra, clock_info, firmware, attested)


def _slice(data: bytes, start: int, size: int, limit: int, name: str) -> tuple[bytes, int]:
    end = start + size
    if size > limit or end > len(data):
        raise MalformedError(f"TPMS_ATTEST: {name} of {size} bytes; {limit} allowed, {len(data) - start} left")
    return data[start:end], end


def _parse_attested(kind: int, data: bytes) -> QuoteInfo | bytes:
    if kind != ST_ATTEST_QUOTE:
        return data
    reader = Reader(data, "TPMS_QUOTE_INFO")
    quote = QuoteInfo.read(reader)
    reader.finish()
    return quote
