"""Reading the store, and the one door to changing it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from sqlalchemy import ColumnElement, Connection, FromClause, Row, Select, func, select

from watchword.authority.store import schema, statements
from watchword.authority.store.engine import BUSY_SECONDS, Backend, open_backend, translated
from watchword.authority.store.events import EventReads
from watchword.authority.store.fleet import FleetReads, decision_row
from watchword.authority.store.host_file import HostFile, read_host_file
from watchword.authority.store.nonces import NonceReads
from watchword.authority.store.quick import QuickReader, Reader
from watchword.authority.store.record import Decision, verify_record
from watchword.authority.store.retention import RetentionReads
from watchword.authority.store.rows import (
    AnchorRow,
    BundleRow,
    CrlRow,
    EkPin,
    EndorserRow,
    Host,
    ProfileRow,
    StackChange,
    StackInfo,
    StackRow,
    StackRule,
    StackState,
    WitnessRow,
    anchor_row,
    host_row,
    pin_row,
    stack_info,
    stack_row,
)
from watchword.authority.store.survey import SurveyReads
from watchword.authority.store.transaction import Transaction
from watchword.authority.store.url import DatabaseUrl
from watchword.authority.store.watch import WatchReads
from watchword.errors import Unavailable
from watchword.wire.merkle import Frontier, leaf_hash
from watchword.wire.tile import WIDTH

__all__ = ["Counts", "Head", "Store"]

_BATCH: Final = 500  # decisions fetched at a time


@dataclass(frozen=True, slots=True)
class Counts:
    """How much the store holds."""

    hosts: int
    hosts_revoked: int
    profiles: int
    stacks: int
    anchors: int
    ek_pins: int
    endorsers: int
    releases: int
    decisions: int


@dataclass(frozen=True, slots=True)
class Head:
    """The end of the decision record: the number of its entries, and the root of the log with all of them."""

    seq: int
    root: bytes


class Store(WatchReads, FleetReads, SurveyReads, RetentionReads, EventReads, NonceReads):
    """The authority's memory. Any number of threads and processes may use one at the same time.

    Reading a row of a ``local`` one waits for no network and no lock.
    """

    def __init__(self, backend: Backend) -> None:
        self._engine, self._begin_reading, self._begin_writing = (
            backend.engine,
            backend.begin_reading,
            backend.begin_writing,
        )
        self.local = backend.local
        self._quick: Reader = QuickReader(backend.engine, statements.QUICK)
        # Threads of one process queue here: SQLite makes waiting writers poll, PostgreSQL keeps a connection for each.
        self._writer = threading.Lock()

    @classmethod
    def open(cls, where: Path | DatabaseUrl) -> Self:
        """The store in a SQLite file, private to this user, or on a PostgreSQL server; created when there is none.

        Raises :class:`UsageError` for one of another kind or version, :class:`Unavailable` when it cannot be used.
        """
        return cls(open_backend(where))

    def close(self) -> None:
        """Close all connections; the store can not be used afterwards."""
        self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- writing ----------------------------------------------------------------------------------------------

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """A transaction: durable when the block ends, undone when it raises.

        Whatever must not leave without its record leaves *after* this block, never inside it.
        Raises :class:`Unavailable` (``store-busy``, ``store-unavailable``), also at the end of the block.
        """
        if not self._writer.acquire(timeout=BUSY_SECONDS):
            raise Unavailable("store-busy", "the store is busy", hint="try again in a moment")
        try:
            with translated(), self._engine.begin() as connection:
                self._begin_writing(connection)
                yield self._make_transaction(connection)
                self._before_commit()
            self._after_commit()
        finally:
            self._writer.release()

    def _make_transaction(self, connection: Connection) -> Transaction:
        return Transaction(connection)

    def _before_commit(self) -> None:
        """For a subclass that watches: everything is written, nothing is durable."""

    def _after_commit(self) -> None:
        """For a subclass that watches: everything is durable."""

    # -- reading ----------------------------------------------------------------------------------------------

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        """For one statement, which sees one moment by itself."""
        with translated(), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def _reading_together(self) -> Iterator[Connection]:
        """For several statements that must see the same moment."""
        with self._reading() as connection:
            self._begin_reading(connection)
            yield connection

    def generation(self) -> int:
        """A number that grows whenever what is believed or allowed changes."""
        with self._reading() as connection:
            value: int = connection.execute(statements.GENERATION).scalar_one()
            return value

    def anchors(self) -> tuple[AnchorRow, ...]:
        """All trust anchors, oldest first."""
        table = schema.anchors
        with self._reading() as connection:
            rows = connection.execute(select(table).order_by(table.c.added_at, table.c.fingerprint))
            return tuple(anchor_row(row) for row in rows)

    def bundles(self) -> tuple[BundleRow, ...]:
        """The newest edition of every root bundle that was imported, by name."""
        table, content = schema.root_bundles, schema.bundle_certificates
        with self._reading_together() as connection:
            anchors: dict[str, set[bytes]] = {}
            listed = select(content.c.bundle, content.c.fingerprint).where(content.c.is_anchor)
            for name, fingerprint in connection.execute(listed):
                anchors.setdefault(name, set()).add(fingerprint)
            rows = connection.execute(select(table).order_by(table.c.name))
            return tuple(
                BundleRow(row.name, row.serial, row.digest, row.added_at, frozenset(anchors.get(row.name, ())))
                for row in rows
            )

    def intermediates(self) -> tuple[bytes, ...]:
        """The intermediate certificates (DER) of all bundles, each once."""
        table = schema.bundle_certificates
        listed = select(table.c.certificate, table.c.fingerprint).where(table.c.is_anchor.is_(False)).distinct()
        with self._reading() as connection:
            return tuple(connection.execute(listed.order_by(table.c.fingerprint)).scalars())

    def crls(self) -> tuple[CrlRow, ...]:
        """The newest revocation list of every issuer, oldest first."""
        table = schema.crls
        with self._reading() as connection:
            rows = connection.execute(select(table).order_by(table.c.added_at, table.c.fingerprint))
            return tuple(CrlRow(**row._mapping) for row in rows)

    def pins(self) -> tuple[EkPin, ...]:
        """All pinned EKs, oldest first."""
        table = schema.ek_pins
        with self._reading() as connection:
            rows = connection.execute(select(table).order_by(table.c.added_at, table.c.host_id))
            return tuple(pin_row(row) for row in rows)

    def endorsers(self) -> tuple[EndorserRow, ...]:
        """All endorsers, oldest first."""
        table, limits = schema.endorsers, schema.endorser_limits
        with self._reading_together() as connection:
            allowed: dict[tuple[str, str], set[str]] = {}
            for key_id, kind, value in connection.execute(select(limits)):
                allowed.setdefault((key_id, kind), set()).add(value)
            rows = connection.execute(select(table).order_by(table.c.added_at, table.c.key_id)).all()
        limit = {key: frozenset(values) for key, values in allowed.items()}
        return tuple(
            EndorserRow(**r._mapping, stacks=limit.get((r.key_id, "stack")), pools=limit.get((r.key_id, "pool")))
            for r in rows
        )

    def stack_rules(self) -> tuple[StackRule, ...]:
        """Who must sign which stacks, by name and pool."""
        table, named = schema.stack_rules, schema.stack_rule_keys
        with self._reading_together() as connection:
            keys: dict[tuple[str, str], set[str]] = {}
            for name, pool, key_id in connection.execute(select(named.c.name, named.c.pool, named.c.key_id)):
                keys.setdefault((name, pool), set()).add(key_id)
            rows = connection.execute(select(table).order_by(table.c.name, table.c.pool)).all()
        return tuple(
            StackRule(row.name, row.pool, row.threshold, frozenset(keys.get((row.name, row.pool), ())), row.added_at)
            for row in rows
        )

    def stack_history(self, digest: bytes) -> tuple[StackChange, ...]:
        """Every step in the life of a release, oldest first; none for one that is not here."""
        table = schema.stack_history
        with self._reading() as connection:
            rows = connection.execute(select(table).where(table.c.digest == digest).order_by(table.c.id)).all()
        return tuple(StackChange(r.time, StackState(r.state), r.retire_at, r.by, r.reason) for r in rows)

    def host(self, host_id: bytes) -> Host | None:
        """The enrolled host with this 32-byte id, revoked ones included."""
        with self._reading() as connection:
            row = connection.execute(statements.HOST, {"host_id": host_id}).first()
            return host_row(row) if row else None

    def host_now(self, host_id: bytes) -> tuple[int, Host | None]:
        """:meth:`generation` and :meth:`host` of one moment, for a release, which asks for both."""
        with translated():
            row = self._quick.rows("host_now", {"host_id": host_id})[0]
        return row.generation, host_row(row) if row.host_id is not None else None

    def host_file(self, host_id: bytes) -> HostFile:
        """All that an attestation of a host needs to know."""
        with translated():
            return read_host_file(self._quick, host_id)

    def hosts(self) -> tuple[Host, ...]:
        """All hosts, oldest first."""
        with self._reading() as connection:
            order = statements.HOSTS.order_by(schema.hosts.c.enrolled_at, schema.hosts.c.host_id)
            return tuple(host_row(row) for row in connection.execute(order))

    def profile(self, profile_id: bytes) -> bytes | None:
        """The exact bytes of the profile with this 32-byte id."""
        table = schema.profiles
        with self._reading() as connection:
            return connection.execute(select(table.c.document).where(table.c.id == profile_id)).scalar()

    def profiles(self) -> tuple[ProfileRow, ...]:
        """All profiles, oldest first."""
        table = schema.profiles
        with self._reading() as connection:
            rows = connection.execute(select(table).order_by(table.c.added_at, table.c.id))
            return tuple(ProfileRow(**row._mapping) for row in rows)

    def stacks(self) -> tuple[StackRow, ...]:
        """All stack releases with their documents, revoked ones included, by name, serial and age."""
        with self._reading_together() as connection:
            return tuple(stack_row(row, by) for row, by in _stacks(connection, select(schema.stacks)))

    def stack_infos(self) -> tuple[StackInfo, ...]:
        """All stack releases without their documents, in the same order."""
        table = schema.stacks
        light = select(*(column for column in table.c if column not in (table.c.document, table.c.envelope)))
        with self._reading_together() as connection:
            return tuple(stack_info(row, by) for row, by in _stacks(connection, light))

    def releases(self, token_id: bytes) -> int:
        """How many releases of this token were counted. To decide on it, ask inside a transaction."""
        with self._reading() as connection:
            return connection.execute(statements.RELEASES, {"token_id": token_id}).scalar() or 0

    def decisions(self, after: int = 0, launch_key: bytes | None = None) -> Iterator[Decision]:
        """The decision record in order from number ``after`` + 1 on, of one launch or of all."""
        table = schema.decisions
        while True:
            page = select(table).where(table.c.seq > after).order_by(table.c.seq).limit(_BATCH)
            if launch_key is not None:
                page = page.where(table.c.launch_key == launch_key)
            with self._reading() as connection:
                rows = connection.execute(page).all()
            for row in rows:
                yield decision_row(row)
            if len(rows) < _BATCH:
                return
            after = rows[-1].seq

    def head(self) -> Head:
        """Size and root of the log as it is now."""
        with self._reading() as connection:
            row = connection.execute(statements.NEWEST_DECISION).first()
            return _head(Frontier.parse(row.seq, row.frontier) if row else Frontier())

    def frontier(self) -> Frontier:
        """The right edge of the log as it is now."""
        with self._reading() as connection:
            row = connection.execute(statements.NEWEST_DECISION).first()
            return Frontier.parse(row.seq, row.frontier) if row else Frontier()

    def head_at(self, size: int) -> Head | None:
        """The root of the log when it had ``size`` entries; None when it never had."""
        with translated():
            found = self._quick.rows("head_at", {"size": size})
        if not found:
            return _head(Frontier()) if size == 0 else None
        return _head(Frontier.parse(size, found[0].frontier))

    def verify_decisions(self) -> Head:
        """Check the whole log and return its head. Raises :class:`Rejected` (``decision-log``) where it breaks."""
        tree = Frontier()
        for decision in verify_record(self.decisions()):
            tree = decision.frontier
        return _head(tree)

    def leaves(self, start: int, count: int) -> list[bytes]:
        """The public leaves from number ``start`` (from 0) on, at most ``count``."""
        table = schema.decisions
        query = select(table.c.leaf).where(table.c.seq > start, table.c.seq <= start + count).order_by(table.c.seq)
        with self._reading() as connection:
            return list(connection.execute(query).scalars())

    def tile(self, level: int, index: int) -> list[bytes]:
        """As many hashes of a tile as there are; ``level`` from 0, see ``wire.tile``."""
        if level == 0:
            return [leaf_hash(leaf) for leaf in self.leaves(index * WIDTH, WIDTH)]
        table = schema.log_nodes
        within = table.c.node.between(index * WIDTH, (index + 1) * WIDTH - 1)
        query = select(table.c.hash).where(table.c.tile_level == level, within).order_by(table.c.node)
        with self._reading() as connection:
            return list(connection.execute(query).scalars())

    # -- witnesses --------------------------------------------------------------------------------------------

    def witnesses(self) -> tuple[WitnessRow, ...]:
        """Everybody who is asked to cosign, oldest first."""
        table = schema.log_witnesses
        with self._reading() as connection:
            rows = connection.execute(select(table).order_by(table.c.added_at, table.c.key))
            return tuple(WitnessRow(row.key, row.url, row.seen_size, row.added_at) for row in rows)

    def cosignatures(self, size: int) -> list[str]:
        """The cosignature lines of the checkpoint of this size, each without its newline."""
        table = schema.log_cosignatures
        with self._reading() as connection:
            query = select(table.c.line).where(table.c.size == size).order_by(table.c.witness)
            return list(connection.execute(query).scalars())

    def witnessed_size(self) -> int:
        """The newest size that more than half of the witnesses cosigned; 0 when there is none."""
        table, witnesses = schema.log_cosignatures, schema.log_witnesses
        needed = select(func.count() / 2).select_from(witnesses).scalar_subquery()
        query = select(table.c.size).group_by(table.c.size).having(func.count() > needed)
        with self._reading() as connection:
            return connection.execute(query.order_by(table.c.size.desc()).limit(1)).scalar() or 0

    def counts(self) -> Counts:
        """How much of everything there is."""
        hosts = schema.hosts
        with self._reading_together() as connection:

            def count(what: ColumnElement[Any], table: FromClause) -> int:
                return int(connection.execute(select(what).select_from(table)).scalar() or 0)

            return Counts(
                hosts=count(func.count(), hosts),
                hosts_revoked=count(func.count(hosts.c.revoked_at), hosts),
                profiles=count(func.count(), schema.profiles),
                stacks=count(func.count(), schema.stacks),
                anchors=count(func.count(), schema.anchors),
                ek_pins=count(func.count(), schema.ek_pins),
                endorsers=count(func.count(), schema.endorsers),
                releases=count(func.sum(schema.releases.c.count), schema.releases),
                decisions=count(func.max(schema.decisions.c.seq), schema.decisions),
            )


def _head(tree: Frontier) -> Head:
    return Head(tree.size, tree.root())


def _stacks(connection: Connection, query: Select[Any]) -> Iterator[tuple[Row[Any], frozenset[str]]]:
    table = schema.stacks
    signers: dict[bytes, set[str]] = {}
    for digest, key_id in connection.execute(select(schema.endorsements)):
        signers.setdefault(digest, set()).add(key_id)
    for row in connection.execute(query.order_by(table.c.name, table.c.serial, table.c.added_at, table.c.digest)):
        yield row, frozenset(signers.get(row.digest, ()))
