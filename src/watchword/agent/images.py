"""What a disk image holds, whatever it is stored as: the digest of the content that a machine will see (clause L2).

A compute host rarely boots the file that the tenant knows. It boots a copy that is longer, or an empty overlay over a
cached file. What counts is the content: a disk is the tenant's image followed by zeros, or it is not the tenant's.
"""

from __future__ import annotations

import hashlib
import os
import stat
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from watchword.errors import Finding, MalformedError, Rejected, UsageError
from watchword.wire.qcow2 import HEADER_SIZE, Extent, Origin, Qcow2, extents

__all__ = ["DigestCache", "HeldImage", "State"]

_CHUNK = 1 << 20
_MAX_CHAIN = 8
_CACHED = 256  # digests
# A write in the same tick of the clock as the one before may leave the times of a file as they are.
_SETTLED = 3.0  # seconds
State = tuple[int, int, int, int, int]  # device, inode, size, modification and change time


class DigestCache:
    """Digests of whole raw files that did not change since; in memory only, so that a reboot forgets them.

    Sound as far as the host's own software does not set back its clock or write past the file system, which is what
    its appraisal vouches for, as it does for a file that is written to after it was hashed.
    """

    def __init__(self) -> None:
        self._known: OrderedDict[State, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, state: State) -> bytes | None:
        with self._lock:
            return self._known.get(state)

    def put(self, state: State, digest: bytes, started: float) -> None:
        """``started`` is when hashing began (Unix time): a file that was written to just before is not kept."""
        if max(state[3], state[4]) / 1e9 + _SETTLED > started:
            return
        with self._lock:
            self._known[state] = digest
            while len(self._known) > _CACHED:
                self._known.popitem(last=False)


