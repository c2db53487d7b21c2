"""Events: acts of the record that somebody outside may want to hear of, in order; and who is told by webhook.

An event is written in the transaction of its act, or not at all. A webhook has a place in the list of events, and what
comes after it is its queue: nothing is copied, and nothing is lost when the process dies.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Index,
    LargeBinary,
    Row,
    Select,
    Table,
    and_,
    bindparam,
    delete,
    exists,
    func,
    insert,
    or_,
    select,
    update,
)

from watchword.authority.store import schema
from watchword.authority.store.acts import public_details
from watchword.authority.store.columns import Integer, String
from watchword.authority.store.upsert import upsert
from watchword.errors import UsageError
from watchword.launch.event import Event, chain_of

__all__ = ["Audience", "EventReads", "EventTransaction", "Fallen", "Page", "Webhook"]

_HOST_ACTS: Final[Mapping[str, tuple[str, ...]]] = {
    "host-enrolled": (),
    "host-trusted": ("level", "was", "rebooted", "code"),
    "host-degraded": ("level", "was", "rebooted", "code"),
    "host-failed": ("level", "was", "rebooted", "code"),
    "host-stale": ("was",),
    "host-accept": (),
    "host-revoke": (),
}
_ALL: Final = ""  # the chain that counts all events

events = Table(
    "events",
    schema.metadata,
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("time", Integer, nullable=False),
    Column("host_id", LargeBinary(32)),  # NULL: everybody may know
    Column("profile", String, nullable=False),  # hex; "" when no profile judged
    Column("payload", LargeBinary, nullable=False),
    Index("events_host", "host_id", "seq"),
    Index("events_time", "time"),
)

# The last event of each chain, and under "" the last of all: they outlive the events.
event_chains = Table(
    "event_chains",
    schema.metadata,
    Column("chain", String, primary_key=True),
    Column("number", Integer, nullable=False),
    Column("digest", String, nullable=False),
)

# States whose end was noticed: ``until`` tells a state from the one that came after it.
stale_noted = Table(
    "stale_noted",
    schema.metadata,
    Column("host_id", LargeBinary(32), primary_key=True),
    Column("profile_id", LargeBinary(32), primary_key=True),
    Column("until", Integer, nullable=False),
)

webhooks = Table(
    "webhooks",
    schema.metadata,
    Column("id", String, primary_key=True),
    Column("url", String, nullable=False),
    Column("kinds", String, nullable=False),  # "host", "public" or both
    Column("ca", String, nullable=False),  # PEM; "" for the system's
    Column("added_at", Integer, nullable=False),
    Column("place", Integer, nullable=False),  # all events up to here are done with
    Column("gap_first", Integer),  # events from here to ``gap_last`` were given up, and that is still to be told
    Column("gap_last", Integer),
    Column("attempts", Integer, nullable=False),  # that failed since the last success
    Column("next_try", Integer, nullable=False),
    Column("last_error", String, nullable=False),
    Column("delivered_at", Integer),
    Column("claimed_by", String, nullable=False),
    Column("claimed_until", Integer, nullable=False),
)


# Built once: many acts have an event.
_PUT: Final = insert(events)
_ENDS: Final = select(event_chains).where(event_chains.c.chain.in_([bindparam("all"), bindparam("one")]))
_NO_END: Final = (0, "")
_MOVE: Final = upsert(event_chains)
_NOTED: Final = upsert(stale_noted)
_NOTE: Final = _NOTED.on_conflict_do_update(
    index_elements=["host_id", "profile_id"], set_={"until": _NOTED.excluded.until}
)
_ADVANCE: Final = _MOVE.on_conflict_do_update(
    index_elements=["chain"], set_={"number": _MOVE.excluded.number, "digest": _MOVE.excluded.digest}
)


@dataclass(frozen=True, slots=True)
class Audience:
    """Whose events: of these ``hosts`` (None: all) by these ``profiles`` (hex; None: any), and public ones."""

    hosts: Sequence[bytes] | None
    profiles: Sequence[str] | None
    public: bool = True

    def condition(self) -> ColumnElement[bool]:
        """The WHERE clause."""
        table = events.c
        about: ColumnElement[bool] = table.host_id.is_not(None) if self.hosts is None else table.host_id.in_(self.hosts)
        if self.profiles is not None:
            about = and_(about, table.profile.in_(["", *self.profiles]))
        return or_(table.host_id.is_(None), about) if self.public else about


@dataclass(frozen=True, slots=True)
class Page:
    """``payloads`` with their numbers; everything up to ``last`` was looked at.

    ``complete`` is False when events after the place that was asked about are not on file any more, or never were.
    """

    payloads: tuple[tuple[int, bytes], ...]
    last: int
    complete: bool


@dataclass(frozen=True, slots=True)
class Fallen:
    """A host whose state by a profile ended at ``until`` and was not renewed; it was ``standing`` until then."""

    host_id: bytes
    profile_id: bytes
    standing: str
    until: int


@dataclass(frozen=True, slots=True)
class Webhook:
    """Somebody who is told: where, what about, how far it got, and what went wrong last."""

    id: str
    url: str
    kinds: str
    ca: str
    added_at: int
    place: int
    gap_first: int | None = None
    gap_last: int | None = None
    attempts: int = 0
    next_try: int = 0
    last_error: str = ""
    delivered_at: int | None = None
    claimed_by: str = ""
    claimed_until: int = 0


class EventTransaction:
    """The part of a transaction that is about events."""

    _connection: Connection

    def put_event(self, time: int, act: str, subject: str, details: Mapping[str, Any]) -> None:
        """Write the event of an act, if it is one that somebody outside may hear of."""
        host = act in _HOST_ACTS
        named = _HOST_ACTS[act] if host else public_details(act)
        if named is None:
            return
        profile = str(details.get("profile", "")) if host else ""
        chain = chain_of(act, subject, profile)
        found = self._connection.execute(_ENDS, {"all": _ALL, "one": chain}).all()
        ends = {row.chain: (row.number, row.digest) for row in found}
        (seq, _), (number, previous) = ends.get(_ALL, _NO_END), ends.get(chain, _NO_END)
        shown = {name: details[name] for name in named if name in details}
        event = Event(seq + 1, time, act, subject, profile, number + 1, previous, shown)
        payload = event.encode()
        row = {"seq": event.seq, "time": time, "profile": profile, "payload": payload}
        self._connection.execute(_PUT, row | {"host_id": bytes.fromhex(subject) if host else None})
        all_of_them = {"chain": _ALL, "number": event.seq, "digest": ""}
        its_own = {"chain": chain, "number": event.number, "digest": hashlib.sha256(payload).hexdigest()}
        self._connection.execute(_ADVANCE, [all_of_them, its_own])

    def prune_events(self, before: int) -> int:
        """Forget the events from before ``before`` (Unix seconds); how many there were. Chains go on.

        What was noted of states that are not on file any more is forgotten, too.
        """
        states = schema.host_states.c
        same = (states.host_id == stale_noted.c.host_id, states.profile_id == stale_noted.c.profile_id)
        self._connection.execute(delete(stale_noted).where(~exists().where(*same)))
        return self._connection.execute(delete(events).where(events.c.time < before)).rowcount

    def fallen(self, now: int, limit: int) -> list[Fallen]:
        """At most ``limit`` hosts whose state ended by ``now`` and of which nobody was told yet; noted as told."""
        found = [Fallen(*row) for row in self._connection.execute(_fallen(now).limit(limit))]
        if found:
            noted = [{"host_id": f.host_id, "profile_id": f.profile_id, "until": f.until} for f in found]
            self._connection.execute(_NOTE, noted)
        return found

    # -- webhooks --------------------------------------------------------------------------------------------

    def put_webhook(self, webhook: Webhook, most: int) -> None:
        """Tell ``webhook`` everything that happens from now on. Raises :class:`UsageError` (``webhook-full``)."""
        if self._connection.execute(select(func.count()).select_from(webhooks)).scalar_one() >= most:
            raise UsageError("webhook-full", f"there are {most} webhooks already")
        values = {name: getattr(webhook, name) for name in webhooks.c.keys()}  # noqa: SIM118 - no mapping
        self._connection.execute(insert(webhooks).values(values | {"place": _last(self._connection)}))

    def remove_webhook(self, identity: str) -> None:
        """Tell it nothing more. Raises :class:`UsageError` (``webhook-unknown``)."""
        if not self._connection.execute(delete(webhooks).where(webhooks.c.id == identity)).rowcount:
            raise UsageError("webhook-unknown", f"there is no webhook {identity}")

    def claim_webhook(self, identity: str, by: str, now: int, until: int) -> Webhook | None:
        """Be the only one who tells this webhook, until ``until``; None when it is somebody else, or too early."""
        table = webhooks
        free = or_(table.c.claimed_until <= now, table.c.claimed_by == by)
        mine = update(table).where(table.c.id == identity, table.c.next_try <= now, free)
        if not self._connection.execute(mine.values(claimed_by=by, claimed_until=until)).rowcount:
            return None
        return _webhook(self._connection.execute(select(table).where(table.c.id == identity)).one())

    def update_webhook(self, identity: str, **values: Any) -> None:
        """Remember how far a webhook got, or what went wrong."""
        self._connection.execute(update(webhooks).where(webhooks.c.id == identity).values(values))


class EventReads:
    """The part of the store that tells what happened."""

    def _reading(self) -> AbstractContextManager[Connection]:
        raise AssertionError("the store has this")

    def _reading_together(self) -> AbstractContextManager[Connection]:
        raise AssertionError("the store has this")

    def last_event(self) -> int:
        """The number of the newest event; 0 when there was none."""
        with self._reading() as connection:
            return _last(connection)

    def events(self, after: int, audience: Audience, limit: int) -> Page:
        """At most ``limit`` events after number ``after``, for ``audience``."""
        query = select(events.c.seq, events.c.payload).where(events.c.seq > after, audience.condition())
        with self._reading_together() as connection:
            last = _last(connection)
            oldest = connection.execute(select(func.min(events.c.seq))).scalar()
            rows = connection.execute(query.order_by(events.c.seq).limit(limit)).all()
        first_kept = last + 1 if oldest is None else oldest
        complete = first_kept - 1 <= after <= last
        return Page(
            tuple((row.seq, row.payload) for row in rows), rows[-1].seq if len(rows) == limit else last, complete
        )

    def has_fallen(self, now: int) -> bool:
        """Whether there is a host whose state ended by ``now`` and of which nobody was told yet."""
        with self._reading() as connection:
            return connection.execute(_fallen(now).limit(1)).first() is not None

    def webhooks(self) -> tuple[Webhook, ...]:
        """All webhooks, the oldest first."""
        with self._reading() as connection:
            rows = connection.execute(select(webhooks).order_by(webhooks.c.added_at, webhooks.c.id))
            return tuple(_webhook(row) for row in rows)


def _last(connection: Connection) -> int:
    return connection.execute(select(event_chains.c.number).where(event_chains.c.chain == _ALL)).scalar() or 0


def _fallen(now: int) -> Select[Any]:
    states, hosts = schema.host_states, schema.hosts
    same = and_(
        stale_noted.c.host_id == states.c.host_id,
        stale_noted.c.profile_id == states.c.profile_id,
        stale_noted.c.until == states.c.until,
    )
    joined = states.join(hosts, hosts.c.host_id == states.c.host_id).outerjoin(stale_noted, same)
    columns = (states.c.host_id, states.c.profile_id, states.c.standing, states.c.until)
    return (
        select(*columns)
        .select_from(joined)
        .where(states.c.until <= now, stale_noted.c.until.is_(None), hosts.c.revoked_at.is_(None))
        .order_by(states.c.until)
    )


def _webhook(row: Row[Any]) -> Webhook:
    return Webhook(**row._mapping)
