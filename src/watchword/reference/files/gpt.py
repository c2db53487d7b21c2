"""GUID partition tables of disk images: which bytes are the partition that is meant.

Source: UEFI specification 2.10, 5.3; types of partitions: UAPI Group, Discoverable Partitions Specification.
"""

from __future__ import annotations

import struct
import uuid
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO

from watchword.reference.files.refuse import bad_artifact, bad_source

__all__ = ["GPT_MAGIC", "Partition", "find_partition", "read_partitions"]

GPT_MAGIC = b"EFI PART"
_HEADER = struct.Struct("<8sIIIIQQQQ16sQIII")
_ENTRY = struct.Struct("<16s16sQQQ72s")
_SECTORS = (512, 4096)
_MAX_ENTRIES = 1024
_TYPES = {
    uuid.UUID("4f68bce3-e8cd-4db1-96e7-fbcaf984b709"): "root",  # x86-64
    uuid.UUID("b921b045-1df0-41c3-af44-4c6f280d3fae"): "root",  # ARM64
    uuid.UUID("8484680c-9521-48c6-9c11-b0720656f69e"): "usr",
    uuid.UUID("b0e01050-ee5f-4390-949a-9101b17104e9"): "usr",
}


@dataclass(frozen=True, slots=True)
class Partition:
    """One partition: its number from 1, what its type stands for ("root", "usr" or ""), its name, its bytes."""

    number: int
    kind: str
    name: str
    offset: int
    size: int

    @property
    def label(self) -> str:
        """For messages."""
        names = ", ".join(word for word in (self.kind, self.name) if word)
        return f"{self.number} ({names})" if names else str(self.number)


def read_partitions(artifact: str, file: BinaryIO, size: int) -> tuple[Partition, ...]:
    """The partitions of the disk of ``size`` bytes in ``file``; none when it has no such table.

    Raises MalformedError for a table whose checksums are wrong, or whose partitions overlap or leave the disk.
    """
    for sector in _SECTORS:
        file.seek(sector)
        raw = file.read(_HEADER.size)
        if raw.startswith(GPT_MAGIC) and len(raw) == _HEADER.size:
            found = _entries(artifact, file, sector, raw)
            _check(artifact, found, size)
            return found
    return ()


def _entries(artifact: str, file: BinaryIO, sector: int, raw: bytes) -> tuple[Partition, ...]:
    _, _, header_size, checksum, *_, table_at, count, entry_size, table_checksum = _HEADER.unpack(raw)
    if header_size != _HEADER.size or zlib.crc32(raw[:16] + bytes(4) + raw[20:]) != checksum:
        bad_artifact(artifact, "its partition table has a header with a wrong checksum")
    if entry_size != _ENTRY.size or count > _MAX_ENTRIES:
        bad_artifact(artifact, "its partition table has entries of an unusual size or number")
    file.seek(table_at * sector)
    table = file.read(count * entry_size)
    if len(table) != count * entry_size or zlib.crc32(table) != table_checksum:
        bad_artifact(artifact, "its partition table has a wrong checksum")
    found = []
    for number, (kind, _, first, last, _, name) in enumerate(_ENTRY.iter_unpack(table), 1):
        if kind != bytes(16):
            text = name.decode("utf-16-le", "replace").partition("\0")[0]
            what = _TYPES.get(uuid.UUID(bytes_le=kind), "")
            found.append(Partition(number, what, text, first * sector, (last + 1 - first) * sector))
    return tuple(found)


def _check(artifact: str, found: Sequence[Partition], size: int) -> None:
    end = 0
    for one in sorted(found, key=lambda one: one.offset):
        if one.size <= 0 or one.offset < end or one.offset + one.size > size:
            bad_artifact(artifact, f"partition {one.label} overlaps another, or is not inside of the image")
        end = one.offset + one.size


def find_partition(artifact: str, found: Sequence[Partition], wanted: str | int | None) -> Partition:
    """The one partition that ``wanted`` means: a number, the name, or ``root`` and ``usr`` for that type.

    Raises UsageError, with what there is, when it means none or several.
    """
    there = f"it has {', '.join(one.label for one in found) or 'none'}"
    if wanted is None:
        bad_source(artifact, "is a disk with partitions", f"say which one to read; {there}")
    named = [one for one in found if str(wanted) in (str(one.number), one.kind, one.name)]
    if isinstance(wanted, int) or str(wanted).isdecimal():
        named = [one for one in found if one.number == int(wanted)]
    if len(named) != 1:
        bad_source(artifact, f"{'no' if not named else 'more than one'} partition is {wanted}", there)
    return named[0]
