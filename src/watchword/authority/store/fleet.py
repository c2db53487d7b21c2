"""The part of the store that a console asks: counts and pages, never everything at once."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, FromClause, Row, Select, and_, case, func, literal, select

from watchword.authority.store import schema
from watchword.authority.store.record import Decision
from watchword.authority.store.watch import state_row
from watchword.launch.attest import HostState, Standing
from watchword.wire.merkle import Frontier

__all__ = ["FleetFilter", "FleetHost", "FleetReads", "decision_row"]

GOOD: Final = (Standing.TRUSTED, Standing.DEGRADED)  # those whose level counts


@dataclass(frozen=True, slots=True)
class FleetFilter:
    """Which hosts: of ``standing`` (also "unknown") and ``level``, with ids from ``low`` to ``high``; None is any."""

    standing: str | None = None
    level: str | None = None
    low: bytes | None = None
    high: bytes | None = None


@dataclass(frozen=True, slots=True)
class FleetHost:
    """One host as a list shows it; ``state`` is None for one that never attested by the profile."""

    host_id: bytes
    revoked: bool
    state: HostState | None


class FleetReads:
    """Everything here costs at most one pass over the hosts, in the database, and returns little."""

    def _reading(self) -> AbstractContextManager[Connection]:
        raise AssertionError("the store has this")

    def fleet_counts(self, profile_id: bytes, now: int) -> Mapping[tuple[str, str], int]:
        """How many hosts have each standing and level at ``now`` (Unix seconds) by a profile."""
        # Grouped outside: a database may not see that an expression with parameters is the same one twice.
        each = select(_standing(now).label("standing"), _level(now).label("level")).select_from(_hosts(profile_id))
        found = each.subquery()
        statement = select(found.c.standing, found.c.level, func.count()).group_by(found.c.standing, found.c.level)
        with self._reading() as connection:
            return {(row[0], row[1]): row[2] for row in connection.execute(statement)}

    def fleet_page(
        self, profile_id: bytes, now: int, wanted: FleetFilter, limit: int, *, after: bytes = b"", before: bytes = b""
    ) -> tuple[FleetHost, ...]:
        """At most ``limit`` hosts in the order of their ids: the first ones after ``after``, or the last before
        ``before`` when that is given."""
        host_id = schema.hosts.c.host_id
        order = host_id.desc() if before else host_id
        place = host_id < before if before else host_id > after
        statement = select(
            host_id, schema.hosts.c.revoked_at, *(column for column in schema.host_states.c if column.name != "host_id")
        )
        found: Select[Any] = statement.select_from(_hosts(profile_id)).where(place, *_conditions(wanted, now))
        with self._reading() as connection:
            rows = connection.execute(found.order_by(order).limit(limit)).all()
        return tuple(map(_fleet_host, reversed(rows) if before else rows))

    def hosts_by_stack(self, profile_id: bytes, now: int) -> Mapping[bytes, int]:
        """How many hosts that are trusted or degraded at ``now`` by a profile run each release, by its digest."""
        stack = schema.host_states.c.stack
        statement = select(stack, func.count()).select_from(_hosts(profile_id)).where(_standing(now).in_(GOOD))
        with self._reading() as connection:
            return {row[0]: row[1] for row in connection.execute(statement.group_by(stack))}

    def newest_decisions(self, limit: int, before: int | None = None) -> tuple[Decision, ...]:
        """At most ``limit`` entries of the decision record, the newest first, those below number ``before``."""
        table = schema.decisions
        statement = select(table).order_by(table.c.seq.desc()).limit(limit)
        if before is not None:
            statement = statement.where(table.c.seq < before)
        with self._reading() as connection:
            return tuple(map(decision_row, connection.execute(statement)))

    def decision(self, seq: int) -> Decision | None:
        """The entry with this number."""
        table = schema.decisions
        with self._reading() as connection:
            row = connection.execute(select(table).where(table.c.seq == seq)).first()
        return decision_row(row) if row else None

    def newest_acts(self, limit: int) -> tuple[Decision, ...]:
        """The newest entries that are about no launch, the newest first."""
        table = schema.decisions
        acts = select(table).where(table.c.launch_key == b"").order_by(table.c.seq.desc()).limit(limit)
        with self._reading() as connection:
            return tuple(map(decision_row, connection.execute(acts)))


def decision_row(row: Row[Any]) -> Decision:
    """The entry that a row of ``decisions`` holds."""
    tree = Frontier.parse(row.seq, row.frontier)
    return Decision(row.seq, row.time, row.launch_key, row.number, row.salt, row.entry, row.leaf, tree)


def _hosts(profile_id: bytes) -> FromClause:
    hosts, states = schema.hosts, schema.host_states
    mine = and_(states.c.host_id == hosts.c.host_id, states.c.profile_id == profile_id)
    return hosts.outerjoin(states, mine)


def _standing(now: int) -> ColumnElement[str]:
    """What ``authority.deciding.watch.standing_now`` says, in the words of the database."""
    states = schema.host_states.c
    return case(
        (schema.hosts.c.revoked_at.is_not(None), literal(str(Standing.FAILED))),
        (states.standing.is_(None), literal("unknown")),
        (and_(states.checked <= now, states.until > now), states.standing),
        else_=literal(str(Standing.STALE)),
    )


def _level(now: int) -> ColumnElement[str]:
    good = _standing(now).in_(GOOD)
    return case((good, schema.host_states.c.level), else_=literal(""))


def _conditions(wanted: FleetFilter, now: int) -> list[ColumnElement[bool]]:
    host_id = schema.hosts.c.host_id
    found: list[ColumnElement[bool]] = []
    if wanted.standing is not None:
        found.append(_standing(now) == wanted.standing)
    if wanted.level is not None:
        found.append(_level(now) == wanted.level)
    if wanted.low is not None and wanted.high is not None:
        found.append(host_id.between(wanted.low, wanted.high))
    return found


def _fleet_host(row: Row[Any]) -> FleetHost:
    state = state_row(row) if row.standing is not None else None
    return FleetHost(row.host_id, row.revoked_at is not None, state)
