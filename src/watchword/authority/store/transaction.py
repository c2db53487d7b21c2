"""Everything that changes the store. One writer at a time; all of it becomes durable together, or none of it."""

from __future__ import annotations

import secrets
from typing import Any, Final

import msgspec
from sqlalchemy import delete, select, update

from watchword.authority.store import schema, statements
from watchword.authority.store.acts import public_text
from watchword.authority.store.allowed import AllowedTransaction
from watchword.authority.store.events import EventTransaction
from watchword.authority.store.nonces import NonceTransaction, check_key
from watchword.authority.store.record import Decision, Place, next_decision
from watchword.authority.store.retention import RetentionTransaction
from watchword.authority.store.rows import Host
from watchword.authority.store.upsert import upsert
from watchword.authority.store.watch import WatchTransaction
from watchword.errors import Finding, Rejected, UsageError
from watchword.launch.receipt import MAX_DECISION
from watchword.verify.ima_log import RuntimeSeen
from watchword.verify.quote import LastSeen
from watchword.verify.runtime_state import RuntimeState
from watchword.wire.merkle import Frontier
from watchword.wire.tile import HEIGHT

__all__ = ["ACT_FORMAT", "Transaction"]

ACT_FORMAT: Final = "watchword-act/1"


class Transaction(AllowedTransaction, WatchTransaction, RetentionTransaction, EventTransaction, NonceTransaction):
    """The write side of :class:`~watchword.authority.store.Store`; made by ``Store.transaction`` and dead after it."""

    # -- counting, deciding ----------------------------------------------------------------------

    def releases(self, token_id: bytes) -> int:
        """How many releases of this token were counted so far (clause F4)."""
        return self._connection.execute(statements.RELEASES, {"token_id": token_id}).scalar() or 0

    def count_release(self, token_id: bytes) -> int:
        """Count one more release of the token (id of at most 64 bytes) and return the new number, 1 at first."""
        check_key("token id", token_id)
        counted = self._connection.execute(statements.COUNT_RELEASE, {"token_id": token_id, "count": 1})
        count: int = counted.scalar_one()
        return count

    def append_decision(self, time: int, launch_key: bytes, entry: bytes, *, public: bytes = b"") -> Decision:
        """Add ``entry`` to the decision record, a Merkle log, and return it with its place there (F5).

        ``entry`` is a JSON object of at most 128 KiB whose ``time`` is ``time`` (Unix seconds) and whose ``launch`` is
        ``launch_key`` in hex; ``launch_key`` is empty, and ``launch`` absent, for an administrative act. ``public`` is
        what everybody may read of it.
        """
        if not 0 < len(entry) <= MAX_DECISION:
            raise ValueError(f"a decision entry has 1 to {MAX_DECISION} bytes, not {len(entry)}")
        last = self._connection.execute(statements.LOG_END, {"launch_key": launch_key}).first()
        tree, number = (Frontier.parse(last.seq, last.frontier), last.number or 0) if last else (Frontier(), 0)
        place = Place(tree, number + 1, secrets.token_bytes(64))
        decision, completed = next_decision(place, time, launch_key, entry, public)
        values = {
            "seq": decision.seq,
            "time": time,
            "launch_key": launch_key,
            "number": decision.number,
            "salt": decision.salt,
            "entry": entry,
            "leaf": decision.leaf,
            "frontier": decision.frontier.encode(),
        }
        self._connection.execute(statements.APPEND_DECISION, values)
        for level, index, hashed in completed:
            if level % HEIGHT == 0:
                node = {"tile_level": level // HEIGHT, "node": index, "hash": hashed}
                self._connection.execute(statements.APPEND_NODE, node)
        return decision

    def append_act(self, time: int, act: str, subject: str, *, by: str = "service", **details: Any) -> Decision:
        """Add an administrative act to the decision record: what was done, to whom or what, and by whom."""
        entry = {"format": ACT_FORMAT, "time": time, "act": act, "subject": subject, "by": by, "details": details}
        public = public_text(time, act, subject, details)
        decision = self.append_decision(time, b"", msgspec.json.encode(entry), public=public)
        self.put_event(time, act, subject, details)
        return decision

    # -- witnesses of the log --------------------------------------------------------------------------------

    def put_witness(self, key: str, url: str, time: int) -> None:
        """Ask this witness (its verifier key) at ``url`` from now on; a second time changes where it is asked."""
        table = schema.log_witnesses
        statement = upsert(table).values(key=key, url=url, seen_size=0, added_at=time)
        self._connection.execute(statement.on_conflict_do_update(index_elements=["key"], set_={"url": url}))

    def remove_witness(self, key: str) -> None:
        """Stop asking a witness and showing what it signed. Raises :class:`UsageError` when it is unknown."""
        table = schema.log_witnesses
        if self._connection.execute(delete(table).where(table.c.key == key)).rowcount != 1:
            raise UsageError("witness-unknown", "no such witness is asked")

    def put_cosignature(self, size: int, witness: str, line: str) -> None:
        """Keep what a witness said about the checkpoint of this size; the caller has verified it."""
        table, witnesses = schema.log_cosignatures, schema.log_witnesses
        statement = upsert(table).values(size=size, witness=witness, line=line)
        same = statement.on_conflict_do_update(index_elements=["size", "witness"], set_={"line": line})
        self._connection.execute(same)
        grown = update(witnesses).values(seen_size=size).where(witnesses.c.key == witness, witnesses.c.seen_size < size)
        self._connection.execute(grown)

    def note_witness_size(self, witness: str, size: int) -> None:
        """Remember which size a witness says it saw last."""
        table = schema.log_witnesses
        self._connection.execute(update(table).values(seen_size=size).where(table.c.key == witness))

    # -- hosts -----------------------------------------------------------------------------------------------

    def put_host(self, host: Host) -> None:
        """Enrol ``host``, or enrol it again with a new AK: what was seen of it starts over, a revocation stays.

        Raises :class:`Rejected` (A5): ``host-revoked``, or ``host-merged`` when the AK is another host's.
        """
        table = schema.hosts
        known = self._connection.execute(
            select(table.c.host_id, table.c.revoked_at).where(
                (table.c.ak_public == host.ak_public) | (table.c.host_id == host.host_id)
            )
        ).all()
        for row in known:
            if row.host_id != host.host_id:
                raise Rejected(Finding("A5", "host-merged", "this attestation key belongs to another host"))
            if row.revoked_at is not None:
                raise Rejected(Finding("A5", "host-revoked", "this host was revoked"))
        values = {
            "ek_public": host.ek_public,
            "ak_public": host.ak_public,
            "ek_class": str(host.ek_class),
            "enrolled_at": host.enrolled_at,
        }
        statement = upsert(table).values(host_id=host.host_id, **values)
        self._connection.execute(statement.on_conflict_do_update(index_elements=["host_id"], set_=values))
        for seen in (schema.last_seen, schema.runtime_seen, schema.host_states, schema.evidence):
            self._connection.execute(delete(seen).where(seen.c.host_id == host.host_id))

    def revoke_host(self, host_id: bytes, reason: str, time: int) -> None:
        """Withdraw a host for good (A5). Raises :class:`UsageError` when it is unknown or already revoked."""
        table = schema.hosts
        statement = (
            update(table)
            .values(revoked_at=time, revoked_reason=reason)
            .where(table.c.host_id == host_id, table.c.revoked_at.is_(None))
        )
        if self._connection.execute(statement).rowcount != 1:
            raise UsageError("host-unknown", f"no host {host_id.hex()} that could be revoked")

    def last_seen(self, host_id: bytes) -> LastSeen | None:
        """The clock of the newest accepted quote of a host, under the writer's lock (W2)."""
        row = self._connection.execute(statements.LAST_SEEN, {"host_id": host_id}).first()
        return LastSeen(row.reset_count, row.restart_count, row.clock, row.safe) if row else None

    def update_seen(self, host_id: bytes, last: LastSeen, time: int) -> bool:
        """Remember the clock of the newest accepted quote (B9), never an older one's; ``time`` in Unix seconds.

        Returns whether it is the newest.
        """
        values = {
            "host_id": host_id,
            "reset_count": last.reset_count,
            "restart_count": last.restart_count,
            "clock": last.clock,
            "safe": last.safe,
            "time": time,
        }
        return self._connection.execute(statements.UPDATE_SEEN, values).first() is not None

    def update_runtime(self, host_id: bytes, runtime: RuntimeSeen, state: RuntimeState | None = None) -> None:
        """Remember how far the runtime log was read in this boot (D6); it never goes back within a boot.

        ``state`` is what was judged of it; without one, the host sends its whole log again.
        """
        values = {
            "host_id": host_id,
            "reset_count": runtime.reset_count,
            "entries": runtime.entries,
            "aggregate": runtime.aggregate,
            "state": state.encode() if state is not None else None,
        }
        self._connection.execute(statements.UPDATE_RUNTIME, values)
