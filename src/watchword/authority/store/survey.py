"""How much of everything the store holds, and what of it runs out next: for metrics and for the doctor."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, and_, case, func, or_, select, true

from watchword.authority.store import schema
from watchword.authority.store.nonces import Nonces, nonces_now

__all__ = ["HostCount", "RetiringStack", "Survey", "SurveyReads"]


@dataclass(frozen=True, slots=True)
class HostCount:
    """How many hosts stand alike by one watched profile (32-byte id); ``level`` is "" for those that reach none."""

    profile_id: bytes
    standing: str
    level: str
    hosts: int


@dataclass(frozen=True, slots=True)
class RetiringStack:
    """A release that is in force until ``retire_at`` (Unix seconds)."""

    name: str
    version: str
    retire_at: int


@dataclass(frozen=True, slots=True)
class Survey:
    """The store at one moment; times in Unix seconds, 0 where there is nothing.

    ``stacks`` counts releases by state; ``log`` and ``witnessed`` are (size, time of the newest entry) of the whole log
    and of the part that a majority of the witnesses cosigned (the whole, without witnesses); ``witnesses`` maps a name
    to the size that it cosigned last; ``crls`` maps the hex digits of an issuer to when its list runs out.
    """

    hosts: tuple[HostCount, ...]
    stacks: dict[str, int]
    retiring: tuple[RetiringStack, ...]
    log: tuple[int, int]
    witnessed: tuple[int, int]
    witnesses: dict[str, int]
    crls: dict[str, int]
    rows: dict[str, int]
    oldest_evidence: int
    nonces: Nonces


class SurveyReads:
    """The part of the store that is looked at as a whole."""

    def _reading_together(self) -> AbstractContextManager[Connection]:
        raise AssertionError("the store has this")

    def faults(self) -> list[str]:
        """What the database finds wrong with its own file, at most ten things; a server looks after itself."""
        with self._reading_together() as connection:
            if connection.dialect.name != "sqlite":
                return []
            found = connection.exec_driver_sql("PRAGMA quick_check(10)").scalars().all()
            return [str(fault) for fault in found if fault != "ok"]

    def size_on_server(self) -> int | None:
        """Bytes that the database has on its server; None when it is a file."""
        with self._reading_together() as connection:
            if connection.dialect.name == "sqlite":
                return None
            return int(connection.exec_driver_sql("SELECT pg_database_size(current_database())").scalar_one())

    def survey(self, now: int) -> Survey:
        """What there is at ``now`` (Unix seconds)."""
        with self._reading_together() as connection:
            log = _newest(connection)
            witnesses = _witnesses(connection)
            return Survey(
                hosts=_hosts(connection, now),
                stacks=_stacks(connection),
                retiring=_retiring(connection),
                log=log,
                witnessed=_witnessed(connection) if witnesses else log,
                witnesses=witnesses,
                crls=_crls(connection),
                rows=_rows(connection),
                oldest_evidence=connection.execute(select(func.min(schema.evidence.c.time))).scalar() or 0,
                nonces=nonces_now(connection),
            )


def _hosts(connection: Connection, now: int) -> tuple[HostCount, ...]:
    """One query: each host by each watched profile; without a state it is "unknown"."""
    hosts, watched, states = schema.hosts, schema.watched, schema.host_states
    standing = case(
        (hosts.c.revoked_at.is_not(None), "revoked"),
        (states.c.standing.is_(None), "unknown"),
        (or_(states.c.until <= now, states.c.checked > now), "stale"),
        else_=states.c.standing,
    ).label("standing")
    good = and_(hosts.c.revoked_at.is_(None), states.c.checked <= now, states.c.until > now)
    level = case((good, func.coalesce(states.c.level, "")), else_="").label("level")
    together = hosts.join(watched, true()).outerjoin(
        states, and_(states.c.host_id == hosts.c.host_id, states.c.profile_id == watched.c.profile_id)
    )
    # In a query of its own: PostgreSQL would group by the column ``level`` of the table, not by what is called so here.
    each = select(watched.c.profile_id, standing, level).select_from(together).subquery()
    rows = connection.execute(select(*each.c, func.count()).group_by(*each.c))
    return tuple(HostCount(row[0], row[1], row[2], row[3]) for row in rows)


def _stacks(connection: Connection) -> dict[str, int]:
    table = schema.stacks
    rows = connection.execute(select(table.c.state, func.count()).group_by(table.c.state))
    return {row[0]: row[1] for row in rows}


def _retiring(connection: Connection) -> tuple[RetiringStack, ...]:
    table = schema.stacks
    query = select(table.c.name, table.c.version, table.c.retire_at).where(
        table.c.state == "retiring", table.c.retire_at.is_not(None)
    )
    return tuple(RetiringStack(*row) for row in connection.execute(query.order_by(table.c.retire_at)))


def _newest(connection: Connection) -> tuple[int, int]:
    table = schema.decisions
    row = connection.execute(select(table.c.seq, table.c.time).order_by(table.c.seq.desc()).limit(1)).first()
    return (row.seq, row.time) if row else (0, 0)


def _witnesses(connection: Connection) -> dict[str, int]:
    table = schema.log_witnesses
    rows = connection.execute(select(table.c.key, table.c.seen_size))
    return {key.partition("+")[0]: size for key, size in rows}


def _witnessed(connection: Connection) -> tuple[int, int]:
    table, witnesses, decisions = schema.log_cosignatures, schema.log_witnesses, schema.decisions
    needed = select(func.count() / 2).select_from(witnesses).scalar_subquery()
    sizes = select(table.c.size).group_by(table.c.size).having(func.count() > needed)
    size = connection.execute(sizes.order_by(table.c.size.desc()).limit(1)).scalar() or 0
    return size, connection.execute(select(decisions.c.time).where(decisions.c.seq == size)).scalar() or 0


def _crls(connection: Connection) -> dict[str, int]:
    table = schema.crls
    rows = connection.execute(select(table.c.issuer, table.c.next_update))
    return {row.issuer.hex()[:16]: row.next_update for row in rows}


def _rows(connection: Connection) -> dict[str, int]:
    tables: tuple[Any, ...] = (
        schema.hosts,
        schema.evidence,
        schema.evidence_logs,
        schema.host_states,
        schema.placements,
        schema.profiles,
        schema.releases,
        schema.used_nonces,
        schema.era_nonces,
    )
    return {t.name: int(connection.execute(select(func.count()).select_from(t)).scalar() or 0) for t in tables}
