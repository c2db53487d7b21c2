"""The store in a SQLite file: durable settings on every connection, private permissions, one writer at a time."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, NullPool, create_engine, event

from watchword.authority.store.engine import BUSY_SECONDS, Backend, Prepare, translated
from watchword.errors import Unavailable, UsageError

__all__ = ["alone", "open_file"]

_APPLICATION_ID: Final = 0x57575431  # "WWT1", so that ``file`` and a careless operator can tell what this is

# WAL with synchronous=FULL: a commit that returned survives a power cut (sqlite.org/pragma.html#pragma_synchronous).
_PRAGMAS: Final = (
    f"PRAGMA busy_timeout = {BUSY_SECONDS * 1000}",
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA foreign_keys = ON",
    "PRAGMA recursive_triggers = ON",
    "PRAGMA trusted_schema = OFF",
)


def open_file(path: Path, prepare: Prepare) -> Backend:
    """The store at ``path``, which is created (mode 0600) when missing. See :func:`open_backend`."""
    try:
        with _creation_lock(path):
            os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
            return _open_locked(path, prepare)
    except OSError as error:
        raise Unavailable("store-unavailable", f"cannot open the store {path}: {error.strerror}") from error


def _open_locked(path: Path, prepare: Prepare) -> Backend:
    # Last in, first out: the connection whose pages are still in memory is the next to be used.
    engine = create_engine(
        f"sqlite:///{path}", pool_size=8, max_overflow=32, pool_timeout=BUSY_SECONDS, pool_use_lifo=True
    )
    event.listen(engine, "connect", _on_connect)
    try:
        with translated(), engine.begin() as connection:
            _begin_writing(connection)
            if prepare(connection, str(path)):
                connection.exec_driver_sql(f"PRAGMA application_id = {_APPLICATION_ID}")
    except BaseException:
        engine.dispose()
        raise
    return Backend(engine, _begin_reading, _begin_writing, local=True)


@contextmanager
def alone(path: Path) -> Iterator[Connection]:
    """A connection to the store at ``path`` while no other program has it open, or can open it.

    Afterwards all of it is in one file. Raises :class:`UsageError` (``store-in-use``), :class:`Unavailable`.
    """
    engine = create_engine(f"sqlite:///{path}", poolclass=NullPool)
    event.listen(engine, "connect", _on_connect_alone)
    with translated(), engine.connect() as connection:
        yield connection
        connection.rollback()
        connection.exec_driver_sql("PRAGMA journal_mode = DELETE")
        path.with_name(f"{path.name}-shm").unlink(missing_ok=True)  # whoever was killed left it, and nobody uses it


def _on_connect_alone(connection: Any, record: object) -> None:
    try:
        # Whoever has the file open holds a shared lock on it all the time, as its journal is a WAL.
        for pragma in ("busy_timeout = 1000", "locking_mode = EXCLUSIVE", "journal_mode = WAL"):
            connection.execute(f"PRAGMA {pragma}").close()
        connection.execute("SELECT count(*) FROM sqlite_master").close()
    except sqlite3.OperationalError as error:
        connection.close()
        if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
            raise
        raise UsageError(
            "store-in-use",
            "another program has the store open",
            hint="stop the service, and every command on this directory: nobody may write meanwhile",
        ) from None
    _on_connect(connection, record)


@contextmanager
def _creation_lock(path: Path) -> Iterator[None]:
    # Switching a new file to WAL is not covered by the busy timeout; two programs that start together take turns.
    fd = os.open(path.with_name(path.name + ".lock"), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _on_connect(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # the driver's own BEGIN comes late; ``_begin_…`` says when and how
    cursor = connection.cursor()
    for pragma in _PRAGMAS:
        cursor.execute(pragma)
    cursor.close()


def _begin_reading(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN DEFERRED")


def _begin_writing(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")
