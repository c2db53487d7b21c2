"""Decompression as a stream, bounded in memory and in what comes out."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Callable
from typing import Any, BinaryIO, cast

from watchword.errors import UsageError
from watchword.reference.files.refuse import bad_artifact

__all__ = ["Bounded", "Slice", "decompressed"]

_MEMORY = 256 * 1024 * 1024  # bytes that a decompressor may use for its window
_RATIO = 1000  # bytes out per byte in; deflate cannot do more, other formats do it with zeros only
_ALWAYS = 64 * 1024 * 1024  # bytes out that are fine at any ratio
_PIECE = 64 * 1024
_ZSTD_PIECE = 2048  # one block of 4 bytes may become 128 KiB, so this many at most 64 MiB
_LARGEST_READ = 8 * 1024 * 1024
_MAGICS = (
    (b"\x1f\x8b", "gz"),
    (b"\xfd7zXZ\0", "xz"),
    (b"\x28\xb5\x2f\xfd", "zst"),
    (b"BZh", "bz2"),
    (b"\x5d\0\0", "lzma"),
)
_ERRORS = (OSError, EOFError, lzma.LZMAError, zlib.error)


class Slice(io.RawIOBase):
    """``size`` bytes of ``stream`` from where it stands, as a stream of its own."""

    def __init__(self, stream: BinaryIO, size: int) -> None:
        self._stream = stream
        self._left = size
        self.taken = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        piece = self._stream.read(min(len(buffer), self._left))
        buffer[: len(piece)] = piece
        self._left -= len(piece)
        self.taken += len(piece)
        return len(piece)


class Bounded:
    """A decompressed stream that only goes forward. Errors name the artifact; a decompression bomb is refused.

    ``last`` is what the latest read returned. No read may ask for more than 8 MiB: nobody's header decides how much
    memory we take.
    """

    def __init__(self, artifact: str, stream: BinaryIO, source: Slice) -> None:
        self._artifact, self._stream, self._source = artifact, stream, source
        self._position = 0
        self.last = b""

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _LARGEST_READ:
            bad_artifact(self._artifact, f"a header claims {size} bytes")
        pieces, left = [], size
        while left:
            piece = self._some(left)
            if not piece:
                break
            pieces.append(piece)
            left -= len(piece)
        self.last = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        return self.last

    def _some(self, size: int) -> bytes:
        try:
            piece = self._stream.read(size)
        except _ERRORS as error:
            bad_artifact(self._artifact, f"its compressed data is broken ({error})")
        self._position += len(piece)
        if self._position > max(_ALWAYS, _RATIO * self._source.taken):
            bad_artifact(self._artifact, f"expands to more than {_RATIO} times its size: a decompression bomb")
        return piece

    def tell(self) -> int:
        return self._position

    def seek(self, position: int, whence: int = 0) -> int:
        """Go forward to ``position``; a stream has no other direction."""
        if whence != 0 or position < self._position:
            bad_artifact(self._artifact, "its parts overlap")
        while self._position < position:
            if not self._some(min(position - self._position, _PIECE)):
                break
        return self._position


def decompressed(artifact: str, source: Slice) -> Bounded:
    """What ``source`` holds, decompressed if its first bytes say gzip, xz, zstd, bzip2 or lzma."""
    raw = io.BufferedReader(source, _PIECE)
    head = raw.peek(8)[:8]
    kind = next((kind for magic, kind in _MAGICS if head.startswith(magic)), "")
    return Bounded(artifact, _OPENERS[kind](raw), source)


class _Frames(io.RawIOBase):
    """xz, lzma or bzip2: streams after each other, each complete, and nothing else after the last.

    The standard library's file objects have no bound on memory, or ignore what comes after.
    """

    def __init__(self, raw: BinaryIO, new: Callable[[], lzma.LZMADecompressor | bz2.BZ2Decompressor]) -> None:
        self._raw, self._new, self._decoder = raw, new, new()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while True:
            if self._decoder.eof:
                rest = (self._decoder.unused_data or self._raw.read(_PIECE)).lstrip(b"\0")
                if not rest:
                    return 0
                self._decoder = self._new()  # another stream follows
            else:
                rest = self._raw.read(_PIECE) if self._decoder.needs_input else b""
                if self._decoder.needs_input and not rest:
                    raise EOFError("it ends too early")
            piece = self._decoder.decompress(rest, len(buffer))
            if piece:
                buffer[: len(piece)] = piece
                return len(piece)


class _Zstd(io.RawIOBase):
    """zstd frames, each complete; errors become OSError, so that nothing else has to know the package.

    The package's own reader takes a frame that was cut off for a whole one.
    """

    def __init__(self, raw: BinaryIO) -> None:
        try:
            import zstandard
        except ImportError:
            hint = "install the Debian package watchword-auditor, or: pip install 'watchword[auditor]'"
            raise UsageError("extra-missing", "zstd needs a package that is not installed", hint=hint) from None
        self._error = zstandard.ZstdError
        self._raw, self._new = raw, zstandard.ZstdDecompressor(max_window_size=_MEMORY).decompressobj
        self._decoder = self._new()
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._ready:
            if self._decoder.eof:
                rest = self._decoder.unused_data or self._raw.read(_ZSTD_PIECE)
                if not rest:
                    return 0
                self._decoder = self._new()  # another frame follows
            elif not (rest := self._raw.read(_ZSTD_PIECE)):
                raise EOFError("it ends too early")
            try:
                self._ready = memoryview(self._decoder.decompress(rest))
            except self._error as error:
                raise OSError(str(error)) from None
        piece, self._ready = self._ready[: len(buffer)], self._ready[len(buffer) :]
        buffer[: len(piece)] = piece
        return len(piece)


def _lzma() -> lzma.LZMADecompressor:
    return lzma.LZMADecompressor(lzma.FORMAT_AUTO, memlimit=_MEMORY)


_OPENERS: dict[str, Callable[[Any], BinaryIO]] = {
    "": lambda raw: cast(BinaryIO, raw),
    "gz": lambda raw: cast(BinaryIO, gzip.GzipFile(fileobj=raw)),
    "bz2": lambda raw: cast(BinaryIO, io.BufferedReader(_Frames(raw, bz2.BZ2Decompressor), _PIECE)),
    "xz": lambda raw: cast(BinaryIO, io.BufferedReader(_Frames(raw, _lzma), _PIECE)),
    "lzma": lambda raw: cast(BinaryIO, io.BufferedReader(_Frames(raw, _lzma), _PIECE)),
    "zst": lambda raw: cast(BinaryIO, io.BufferedReader(_Zstd(raw), _PIECE)),
}
