"""Directories: an unpacked root file system, or a part of one."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from watchword.reference.files.member import CHUNK, Member, Skipped
from watchword.reference.files.refuse import bad_member, bad_source
from watchword.reference.files.signature import MAX_SIGNATURE

__all__ = ["directory_members", "file_member"]


def directory_members(folder: Path) -> Iterator[Member | Skipped]:
    """Every regular file below ``folder``, with its path relative to it. Symbolic links are not followed.

    The members may be read in any order and in other threads. Raises UsageError for what cannot be read.
    """
    if folder.is_symlink() or not folder.is_dir():
        bad_source(str(folder), "is not a directory", "a symbolic link is not followed; name what it points to")
    pending = [(os.fsencode(folder), b"")]
    while pending:
        real, path = pending.pop()
        try:
            with os.scandir(real) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError as error:
            bad_source(os.fsdecode(real), (error.strerror or str(error)).lower())
        for entry in entries:
            inside = path + b"/" + entry.name
            if entry.is_dir(follow_symlinks=False):
                pending.append((entry.path, inside))
            elif entry.is_file(follow_symlinks=False):
                yield file_member(entry.path, inside)
            else:
                yield Skipped(inside, "symlink" if entry.is_symlink() else "special")


def file_member(real: bytes, path: bytes) -> Member:
    """The file ``real`` under the name ``path``. Its last component must not be a symbolic link."""
    mode = os.lstat(real).st_mode
    return Member(path, stat.S_IMODE(mode), _Chunks(real), _signature(real))


class _Chunks:
    """The content of a file, opened when it is read."""

    def __init__(self, real: bytes) -> None:
        self._real = real

    def __iter__(self) -> Iterator[bytes]:
        try:
            descriptor = os.open(self._real, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
            with open(descriptor, "rb", buffering=0) as file:
                if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                    bad_source(os.fsdecode(self._real), "is no longer a regular file")
                while piece := file.read(CHUNK):
                    yield piece
        except OSError as error:
            bad_source(os.fsdecode(self._real), (error.strerror or str(error)).lower())


def _signature(real: bytes) -> bytes:
    try:
        value = os.getxattr(real, "security.ima", follow_symlinks=False)
    except OSError as error:
        if error.errno in (errno.ENODATA, errno.ENOTSUP):
            return b""
        bad_source(os.fsdecode(real), f"its attribute security.ima: {(error.strerror or str(error)).lower()}")
    if len(value) > MAX_SIGNATURE:
        bad_member(os.fsdecode(real), b"security.ima", f"has more than {MAX_SIGNATURE} bytes")
    return value
