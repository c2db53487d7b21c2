"""One exchange with the authority at a time, for all agent processes of a host.

A TPM serves one after the other anyway, and the authority demands that a host's logs only grow (D6): evidence that was
collected first must be decided first.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from watchword.errors import Unavailable

__all__ = ["in_turn"]

_WAIT = 120.0  # seconds; an exchange takes a few at most
_POLL = 0.02


@contextmanager
def in_turn(lock: Path | None, timeout: float = _WAIT) -> Iterator[None]:
    """Hold the lock file ``lock`` (made when missing, mode 0600); without one, do nothing.

    Raises :class:`Unavailable` (``agent-busy``) when another process keeps it longer than ``timeout`` seconds.
    """
    if lock is None:
        yield
        return
    lock.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fd = os.open(lock, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        _acquire(fd, time.monotonic() + timeout)
        yield
    finally:
        os.close(fd)


def _acquire(fd: int, deadline: float) -> None:
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise Unavailable(
                    "agent-busy",
                    "another launch on this host is still talking to the authority",
                    hint="Try again; if it stays so, look for a watchword agent process that hangs.",
                ) from None
            time.sleep(_POLL)
        else:
            return
