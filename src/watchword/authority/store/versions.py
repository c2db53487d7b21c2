"""Which version of the tables a database has: making them, and refusing what this program does not know."""

from __future__ import annotations

from sqlalchemy import Connection, inspect, select

from watchword.authority.store import schema
from watchword.authority.store.triggers import TRIGGERS
from watchword.errors import UsageError

__all__ = ["create_or_check"]


def create_or_check(connection: Connection, name: str) -> bool:
    """Make the tables in an empty database, and whether it was; ``name`` is the database's, for people.

    Raises :class:`UsageError` (``store-version``, ``store-format``).
    """
    tables = inspect(connection).get_table_names()
    if not tables:
        _create(connection)
        return True
    if schema.state.name not in tables:
        raise UsageError("store-format", f"{name} is a database, but not a watchword store")
    found = connection.execute(select(schema.state.c.schema_version)).scalar_one_or_none()
    if found != schema.VERSION:
        raise UsageError(
            "store-version",
            f"the store {name} has schema version {found}, this program knows version {schema.VERSION}",
            hint="use the version of watchword that made it, or a newer one",
        )
    return False


def _create(connection: Connection) -> None:
    schema.metadata.create_all(connection)
    for trigger in TRIGGERS[connection.dialect.name]:
        connection.exec_driver_sql(trigger)
    row = {"id": 1, "schema_version": schema.VERSION, "generation": 0, "nonces_pruned": 0}
    connection.execute(schema.state.insert().values(row))
