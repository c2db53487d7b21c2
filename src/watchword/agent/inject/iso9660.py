"""A small ISO 9660 image, made in memory, with Joliet names.

Every byte is a function of the arguments: no time, no random numbers. Systems that know Joliet see the exact names;
those that do not fold the plain ISO 9660 names to lower case, which gives the same for names in lower case.
Source: ECMA-119 (volume descriptors 8, directory records 9.1, path tables 9.4), Joliet specification 1995.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass

__all__ = ["SECTOR", "build"]

SECTOR = 2048
_FIRST_FREE = 19  # sectors: 16 system area, then the primary, the Joliet and the terminating descriptor
_DATE = bytes([100, 1, 1, 0, 0, 0, 0])  # 2000-01-01: the image tells nothing about when it was made
_NO_DATE = b"0" * 16 + b"\0"
_FOLDER = 2  # file flag
_Path = tuple[str, ...]


def build(files: Mapping[str, bytes], label: str) -> bytes:
    """An image with volume label ``label`` (ASCII, at most 16 characters) that holds ``files``.

    Keys are paths such as ``openstack/latest/user_data``: lower-case ASCII, at most 28 characters a part, at most 7
    folders deep. Raises ``ValueError`` on anything else: names are ours, never a stranger's.
    """
    contents = {tuple(path.split("/")): data for path, data in files.items()}
    for path in contents:
        if len(path) > 8 or not all(_good_name(part) for part in path):
            raise ValueError(f"not a path for this image: {path}")
    if not label.isascii() or len(label) > 16:
        raise ValueError("the label is ASCII text of at most 16 characters")
    plain = _View(contents, _iso_name, _FIRST_FREE)
    joliet = _View(contents, _joliet_name, plain.end)
    extents, end = _place(contents, joliet.end)
    image = bytearray(end * SECTOR)
    _put(image, 16, _descriptor(1, label.encode().ljust(32), b" ", b"", plain, end))
    _put(image, 17, _descriptor(2, label.encode("utf-16-be").ljust(32, b"\0"), b"\0", b"%/E", joliet, end))
    _put(image, 18, b"\xffCD001\x01")
    for view in (plain, joliet):
        view.write(image, extents)
    for path, data in contents.items():
        _put(image, extents[path], data)
    return bytes(image)


def _good_name(part: str) -> bool:
    return (
        0 < len(part) <= 28
        and part.count(".") <= 1
        and all(c in "abcdefghijklmnopqrstuvwxyz0123456789_." for c in part)
    )


def _iso_name(name: str, folder: bool) -> bytes:
    if folder:
        return name.upper().encode()
    return (name.upper() + ("" if "." in name else ".") + ";1").encode()


def _joliet_name(name: str, folder: bool) -> bytes:
    return (name if folder else name + ";1").encode("utf-16-be")


def _sectors(size: int) -> int:
    return -(-size // SECTOR)


def _put(image: bytearray, sector: int, data: bytes) -> None:
    image[sector * SECTOR : sector * SECTOR + len(data)] = data


def _place(contents: Mapping[_Path, bytes], start: int) -> tuple[dict[_Path, int], int]:
    """The first sector of each file, and the first free one after them."""
    extents = {}
    for path, data in contents.items():
        extents[path] = start
        start += _sectors(len(data))
    return extents, start


def _both16(value: int) -> bytes:
    return struct.pack("<H", value) + struct.pack(">H", value)


def _both32(value: int) -> bytes:
    return struct.pack("<I", value) + struct.pack(">I", value)


def _record(name: bytes, extent: int, size: int, flags: int) -> bytes:
    """One directory record (ECMA-119 section 9.1), padded to an even length."""
    body = (
        b"\0" + _both32(extent) + _both32(size) + _DATE + bytes([flags, 0, 0]) + _both16(1) + bytes([len(name)]) + name
    )
    body += b"\0" * (len(body) % 2 == 0)
    return bytes([len(body) + 1]) + body


@dataclass(frozen=True, slots=True)
class _Folder:
    path: _Path
    number: int  # in the path table, from 1
    extent: int
    size: int


class _View:
    """One of the two directory trees over the same files: where its tables and folders lie from ``start`` on."""

    def __init__(self, contents: Mapping[_Path, bytes], name: Callable[[str, bool], bytes], start: int) -> None:
        self._contents = contents
        self._name = name
        self._folders: dict[_Path, _Folder] = {}
        self.table = start  # little-endian path table; the big-endian one follows
        self.end = start + 2
        paths = {path[:depth] for path in contents for depth in range(len(path))} | {()}
        for number, path in enumerate(sorted(paths, key=lambda p: (len(p), p)), start=1):
            size = SECTOR * _sectors(len(self._listing(path, {})))
            self._folders[path] = _Folder(path, number, self.end, size)
            self.end += size // SECTOR
        if len(self.path_table("<")) > SECTOR:
            raise ValueError("too many folders for this image")
        self.root = self._folders[()]

    def path_table(self, order: str) -> bytes:
        table = b""
        for folder in self._folders.values():
            name = self._name(folder.path[-1], True) if folder.path else b"\0"
            parent = self._folders[folder.path[:-1]].number
            table += struct.pack(f"{order}BBIH", len(name), 0, folder.extent, parent) + name + b"\0" * (len(name) % 2)
        return table

    def write(self, image: bytearray, extents: Mapping[_Path, int]) -> None:
        _put(image, self.table, self.path_table("<"))
        _put(image, self.table + 1, self.path_table(">"))
        for folder in self._folders.values():
            _put(image, folder.extent, self._listing(folder.path, extents))

    def _listing(self, path: _Path, extents: Mapping[_Path, int]) -> bytes:
        """The records of one folder; a record never crosses a sector. Sizes are right before places are known."""
        here, parent = self._folders.get(path), self._folders.get(path[:-1])
        listing = _folder_record(b"\0", here) + _folder_record(b"\1", parent)
        for _, record in sorted(self._children(path, extents)):
            if len(listing) % SECTOR + len(record) > SECTOR:
                listing += b"\0" * (-len(listing) % SECTOR)
            listing += record
        return listing

    def _children(self, path: _Path, extents: Mapping[_Path, int]) -> list[tuple[bytes, bytes]]:
        children = {}
        for full, data in self._contents.items():
            if full[: len(path)] != path:
                continue
            folder = len(full) > len(path) + 1
            name = self._name(full[len(path)], folder)
            if folder:
                children[name] = _folder_record(name, self._folders.get(full[: len(path) + 1]))
            else:
                children[name] = _record(name, extents.get(full, 0), len(data), 0)
        return list(children.items())


def _folder_record(name: bytes, folder: _Folder | None) -> bytes:
    return _record(name, folder.extent if folder else 0, folder.size if folder else 0, _FOLDER)


def _descriptor(kind: int, label: bytes, blank: bytes, escape: bytes, view: _View, end: int) -> bytes:
    """A primary (1) or supplementary (2) volume descriptor (ECMA-119 sections 8.4 and 8.5), 2048 bytes."""
    table = len(view.path_table("<"))
    parts = [
        bytes([kind]) + b"CD001\x01\0",
        blank * 32,  # system
        label,
        b"\0" * 8 + _both32(end) + escape.ljust(32, b"\0"),
        _both16(1) + _both16(1) + _both16(SECTOR) + _both32(table),
        struct.pack("<II", view.table, 0) + struct.pack(">II", view.table + 1, 0),
        _record(b"\0", view.root.extent, view.root.size, _FOLDER),
        blank * (128 * 4 + 37 * 3),  # volume set, publisher, preparer, application, three file names
        _NO_DATE * 4 + b"\x01\0",
    ]
    return b"".join(parts).ljust(SECTOR, b"\0")
