"""One file of an artifact, as every source hands it over, and its digests."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO

from watchword.reference.files.refuse import bad_member
from watchword.wire.tpm.algorithms import Alg

__all__ = [
    "CHUNK",
    "HASH_NAMES",
    "MAX_FILE",
    "Hashed",
    "Link",
    "Member",
    "Skipped",
    "Tally",
    "chunks_of",
    "hash_member",
]

CHUNK = 1024 * 1024
MAX_FILE = 64 * 1024**3  # bytes of one file; a sparse file may claim anything
HASH_NAMES = {Alg.SHA256: "sha256", Alg.SHA384: "sha384", Alg.SHA512: "sha512", Alg.SM3_256: "sm3"}
_CODE_MAGIC = (b"\x7fELF", b"#!")
_CODE_FOLDERS = (b"/lib/firmware/", b"/usr/lib/firmware/", b"/lib/modules/", b"/usr/lib/modules/")
_CODE_NAMES = (b".ko", b".ko.xz", b".ko.zst", b".ko.gz", b".so")


@dataclass(frozen=True, slots=True)
class Member:
    """A regular file. ``path`` is absolute in the artifact; ``chunks`` may be read once, before the next member.

    ``signature`` is the value of ``security.ima`` that comes with the file, ``declared`` a digest (name for hashlib,
    hex) that the artifact itself claims for the content.
    """

    path: bytes
    mode: int
    chunks: Iterable[bytes]
    signature: bytes = b""
    declared: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Link:
    """A hard link: another name, ``path``, of the file ``target`` of the same artifact."""

    path: bytes
    target: bytes


@dataclass(frozen=True, slots=True)
class Skipped:
    """Something that is no file: IMA measures what it leads to, or nothing. ``kind`` is ``symlink`` or ``special``."""

    path: bytes
    kind: str


@dataclass(frozen=True, slots=True)
class Hashed:
    """A file that was read: its digests, and whether it is a program, library, module or firmware."""

    digests: tuple[tuple[Alg, bytes], ...]
    size: int
    code: bool


@dataclass(slots=True)
class Tally:
    """What was seen, for people: counts by word, and files with a signature by what is known of it."""

    counts: dict[str, int] = field(default_factory=dict)

    def add(self, word: str, number: int = 1) -> None:
        self.counts[word] = self.counts.get(word, 0) + number

    def merge(self, other: Tally) -> None:
        """Add what another one has seen."""
        for word, number in other.counts.items():
            self.add(word, number)


def chunks_of(stream: BinaryIO, size: int, artifact: str, path: bytes) -> Iterator[bytes]:
    """Exactly ``size`` bytes of ``stream``. Raises MalformedError when it ends before."""
    left = size
    while left:
        piece = stream.read(min(left, CHUNK))
        if not piece:
            bad_member(artifact, path, "the artifact ends inside of this file")
        left -= len(piece)
        yield piece


def hash_member(
    artifact: str, member: Member, algorithms: Sequence[Alg], progress: Callable[[int], None] = lambda _: None
) -> Hashed:
    """Read ``member`` once and hash it with all ``algorithms``. Raises MalformedError when it is not as declared.

    ``progress`` gets the number of bytes that were read each time.
    """
    hashes = [hashlib.new(HASH_NAMES[alg]) for alg in algorithms]
    claimed = hashlib.new(member.declared[0]) if member.declared else None  # old packages declare MD5
    size, head = 0, b""
    for piece in member.chunks:
        if size < 4:
            head = (head + piece[:4])[:4]
        size += len(piece)
        if size > MAX_FILE:
            bad_member(artifact, member.path, f"is larger than {MAX_FILE} bytes")
        for one in hashes if claimed is None else (*hashes, claimed):
            one.update(piece)
        progress(len(piece))
    if claimed is not None and member.declared is not None and claimed.hexdigest() != member.declared[1]:
        bad_member(artifact, member.path, f"its content does not have the {claimed.name} digest that the header lists")
    digests = tuple((alg, one.digest()) for alg, one in zip(algorithms, hashes, strict=True))
    return Hashed(digests, size, _is_code(member, head))


def _is_code(member: Member, head: bytes) -> bool:
    return (
        bool(member.mode & 0o111)
        or head.startswith(_CODE_MAGIC)
        or member.path.startswith(_CODE_FOLDERS)
        or member.path.endswith(_CODE_NAMES)
        or b".so." in member.path.rpartition(b"/")[2]
    )
