"""A disk with a GUID partition table (UEFI specification, section 5.3)."""

import struct
import uuid
import zlib

SECTOR = 512
ALIGNMENT = 2048  # sectors
ENTRIES, ENTRY_SIZE = 128, 128
TABLE_SECTORS = ENTRIES * ENTRY_SIZE // SECTOR
EFI_SYSTEM = uuid.UUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b")
LINUX_ROOT_X86_64 = uuid.UUID("4f68bce3-e8cd-4db1-96e7-fbcaf984b709")
# Firmware measures the table, identifiers included: drawn once, so that two builds measure the same.
DISK = uuid.UUID("8f0a3f0e-6f5c-4c33-9f5e-1c1f0a7d2b10")


def disk(partitions: list[tuple[uuid.UUID, str, bytes]]) -> bytes:
    """Return a whole disk with the given partitions: (type, name, content), each aligned to 1 MB."""
    entries, body = b"", b""
    start = ALIGNMENT
    for number, (kind, name, content) in enumerate(partitions):
        sectors = -(-len(content) // (ALIGNMENT * SECTOR)) * ALIGNMENT
        own = uuid.uuid5(DISK, f"partition {number}")
        last = start + sectors - 1
        label = name.encode("utf-16-le")
        entries += struct.pack("<16s16sQQQ72s", kind.bytes_le, own.bytes_le, start, last, 0, label)
        body += content.ljust(sectors * SECTOR, b"\0")
        start += sectors
    table = entries.ljust(ENTRIES * ENTRY_SIZE, b"\0")
    total = start + ALIGNMENT
    primary = _header(1, total - 1, 2, total, table)
    backup = _header(total - 1, 1, total - 1 - TABLE_SECTORS, total, table)
    front = (_protective_mbr(total) + primary + table).ljust(ALIGNMENT * SECTOR, b"\0")
    return front + body + (table + backup).rjust(ALIGNMENT * SECTOR, b"\0")


def _header(own: int, other: int, table_at: int, total: int, table: bytes) -> bytes:
    first, last = 2 + TABLE_SECTORS, total - 2 - TABLE_SECTORS
    places = struct.pack("<QQQQ16s", own, other, first, last, DISK.bytes_le)
    tail = places + struct.pack("<QIII", table_at, ENTRIES, ENTRY_SIZE, zlib.crc32(table))
    head = b"EFI PART" + struct.pack("<II", 0x00010000, 92)
    checksum = zlib.crc32(head + bytes(8) + tail)
    return (head + struct.pack("<II", checksum, 0) + tail).ljust(SECTOR, b"\0")


def _protective_mbr(total: int) -> bytes:
    entry = struct.pack("<B3sB3sII", 0, b"\x00\x02\x00", 0xEE, b"\xff\xff\xff", 1, total - 1)
    return (bytes(446) + entry).ljust(510, b"\0") + b"\x55\xaa"
