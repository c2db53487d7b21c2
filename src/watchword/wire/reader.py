"""A bounded cursor over untrusted bytes, and its mirror for writing.

Every parser in ``watchword.wire`` reads through a :class:`Reader`: nothing is sliced silently, every length is
checked against what is left *before* anything is allocated, and :meth:`Reader.finish` refuses trailing bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import TypeVar

from watchword.errors import MalformedError

__all__ = ["Reader", "Writer", "parse_whole"]

_T = TypeVar("_T")
_U16, _U32, _U64 = struct.Struct(">H"), struct.Struct(">I"), struct.Struct(">Q")
_LE16, _LE32, _LE64 = struct.Struct("<H"), struct.Struct("<I"), struct.Struct("<Q")


class Reader:
    """Reads big-endian (``u16``…) and little-endian (``le16``…) integers and byte strings from ``data``.

    ``what`` names the structure in error messages. Raises :class:`MalformedError` and nothing else.
    """

    __slots__ = ("_data", "_pos", "_size", "what")

    def __init__(self, data: bytes | memoryview, what: str) -> None:
        self._data = data  # slices of bytes are bytes at once: a request has a hundred of them
        self._pos, self._size = 0, len(data)
        self.what = what

    @property
    def pos(self) -> int:
        """Offset of the next byte."""
        return self._pos

    @property
    def left(self) -> int:
        """Number of bytes not read yet."""
        return self._size - self._pos

    def fail(self, why: str) -> MalformedError:
        """The error for this structure at this offset; the caller raises it."""
        return MalformedError(f"{self.what}: {why} (at byte {self._pos})")

    def _short(self, size: int) -> MalformedError:
        return self.fail(f"needs {size} more bytes, has {self.left}")

    def take(self, size: int) -> bytes:
        """The next ``size`` bytes."""
        start = self._pos
        end = start + size
        if end > self._size:
            raise self._short(size)
        self._pos = end
        return bytes(self._data[start:end])

    def view(self, size: int) -> memoryview:
        """The next ``size`` bytes without a copy."""
        if size > self.left:
            raise self._short(size)
        start, self._pos = self._pos, self._pos + size
        return memoryview(self._data)[start : self._pos]

    def rest(self) -> bytes:
        """All bytes that are left."""
        return self.take(self.left)

    def u8(self) -> int:
        start = self._pos
        if start >= self._size:
            raise self._short(1)
        self._pos = start + 1
        return self._data[start]

    def _int(self, fmt: struct.Struct, size: int) -> int:
        start = self._pos
        if size > self._size - start:
            raise self._short(size)
        self._pos = start + size
        value: int = fmt.unpack_from(self._data, start)[0]
        return value

    def u16(self) -> int:
        return self._int(_U16, 2)

    def u32(self) -> int:
        return self._int(_U32, 4)

    def u64(self) -> int:
        return self._int(_U64, 8)

    def le16(self) -> int:
        return self._int(_LE16, 2)

    def le32(self) -> int:
        return self._int(_LE32, 4)

    def le64(self) -> int:
        return self._int(_LE64, 8)

    def sized16(self, limit: int, name: str) -> bytes:
        """A TPM2B: a big-endian 16-bit size, then that many bytes, at most ``limit``."""
        return self._sized(self.u16(), limit, name)

    def sized32(self, limit: int, name: str) -> bytes:
        """A big-endian 32-bit size, then that many bytes, at most ``limit``."""
        return self._sized(self.u32(), limit, name)

    def _sized(self, size: int, limit: int, name: str) -> bytes:
        if size > limit:
            raise self.fail(f"{name} is {size} bytes long, {limit} are allowed")
        return self.take(size)

    def finish(self) -> None:
        """Raise unless every byte was consumed."""
        if self.left:
            raise self.fail(f"{self.left} trailing bytes")


class Writer:
    """Builds a byte string from big-endian fields. Values out of range are our own bug: ``struct.error``."""

    __slots__ = ("_parts",)

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def raw(self, data: bytes) -> Writer:
        self._parts.append(data)
        return self

    def u8(self, value: int) -> Writer:
        return self.raw(struct.pack(">B", value))

    def u16(self, value: int) -> Writer:
        self._parts.append(_U16.pack(value))
        return self

    def u32(self, value: int) -> Writer:
        self._parts.append(_U32.pack(value))
        return self

    def u64(self, value: int) -> Writer:
        return self.raw(_U64.pack(value))

    def sized16(self, data: bytes) -> Writer:
        self._parts += (_U16.pack(len(data)), data)
        return self

    def sized32(self, data: bytes) -> Writer:
        self._parts += (_U32.pack(len(data)), data)
        return self

    def done(self) -> bytes:
        return b"".join(self._parts)


def parse_whole(data: bytes | memoryview, what: str, parse: Callable[[Reader], _T]) -> _T:
    """Run ``parse`` over ``data`` and refuse trailing bytes."""
    reader = Reader(data, what)
    value = parse(reader)
    reader.finish()
    return value
