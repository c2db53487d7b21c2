"""Tar archives: of a root file system, inside of Debian packages, and what is made of a squashfs image."""

from __future__ import annotations

import base64
import binascii
import os
import tarfile
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO, cast

from watchword.reference.files.compression import Bounded
from watchword.reference.files.member import CHUNK, MAX_FILE, Link, Member, Skipped, chunks_of
from watchword.reference.files.paths import member_path
from watchword.reference.files.refuse import bad_artifact, bad_member
from watchword.reference.files.signature import MAX_SIGNATURE

__all__ = ["tar_members"]

_BLOCK = 512


def tar_members(artifact: str, stream: Bounded) -> Iterator[Member | Link | Skipped]:
    """The members of the tar archive in ``stream``, in order; each Member must be read before the next is asked for.

    Raises MalformedError for what is no complete tar archive. Source: POSIX pax, GNU tar's long names and sparse files.
    """
    try:
        with tarfile.open(fileobj=cast(Any, _Forward(stream)), mode="r:", bufsize=CHUNK) as archive:
            for info in archive:
                yield from _member(artifact, archive, info, stream)
                cast(Any, archive).members = []  # the library would keep every one of them
    except (tarfile.TarError, UnicodeError, ValueError) as error:
        bad_artifact(artifact, f"is not a sound tar archive ({error})")
    # The library takes garbage after a member for the end of the archive.
    if stream.last != bytes(_BLOCK):
        bad_artifact(artifact, "does not end as a tar archive does: it was cut off, or a header is broken")
    while piece := stream.read(CHUNK):
        if piece.strip(b"\0"):
            bad_artifact(artifact, "has data after its end")


class _Forward:
    """What :mod:`tarfile` needs of a file object, over a stream that only goes forward."""

    def __init__(self, stream: Bounded) -> None:
        self.read, self.tell, self.seek = stream.read, stream.tell, stream.seek


def _member(
    artifact: str, archive: tarfile.TarFile, info: tarfile.TarInfo, stream: Bounded
) -> Iterator[Member | Link | Skipped]:
    path = member_path(artifact, os.fsencode(info.name))
    if info.isdir():
        return
    if info.issym():
        yield Skipped(path, "symlink")
    elif info.islnk():
        yield Link(path, member_path(artifact, os.fsencode(info.linkname)))
    elif not info.isreg():
        yield Skipped(path, "special")
    elif path == b"/" or info.size > MAX_FILE:
        bad_member(artifact, path, f"a file without a name, or of more than {MAX_FILE} bytes")
    else:
        chunks = (
            _sparse(archive, info) if info.issparse() else chunks_of(cast(BinaryIO, stream), info.size, artifact, path)
        )
        yield Member(path, info.mode, chunks, _signature(artifact, path, info))


def _sparse(archive: tarfile.TarFile, info: tarfile.TarInfo) -> Iterable[bytes]:
    file = archive.extractfile(info)
    while file is not None and (piece := file.read(CHUNK)):
        yield piece


def _signature(artifact: str, path: bytes, info: tarfile.TarInfo) -> bytes:
    plain = info.pax_headers.get("SCHILY.xattr.security.ima")
    if plain is not None:
        value = plain.encode("utf-8", "surrogateescape")
    else:
        try:
            value = base64.b64decode(info.pax_headers.get("LIBARCHIVE.xattr.security.ima", "") + "==")
        except binascii.Error:
            bad_member(artifact, path, "its attribute security.ima is not base64")
    if len(value) > MAX_SIGNATURE:
        bad_member(artifact, path, f"its attribute security.ima has more than {MAX_SIGNATURE} bytes")
    return value
