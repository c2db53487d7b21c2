"""A small, strict reader of DER (ITU-T X.690), for certificates that the library refuses to load.

Every length is definite, minimal and checked against what is left before anything is taken; nothing recurses. Any
bytes give a value or MalformedError. What is signed is always the original bytes, never a re-encoding.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from watchword.errors import MalformedError

__all__ = [
    "BIT_STRING",
    "BOOLEAN",
    "ENUMERATED",
    "GENERALIZED_TIME",
    "INTEGER",
    "NULL",
    "OBJECT_IDENTIFIER",
    "OCTET_STRING",
    "SEQUENCE",
    "SET",
    "UTC_TIME",
    "Der",
    "explicit",
    "implicit",
    "whole_sequence",
]

BOOLEAN, INTEGER, BIT_STRING, OCTET_STRING, NULL, OBJECT_IDENTIFIER = 0x01, 0x02, 0x03, 0x04, 0x05, 0x06
ENUMERATED, UTC_TIME, GENERALIZED_TIME, SEQUENCE, SET = 0x0A, 0x17, 0x18, 0x30, 0x31

_MAX_LENGTH_BYTES: Final = 4
_MAX_OID: Final = 64  # bytes
_TIME_FORMATS: Final = {UTC_TIME: 13, GENERALIZED_TIME: 15}  # characters, "Z" included


def implicit(number: int) -> int:
    """The tag of a primitive, context-specific element."""
    return 0x80 | number


def explicit(number: int) -> int:
    """The tag of a constructed, context-specific element."""
    return 0xA0 | number


class Der:
    """Reads the elements in ``data`` one after the other; ``what`` names the structure in errors.

    Every method raises MalformedError (with ``code``) when the next element is not what was asked for.
    """

    __slots__ = ("_code", "_data", "_end", "_pos", "_what")

    def __init__(self, data: bytes, what: str, code: str) -> None:
        self._data, self._what, self._code = data, what, code
        self._pos, self._end = 0, len(data)

    def fail(self, why: str) -> MalformedError:
        """The error for this structure; the caller raises it."""
        return MalformedError(f"{self._what}: {why} (at byte {self._pos})", code=self._code)

    @property
    def more(self) -> bool:
        """Whether any element is left."""
        return self._pos < self._end

    def next_is(self, tag: int) -> bool:
        """Whether the next element has the tag ``tag``."""
        return self.more and self._data[self._pos] == tag

    def any(self) -> tuple[int, bytes]:
        """The tag and the contents of the next element, whatever it is."""
        tag, start, end = self._element()
        self._pos = end
        return tag, self._data[start:end]

    def take(self, tag: int) -> bytes:
        """The contents of the next element, which must have the tag ``tag``."""
        return self._next(tag, from_header=False)

    def take_whole(self, tag: int) -> bytes:
        """The next element with its own tag and length, exactly as it was encoded."""
        return self._next(tag, from_header=True)

    def inside(self, tag: int) -> Der:
        """A reader of the contents of the next element."""
        return Der(self.take(tag), self._what, self._code)

    def of(self, data: bytes) -> Der:
        """A reader of ``data`` that reports as this one does."""
        return Der(data, self._what, self._code)

    def finish(self) -> None:
        """Raise unless every byte was consumed."""
        if self.more:
            raise self.fail(f"{self._end - self._pos} trailing bytes")

    # --- values ---------------------------------------------------------------------------------------------------

    def integer(self) -> int:
        """A signed integer of any size, in its shortest form."""
        data = self.take(INTEGER)
        if not data or (len(data) > 1 and (data[0], data[1] >> 7) in ((0x00, 0), (0xFF, 1))):
            raise self.fail("an integer is not in its shortest form")
        return int.from_bytes(data, "big", signed=True)

    def boolean(self) -> bool:
        """A boolean, one byte 00 or FF."""
        data = self.take(BOOLEAN)
        if data not in (b"\x00", b"\xff"):
            raise self.fail("a boolean is neither 00 nor FF")
        return data == b"\xff"

    def octets(self) -> bytes:
        """The contents of an octet string."""
        return self.take(OCTET_STRING)

    def whole_bytes(self) -> bytes:
        """A bit string that holds whole bytes: a key or a signature."""
        unused, data = self._bits()
        if unused:
            raise self.fail("a bit string does not hold whole bytes")
        return data

    def named_bits(self) -> frozenset[int]:
        """The numbers of the bits that are set in a bit string, at most 64 of them."""
        _, data = self._bits()
        if len(data) > 8:
            raise self.fail("too many named bits")
        return frozenset(at for at in range(8 * len(data)) if data[at // 8] & 0x80 >> at % 8)

    def identifier(self) -> str:
        """An object identifier in dotted notation."""
        data = self.take(OBJECT_IDENTIFIER)
        if not data or len(data) > _MAX_OID or data[-1] & 0x80:
            raise self.fail("an object identifier is empty, too long or cut short")
        arcs, arc, fresh = [], 0, True
        for byte in data:
            if fresh and byte == 0x80:
                raise self.fail("an object identifier is not in its shortest form")
            arc, fresh = arc << 7 | byte & 0x7F, not byte & 0x80
            if fresh:
                arcs.append(arc)
                arc = 0
        first = min(arcs[0] // 40, 2)
        return ".".join(map(str, (first, arcs[0] - 40 * first, *arcs[1:])))

    def time(self) -> int:
        """A UTCTime or GeneralizedTime in the form of RFC 5280 (4.1.2.5), as Unix seconds."""
        tag, data = self.any()
        if len(data) != _TIME_FORMATS.get(tag) or not data[:-1].isdigit() or data[-1:] != b"Z":
            raise self.fail("a time is not in the form of RFC 5280")
        text = data[:-1].decode("ascii")
        if tag == UTC_TIME:
            text = ("19" if text[:2] >= "50" else "20") + text
        month, day, hour, minute, second = (int(text[at : at + 2]) for at in range(4, 14, 2))
        try:
            return int(datetime(int(text[:4]), month, day, hour, minute, second, tzinfo=UTC).timestamp())
        except (ValueError, OverflowError):
            raise self.fail("a time does not exist") from None

    # --- elements -------------------------------------------------------------------------------------------------

    def _bits(self) -> tuple[int, bytes]:
        data = self.take(BIT_STRING)
        unused = data[0] if data else 8
        if unused > 7 or (unused and len(data) == 1) or (unused and data[-1] & ((1 << unused) - 1)):
            raise self.fail("a bit string is not in its only form")
        return unused, data[1:]

    def _next(self, tag: int, *, from_header: bool) -> bytes:
        if not self.more:
            raise self.fail(f"an element 0x{tag:02x} is missing")
        before = self._pos
        found, start, end = self._element()
        if found != tag:
            raise self.fail(f"an element 0x{found:02x} is where 0x{tag:02x} belongs")
        self._pos = end
        return self._data[before if from_header else start : end]

    def _element(self) -> tuple[int, int, int]:
        """The tag of the next element, and where its contents begin and end."""
        if self._end - self._pos < 2:
            raise self.fail("an element is cut short")
        tag, size, start = self._data[self._pos], self._data[self._pos + 1], self._pos + 2
        if tag & 0x1F == 0x1F:
            raise self.fail("a tag is longer than one byte")
        if size >= 0x80:
            count = size - 0x80
            start, digits = start + count, self._data[start : start + count]
            size = int.from_bytes(digits, "big")
            if not 1 <= count <= _MAX_LENGTH_BYTES or len(digits) != count or digits[0] == 0 or size < 0x80:
                raise self.fail("a length is not definite, in its shortest form and of at most 32 bits")
        if size > self._end - start:
            raise self.fail(f"an element has {size} bytes, {max(self._end - start, 0)} are left")
        return tag, start, start + size


def whole_sequence(data: bytes, what: str, code: str) -> Der:
    """A reader of the contents of the one SEQUENCE that ``data`` consists of."""
    outer = Der(data, what, code)
    inner = outer.inside(SEQUENCE)
    outer.finish()
    return inner
