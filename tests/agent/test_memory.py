"""Files in memory are immutable, read-only, and leave nothing behind."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator

import pytest

from watchword.agent.memory import sealed_file
from watchword.errors import Unavailable


def test_the_content_is_there_and_stays() -> None:
    fd = sealed_file("test", [b"one", b"", b"two"])
    try:
        assert os.read(fd, 100) == b"onetwo"
        with pytest.raises(OSError, match="descriptor"):
            os.write(fd, b"x")
        again = os.open(f"/proc/self/fd/{fd}", os.O_RDWR)
        for change in (lambda: os.write(again, b"x"), lambda: os.truncate(again, 1), lambda: os.truncate(again, 100)):
            with pytest.raises(OSError, match="not permitted"):
                change()
        os.close(again)
        assert not os.get_inheritable(fd)
    finally:
        os.close(fd)


def test_an_exception_of_the_content_passes_through() -> None:
    def broken() -> Iterator[bytes]:
        yield b"some"
        raise LookupError("broken")

    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(LookupError):
        sealed_file("test", broken())
    assert len(os.listdir("/proc/self/fd")) == before


def test_no_room_is_unavailable() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        with pytest.raises(Unavailable) as failed:
            sealed_file("test", [b"x"])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert failed.value.code == "memory"
