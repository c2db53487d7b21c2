"""Copying a whole store into another database, and proving that the copy is one.

Every function works inside of a transaction that its caller began, on connections of two databases of any kind. The
copy is not in force (``force.py``) until :func:`take_over`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import zip_longest
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Row, Table, delete, exists, func, insert, inspect, select, text
from sqlalchemy.exc import DataError, IntegrityError

from watchword.authority.store import schema, statements
from watchword.authority.store.engine import translated
from watchword.authority.store.force import HISTORY, OutOfForce, put_in_force, put_out_of_force, standing
from watchword.authority.store.quick import PlainReader
from watchword.authority.store.store import Store
from watchword.authority.store.versions import create_or_check, revision_of
from watchword.errors import Unavailable, UsageError

__all__ = ["Progress", "Within", "check_whole", "fill", "row_counts", "take_over"]

_BATCH: Final = 100  # rows; one may have some megabytes
_NEW: Final = {"generation": 0, "nonces_pruned": 0, "nonce_era": None, "era_pruned": 0}
_FUNCTIONS: Final = ("watchword_refuse", "watchword_in_order")


class _Act(msgspec.Struct):
    """What an entry of the log has, as far as it matters here."""

    details: dict[str, Any] = {}


Progress = Callable[[str, int], None]  # what is being done, and how many rows were looked at since the last call


class Within(Store):
    """The store as one connection sees it, in a transaction that somebody else began."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._quick = PlainReader(connection, statements.QUICK)

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with translated():
            yield self._connection

    @contextmanager
    def _reading_together(self) -> Iterator[Connection]:
        with self._reading() as connection:
            yield connection


def check_whole(source: Connection, name: str) -> None:
    """The store has the tables of this program, each of them and no other. Raises :class:`UsageError` (``store-…``)."""
    found = revision_of(source, name)
    if found is None:
        raise UsageError("store-missing", f"there is no store in {name}")
    if found != schema.REVISION:
        create_or_check(source, name)  # says what is the matter
    tables = set(inspect(source).get_table_names()) - {HISTORY.name}
    if tables != set(schema.metadata.tables):
        unknown = ", ".join(sorted(tables ^ set(schema.metadata.tables)))
        raise UsageError("store-format", f"the store {name} has other tables than this program knows: {unknown}")


def row_counts(connection: Connection) -> dict[str, int]:
    """How many rows each table has, by name."""
    tables = schema.metadata.sorted_tables
    return {t.name: int(connection.execute(select(func.count()).select_from(t)).scalar_one()) for t in tables}


def fill(source: Connection, target: Connection, name: str, move: str, progress: Progress) -> None:
    """Copy all of ``source`` to ``target`` (the database ``name``), where it is arriving by ``move``.

    Every row is read back and compared, and the log's root is computed anew from its entries.
    Raises :class:`UsageError` (``move-target``, ``store-…``), :class:`Unavailable` (``move-differs``), Rejected
    (``decision-log``).
    """
    _make_room(source, target, name)
    for table in schema.metadata.sorted_tables:
        try:
            _copy(table, source, target, progress)
        except (DataError, IntegrityError, TypeError, ValueError) as error:  # SQLite keeps whatever it was given
            why = str(getattr(error, "orig", error)).partition("\n")[0][:300]
            text = f"a row of the table {table.name} is not what a store has: {why}"
            raise UsageError("store-format", text, hint="nothing was moved; watchword authority doctor") from None
    _set_sequences(target)
    _compare(source, target, progress)
    progress("checking the log", 0)
    _check_log(source, target)
    put_out_of_force(target, OutOfForce("arriving", move))


def take_over(source: Connection, target: Connection, name: str, move: str) -> bool:
    """Put the copy in force that ``move`` brought; False when it is already.

    Raises :class:`UsageError` (``move-other``) for another database, :class:`Unavailable` (``move-differs``).
    """
    why = standing(target)
    if why is None and inspect(target).has_table(schema.decisions.name):
        return _check_done(source, target, name, move)
    if why != OutOfForce("arriving", move):
        raise _other(name)
    _check_log(source, target)
    if Within(target).counts() != Within(source).counts():
        raise _differs("the number of rows")
    put_in_force(target, schema.REVISION)
    return True


