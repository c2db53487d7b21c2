"""A private PostgreSQL server in a temporary directory: for tests, figures, and whoever wants to try a store on one."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any, Final, Self

import psycopg

from watchword.authority.store import DatabaseUrl

__all__ = ["Cluster", "binaries"]

_SECONDS: Final = 60
# Where fsync costs nothing: what is tested is that it is asked for, and this server ends with the test.
_MEMORY: Final = Path("/dev/shm")
_ROOM: Final = 300 * 1024 * 1024
_SETTINGS: Final = """
listen_addresses = ''
max_connections = 60
shared_buffers = 16MB
min_wal_size = 2MB
max_wal_size = 32MB
autovacuum_naptime = 1h
wal_level = replica
max_wal_senders = 4
hot_standby = on
"""


def binaries() -> Path | None:
    """The directory with ``initdb`` and ``pg_ctl``, of the newest version that is installed; None without one."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if found:
        return found[-1].parent
    initdb = shutil.which("initdb")
    return Path(initdb).resolve().parent if initdb else None


class Cluster:
    """One server that listens on a socket in its own directory only; it refuses to run as root and need not.

    :meth:`stop`, :meth:`crash` and :meth:`kill` do to it what happens to servers.
    """

    def __init__(self, programs: Path, folder: Path) -> None:
        self._programs, self.folder, self.data = programs, folder, folder / "data"
        self._numbers = count(1)

    @classmethod
    @contextmanager
    def running(cls, programs: Path, *, in_memory: bool = True) -> Iterator[Self]:
        """A new server, stopped and removed at the end; its files are in memory if there is room."""
        with _folder(in_memory=in_memory) as folder:
            cluster = cls(programs, folder)
            cluster._run("initdb", "-D", str(cluster.data), "-U", "postgres", "--auth=trust", "--encoding=UTF8",
                         "--locale=C.UTF-8", "--no-sync", "--wal-segsize=1")  # fmt: skip
            cluster.configure(_SETTINGS)
            with cluster._started():
                yield cluster

    @contextmanager
    def _started(self) -> Iterator[None]:
        self.start()
        try:
            yield
        finally:
            self._run("pg_ctl", "stop", "-D", str(self.data), "-m", "immediate", check=False)

    @contextmanager
    def standby(self, name: str = "standby") -> Iterator[Self]:
        """A second server that follows this one, by streaming replication."""
        with _folder() as folder:
            follower = type(self)(self._programs, folder)
            self._run("pg_basebackup", "-D", str(follower.data), "-R", "-X", "stream", "-c", "fast", "--no-sync",
                      "-d", f"host={self.folder} user=postgres application_name={name}")  # fmt: skip
            with follower._started():
                yield follower

    def configure(self, settings: str) -> None:
        """Add lines to postgresql.conf."""
        with (self.data / "postgresql.conf").open("a") as file:
            file.write(settings)

    def start(self) -> None:
        """Start the server and wait until it answers."""
        # The socket's directory is no setting: a standby begins with a copy of the settings.
        options = f"-c unix_socket_directories={self.folder}"
        self._run("pg_ctl", "start", "-w", "-D", str(self.data), "-l", str(self.folder / "log"), "-o", options)

    def crash(self) -> None:
        """End the server at once, without telling anybody; what was committed must be there afterwards."""
        self._run("pg_ctl", "stop", "-D", str(self.data), "-m", "immediate")

    def stop(self) -> None:
        """Stop the server as an operator does who does not wait: open transactions are undone, clients sent away."""
        self._run("pg_ctl", "stop", "-w", "-D", str(self.data), "-m", "fast")

    def kill(self) -> None:
        """SIGKILL to the server and all its processes."""
        server = self.pid
        os.kill(server, signal.SIGSTOP)  # it starts no more of them
        for pid in (server, *_children(server)):
            os.kill(pid, signal.SIGKILL)
        _wait_for(lambda: not _children(server) and not _runs(server))
        # Where nobody waits for orphans its number is still taken, and a new server would think that it runs.
        for lock in (self.data / "postmaster.pid", *self.folder.glob(".s.PGSQL.*.lock")):
            lock.unlink()

    def kill_one(self, pid: int) -> None:
        """SIGKILL to one process of the server: it starts all others again, in case their memory is not right."""
        os.kill(pid, signal.SIGKILL)

    def reload(self) -> None:
        """Read the settings again."""
        self._run("pg_ctl", "reload", "-D", str(self.data))

    def promote(self) -> None:
        """Make this standby the server that is written to."""
        self._run("pg_ctl", "promote", "-w", "-D", str(self.data))

    @property
    def pid(self) -> int:
        """The process id of the server."""
        return int((self.data / "postmaster.pid").read_text().split()[0])

    def new_database(self) -> DatabaseUrl:
        """An empty database with a new name."""
        name = f"db{next(self._numbers)}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE template0")
        return self.url(name)

    def url(self, database: str) -> DatabaseUrl:
        """How to reach a database of this server."""
        return DatabaseUrl(f"postgresql:///{database}?host={self.folder}&user=postgres")

    def execute(self, statement: str, *values: Any, database: str = "postgres") -> list[tuple[Any, ...]]:
        """The rows of one statement, run as the superuser."""
        where = f"host={self.folder} user=postgres dbname={database}"
        with psycopg.connect(where, autocommit=True, connect_timeout=10) as connection:
            cursor = connection.execute(statement, values or None)
            return cursor.fetchall() if cursor.description else []

    def wait_for(self, query: str, seconds: float = 20.0) -> None:
        """Wait until ``query`` has a row. Raises :class:`TimeoutError`."""
        end = time.monotonic() + seconds
        while not self.execute(query):
            if time.monotonic() > end:
                raise TimeoutError(query)
            time.sleep(0.05)

    def _run(self, program: str, *arguments: str, check: bool = True) -> None:
        done = subprocess.run(
            [*_as_user(), str(self._programs / program), *arguments],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_SECONDS, check=False, cwd="/",
        )  # fmt: skip
        if check and done.returncode:
            log = self.folder / "log"
            said = log.read_text()[-2000:] if log.exists() else ""
            raise RuntimeError(f"{program} ended with {done.returncode}: {done.stdout}{done.stderr}{said}")


def _children(pid: int) -> list[int]:
    with suppress(OSError):
        return [int(text) for text in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def _runs(pid: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    return False


def _wait_for(done: Callable[[], bool], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not done():
        if time.monotonic() > end:
            raise TimeoutError("the server does not end")
        time.sleep(0.02)


def _as_user() -> list[str]:
    return ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups"] if os.geteuid() == 0 else []


@contextmanager
def _folder(*, in_memory: bool = True) -> Iterator[Path]:
    room = shutil.disk_usage(_MEMORY).free if in_memory and os.access(_MEMORY, os.W_OK) else 0
    with tempfile.TemporaryDirectory(prefix="ww-pg-", dir=_MEMORY if room > _ROOM else "/tmp") as name:
        if os.geteuid() == 0:
            user = pwd.getpwnam("postgres")
            os.chown(name, user.pw_uid, user.pw_gid)
        yield Path(name)
