"""Whether a store is in force. One that was moved away is not any more, one that is being moved to is not yet.

It stands where every program looks first, in the place of the revision of the tables: a program from before stores
could be moved finds no revision that it knows there, and refuses. A trigger refuses decisions, and with them releases,
to one that has the tables open already.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self

from sqlalchemy import Column, Connection, MetaData, String, Table, inspect, select, update

from watchword.errors import UsageError

__all__ = ["HISTORY", "OutOfForce", "put_in_force", "put_out_of_force", "standing"]

# The table is Alembic's own; it is described here so that opening a store does not need all of Alembic.
HISTORY: Final = Table("alembic_version", MetaData(), Column("version_num", String(32), primary_key=True))

_TEXT: Final = re.compile(r"(moved|arriving)-([0-9a-f]{16})")
_SHUT: Final[Mapping[str, str]] = {
    "sqlite": """CREATE TRIGGER store_out_of_force BEFORE INSERT ON decisions
                 BEGIN SELECT RAISE(ABORT, 'this store is not in force'); END""",
    "postgresql": """CREATE TRIGGER store_out_of_force BEFORE INSERT ON decisions FOR EACH ROW
                     EXECUTE FUNCTION watchword_refuse('this store is not in force')""",
}
_REOPEN: Final[Mapping[str, str]] = {
    "sqlite": "DROP TRIGGER store_out_of_force",
    "postgresql": "DROP TRIGGER store_out_of_force ON decisions",
}


@dataclass(frozen=True, slots=True)
class OutOfForce:
    """``moved`` away, or ``arriving``, by the move with this id (16 hex digits)."""

    word: str
    move: str

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """What the place of the revision says, if it is this."""
        found = _TEXT.fullmatch(text)
        return cls(found[1], found[2]) if found else None

    def __str__(self) -> str:
        return f"{self.word}-{self.move}"

    def refusal(self, name: str) -> UsageError:
        """Why nobody works with the store ``name``: ``store-moved`` or ``store-arriving``."""
        if self.word == "moved":
            return UsageError(
                "store-moved",
                f"the store {name} was moved to a PostgreSQL database and counts nothing any more",
                hint="name that database; if the move was interrupted: watchword authority database move",
            )
        return UsageError(
            "store-arriving",
            f"a store is being moved to the database {name} and is not in force there",
            hint="watchword authority database move, once more, where the store comes from",
        )


def standing(connection: Connection) -> OutOfForce | None:
    """Why the store is not in force; None when it is, and where there is none."""
    if not inspect(connection).has_table(HISTORY.name):
        return None
    found = connection.execute(select(HISTORY.c.version_num)).scalars().all()
    return OutOfForce.parse(found[0]) if len(found) == 1 else None


def put_out_of_force(connection: Connection, why: OutOfForce) -> None:
    """From the end of this transaction on nobody opens the store, and it takes no decision."""
    connection.execute(update(HISTORY).values(version_num=str(why)))
    connection.exec_driver_sql(_SHUT[connection.dialect.name])


def put_in_force(connection: Connection, revision: str) -> None:
    """From the end of this transaction on it is the store, with the tables of ``revision``."""
    connection.exec_driver_sql(_REOPEN[connection.dialect.name])
    connection.execute(update(HISTORY).values(version_num=revision))
