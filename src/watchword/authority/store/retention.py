"""What the store may forget, and how: a few rows at a time, so that no decision waits for it.

Nothing of the log is here, neither leaves nor entries, and no release count: without its count a token could be used
again by whoever sets a clock back, and a hash with a number says nothing about anybody. Triggers refuse it too.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, Connection, Table, delete, exists, func, select, tuple_

from watchword.authority.store import schema

__all__ = ["Kind", "RetentionReads", "RetentionTransaction"]


class Kind(StrEnum):
    """What can be forgotten, in the order in which it is."""

    EVIDENCE = "evidence"  # the newest evidence of a host, when even that is old
    LOGS = "logs"  # logs that no evidence needs any more; they have no age
    STATES = "states"  # how a host stood, when it has been silent for long
    PLACEMENTS = "placements"  # which host a launch was released to
    COSIGNATURES = "cosignatures"  # of checkpoints that a newer one has replaced


def _old(kind: Kind, before: int) -> tuple[Table, ColumnElement[bool]]:
    """The table, and which of its rows are older than ``before`` (Unix seconds) and not needed."""
    match kind:
        case Kind.EVIDENCE:
            return schema.evidence, schema.evidence.c.time < before
        case Kind.LOGS:
            logs, parts = schema.evidence_logs, schema.evidence_parts
            return logs, ~exists().where(parts.c.digest == logs.c.digest)
        case Kind.STATES:
            return schema.host_states, schema.host_states.c.until < before
        case Kind.PLACEMENTS:
            return schema.placements, schema.placements.c.time < before
        case Kind.COSIGNATURES:
            return schema.log_cosignatures, _replaced(before)


def _replaced(before: int) -> ColumnElement[bool]:
    """Older and smaller than the newest checkpoint that a majority cosigned, which is what everybody is shown."""
    table, decisions = schema.log_cosignatures, schema.decisions
    needed = select(func.count() / 2).select_from(schema.log_witnesses).scalar_subquery()
    sizes = table.alias("sizes")
    published = select(sizes.c.size).group_by(sizes.c.size).having(func.count() > needed)
    newest = published.order_by(sizes.c.size.desc()).limit(1).scalar_subquery()
    old = select(decisions.c.seq).where(decisions.c.time < before)
    return (table.c.size < newest) & table.c.size.in_(old)


class RetentionTransaction:
    """The part of a transaction that forgets."""

    _connection: Connection

    def forget(self, kind: Kind, before: int, limit: int) -> int:
        """Forget at most ``limit`` rows of ``kind`` from before ``before`` (Unix seconds), and say how many."""
        table, old = _old(kind, before)
        keys = list(table.primary_key.columns)
        some = select(*keys).where(old).limit(limit)
        chosen: ColumnElement[bool] = keys[0].in_(some) if len(keys) == 1 else tuple_(*keys).in_(some)
        return int(self._connection.execute(delete(table).where(chosen)).rowcount)


class RetentionReads:
    """The part of the store that says what could be forgotten."""

    def _reading(self) -> AbstractContextManager[Connection]:
        raise AssertionError("the store has this")

    def count_old(self, kind: Kind, before: int) -> int:
        """How many rows :meth:`RetentionTransaction.forget` would find."""
        table, old = _old(kind, before)
        with self._reading() as connection:
            found: Any = connection.execute(select(func.count()).select_from(table).where(old)).scalar()
            return int(found or 0)
