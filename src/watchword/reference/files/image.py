"""File system and disk images: which file system there is, and where it begins."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from watchword.reference.files.ext4 import ext4_members
from watchword.reference.files.gpt import find_partition, read_partitions
from watchword.reference.files.member import CHUNK, Link, Member, Skipped
from watchword.reference.files.refuse import bad_source
from watchword.reference.files.squashfs import SQUASHFS_MAGIC, squashfs_members

__all__ = ["image_members", "is_image"]

_SUPPORTED = "a raw ext2, ext3, ext4 or squashfs image is read, or a raw disk with a GPT that has one"
_RAW = "make it raw: qemu-img convert -O raw {0} {0}.raw"
_HEAD = 128 * 1024
_EXT_MAGIC_AT = 1024 + 56
_EXT_MAGIC = b"\x53\xef"
_GPT = "partitions"
#: Where each kind begins, how, what it is called, and what to do about it.
_MAGICS = (
    (0, SQUASHFS_MAGIC, "squashfs", ""),
    (512, b"EFI PART", _GPT, ""),
    (4096, b"EFI PART", _GPT, ""),
    (0, b"QFI\xfb", "qcow2", _RAW),
    (0, b"KDMV", "VMDK", _RAW),
    (0, b"vhdxfile", "VHDX", _RAW),
    (0, b"conectix", "VHD", _RAW),
    (64, b"\x7f\x10\xda\xbe", "VDI", _RAW),
    (0, b"LUKS\xba\xbe", "LUKS (encrypted)", "measure the file system before it is encrypted"),
    (0, b"XFSB", "XFS", "mount it read-only and give the directory"),
    (1024, b"\xe2\xe1\xf5\xe0", "EROFS", "mount it read-only and give the directory"),
    (65600, b"_BHRfS_M", "Btrfs", "mount it read-only and give the directory"),
    (32769, b"CD001", "ISO 9660", "mount it read-only and give the directory"),
    (512, b"LABELONE", "LVM", "give the logical volume's file system"),
    (0, b"verity\0\0", "a dm-verity hash tree", "give the data partition"),
)


def is_image(head: bytes) -> bool:
    """Whether the first 128 KiB of a file are those of an image of a kind that has a name here."""
    return _kind(head)[0] != ""


def image_members(name: str, file: BinaryIO, partition: str | int | None) -> Iterator[Member | Link | Skipped]:
    """The files of the image in ``file``, or of its ``partition``.

    Raises MalformedError for a broken image, UsageError for a kind that is not read, with what to do instead.
    """
    size = os.fstat(file.fileno()).st_size
    kind, hint = _kind(_read_at(file, 0, _HEAD))
    offset = 0
    if kind == _GPT:
        chosen = find_partition(name, read_partitions(name, file, size), partition)
        name, offset, size = f"{name}, partition {chosen.label}", chosen.offset, chosen.size
        kind, hint = _kind(_read_at(file, offset, _HEAD))
    elif partition is not None:
        bad_source(name, f"is {kind or 'no disk'}, and has no partition {partition}", "leave the partition out")
    if kind == "ext4":
        yield from ext4_members(name, file, offset, size)
    elif kind == "squashfs":
        with _alone(file, offset, size) as part:
            yield from squashfs_members(name, part, size)
    else:
        what = f"is {kind}, which is not read" if kind else "has no file system that is read"
        bad_source(name, what, hint.format(Path(name).name) or _SUPPORTED)


def _kind(head: bytes) -> tuple[str, str]:
    for at, magic, kind, hint in _MAGICS:
        if head.startswith(magic, at):
            return kind, hint
    return ("ext4", "") if head.startswith(_EXT_MAGIC, _EXT_MAGIC_AT) else ("", "")


def _read_at(file: BinaryIO, offset: int, size: int) -> bytes:
    file.seek(offset)
    return file.read(size)


def _alone(file: BinaryIO, offset: int, size: int) -> BinaryIO:
    """The part of ``file`` as a file of its own, for tools that begin at the beginning: itself, or a copy on disk."""
    if not offset:
        return cast(BinaryIO, os.fdopen(os.dup(file.fileno()), "rb"))
    copy = cast(BinaryIO, tempfile.TemporaryFile())  # noqa: SIM115 - the caller closes it
    file.seek(offset)
    left = size
    while left and (piece := file.read(min(left, CHUNK))):
        copy.write(piece)
        left -= len(piece)
    copy.flush()
    return copy
