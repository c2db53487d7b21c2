"""What is kept of a runtime log so that the same boot need not send all of it again (clause D6).

The log of a boot only grows, and PCR 10 says so: from a value that was verified, new entries lead to the new quote.
What the earlier entries *were* must still count, though. A :class:`RuntimeState` therefore names the stack that
allowed them, and keeps every entry that this stack did not allow: they are read and judged again each time. Under
another stack nothing is known about the others, and the whole log is needed again.
"""

from __future__ import annotations

from dataclasses import dataclass

from watchword.errors import MalformedError
from watchword.wire.ima_log import ImaLog
from watchword.wire.reader import Reader, Writer, parse_whole
from watchword.wire.tpm.algorithms import Alg, digest_size, read_hash

__all__ = ["MAX_KEPT", "RuntimeSeen", "RuntimeState"]

MAX_KEPT = 32 << 10  # bytes of entries that are kept for one host; with more, it has to send its whole log
_VERSION = 1
_SIZES = (20, 32, 48, 64)


@dataclass(frozen=True, slots=True)
class RuntimeSeen:
    """How far the log of one boot has been verified: ``entries`` of it lead PCR 10 to ``aggregate``."""

    reset_count: int
    entries: int
    aggregate: bytes


@dataclass(frozen=True, slots=True)
class RuntimeState:
    """The part of a log that was verified in ``bank`` and judged by the stack with digest ``stack`` (32 bytes).

    ``digest_size`` is that of its template digests, ``first`` its boot_aggregate entry, ``kept`` the number and the
    bytes of every entry that the stack does not allow, at most ``MAX_KEPT`` bytes. Stored by the authority, by host.
    """

    seen: RuntimeSeen
    bank: Alg
    digest_size: int
    first: bytes
    stack: bytes
    kept: tuple[tuple[int, bytes], ...]

    @classmethod
    def parse(cls, data: bytes) -> RuntimeState:
        """Read what :meth:`encode` wrote. Raises MalformedError."""
        return parse_whole(data, "runtime state", cls._read)

    @classmethod
    def _read(cls, r: Reader) -> RuntimeState:
        if r.u8() != _VERSION:
            raise r.fail("is of another version")
        bank = read_hash(r)
        seen = RuntimeSeen(r.u32(), r.u32(), r.take(digest_size(bank)))
        size, stack = r.u8(), r.take(32)
        if size not in _SIZES:
            raise r.fail(f"has template digests of {size} bytes")
        numbers = [r.u32() for _ in range(r.u16())]
        raws = ImaLog.parse_part(r.sized32(2 * MAX_KEPT, "entries"), size).columns.raws
        if len(raws) != len(numbers) + 1:
            raise MalformedError("runtime state: another number of entries than it says")
        return cls(seen, bank, size, raws[0], stack, tuple(zip(numbers, raws[1:], strict=True)))

    def encode(self) -> bytes:
        """All of it as bytes, at most 66 KiB."""
        writer = Writer().u8(_VERSION).u16(self.bank).u32(self.seen.reset_count).u32(self.seen.entries)
        writer.raw(self.seen.aggregate).u8(self.digest_size).raw(self.stack).u16(len(self.kept))
        for number, _ in self.kept:
            writer.u32(number)
        return writer.sized32(self.first + b"".join(raw for _, raw in self.kept)).done()
