"""Reading the same few rows for every request: the statement as the driver takes it, built once.

Building and unpacking a statement takes several times as long as the database needs for a row by its key. When
something goes wrong, the ordinary way is tried on another connection: it gets through, or knows what is the matter.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol

from sqlalchemy import Connection, Engine, Select
from sqlalchemy.exc import SQLAlchemyError

__all__ = ["PlainReader", "QuickReader", "Reader"]


class _Statement:
    """One statement for one driver. Values are as the driver gives them: a truth value may be 0 or 1."""

    def __init__(self, statement: Select[Any], engine: Engine) -> None:
        compiled = statement.compile(dialect=engine.dialect)
        self._sql, self._order, self._constants = str(compiled), compiled.positiontup, compiled.params
        row: Any = namedtuple("_Row", statement.selected_columns.keys())  # type: ignore[misc] # known when it runs
        self._row: Callable[[Sequence[Any]], Any] = row._make

    def run(self, cursor: Any, values: dict[str, Any]) -> list[Any]:
        order, values = self._order, self._constants | values
        cursor.execute(self._sql, [values[name] for name in order] if order is not None else values)
        return [self._row(row) for row in cursor.fetchall()]


class Reader(Protocol):
    """Has statements by name, each of which sees one moment by itself."""

    def rows(self, name: str, values: dict[str, Any]) -> list[Any]:
        """All rows of the statement called ``name``. Raises as SQLAlchemy does."""
        ...


class QuickReader:
    """On connections of ``engine``; for any number of threads."""

    def __init__(self, engine: Engine, statements: Mapping[str, Select[Any]]) -> None:
        self._engine = engine
        self._failures: Final = (engine.dialect.loaded_dbapi.Error, SQLAlchemyError)
        self._known = {name: (_Statement(each, engine), each) for name, each in statements.items()}

    def rows(self, name: str, values: dict[str, Any]) -> list[Any]:
        quick, statement = self._known[name]
        try:
            connection = self._engine.raw_connection()
            try:
                return quick.run(connection.cursor(), values)
            except self._failures:
                connection.invalidate()
                raise
            finally:
                connection.close()
        except self._failures:
            with self._engine.connect() as again:
                return list(again.execute(statement, values))


class PlainReader:
    """On one ``connection``, within its transaction."""

    def __init__(self, connection: Connection, statements: Mapping[str, Select[Any]]) -> None:
        self._connection, self._known = connection, statements

    def rows(self, name: str, values: dict[str, Any]) -> list[Any]:
        return list(self._connection.execute(self._known[name], values))
