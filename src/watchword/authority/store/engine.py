"""Opening the SQLite file: durable settings on every connection, one schema version, private permissions.

Everything that is particular to SQLite is in this module: how a transaction begins, too.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Engine, create_engine, event, inspect, select
from sqlalchemy.exc import DBAPIError, OperationalError

from watchword.authority.store import schema
from watchword.authority.store.events import TABLES
from watchword.errors import Unavailable, UsageError

__all__ = ["begin_reading", "begin_writing", "open_engine", "translated"]

BUSY_SECONDS: Final = 10
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


def open_engine(path: Path) -> Engine:
    """An engine on the store at ``path``, which is created (mode 0600) when missing.

    Raises :class:`UsageError` (``store-version``, ``store-format``) for a file that is not a store this program
    knows, :class:`Unavailable` (``store-unavailable``) when the file cannot be used.
    """
    try:
        with _creation_lock(path):
            os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
            return _open_locked(path)
    except OSError as error:
        raise Unavailable("store-unavailable", f"cannot open the store {path}: {error.strerror}") from error


def _open_locked(path: Path) -> Engine:
    # Last in, first out: the connection whose pages are still in memory is the next to be used.
    engine = create_engine(
        f"sqlite:///{path}", pool_size=8, max_overflow=32, pool_timeout=BUSY_SECONDS, pool_use_lifo=True
    )
    event.listen(engine, "connect", _on_connect)
    try:
        with translated(), engine.begin() as connection:
            begin_writing(connection)
            _create_or_check(connection, path)
    except BaseException:
        engine.dispose()
        raise
    return engine


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
    connection.isolation_level = None  # the driver's own BEGIN comes late; ``begin_…`` says when and how
    cursor = connection.cursor()
    for pragma in _PRAGMAS:
        cursor.execute(pragma)
    cursor.close()


def begin_reading(connection: Connection) -> None:
    """What all statements on ``connection`` see from now on is one moment; a single statement needs no such promise."""
    connection.exec_driver_sql("BEGIN DEFERRED")


def begin_writing(connection: Connection) -> None:
    """Make ``connection`` the only writer until its transaction ends: what it reads stays true while it decides."""
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _create_or_check(connection: Connection, path: Path) -> None:
    tables = inspect(connection).get_table_names()
    if not tables:
        _create(connection)
        return
    if schema.state.name not in tables:
        raise UsageError("store-format", f"{path} is a database, but not a watchword store")
    found = connection.execute(select(schema.state.c.schema_version)).scalar_one_or_none()
    if found != schema.VERSION:
        raise UsageError(
            "store-version",
            f"the store {path} has schema version {found}, this program knows version {schema.VERSION}",
            hint="use the version of watchword that made it, or a newer one",
        )
    schema.metadata.create_all(connection, tables=TABLES)  # a store from before there were events


def _create(connection: Connection) -> None:
    connection.exec_driver_sql(f"PRAGMA application_id = {_APPLICATION_ID}")
    schema.metadata.create_all(connection)
    for trigger in schema.TRIGGERS:
        connection.exec_driver_sql(trigger)
    row = {"id": 1, "schema_version": schema.VERSION, "generation": 0, "nonces_pruned": 0}
    connection.execute(schema.state.insert().values(row))


@contextmanager
def translated() -> Iterator[None]:
    """Turn what the database says about itself (busy, full, read-only, not a database) into our own errors.

    A constraint that fails is our own bug and passes through.
    """
    try:
        yield
    except OperationalError as error:
        raise Unavailable("store-unavailable", f"the store cannot be used: {error.orig}") from error
    except DBAPIError as error:
        if "not a database" in str(error.orig) or "malformed" in str(error.orig):
            raise UsageError("store-format", f"the store is damaged or not a database: {error.orig}") from error
        raise
