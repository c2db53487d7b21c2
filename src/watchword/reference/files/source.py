"""Sources: what a release names, of which kind each is by its first bytes, and the files in it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal, TypeAlias

from watchword.reference.files.compression import Slice, decompressed
from watchword.reference.files.deb import AR_MAGIC, deb_members
from watchword.reference.files.directory import directory_members, file_member
from watchword.reference.files.image import image_members, is_image
from watchword.reference.files.member import Link, Member, Skipped
from watchword.reference.files.refuse import bad_source
from watchword.reference.files.rpm import rpm_members
from watchword.reference.files.rpm_header import RPM_MAGIC
from watchword.reference.files.tar import tar_members

__all__ = ["Source", "SourceKind", "kind_of", "members", "size_of"]

SourceKind: TypeAlias = Literal["directory", "deb", "rpm", "image", "tar", "file"]
_HEAD = 128 * 1024
_PACKED = (b"\x1f\x8b", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd", b"BZh", b"\x5d\0\0")
_USTAR_AT = 257
_KNOWN = "a directory, .deb, .rpm, tar archive, raw ext2/3/4 or squashfs image, or raw disk with a GPT is read"


@dataclass(frozen=True, slots=True)
class Source:
    """One artifact. ``at`` is where its root is on a host (packages are always at /), ``partition`` a number or name.

    ``single`` takes ``path`` as one file that is installed as it is, under the name ``at``.
    """

    path: Path
    at: str = "/"
    partition: str | int | None = None
    single: bool = False


def kind_of(source: Source) -> SourceKind:
    """What the source is, by its first bytes: a name proves nothing. Raises UsageError."""
    if source.path.is_dir() and not source.single:
        return "directory"
    try:
        with source.path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError as error:
        bad_source(str(source.path), (error.strerror or str(error)).lower())
    if source.single:
        return "file"
    if head.startswith(AR_MAGIC):
        return "deb"
    if head.startswith(RPM_MAGIC):
        return "rpm"
    if is_image(head):
        return "image"
    if not head.startswith(_PACKED) and head[_USTAR_AT : _USTAR_AT + 5] != b"ustar":
        bad_source(str(source.path), "is of no kind that is read", _KNOWN)
    return "tar"


def members(source: Source, kind: SourceKind, file: BinaryIO | None) -> Iterator[Member | Link | Skipped]:
    """The files of ``source``, whose content is ``file`` unless it is a directory, each to be read before the next."""
    name = str(source.path)
    if file is None:
        yield from directory_members(source.path)
    elif kind == "deb":
        yield from deb_members(name, file)
    elif kind == "rpm":
        yield from rpm_members(name, file)
    elif kind == "image":
        yield from image_members(name, file, source.partition)
    elif kind == "file":
        yield file_member(os.fsencode(source.path), b"")
    else:
        size = os.fstat(file.fileno()).st_size
        part = Slice(file, size)
        yield from tar_members(name, decompressed(name, part))
        if part.taken != size:
            bad_source(name, "has data after its end")


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files in a directory: for progress only, so what cannot be read counts nothing."""
    try:
        if not path.is_dir():
            return path.stat().st_size
        with os.scandir(path) as found:
            return sum(_entry_size(entry) for entry in found)
    except OSError:
        return 0


def _entry_size(entry: os.DirEntry[str]) -> int:
    if entry.is_dir(follow_symlinks=False):
        return size_of(Path(entry.path))
    return entry.stat(follow_symlinks=False).st_size
