"""The launch inputs as this host really uses them, and their digest (clause L2).

A path proves nothing: what stood there when it was hashed may be gone when the machine starts. So a disk image is
opened once, read once, and what was hashed is what is handed on:

* up to ``copy_limit`` bytes the image is copied, while it is hashed, into a sealed file in memory, and the machine
  runs from that copy. Nothing that happens to the original afterwards has any effect.
* a larger image keeps its one open descriptor, so renaming or replacing the file has no effect. Writing *into* the
  same file is noticed while it is hashed and once more just before the machine starts (size, modification and change
  time), but not later. That the host's own software does not do so is what the appraisal vouches for; a file that
  lives on another machine's storage is only as good as that storage.

Only raw images are taken: other formats can name a second file that no digest covers.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType

from watchword.agent.memory import sealed_file
from watchword.errors import Finding, Rejected, UsageError
from watchword.wire.inputs import inputs_digest

__all__ = ["COPY_LIMIT", "MAX_USER_DATA", "HeldDisk", "check_inputs", "digest_of", "read_user_data"]

COPY_LIMIT = 256 * 1024 * 1024  # bytes of an image that are kept in memory unless told otherwise
MAX_USER_DATA = 64 * 1024  # bytes, about what OpenStack takes
_CHUNK = 1024 * 1024
_OTHER_FORMATS = {b"QFI\xfb": "qcow2", b"KDMV": "vmdk", b"vhdx": "vhdx", b"conectix": "vpc", b"LUKS\xba\xbe": "luks"}


class HeldDisk:
    """One disk image: hashed and held open, so that what was hashed is what the machine starts from.

    ``path`` must name a regular file with a raw image; ``copy_limit`` is in bytes. Afterwards ``digest`` is its
    SHA-256, ``size`` its length in bytes, ``fd`` a read-only descriptor, ``copied`` whether that is a private copy.
    Raises :class:`UsageError`: ``disk-unreadable``, ``disk-type``, ``disk-format``; :class:`Rejected`:
    ``disk-changed``.
    """

    def __init__(self, path: Path, *, copy_limit: int = COPY_LIMIT) -> None:
        self.path = path
        self._hash = hashlib.sha256()
        self._original = _open_regular(path)
        self.fd = self._original
        try:
            self._before = _state(self._original)
            self.size = self._before[0]
            self.copied = self.size <= copy_limit
            self._take()
            self.digest = self._hash.digest()
            self.check_unchanged()
        except BaseException:
            self.close()
            raise

    def _take(self) -> None:
        if self.copied:
            self.fd = sealed_file("disk", self._chunks())
            return
        for _ in self._chunks():
            pass

    def _chunks(self) -> Iterator[bytes]:
        # pread leaves the descriptor's offset alone: whoever gets the descriptor starts at the first byte.
        offset = 0
        while chunk := os.pread(self._original, min(_CHUNK, self.size - offset), offset):
            if offset == 0:
                _refuse_other_formats(self.path, chunk)
            self._hash.update(chunk)
            offset += len(chunk)
            yield chunk

    def check_unchanged(self) -> None:
        """Raise :class:`Rejected` (``disk-changed``) when an image that is not a private copy was written to."""
        if _state(self._original) != self._before:
            raise Rejected(Finding("L2", "disk-changed", "the disk image changed while it was being used"))

    def close(self) -> None:
        """Close the descriptors; may be called twice."""
        for fd in {self.fd, self._original} - {-1}:
            os.close(fd)
        self.fd = self._original = -1

    def __enter__(self) -> HeldDisk:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _open_regular(path: Path) -> int:
    try:
        # Without O_NONBLOCK, opening a FIFO would wait for a writer.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except (OSError, ValueError) as error:
        raise UsageError("disk-unreadable", f"the disk image {path} cannot be opened: {error}") from None
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise UsageError(
            "disk-type",
            f"the disk image {path} is not a regular file",
            hint="Devices, pipes and folders cannot be held still while they are hashed; give a raw image file.",
        )
    return fd


def _state(fd: int) -> tuple[int, int, int]:
    now = os.fstat(fd)
    return now.st_size, now.st_mtime_ns, now.st_ctime_ns


def _refuse_other_formats(path: Path, start: bytes) -> None:
    for magic, name in _OTHER_FORMATS.items():
        if start.startswith(magic):
            raise UsageError(
                "disk-format",
                f"the disk image {path} has the format {name}, only raw images are booted",
                hint=f"Convert it: qemu-img convert -f {name} -O raw OLD NEW, and name the new file in the token too.",
            )


def read_user_data(path: Path) -> bytes:
    """The bytes of a user-data file, at most 64 KiB. Raises :class:`UsageError`."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_USER_DATA + 1)
    except OSError as error:
        raise UsageError("user-data-unreadable", f"the user-data {path} cannot be read: {error.strerror}") from None
    if len(data) > MAX_USER_DATA:
        raise UsageError("user-data-size", f"the user-data {path} is larger than {MAX_USER_DATA} bytes")
    return data


def digest_of(used: Mapping[str, bytes], names: tuple[str, ...] | None) -> bytes:
    """The 32-byte launch input digest over ``names``, or over everything in use when ``names`` is None.

    ``used`` maps the name of each input that the machine really starts from to its SHA-256. The names come from the
    launch request and need no trust: they must be exactly what is in use. Raises :class:`Rejected`
    (``inputs-differ``) when they are not.
    """
    missing = sorted(set(names or ()) - set(used))
    if missing:
        raise Rejected(
            Finding("L2", "inputs-differ", "the launch request names an input that this machine does not start from",
                    expected=",".join(missing), actual=",".join(sorted(used)))
        )  # fmt: skip
    unnamed = sorted(set(used) - set(names)) if names is not None else []
    if unnamed:
        # Else whoever starts the machine could add user-data to a launch whose token knows of none.
        raise Rejected(
            Finding("L2", "inputs-differ", "the machine would start from an input that the token does not name",
                    expected=",".join(names or ()), actual=",".join(sorted(used)))
        )  # fmt: skip
    return inputs_digest(used)


def check_inputs(expected: bytes, actual: bytes) -> None:
    """Clause L2: the machine starts from what the tenant meant. Raises :class:`Rejected` (``inputs-differ``)."""
    if expected != actual:
        raise Rejected(
            Finding(
                "L2",
                "inputs-differ",
                "the disk image or user-data is not what the tenant's token names",
                expected=expected.hex(),
                actual=actual.hex(),
            ),
            hint="Launch from exactly the files that the token was made for; nothing was injected.",
        )