class HeldImage:
    """The image at ``path`` in the format ``form`` ("raw" or "qcow2"), with its backing files, all held open.

    Raises :class:`UsageError` (``disk-unreadable``, ``disk-type``) or :class:`Rejected` (``disk-format``).
    """

    def __init__(self, path: Path, form: str, *, depth: int = 0) -> None:
        self._stack = ExitStack()
        self.path = path
        self.backing: HeldImage | None = None
        self._fd = _open_regular(path)
        self._stack.callback(os.close, self._fd)
        try:
            self.state = _state(self._fd)
            self._header = _header(path, self._read(HEADER_SIZE, 0)) if form == "qcow2" else None
            self.size = self._header.size if self._header else self.state[2]
            if form not in ("raw", "qcow2"):
                raise _format(path, f"the format {form[:20]!r} is not taken")
            if self._header and self._header.backing:
                if depth >= _MAX_CHAIN:
                    raise _format(path, "too many backing files")
                behind = path.parent / self._header.backing
                self.backing = HeldImage(behind, self._header.backing_format, depth=depth + 1)
                self._stack.callback(self.backing.close)
        except BaseException:
            self.close()
            raise

    def digest(self, length: int | None, cache: DigestCache) -> bytes:
        """SHA-256 of the tenant's image that this disk starts with; what follows must be zeros.

        ``length`` is how long that image is said to be; without it, as long as the raw file at the bottom, or all.
        A wrong length gives another digest and no harm. Raises :class:`Rejected` (``disk-format``, ``disk-tail``).
        """
        bottom = self._bottom()
        wanted = length if length is not None else bottom.size if bottom._header is None else self.size
        wanted = min(wanted, self.size)
        self._check_tail(wanted)
        source = self._same_content(wanted)
        if source._header is None and source.size == wanted:
            return source._whole(cache)
        return source._hash(wanted)

    @property
    def states(self) -> tuple[State, ...]:
        """What identifies every file that is involved, as of when it was opened."""
        return (self.state, *(self.backing.states if self.backing else ()))

    def check_unchanged(self) -> None:
        """Raise :class:`Rejected` (``disk-changed``) when a file was written to since it was opened."""
        if _state(self._fd) != self.state:
            raise Rejected(Finding("L2", "disk-changed", "the disk image changed while it was being used"))
        if self.backing:
            self.backing.check_unchanged()

    def close(self) -> None:
        """Close all files; may be called twice."""
        self._stack.close()

    def __enter__(self) -> HeldImage:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _bottom(self) -> HeldImage:
        return self.backing._bottom() if self.backing else self

    def _read(self, size: int, offset: int) -> bytes:
        return os.pread(self._fd, size, offset)

    def _same_content(self, length: int) -> HeldImage:
        """The lowest image that has the same first ``length`` bytes: an overlay without changes is what it covers."""
        if self._header is None or self.backing is None or self.backing.size < length:
            return self
        for extent in self._extents():
            if extent.start < length and extent.origin is not Origin.BACKING:
                return self
        return self.backing._same_content(length)

    def _extents(self) -> Iterator[Extent]:
        assert self._header is not None
        try:
            yield from extents(self._header, self._read)
        except MalformedError as error:
            raise _format(self.path, error.message) from None

    def _whole(self, cache: DigestCache) -> bytes:
        known = cache.get(self.state)
        if known is not None:
            return known
        started = time.time()
        digest = self._hash(self.size)
        self.check_unchanged()
        cache.put(self.state, digest, started)
        return digest

    def _hash(self, length: int) -> bytes:
        hashed = hashlib.sha256()
        zeros = bytes(_CHUNK)
        for piece in self._content(0, length):
            if isinstance(piece, bytes):
                hashed.update(piece)
                continue
            for start in range(0, piece, _CHUNK):
                hashed.update(zeros[: min(_CHUNK, piece - start)])
        return hashed.digest()

    def _check_tail(self, start: int) -> None:
        for piece in self._content(start, self.size):
            if isinstance(piece, bytes) and piece.count(0) != len(piece):
                raise Rejected(
                    Finding("L2", "disk-tail", "the disk holds something behind the image that it was made from"),
                    hint="Only a fresh copy of the tenant's image gets a secret.",
                )

    def _content(self, start: int, end: int) -> Iterator[bytes | int]:
        """The bytes from ``start`` to ``end``, in pieces; a number stands for so many zeros."""
        if self._header is None:
            yield from self._raw(start, end)
            return
        for extent in self._extents():
            low, high = max(start, extent.start), min(end, extent.start + extent.length)
            if low >= high:
                continue
            if extent.origin is Origin.DATA:
                yield from self._stored(extent.place + low - extent.start, high - low)
            elif extent.origin is Origin.ZERO or self.backing is None:
                yield high - low
            else:
                covered = max(low, min(high, self.backing.size))
                yield from self.backing._content(low, covered)
                yield high - covered

    def _raw(self, start: int, end: int) -> Iterator[bytes | int]:
        while start < end:
            data = _next_data(self._fd, start, end)
            yield data - start
            start = data
            while start < end and (piece := self._read(min(_CHUNK, end - start), start)):
                yield piece
                start += len(piece)
                if _next_data(self._fd, start, end) != start:
                    break
            else:
                if start < end:
                    raise _format(self.path, "the file became shorter")

    def _stored(self, place: int, length: int) -> Iterator[bytes]:
        while length:
            piece = self._read(min(_CHUNK, length), place)
            if not piece:
                # QEMU reads zeros behind the end of a file that was cut within its last cluster.
                piece = bytes(min(_CHUNK, length))
            yield piece
            place += len(piece)
            length -= len(piece)


def _next_data(fd: int, start: int, end: int) -> int:
    """Where the next bytes that are not a hole begin; ``end`` when there are none before it."""
    if start >= end:
        return end
    try:
        return min(os.lseek(fd, start, os.SEEK_DATA), end)
    except OSError:
        return end


def _header(path: Path, data: bytes) -> Qcow2:
    try:
        return Qcow2.parse(data)
    except MalformedError as error:
        raise _format(path, error.message) from None


def _format(path: Path, why: str) -> Rejected:
    return Rejected(
        Finding("L2", "disk-format", f"the disk {path.name} cannot be read as the machine would: {why}"),
        hint="The host needs images_type raw or qcow2 with local files, and force_raw_images.",
    )


def _open_regular(path: Path) -> int:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except (OSError, ValueError) as error:
        raise UsageError("disk-unreadable", f"the disk image {path} cannot be opened: {error}") from None
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise UsageError("disk-type", f"the disk image {path} is not a regular file")
    return fd


def _state(fd: int) -> State:
    now = os.fstat(fd)
    return now.st_dev, now.st_ino, now.st_size, now.st_mtime_ns, now.st_ctime_ns
