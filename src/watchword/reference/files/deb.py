"""Debian packages: an ``ar`` archive of a version, a control archive and a data archive.

Source: deb(5); ar(5), common format. A member header has 60 bytes: name 16, time 12, owner 6, group 6, mode 8, size 10
in decimal digits, and two bytes of magic.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import BinaryIO

from watchword.reference.files.compression import Slice, decompressed
from watchword.reference.files.member import Link, Member, Skipped
from watchword.reference.files.refuse import bad_artifact
from watchword.reference.files.tar import tar_members

__all__ = ["AR_MAGIC", "deb_members"]

AR_MAGIC = b"!<arch>\n"
_HEADER = re.compile(rb"([ -~]{16})[0-9 ]{12}[0-9 ]{6}[0-9 ]{6}[0-7 ]{8}([0-9]{1,10}) *`\n", re.DOTALL)
_HEADER_SIZE = 60
_MAX_CONTROL = 64 * 1024 * 1024


def deb_members(artifact: str, file: BinaryIO) -> Iterator[Member | Link | Skipped]:
    """The files that the package in ``file`` installs. Raises MalformedError unless it is one complete package."""
    if file.read(len(AR_MAGIC)) != AR_MAGIC:
        bad_artifact(artifact, "is not a Debian package")
    name, size = _next(artifact, file)
    if name != "debian-binary" or not file.read(size).startswith(b"2."):
        bad_artifact(artifact, "does not begin with debian-binary 2.x")
    _pad(artifact, file, size)
    for wanted in ("control.tar", "data.tar"):
        name, size = _next(artifact, file)
        while name.startswith("_"):  # members that a reader may skip (deb(5))
            file.seek(size, 1)
            _pad(artifact, file, size)
            name, size = _next(artifact, file)
        if name.partition(".")[0] != wanted.partition(".")[0] or not name.startswith(wanted):
            bad_artifact(artifact, f"has {name!r} where {wanted} must be")
        if wanted == "control.tar" and size > _MAX_CONTROL:
            bad_artifact(artifact, "its control archive is too large")
        yield from _archive(f"{artifact}({name})", file, size, listed=wanted == "data.tar")
        _pad(artifact, file, size)
    while rest := file.read(_HEADER_SIZE):  # a signature, as debsigs appends it
        name, size = _header(artifact, rest)
        if not name.startswith("_") or len(file.read(min(size, _MAX_CONTROL))) != size:
            bad_artifact(artifact, "has more than its data archive")
        _pad(artifact, file, size)


def _archive(artifact: str, file: BinaryIO, size: int, listed: bool) -> Iterator[Member | Link | Skipped]:
    """The members of one archive; those of the control archive are read, so that it is known to be whole."""
    part = Slice(file, size)
    for member in tar_members(artifact, decompressed(artifact, part)):
        if listed:
            yield member
        elif isinstance(member, Member):
            for _ in member.chunks:
                pass
    if part.taken != size:
        bad_artifact(artifact, "was cut off, or has data after its end")


def _next(artifact: str, file: BinaryIO) -> tuple[str, int]:
    return _header(artifact, file.read(_HEADER_SIZE))


def _header(artifact: str, header: bytes) -> tuple[str, int]:
    found = _HEADER.fullmatch(header)
    if found is None:
        bad_artifact(artifact, "was cut off" if len(header) < _HEADER_SIZE else "has a broken ar header")
    size = int(found[2])
    if found[1].startswith(b"debian-binary") and size > 64:
        bad_artifact(artifact, "its format version is too long")
    return found[1].decode("ascii").rstrip(" ").removesuffix("/"), size


def _pad(artifact: str, file: BinaryIO, size: int) -> None:
    if size % 2 and file.read(1) not in (b"\n", b""):
        bad_artifact(artifact, "has a broken ar archive: no padding after a member")
