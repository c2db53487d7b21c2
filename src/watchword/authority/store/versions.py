"""Which revision of the tables a database has: making them, bringing them up to date, refusing what is not known.

A revision is four digits, and each leads to the next. Every statement here runs inside of the writer's lock.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from sqlalchemy import Connection, inspect, select

from watchword.authority.store import events as _events  # noqa: F401 - its tables are part of the metadata
from watchword.authority.store import schema
from watchword.authority.store.force import HISTORY, OutOfForce
from watchword.authority.store.triggers import BASE
from watchword.errors import UsageError

if TYPE_CHECKING:  # it takes its time to import, and only a change of tables needs it
    from alembic.config import Config

__all__ = ["configuration", "create_or_check", "migrate", "revision_of"]

_REVISION: Final = re.compile(r"[0-9]{4}")
_BASE: Final = "0002"
_FOLDERS: Final = ["watchword.authority.store.migrations:versions"]


def create_or_check(connection: Connection, name: str, *, upgrade: bool = False) -> bool:
    """Make the tables in an empty database, and whether it was; ``name`` is the database's, for people.

    With ``upgrade`` older tables are brought up to date. Raises :class:`UsageError` (``store-format``,
    ``store-outdated``, ``store-version``, ``store-moved``, ``store-arriving``).
    """
    found = revision_of(connection, name)
    if found is None:
        _create(connection)
        return True
    if not inspect(connection).has_table(HISTORY.name):
        _stamp(connection, found)
    if found > schema.REVISION:
        raise UsageError(
            "store-version",
            f"the store {name} has the tables of revision {found}, this program knows those up to {schema.REVISION}",
            hint="a newer version of watchword made them: use that one",
        )
    if found < schema.REVISION and not upgrade:
        raise UsageError(
            "store-outdated",
            f"the store {name} has the tables of revision {found}, this program needs those of {schema.REVISION}",
            hint="watchword authority database upgrade; replicas of the version before may go on running",
        )
    if found < schema.REVISION:
        migrate(connection)
    return False


def revision_of(connection: Connection, name: str) -> str | None:
    """Which tables are there; None in an empty database, ``0002`` in a store from before migrations.

    Raises :class:`UsageError` (``store-format``, ``store-version``, ``store-moved``, ``store-arriving``).
    """
    tables = inspect(connection).get_table_names()
    if not tables:
        return None
    if schema.state.name not in tables:
        raise UsageError("store-format", f"{name} is a database, but not a watchword store")
    if HISTORY.name not in tables:
        return _before_migrations(connection, name)
    found: Sequence[str] = connection.execute(select(HISTORY.c.version_num)).scalars().all()
    if len(found) == 1 and (why := OutOfForce.parse(found[0])):
        raise why.refusal(name)
    if len(found) != 1 or not _REVISION.fullmatch(found[0]):
        raise UsageError("store-format", f"the store {name} does not say which tables it has")
    return found[0]


def migrate(connection: Connection) -> None:
    """Run all steps that are missing, in the transaction that is open on ``connection``."""
    from alembic import command

    config = configuration()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def configuration() -> Config:
    """What Alembic has to know, without the connection."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", "watchword.authority.store:migrations")
    config.set_main_option("path_separator", "newline")
    config.set_main_option("version_locations", "\n".join(_FOLDERS))
    return config


def _before_migrations(connection: Connection, name: str) -> str:
    found = connection.execute(select(schema.state.c.schema_version)).scalar_one_or_none()
    if found != schema.VERSION:
        text = f"the store {name} has schema version {found}, which this program cannot read"
        raise UsageError("store-version", text)
    return _BASE


def _create(connection: Connection) -> None:
    schema.metadata.create_all(connection)
    for trigger in BASE[connection.dialect.name]:
        connection.exec_driver_sql(trigger)
    row = {"id": 1, "schema_version": schema.VERSION, "generation": 0, "nonces_pruned": 0}
    connection.execute(schema.state.insert().values(row))
    _stamp(connection, schema.REVISION)


def _stamp(connection: Connection, revision: str) -> None:
    HISTORY.create(connection)
    connection.execute(HISTORY.insert().values(version_num=revision))