def _make_room(source: Connection, target: Connection, name: str) -> None:
    """The database has the tables, and nothing in them; what an interrupted move left there goes."""
    why = standing(target)
    if why is not None and why.word == "arriving":
        _check_ours(source, target, name)
        _drop(target)
    if create_or_check(target, name):
        return
    filled = [t.name for t in schema.metadata.sorted_tables if t is not schema.state and _has_rows(t, target)]
    state = target.execute(select(schema.state)).mappings().one()
    if filled or any(state[column] != value for column, value in _NEW.items()):
        raise UsageError(
            "move-target",
            f"the database {name} has a store already: {', '.join(filled) or 'it was used'}",
            hint="make an empty database for this one; stores are never merged",
        )


def _check_ours(source: Connection, target: Connection, name: str) -> None:
    there = Within(target).head()
    if Within(source).head_at(there.seq) != there:
        raise UsageError(
            "move-target",
            f"the store of another authority is being moved to the database {name}",
            hint="make an empty database for this one",
        )


def _drop(target: Connection) -> None:
    HISTORY.drop(target)
    schema.metadata.drop_all(target)
    if target.dialect.name == "postgresql":
        for function in _FUNCTIONS:
            target.exec_driver_sql(f"DROP FUNCTION {function}()")


def _has_rows(table: Table, target: Connection) -> bool:
    return bool(target.execute(select(exists().select_from(table))).scalar())


def _rows(table: Table, connection: Connection) -> Iterator[Sequence[Row[Any]]]:
    """All rows in the order of their keys, which both databases see alike, a few at a time."""
    ordered = select(table).order_by(*table.primary_key.columns).execution_options(yield_per=_BATCH)
    with connection.execute(ordered) as result:
        yield from result.partitions()


def _copy(table: Table, source: Connection, target: Connection, progress: Progress) -> None:
    if table is schema.state:
        target.execute(delete(table))
    for rows in _rows(table, source):
        target.execute(insert(table), [dict(row._mapping) for row in rows])
        progress(f"copying {table.name}", len(rows))


def _set_sequences(target: Connection) -> None:
    """The next number that the database gives out follows those that were copied."""
    if target.dialect.name != "postgresql":
        return
    for table in schema.metadata.sorted_tables:
        for column in table.primary_key.columns:
            place = {"table": table.name, "column": column.name}
            sequence = target.execute(text("SELECT pg_get_serial_sequence(:table, :column)"), place).scalar()
            newest = target.execute(select(func.max(column))).scalar() if sequence else None
            if newest is not None:
                target.execute(select(func.setval(sequence, newest)))


def _compare(source: Connection, target: Connection, progress: Progress) -> None:
    for table in schema.metadata.sorted_tables:
        for before, after in zip_longest(_rows(table, source), _rows(table, target)):
            if before != after:
                raise _differs(f"the table {table.name}")
            progress(f"comparing {table.name}", len(before))


def _check_log(source: Connection, target: Connection) -> None:
    """From its entries, one by one, the log leads to the same root."""
    if Within(target).verify_decisions() != Within(source).head():
        raise _differs("the log")


def _check_done(source: Connection, target: Connection, name: str, move: str) -> bool:
    """It is in force already, if what follows the copied log is the entry about this move."""
    following = next(Within(target).decisions(after=Within(source).head().seq), None)
    if following is None or msgspec.json.decode(following.entry, type=_Act).details.get("move") != move:
        raise _other(name)
    return False


def _other(name: str) -> UsageError:
    return UsageError(
        "move-other",
        f"the database {name} is not the one that this store was moved to",
        hint="name that one; if it is gone, put back a backup: docs/howto/back-up-an-authority.md",
    )


def _differs(what: str) -> Unavailable:
    return Unavailable(
        "move-differs",
        f"what the other database keeps is not what was copied: {what}",
        hint="the store is where it was; look for triggers or rules in the other database",
    )
