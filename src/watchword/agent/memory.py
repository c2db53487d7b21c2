"""Files that exist only in memory: how a secret, or a checked disk image, reaches QEMU without touching a disk.

A descriptor is handed to the child process and named there as ``/dev/fd/N`` or in an fd set, so neither the content
nor a path shows in the command line. The kernel seals the file: nobody, not even its maker, can change it afterwards.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable

from watchword.errors import Unavailable

__all__ = ["sealed_file"]

_SEALS = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL


def sealed_file(name: str, chunks: Iterable[bytes]) -> int:
    """A read-only descriptor of an immutable memory file that holds ``chunks``; the caller closes it.

    ``name`` shows in ``/proc`` only. An exception of ``chunks`` passes through and leaves nothing behind.
    Raises :class:`Unavailable` (``memory``) when the kernel has no room. Source: memfd_create(2), F_ADD_SEALS.
    """
    try:
        writable = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    except OSError as error:
        raise _no_room(error) from None
    try:
        for chunk in chunks:
            _write_all(writable, chunk)
        fcntl.fcntl(writable, fcntl.F_ADD_SEALS, _SEALS)
        # Opened again so that its access mode is read-only (QEMU looks for one) and its offset starts at zero.
        return os.open(f"/proc/self/fd/{writable}", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(writable)


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    try:
        while view:
            view = view[os.write(fd, view) :]
    except OSError as error:
        raise _no_room(error) from None


def _no_room(error: OSError) -> Unavailable:
    return Unavailable("memory", f"no room for a file in memory: {error.strerror}")
