"""RPM packages: the payload, which must be what the header says."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import replace
from typing import BinaryIO

from watchword.reference.files.compression import Slice, decompressed
from watchword.reference.files.cpio import cpio_members
from watchword.reference.files.member import Link, Member, Skipped
from watchword.reference.files.refuse import bad_artifact, bad_member
from watchword.reference.files.rpm_header import RpmFile, read_headers

__all__ = ["rpm_members"]


def rpm_members(artifact: str, file: BinaryIO) -> Iterator[Member | Link | Skipped]:
    """The files that the package installs, with the digests and signatures that its header lists for them.

    Raises MalformedError unless it is one complete package whose payload and header list the same files.
    """
    listed = read_headers(artifact, file)
    size = os.fstat(file.fileno()).st_size - file.tell()
    part = Slice(file, size)
    missing = {path for path, said in listed.items() if stat.S_ISREG(said.mode) and not said.ghost}
    for member in cpio_members(artifact, decompressed(artifact, part)):
        said = listed.get(member.path)
        if said is None or stat.S_ISREG(said.mode) is isinstance(member, Skipped):
            bad_member(artifact, member.path, "is in the payload, but the header does not list it, or as another type")
        missing.discard(member.path)
        yield _with_header(artifact, member, said, listed)
    if missing:
        bad_member(artifact, min(missing), "is in the header, but not in the payload")
    if part.taken != size:
        bad_artifact(artifact, "was cut off, or has data after its end")


def _with_header(
    artifact: str, member: Member | Link | Skipped, said: RpmFile, listed: dict[bytes, RpmFile]
) -> Member | Link | Skipped:
    if isinstance(member, Member):
        return replace(member, mode=said.mode, signature=said.signature, declared=said.declared)
    if isinstance(member, Link) and listed[member.target].declared != said.declared:
        bad_member(artifact, member.path, "is a hard link, but the header lists another digest for it")
    return member
