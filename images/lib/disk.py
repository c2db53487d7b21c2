"""Disk images without root and with the same bytes every time."""

import struct
from dataclasses import dataclass, field
from pathlib import Path

CLUSTER = 4096
SECTOR = 512
END_OF_CHAIN = 0xFFFF
DIRECTORY, ARCHIVE, VOLUME_LABEL = 0x10, 0x20, 0x08
DATE_1980_01_01 = 0x21
ROOT_ENTRIES = 512


@dataclass
class _Folder:
    folders: "dict[str, _Folder]" = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)


def fat16(files: dict[str, bytes], clusters: int = 4200) -> bytes:
    """Return a FAT16 file system of at least `clusters` of 4096 bytes with `files` (path in 8.3 names to content).

    The specification is Microsoft's "FAT: General Overview of On-Disk Format", 1.03. Firmware reads it
    with or without a partition table around it. FAT16 needs 4085 clusters or more, 16 MB here, and ends at 256 MB.
    """
    root = _Folder()
    for path, content in files.items():
        *parents, name = path.split("/")
        folder = root
        for parent in parents:
            folder = folder.folders.setdefault(parent, _Folder())
        folder.files[name] = content
    writer = _Fat16()
    entries = writer.entries_of(root)
    return writer.image(entries, clusters)


class _Fat16:
    def __init__(self) -> None:
        self.table = [0xFFF8, END_OF_CHAIN]
        self.clusters: list[bytes] = []

    def entries_of(self, folder: _Folder, parent: int = 0) -> bytes:
        """Store all below `folder` and return the entries that name its content."""
        entries = b""
        for name, child in sorted(folder.folders.items()):
            entries += self._store_folder(name, child, parent)
        for name, content in sorted(folder.files.items()):
            entries += _entry(name, ARCHIVE, self._store(content), len(content))
        return entries

    def _store_folder(self, name: str, folder: _Folder, parent: int) -> bytes:
        first = self._store(bytes(CLUSTER))  # one cluster: 128 entries
        dots = _entry(".", DIRECTORY, first) + _entry("..", DIRECTORY, parent)
        content = dots + self.entries_of(folder, first)
        self.clusters[first - 2] = content.ljust(CLUSTER, b"\0")
        return _entry(name, DIRECTORY, first)

    def _store(self, content: bytes) -> int:
        first = len(self.table)
        pieces = [content[at : at + CLUSTER] for at in range(0, len(content), CLUSTER)]
        self.clusters += [piece.ljust(CLUSTER, b"\0") for piece in pieces]
        self.table += [*range(first + 1, first + len(pieces)), END_OF_CHAIN]
        return first

    def image(self, entries: bytes, minimum: int) -> bytes:
        """Return boot sector, both tables, root folder and clusters."""
        count = max(len(self.clusters), minimum)
        if count > 65524:
            raise ValueError(f"{count} clusters do not fit FAT16")
        table = struct.pack(f"<{len(self.table)}H", *self.table).ljust((count + 2) * 2, b"\0")
        table += bytes(-len(table) % SECTOR)
        root = (b"WATCHWORD".ljust(11) + bytes([VOLUME_LABEL])).ljust(32, b"\0") + entries
        body = table * 2 + root.ljust(ROOT_ENTRIES * 32, b"\0") + b"".join(self.clusters)
        sectors = (SECTOR + len(table) * 2 + ROOT_ENTRIES * 32 + count * CLUSTER) // SECTOR
        return (_boot_sector(sectors, len(table) // SECTOR) + body).ljust(sectors * SECTOR, b"\0")


def _boot_sector(sectors: int, table_sectors: int) -> bytes:
    sector = struct.pack(
        "<3s8sHBHBHHBHHHII", b"\xeb\x3c\x90", b"WATCHWRD", SECTOR, CLUSTER // SECTOR, 1, 2, ROOT_ENTRIES, 0, 0xF8,
        table_sectors, 63, 255, 0, sectors,
    )  # fmt: skip
    sector += struct.pack("<BBBI11s8s", 0x80, 0, 0x29, 0x57415443, b"WATCHWORD".ljust(11), b"FAT16   ")
    return sector.ljust(510, b"\0") + b"\x55\xaa"


def _entry(name: str, attributes: int, first: int, size: int = 0) -> bytes:
    stem, _, suffix = (name, "", "") if name in {".", ".."} else name.partition(".")
    if len(stem) > 8 or len(suffix) > 3 or name.upper() != name:
        raise ValueError(f"{name} is not an upper-case 8.3 name")
    packed = stem.encode().ljust(8) + suffix.encode().ljust(3)
    dates = (0, DATE_1980_01_01, DATE_1980_01_01, 0, 0, DATE_1980_01_01)
    return struct.pack("<11sBBBHHHHHHHI", packed, attributes, 0, 0, *dates, first, size)


def write(path: Path, image: bytes) -> None:
    """Replace `path` by `image` in one step, so that nobody sees half an image."""
    partial = path.with_name(f"{path.name}.partial")
    partial.write_bytes(image)
    partial.rename(path)
