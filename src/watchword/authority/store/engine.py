"""What the store needs of a database, and the two that it has: a SQLite file of its own, or a PostgreSQL server.

Everything that is particular to one of them is in ``sqlite.py`` or ``postgresql.py``: how a transaction begins, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError, InterfaceError, InternalError, NotSupportedError, OperationalError
from sqlalchemy.exc import TimeoutError as NoConnection

from watchword.authority.store.url import DatabaseUrl
from watchword.authority.store.versions import create_or_check
from watchword.errors import Unavailable, UsageError

__all__ = ["BUSY_SECONDS", "Backend", "Prepare", "open_backend", "translated"]

BUSY_SECONDS: Final = 10
_BUSY: Final = ("55P03", "40001", "40P01")  # SQLSTATE: somebody else had the lock
_NOT_OURS: Final = ("42501", "42P01")  # no privilege; no such table


@dataclass(frozen=True, slots=True)
class Backend:
    """An opened database. ``begin_reading`` and ``begin_writing`` start a transaction on a connection.

    After ``begin_reading`` all statements see one moment; a single statement needs no such promise. After
    ``begin_writing`` this connection is the only writer until it commits: what it reads stays true while it decides.
    """

    engine: Engine
    begin_reading: Callable[[Connection], None]
    begin_writing: Callable[[Connection], None]
    local: bool = False  # reading a row waits for no network and no lock


Prepare = Callable[[Connection, str], bool]  # looks at the tables of the database of that name; whether it made them


def open_backend(where: Path | DatabaseUrl, prepare: Prepare | None = None, *, patient: bool = False) -> Backend:
    """The store in the file ``where``, or at that URL; made when there is none, unless ``prepare`` does otherwise.

    ``patient``: let that take minutes. Tables of an older program are brought up to date in a file, and refused on a
    server, where other replicas may depend on somebody's plan.
    Raises :class:`UsageError` (``store-version``, ``store-outdated``, ``store-format``, ``store-not-durable``,
    ``extra-missing``) for what is not a store that this program knows or can trust, :class:`Unavailable`
    (``store-unavailable``).
    """
    if isinstance(where, DatabaseUrl):
        from watchword.authority.store import postgresql  # its driver is an extra

        return postgresql.open_server(where, prepare or create_or_check, patient=patient)
    from watchword.authority.store import sqlite

    return sqlite.open_file(where, prepare or partial(create_or_check, upgrade=True))


@contextmanager
def translated() -> Iterator[None]:
    """Turn what the database says about itself (busy, full, gone, not a database) into our own errors.

    A constraint that fails is our own bug and passes through.
    """
    try:
        yield
    except NoConnection as error:
        raise Unavailable("store-busy", "all connections to the store are in use", hint="try again") from error
    except (OperationalError, InterfaceError, InternalError, NotSupportedError) as error:
        if _sqlstate(error) in _BUSY:
            raise Unavailable("store-busy", f"the store is busy: {_first_line(error)}") from error
        raise Unavailable("store-unavailable", f"the store cannot be used: {_first_line(error)}") from error
    except DBAPIError as error:
        if _sqlstate(error) in _NOT_OURS:
            raise Unavailable("store-unavailable", f"the store cannot be used: {_first_line(error)}") from error
        if "not a database" in str(error.orig) or "malformed" in str(error.orig):
            raise UsageError("store-format", f"the store is damaged or not a database: {error.orig}") from error
        raise


def _sqlstate(error: DBAPIError) -> str | None:
    return getattr(error.orig, "sqlstate", None)


def _first_line(error: DBAPIError) -> str:
    return next(iter(str(error.orig).splitlines()), type(error.orig).__name__)[:300]
