"""Daemons: started in order, stopped in reverse order, each with a log of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

__all__ = ["Daemons", "listens", "processor_seconds", "wait_until"]

PATIENCE = 300.0  # seconds for anything to come up: this machine may be busy with something else
_GRACE = 8.0


class Daemons:
    """The processes of a run; ``logs`` is the folder of their output."""

    def __init__(self, logs: Path) -> None:
        self.logs = logs
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(
        self, name: str, command: Sequence[str | Path], environment: Mapping[str, str]
    ) -> subprocess.Popen[bytes]:
        """Start ``command`` with exactly ``environment``, in a session of its own."""
        with (self.logs / f"{name}.out").open("ab") as log:
            process = subprocess.Popen(
                list(map(str, command)), stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=dict(environment),
                start_new_session=True,
            )  # fmt: skip
        self._running[name] = process
        return process

    def adopt(self, name: str, process: subprocess.Popen[bytes]) -> None:
        """Stop ``process`` with the others."""
        self._running[name] = process

    def check(self) -> None:
        """Raise RuntimeError when one of them has ended."""
        for name, process in self._running.items():
            if process.poll() is not None:
                raise RuntimeError(f"{name} ended with {process.returncode}: {self.tail(name)}")

    def tail(self, name: str) -> str:
        """The end of what it said."""
        path = self.logs / f"{name}.out"
        return path.read_text(errors="replace")[-1500:] if path.exists() else ""

    def stop(self, name: str) -> None:
        """End one of them, gently first. Harmless when it does not run."""
        process = self._running.pop(name, None)
        if process is not None:
            _end([process])

    def wait(self, name: str) -> None:
        """Wait for the end of one that was told to end."""
        self._running.pop(name).wait(PATIENCE)

    def stop_all(self) -> None:
        """End all of them at once, gently first; what does not listen in time is killed."""
        processes = list(reversed(self._running.values()))
        self._running.clear()
        _end(processes)


def _end(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + _GRACE
    for process in processes:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def processor_seconds() -> float:
    """What all processes of this process namespace used of the processors, those that ended included."""
    ticks = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            ticks += sum(map(int, path.read_text().rpartition(")")[2].split()[11:15]))  # own and waited-for children
        except OSError:
            continue  # it ended just now; whoever waited for it has its time
    return ticks / os.sysconf("SC_CLK_TCK")


def wait_until(
    what: str, true: Callable[[], object], daemons: Daemons, seconds: float = PATIENCE, every: float = 1.0
) -> None:
    """Ask ``true`` until it says so. Raises RuntimeError when time is over or a daemon has ended."""
    deadline = time.monotonic() + seconds
    while not true():
        daemons.check()
        if time.monotonic() > deadline:
            raise RuntimeError(f"{what} did not come up within {seconds:.0f} s; logs in {daemons.logs}")
        time.sleep(every)


def listens(address: str, port: int) -> bool:
    """Does somebody take connections there?"""
    try:
        with socket.create_connection((address, port), 2):
            return True
    except OSError:
        return False
