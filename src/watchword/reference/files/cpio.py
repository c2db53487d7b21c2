"""The cpio archive (format newc) that is the payload of an RPM package.

A header has 110 bytes: a magic and thirteen numbers of eight hex digits; the name and the content are padded to four.
Source: cpio(5), "New ASCII Format".
"""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple, cast

from watchword.reference.files.compression import Bounded
from watchword.reference.files.member import CHUNK, Link, Member, Skipped, chunks_of
from watchword.reference.files.paths import member_path
from watchword.reference.files.refuse import bad_artifact

__all__ = ["cpio_members"]

_HEADER = re.compile(rb"07070[12]([0-9A-Fa-f]{104})")
_HEADER_SIZE = 110
_TRAILER = b"TRAILER!!!"
_MAX_NAME = 4096


class _Entry(NamedTuple):
    path: bytes
    mode: int
    size: int
    node: tuple[int, int, int]  # inode and device: the same for hard links
    links: int


def cpio_members(artifact: str, stream: Bounded) -> Iterator[Member | Link | Skipped]:
    """The members of the archive, in order; each Member must be read before the next is asked for.

    Of a set of hard links one has the content; the others have no bytes, and are yielded at the end.
    Raises MalformedError for what is no complete archive.
    """
    content: dict[tuple[int, int, int], bytes] = {}
    linked: list[_Entry] = []
    while (entry := _entry(artifact, stream)) is not None:
        if stat.S_ISREG(entry.mode) and entry.links > 1 and not entry.size:
            linked.append(entry)
        elif stat.S_ISREG(entry.mode):
            yield Member(entry.path, entry.mode, chunks_of(cast(BinaryIO, stream), entry.size, artifact, entry.path))
            content[entry.node] = entry.path
            stream.read(-entry.size % 4)
        else:
            if not stat.S_ISDIR(entry.mode):
                yield Skipped(entry.path, "symlink" if stat.S_ISLNK(entry.mode) else "special")
            stream.seek(stream.tell() + entry.size + -entry.size % 4)
    for entry in linked:
        if entry.node in content:
            yield Link(entry.path, content[entry.node])
        else:
            content[entry.node] = entry.path
            yield Member(entry.path, entry.mode, ())
    while piece := stream.read(CHUNK):
        if piece.strip(b"\0"):
            bad_artifact(artifact, "has data after the end of its payload")


def _entry(artifact: str, stream: Bounded) -> _Entry | None:
    header = stream.read(_HEADER_SIZE)
    if header[:6] == b"07070X":
        bad_artifact(artifact, "has files of more than 4 GiB, a kind of payload that is not read")
    found = _HEADER.fullmatch(header)
    if found is None:
        bad_artifact(artifact, "its payload was cut off, or has a broken cpio header")
    numbers = [int(found[1][i : i + 8], 16) for i in range(0, 104, 8)]
    inode, mode, links, size, major, minor, name_size = (
        numbers[0],
        numbers[1],
        numbers[4],
        numbers[6],
        numbers[7],
        numbers[8],
        numbers[11],
    )
    if not 2 <= name_size <= _MAX_NAME:
        bad_artifact(artifact, f"a name of {name_size} bytes in its payload")
    name = stream.read(name_size)
    if len(name) != name_size or name[-1:] != b"\0":
        bad_artifact(artifact, "its payload was cut off, or has a broken cpio header")
    stream.read(-(_HEADER_SIZE + name_size) % 4)
    if name[:-1] == _TRAILER:
        return None
    return _Entry(member_path(artifact, name[:-1]), mode, size, (inode, major, minor), links)
