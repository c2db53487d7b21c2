"""Looking at the tables of a store, and bringing them up to date, without opening it for work."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import Connection

from watchword.authority.store import schema
from watchword.authority.store.engine import open_backend
from watchword.authority.store.url import DatabaseUrl
from watchword.authority.store.versions import create_or_check, revision_of
from watchword.errors import UsageError

__all__ = ["Tables", "tables", "upgrade"]


@dataclass(frozen=True, slots=True)
class Tables:
    """The ``revision`` of the tables in a database of a ``kind`` (``sqlite``, ``postgresql``), None when it is empty.

    ``known`` is the newest revision that this program knows.
    """

    kind: str
    revision: str | None
    known: str = field(default_factory=lambda: schema.REVISION)

    @property
    def outdated(self) -> bool:
        """Whether this program needs newer tables."""
        return self.revision is None or self.revision < self.known


def tables(where: Path | DatabaseUrl) -> Tables:
    """What is there now. Raises :class:`UsageError` (``store-format``, ``store-missing``), Unavailable."""
    if isinstance(where, Path) and not where.exists():
        raise UsageError("store-missing", f"there is no store {where}", hint="'watchword authority serve' makes one")
    found: list[Tables] = []

    def look(connection: Connection, name: str) -> bool:
        found.append(Tables(connection.dialect.name, revision_of(connection, name)))
        return False

    open_backend(where, look).engine.dispose()
    return found[0]


def upgrade(where: Path | DatabaseUrl) -> Tables:
    """Bring the tables up to date, all steps in one transaction; what was there before.

    Writers wait until it is done; programs of the version before go on afterwards. Raises as :func:`tables`, and
    :class:`UsageError` (``store-version``).
    """
    before = tables(where)

    def bring(connection: Connection, name: str) -> bool:
        return create_or_check(connection, name, upgrade=True)

    open_backend(where, bring, patient=True).engine.dispose()
    return before
