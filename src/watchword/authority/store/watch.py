"""What is kept about hosts between launches: the profiles they are watched by, what they are worth, their evidence."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Final

from sqlalchemy import Connection, Row, delete, select

from watchword.authority.store import schema, statements
from watchword.authority.store.trust import TrustTransaction
from watchword.authority.store.upsert import upsert
from watchword.errors import UsageError
from watchword.launch.attest import HostState, Standing
from watchword.launch.on_file import Record
from watchword.verify.quote import LastSeen

__all__ = ["KeptEvidence", "PackedLog", "Placement", "Renewal", "WatchReads", "WatchTransaction", "pack", "state_row"]

_MAX_PARTS: Final = 64  # of one runtime log; then they are joined
_BATCH: Final = 200
_STATE_FIELDS: Final = tuple(field.name for field in fields(HostState))
_SEEN_FIELDS: Final = tuple(field.name for field in fields(LastSeen))
_STANDING: Final = _STATE_FIELDS.index("standing")


@dataclass(frozen=True, slots=True)
class Placement:
    """A launch that was released to a host: ``launch_key`` and ``profile_id`` have 32 bytes, ``time`` is Unix time."""

    launch_key: bytes
    host_id: bytes
    profile_id: bytes
    required: int
    reset_count: int
    time: int


@dataclass(frozen=True, slots=True)
class KeptEvidence:
    """The newest authentic evidence of a host; ``ima_log`` is empty when not all of it is kept."""

    host_id: bytes
    time: int
    record: Record
    event_log: bytes
    ima_log: bytes


@dataclass(frozen=True, slots=True)
class PackedLog:
    """A log as it is kept: ``data`` is compressed, and absent when the log was on file already."""

    digest: bytes
    data: bytes | None


@dataclass(frozen=True, slots=True)
class Renewal:
    """An attestation of a host at ``time`` (Unix seconds) that moved nothing but times.

    ``last`` is what its TPM showed, ``states`` are by profile id.
    """

    host_id: bytes
    time: int
    last: LastSeen
    states: Mapping[bytes, HostState]


class WatchTransaction(TrustTransaction):
    """The part of a transaction that keeps up with hosts."""

    def put_watched(self, profile_id: bytes, time: int) -> None:
        """Judge all hosts by this profile from now on. Raises :class:`UsageError` (``profile-unknown``)."""
        table = schema.profiles
        if self._connection.execute(select(table.c.id).where(table.c.id == profile_id)).first() is None:
            raise UsageError("profile-unknown", f"there is no profile {profile_id.hex()}")
        values = {"profile_id": profile_id, "added_at": time}
        self._connection.execute(upsert(schema.watched).values(values).on_conflict_do_nothing())
        self._next_generation()

    def remove_watched(self, profile_id: bytes) -> None:
        """Stop judging all hosts by this profile; launches under it keep it for their own hosts."""
        self._remove(schema.watched, "profile_id", profile_id, "watch-unknown")

    def put_placement(self, placement: Placement) -> None:
        """Remember that a launch was released to a host."""
        self._connection.execute(statements.PUT_PLACEMENT, asdict(placement))

    def put_state(self, host_id: bytes, profile_id: bytes, state: HostState) -> None:
        """Remember what a host is worth by a profile. Whether something newer is known is for the caller to see."""
        values = {name: getattr(state, name) for name in _STATE_FIELDS}  # asdict() takes ten times as long
        values |= {"host_id": host_id, "profile_id": profile_id, "standing": str(state.standing)}
        self._connection.execute(statements.PUT_STATE, values)

    def renew(self, renewals: Sequence[Renewal]) -> None:
        """Move the times of what is on file, where that is still what was judged."""
        seen = [
            {"new_host_id": r.host_id, "new_time": r.time, **{f"new_{n}": getattr(r.last, n) for n in _SEEN_FIELDS}}
            for r in renewals
        ]
        states = [
            {"new_host_id": r.host_id, "new_profile_id": profile_id, **_new(state)}
            for r in renewals
            for profile_id, state in r.states.items()
        ]
        if renewals:
            self._connection.execute(statements.RENEW_SEEN, seen)
        if states:
            self._connection.execute(statements.RENEW_STATE, states)

    def forget_best(self, host_id: bytes) -> None:
        """Accept what a host is worth now: it is not held against it that it was better before."""
        table = schema.host_states
        changed = self._connection.execute(
            table.update().where(table.c.host_id == host_id).values(best=table.c.rank)
        ).rowcount
        if not changed:
            raise UsageError("host-unknown", f"nothing is known of the state of a host {host_id.hex()}")

    def keep_evidence(
        self, host_id: bytes, time: int, record: Record, event_log: PackedLog, ima_from: int, ima_log: PackedLog | None
    ) -> None:
        """Keep the evidence of ``record`` in place of older evidence of that host.

        ``record.entries`` counts what its quote covers; ``ima_log`` begins at entry ``ima_from`` and holds no more than
        that. A part that does not continue what is kept is not kept, and neither is the log then.
        """
        if not all(self._is_here(log) for log in (event_log, ima_log) if log is not None):
            return  # forgotten since it was found to be on file: the next evidence brings it again
        parts = self._parts(host_id, record, ima_from)
        if ima_from and not parts:
            record, ima_log = replace(record, entries=0), None
        wanted = [self._keep_log(event_log), *parts[1:]]
        if ima_log is not None:
            wanted.append(self._keep_log(ima_log))
        if len(wanted) > _MAX_PARTS:
            wanted[1:] = [self._keep_log(pack(b"".join(map(self._log, wanted[1:]))))]
        values = {"host_id": host_id, "time": time, "record": record.encode()}
        self._connection.execute(statements.KEEP_EVIDENCE, values)
        if wanted == parts:
            return
        self._connection.execute(statements.FORGET_PARTS, {"host_id": host_id})
        rows = [{"host_id": host_id, "position": i, "digest": digest} for i, digest in enumerate(wanted)]
        self._connection.execute(statements.KEEP_PARTS, rows)

    def forget_evidence(self, before: int) -> int:
        """Forget evidence from before ``before`` (Unix seconds), and the logs that are nobody's any more.

        Returns of how many hosts.
        """
        evidence, logs, parts = schema.evidence, schema.evidence_logs, schema.evidence_parts
        forgotten = self._connection.execute(delete(evidence).where(evidence.c.time < before)).rowcount
        self._connection.execute(delete(logs).where(logs.c.digest.not_in(select(parts.c.digest))))
        return forgotten

    def _parts(self, host_id: bytes, record: Record, ima_from: int) -> list[bytes]:
        """The digests of the logs on file, if new evidence from entry ``ima_from`` on continues them."""
        row = self._connection.execute(statements.EVIDENCE_RECORD, {"host_id": host_id}).first()
        if row is None:
            return []
        on_file = Record.parse(row.record)
        continues = (on_file.reset_count, on_file.entries) == (record.reset_count, ima_from)
        if not ima_from or not continues:
            return []
        return list(self._connection.execute(statements.EVIDENCE_PARTS, {"host_id": host_id}).scalars())

    def _is_here(self, log: PackedLog) -> bool:
        if log.data is not None:
            return True
        return self._connection.execute(statements.EVIDENCE_LOG, {"digest": log.digest}).first() is not None

    def _keep_log(self, log: PackedLog) -> bytes:
        if log.data is not None:
            self._connection.execute(statements.KEEP_LOG, {"digest": log.digest, "data": log.data})
        return log.digest

    def _log(self, digest: bytes) -> bytes:
        table = schema.evidence_logs
        return zlib.decompress(
            self._connection.execute(select(table.c.data).where(table.c.digest == digest)).scalar_one()
        )


def _new(state: HostState) -> dict[str, Any]:
    values = {f"new_{name}": getattr(state, name) for name in _STATE_FIELDS}
    return values | {"new_standing": str(state.standing)}


def pack(data: bytes) -> PackedLog:
    """``data`` ready to be kept; to be done outside of a transaction, since it takes its time."""
    return PackedLog(hashlib.sha256(data).digest(), zlib.compress(data, 1))


class WatchReads:
    """The part of the store that tells about hosts."""

    def _reading(self) -> AbstractContextManager[Connection]:
        raise AssertionError("the store has this")

    def watched(self) -> tuple[bytes, ...]:
        """The ids of the profiles that all hosts are judged by, the oldest first."""
        with self._reading() as connection:
            return tuple(connection.execute(statements.WATCHED).scalars())

    def interests(self, host_id: bytes) -> tuple[bytes, ...]:
        """The ids of the profiles of launches that were released to this host, the newest first, at most 16."""
        with self._reading() as connection:
            return tuple(connection.execute(statements.INTERESTS, {"host_id": host_id}).scalars())

    def placements(self, launch_key: bytes) -> tuple[Placement, ...]:
        """The hosts that a launch was released to, the oldest first."""
        table = schema.placements
        statement = select(table).where(table.c.launch_key == launch_key).order_by(table.c.time, table.c.host_id)
        with self._reading() as connection:
            return tuple(Placement(**row._mapping) for row in connection.execute(statement))

    def states(self, host_id: bytes) -> Mapping[bytes, HostState]:
        """What is known of a host, by profile id."""
        with self._reading() as connection:
            return {
                row.profile_id: state_row(row) for row in connection.execute(statements.STATES, {"host_id": host_id})
            }

    def states_by(self, profile_id: bytes, hosts: Sequence[bytes] | None = None) -> Mapping[bytes, HostState]:
        """What is known by one profile, of ``hosts`` or of all, by host id."""
        table = schema.host_states
        statement = select(table).where(table.c.profile_id == profile_id)
        if hosts is not None:
            statement = statement.where(table.c.host_id.in_(hosts))
        with self._reading() as connection:
            return {row.host_id: state_row(row) for row in connection.execute(statement)}

    def revoked_hosts(self, hosts: Sequence[bytes]) -> frozenset[bytes]:
        """Those of ``hosts`` that were revoked."""
        table = schema.hosts
        statement = select(table.c.host_id).where(table.c.host_id.in_(hosts), table.c.revoked_at.is_not(None))
        with self._reading() as connection:
            return frozenset(connection.execute(statement).scalars())

    def packed(self, data: bytes) -> PackedLog:
        """``data`` ready to be kept, which costs next to nothing when it is on file already."""
        digest = hashlib.sha256(data).digest()
        with self._reading() as connection:
            known = connection.execute(statements.EVIDENCE_LOG, {"digest": digest}).first()
        return PackedLog(digest, None) if known else pack(data)

    def evidence(self, after: bytes = b"") -> Iterator[KeptEvidence]:
        """The newest evidence of every host, in the order of host ids from ``after`` on."""
        table = schema.evidence
        while True:
            page = select(table).where(table.c.host_id > after).order_by(table.c.host_id).limit(_BATCH)
            with self._reading() as connection:
                rows = connection.execute(page).all()
            for row in rows:
                yield self._with_logs(row)
            if len(rows) < _BATCH:
                return
            after = rows[-1].host_id

    def evidence_of(self, host_id: bytes) -> KeptEvidence | None:
        """The newest evidence of one host."""
        table = schema.evidence
        with self._reading() as connection:
            row = connection.execute(select(table).where(table.c.host_id == host_id)).first()
        return self._with_logs(row) if row else None

    def boot_log(self, host_id: bytes) -> bytes:
        """The boot log of the evidence on file; empty when there is none."""
        with self._reading() as connection:
            data = connection.execute(statements.BOOT_LOG, {"host_id": host_id}).scalar()
        return zlib.decompress(data) if data is not None else b""

    def _with_logs(self, row: Row[Any]) -> KeptEvidence:
        parts, logs = schema.evidence_parts, schema.evidence_logs
        statement = (
            select(logs.c.data)
            .join(parts, parts.c.digest == logs.c.digest)
            .where(parts.c.host_id == row.host_id)
            .order_by(parts.c.position)
        )
        with self._reading() as connection:
            found = [zlib.decompress(data) for data in connection.execute(statement).scalars()]
        event_log, runtime = (found[0], b"".join(found[1:])) if found else (b"", b"")
        return KeptEvidence(row.host_id, row.time, Record.parse(row.record), event_log, runtime)


def state_row(row: Row[Any], prefix: str = "") -> HostState:
    """What a row, whose columns have names with ``prefix``, says of a host."""
    values = [getattr(row, prefix + name) for name in _STATE_FIELDS]
    values[_STANDING] = Standing(values[_STANDING])
    return HostState(*values)
