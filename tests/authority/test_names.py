"""A name server that does not answer holds nobody up for long."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

SILENT = "127.0.0.77"
_IN_A_ROOM_OF_ITS_OWN = 'mount --bind "$1" /etc/resolv.conf && shift && exec "$@"'


def _has_rooms() -> bool:
    return subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not _has_rooms(), reason="only root, and not in every container, can have a resolv.conf of its own")
@pytest.mark.parametrize(("said", "seconds"), [(None, (0.5, 2.5)), ("timeout:3 attempts:2", (2.5, 4.5))])
def test_a_name_server_is_asked_again_soon_unless_somebody_said_otherwise(
    tmp_path: Path, said: str | None, seconds: tuple[float, float]
) -> None:
    (tmp_path / "resolv.conf").write_text(f"nameserver {SILENT}\n")
    environment = {name: value for name, value in os.environ.items() if name != "RES_OPTIONS"}
    if said is not None:
        environment["RES_OPTIONS"] = said
    serve = [sys.executable, "-m", "watchword", "authority", "serve", "--data", str(tmp_path / "data"), "--listen"]
    database = ["127.0.0.1:0", "--database", "postgresql://x@database.invalid/x?sslmode=disable"]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind((SILENT, 53))
        silent.settimeout(30)
        room = ["unshare", "--mount", "sh", "-c", _IN_A_ROOM_OF_ITS_OWN, "sh", str(tmp_path / "resolv.conf")]
        process = subprocess.Popen([*room, *serve, *database], env=environment, stderr=subprocess.PIPE, text=True)
        try:
            arrived: dict[bytes, list[float]] = {}
            while all(len(times) < 2 for times in arrived.values()):
                question = silent.recv(512)
                arrived.setdefault(question, []).append(time.monotonic())  # a question that is repeated is the same
        finally:
            _, said_last = process.communicate(timeout=60)
    first, again = next(times for times in arrived.values() if len(times) == 2)
    assert seconds[0] < again - first < seconds[1]
    assert process.returncode == 2
    assert "failed to resolve host 'database.invalid'" in said_last
