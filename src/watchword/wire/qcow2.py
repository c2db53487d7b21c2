"""QEMU's copy-on-write images, as far as their content must be known: header, tables, and a second file they name.

Only what a compute host's image cache makes is taken: no encryption, no external data file, no compressed clusters, no
extended table entries; a backing file must name its format, because a format that is guessed is decided by whoever
wrote the file. Source: QEMU ``docs/interop/qcow2.txt``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum, auto

from watchword.errors import MalformedError
from watchword.wire.reader import Reader, parse_whole

__all__ = ["HEADER_SIZE", "MAGIC", "Extent", "Origin", "Qcow2", "extents"]

MAGIC = b"QFI\xfb"
HEADER_SIZE = 64 * 1024  # bytes that are read for the header, its extensions and the name of the backing file
_V2, _V3_MIN = 72, 104
_COMPRESSION_TYPE = 1 << 3  # incompatible feature that says nothing about images without compressed clusters
_BACKING_FORMAT = 0xE2792ACA
_END = 0
_MAX_NAME = 1023
_MAX_L1 = 4 << 20  # entries: QEMU's own limit of 32 MiB
_OFFSET = 0x00FFFFFFFFFFFE00
_COMPRESSED = 1 << 62
_ZERO = 1


class Origin(Enum):
    """Where the bytes of an extent are: in the image, nowhere (zeros), or in the backing file."""

    DATA = auto()
    ZERO = auto()
    BACKING = auto()


@dataclass(frozen=True, slots=True)
class Extent:
    """``length`` bytes of the guest's disk from ``start`` on; ``place`` is their offset in the image for ``DATA``."""

    start: int
    length: int
    origin: Origin
    place: int = 0


@dataclass(frozen=True, slots=True)
class Qcow2:
    """The header: ``size`` of the guest's disk and of a ``cluster`` in bytes, the first table, the backing file.

    ``backing`` is the name as written in the image (empty: none), ``backing_format`` "raw" or "qcow2".
    """

    size: int
    cluster: int
    l1_offset: int
    l1_entries: int
    backing: str
    backing_format: str

    @classmethod
    def parse(cls, data: bytes) -> Qcow2:
        """Read the first :data:`HEADER_SIZE` bytes of an image, or all of a shorter one. Raises MalformedError."""
        return parse_whole(data, "qcow2", lambda r: cls._read(r, data))

    @classmethod
    def _read(cls, r: Reader, data: bytes) -> Qcow2:
        if r.take(4) != MAGIC:
            raise r.fail("does not start as a qcow2 image does")
        version, name_at, name_size, bits = r.u32(), r.u64(), r.u32(), r.u32()
        size, encrypted, entries, l1_offset = r.u64(), r.u32(), r.u32(), r.u64()
        r.take(_V2 - 48)
        header = _V2
        if version == 3:
            header = _read_version_3(r)
        elif version != 2:
            raise r.fail(f"version {version} is not known")
        if encrypted or not 9 <= bits <= 21 or entries > _MAX_L1 or size >> 62 or l1_offset % (1 << bits):
            raise r.fail("is encrypted, or has sizes that are not taken")
        if entries * (1 << bits) * (1 << (bits - 3)) < size:
            raise r.fail("has a table that is too short for its size")
        backing = _name(r, data, name_at, name_size)
        formats = _extensions(r, data[header:])
        r.rest()
        form = formats.get(_BACKING_FORMAT, b"").decode("ascii", "replace")
        if backing and form not in ("raw", "qcow2"):
            raise r.fail("names a backing file without saying that it is raw or qcow2")
        return cls(size, 1 << bits, l1_offset, entries, backing, form if backing else "")


def _read_version_3(r: Reader) -> int:
    incompatible = r.u64()
    r.take(16 + 4)  # compatible and autoclear features, refcount order
    length = r.u32()
    if incompatible & ~_COMPRESSION_TYPE:
        raise r.fail(f"needs features that are not taken: {incompatible:#x}")
    if not _V3_MIN <= length <= 4096 or length % 8:
        raise r.fail(f"has a header of {length} bytes")
    return length


def _name(r: Reader, data: bytes, offset: int, size: int) -> str:
    if not offset:
        return ""
    if not 1 <= size <= _MAX_NAME or offset + size > len(data):
        raise r.fail("the name of the backing file is not within the header")
    try:
        return data[offset : offset + size].decode()
    except UnicodeDecodeError:
        raise r.fail("the name of the backing file is not UTF-8") from None


def _extensions(r: Reader, data: bytes) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    while len(data) >= 8:
        kind, length = int.from_bytes(data[:4], "big"), int.from_bytes(data[4:8], "big")
        if kind == _END:
            return found
        if length > len(data) - 8 or kind in found:
            raise r.fail("a header extension is too long, or there twice")
        found[kind] = data[8 : 8 + length]
        data = data[8 + -(-length // 8) * 8 :]
    return found


def extents(image: Qcow2, read: Callable[[int, int], bytes]) -> Iterator[Extent]:
    """The guest's disk from its first byte to its last; neighbours of one kind are joined.

    ``read(size, offset)`` gives bytes of the image file. Raises :class:`MalformedError`.
    """
    last: Extent | None = None
    for extent in _clusters(image, read):
        joined = _join(last, extent)
        if joined is None and last is not None:
            yield last
        last = joined or extent
    if last is not None:
        yield last


def _join(last: Extent | None, extent: Extent) -> Extent | None:
    if last is None or last.origin is not extent.origin:
        return None
    if extent.origin is Origin.DATA and last.place + last.length != extent.place:
        return None
    return Extent(last.start, last.length + extent.length, last.origin, last.place)


def _clusters(image: Qcow2, read: Callable[[int, int], bytes]) -> Iterator[Extent]:
    entries = image.cluster // 8
    span = image.cluster * entries
    start = 0
    for index in range(-(-image.size // span)):
        table = _entry(read(8, image.l1_offset + 8 * index)) & _OFFSET
        if not table:
            length = min(span, image.size - start)
            yield Extent(start, length, Origin.BACKING)
            start += length
            continue
        level2 = read(image.cluster, table)
        if len(level2) != image.cluster:
            raise MalformedError("qcow2: a table lies beyond the end of the file")
        for number in range(entries):
            if start >= image.size:
                return
            length = min(image.cluster, image.size - start)
            yield _cluster(_entry(level2[8 * number : 8 * number + 8]), start, length)
            start += length


def _cluster(entry: int, start: int, length: int) -> Extent:
    if entry & _COMPRESSED:
        raise MalformedError("qcow2: has compressed clusters, which are not taken")
    if entry & _ZERO:
        return Extent(start, length, Origin.ZERO)
    place = entry & _OFFSET
    return Extent(start, length, Origin.DATA, place) if place else Extent(start, length, Origin.BACKING)


def _entry(data: bytes) -> int:
    if len(data) != 8:
        raise MalformedError("qcow2: a table lies beyond the end of the file")
    return int.from_bytes(data, "big")
