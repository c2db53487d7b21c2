"""A conversation with ``debugfs``, which reads ext2, ext3 and ext4 images without root and without mounting them.

Commands carry inode numbers only, never a name from the image. ``debugfs -f -`` echoes each command before its answer;
an answer that is not exactly what it must be means that the image is broken.
Source: e2fsprogs, debugfs(8).
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from types import TracebackType
from typing import BinaryIO

from watchword.reference.files.member import CHUNK
from watchword.reference.files.refuse import bad_artifact, missing_tool

__all__ = ["Debugfs"]

_SBIN = "/usr/sbin:/sbin"
_BATCH = 400  # commands of at most 40 bytes: two batches fit into a pipe, so nobody waits for the other
_SHOWN = 120


class Debugfs(AbstractContextManager["Debugfs"]):
    """One running ``debugfs`` on the file system that begins at byte ``offset`` of the image ``file``."""

    def __init__(self, artifact: str, file: BinaryIO, offset: int) -> None:
        tool = shutil.which("debugfs", path=f"{os.environ.get('PATH', '')}:{_SBIN}")
        if tool is None:
            missing_tool(artifact, "debugfs", "e2fsprogs")
        descriptor = file.fileno()
        self._artifact = artifact
        self._process = subprocess.Popen(  # noqa: S603
            [tool, "-f", "-", f"/proc/self/fd/{descriptor}?offset={offset}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=[descriptor],
            bufsize=0,
            env={"PATH": _SBIN, "LC_ALL": "C", "DEBUGFS_PAGER": "__none__"},
        )
        self._buffer, self._at = b"", 0
        self._widen()
        self._expect_banner()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.kill()  # it only reads
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()

    def ask(self, commands: Iterable[str]) -> Iterator[str]:
        """Send ``commands``; yields each when its answer is next to be read. The caller reads the whole answer."""
        waiting: list[list[str]] = []
        batch: list[str] = []
        for command in commands:
            batch.append(command)
            if len(batch) == _BATCH:
                waiting.append(self._send(batch))
                batch = []
                if len(waiting) == 2:
                    yield from self._answers(waiting.pop(0))
        for sent in (*waiting, self._send(batch)):
            yield from self._answers(sent)

    def take(self, size: int) -> Iterator[bytes]:
        """Exactly ``size`` bytes of the answer, in pieces."""
        while size:
            if self._at == len(self._buffer):
                self._fill()
            piece = self._buffer[self._at : self._at + size]
            self._at += len(piece)
            size -= len(piece)
            yield piece

    def until(self, mark: bytes, largest: int) -> bytes:
        """What comes before ``mark``, at most ``largest`` bytes."""
        while (end := self._buffer.find(mark, self._at, self._at + largest)) < 0:
            if len(self._buffer) - self._at >= largest:
                self.broken()
            self._fill()
        found = self._buffer[self._at : end]
        self._at = end + len(mark)
        return found

    def starts(self, text: bytes) -> bool:
        """Whether the answer goes on with ``text``, which is not taken."""
        while len(self._buffer) - self._at < len(text) and text.startswith(self._buffer[self._at :]):
            self._fill()
        return self._buffer.startswith(text, self._at)

    def broken(self) -> None:
        """Raise: this is not the answer of a sound file system."""
        said = self._buffer[self._at : self._at + _SHOWN].partition(b"\n")[0].decode("utf-8", "replace")
        bad_artifact(self._artifact, f"its file system is broken (debugfs: {said})")

    def _send(self, commands: Sequence[str]) -> list[str]:
        assert self._process.stdin is not None
        text = "".join(f"{command}\n" for command in (*commands, "")).encode()
        try:
            os.write(self._process.stdin.fileno(), text[:-1])
        except BrokenPipeError:
            self.broken()
        return list(commands)

    def _answers(self, commands: Sequence[str]) -> Iterator[str]:
        for command in commands:
            echo = f"debugfs: {command}\n".encode()
            self._skip_padding()
            if not self.starts(echo):
                self.broken()
            self._at += len(echo)
            yield command

    def _skip_padding(self) -> None:
        """A file that is kept inside of its inode is printed with all the zeros after its end."""
        while self.starts(b"\0"):
            self._buffer, self._at = self._buffer[self._at :].lstrip(b"\0"), 0

    def _widen(self) -> None:
        """Let debugfs write ahead: fewer switches between two processes. The kernel may say no."""
        assert self._process.stdout is not None
        with suppress(OSError):
            fcntl.fcntl(self._process.stdout.fileno(), fcntl.F_SETPIPE_SZ, CHUNK)

    def _expect_banner(self) -> None:
        if not self.starts(b"debugfs "):
            self.broken()
        self.until(b"\n", _SHOWN)

    def _fill(self) -> None:
        assert self._process.stdout is not None
        piece = os.read(self._process.stdout.fileno(), CHUNK)
        if not piece:
            bad_artifact(self._artifact, "its file system is broken (debugfs ended)")
        self._buffer, self._at = self._buffer[self._at :] + piece, 0
