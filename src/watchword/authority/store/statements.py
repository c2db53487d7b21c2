"""The statements that every release runs, built once: building them anew costs more than running them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import (
    BindParameter,
    FromClause,
    Select,
    Table,
    Update,
    and_,
    bindparam,
    delete,
    exists,
    func,
    insert,
    select,
    tuple_,
    update,
)

from watchword.authority.store import schema
from watchword.authority.store.upsert import Insert, upsert

__all__ = [
    "APPEND_DECISION",
    "APPEND_NODE",
    "BOOT_LOG",
    "COUNT_RELEASE",
    "EVIDENCE_LOG",
    "EVIDENCE_PARTS",
    "EVIDENCE_RECORD",
    "FORGET_PARTS",
    "GENERATION",
    "HEAD_AT",
    "HOST",
    "HOSTS",
    "HOST_FILE",
    "HOST_NOW",
    "INTERESTS",
    "KEEP_EVIDENCE",
    "KEEP_LOG",
    "KEEP_PARTS",
    "LAST_SEEN",
    "LOG_END",
    "MAX_INTERESTS",
    "NEWEST_DECISION",
    "PUT_PLACEMENT",
    "PUT_STATE",
    "QUICK",
    "RELEASES",
    "RENEW_SEEN",
    "RENEW_STATE",
    "STATES",
    "UPDATE_RUNTIME",
    "UPDATE_SEEN",
    "WATCHED",
]


def _advancing(table: Table, key: str, *order: str) -> Insert:
    """An INSERT that replaces the row with the same ``key``, unless that row is further on by ``order``.

    Two requests of one host may be decided in another order than its TPM answered them: the newer one stays.
    """
    statement = upsert(table)
    others = {column.name: statement.excluded[column.name] for column in table.c if column.name != key}
    newer = tuple_(*(statement.excluded[name] for name in order)) >= tuple_(*(table.c[name] for name in order))
    return statement.on_conflict_do_update(index_elements=[key], set_=others, where=newer)


def _with_seen(found: FromClause) -> FromClause:
    """``found``, which has the columns of ``hosts``, with what was seen of each."""
    host_id, last, runtime = schema.hosts.c.host_id, schema.last_seen, schema.runtime_seen
    return found.outerjoin(last, last.c.host_id == host_id).outerjoin(runtime, runtime.c.host_id == host_id)


_HOST: Final = (
    *schema.hosts.c,
    schema.last_seen.c.reset_count.label("last_reset_count"),
    schema.last_seen.c.restart_count.label("last_restart_count"),
    schema.last_seen.c.clock.label("last_clock"),
    schema.last_seen.c.safe.label("last_safe"),
    schema.last_seen.c.time.label("last_time"),
    schema.runtime_seen.c.reset_count.label("runtime_reset_count"),
    schema.runtime_seen.c.entries.label("runtime_entries"),
    schema.runtime_seen.c.aggregate.label("runtime_aggregate"),
    schema.runtime_seen.c.state.label("runtime_state"),
)

GENERATION: Final = select(schema.state.c.generation)
HOSTS: Final = select(*_HOST).select_from(_with_seen(schema.hosts))
HOST: Final = HOSTS.where(schema.hosts.c.host_id == bindparam("host_id"))
# Always one row: where there is no such host, its columns are NULL.
HOST_NOW: Final = select(schema.state.c.generation, *_HOST).select_from(
    _with_seen(schema.state.outerjoin(schema.hosts, schema.hosts.c.host_id == bindparam("host_id")))
)
LAST_SEEN: Final = select(schema.last_seen).where(schema.last_seen.c.host_id == bindparam("host_id"))
# A row when it is the newest, else none.
UPDATE_SEEN: Final = _advancing(schema.last_seen, "host_id", "reset_count", "restart_count", "clock").returning(
    schema.last_seen.c.host_id
)
UPDATE_RUNTIME: Final = _advancing(schema.runtime_seen, "host_id", "reset_count", "entries")
RELEASES: Final = select(schema.releases.c.count).where(schema.releases.c.token_id == bindparam("token_id"))
COUNT_RELEASE: Final = (
    upsert(schema.releases)
    .on_conflict_do_update(index_elements=["token_id"], set_={"count": schema.releases.c.count + 1})
    .returning(schema.releases.c.count)
)
NEWEST_DECISION: Final = (
    select(schema.decisions.c.seq, schema.decisions.c.frontier).order_by(schema.decisions.c.seq.desc()).limit(1)
)
HEAD_AT: Final = select(schema.decisions.c.frontier).where(schema.decisions.c.seq == bindparam("size"))
_SAME_LAUNCH: Final = schema.decisions.alias()
# The end of the log, and how many entries there are about a launch: what the next entry must know.
LOG_END: Final = NEWEST_DECISION.add_columns(
    select(func.max(_SAME_LAUNCH.c.number))
    .where(_SAME_LAUNCH.c.launch_key == bindparam("launch_key"))
    .scalar_subquery()
    .label("number")
)
APPEND_DECISION: Final = insert(schema.decisions)
APPEND_NODE: Final = insert(schema.log_nodes)

# -- attestations --------------------------------------------------------------------------------------------------

MAX_INTERESTS: Final = 16  # profiles of launches by which one host is watched, the newest

WATCHED: Final = select(schema.watched.c.profile_id).order_by(schema.watched.c.added_at, schema.watched.c.profile_id)
INTERESTS: Final = (
    select(schema.placements.c.profile_id)
    .where(schema.placements.c.host_id == bindparam("host_id"))
    .group_by(schema.placements.c.profile_id)
    .order_by(func.max(schema.placements.c.time).desc(), schema.placements.c.profile_id)
    .limit(MAX_INTERESTS)
)
STATES: Final = select(schema.host_states).where(schema.host_states.c.host_id == bindparam("host_id"))
EVIDENCE_RECORD: Final = select(schema.evidence.c.time, schema.evidence.c.record).where(
    schema.evidence.c.host_id == bindparam("host_id")
)
# HOST_NOW, which evidence of that host is on file, whether launches were placed on it, and what it is worth: a row for
# each profile that it was judged by, and one if there is none.
HOST_FILE: Final[Select[Any]] = select(
    schema.state.c.generation,
    *_HOST,
    schema.evidence.c.time.label("kept_time"),
    schema.evidence.c.record.label("kept_record"),
    exists().where(schema.placements.c.host_id == schema.hosts.c.host_id).label("placed"),
    *(column.label(f"state_{column.name}") for column in schema.host_states.c),
).select_from(
    _with_seen(schema.state.outerjoin(schema.hosts, schema.hosts.c.host_id == bindparam("host_id")))
    .outerjoin(schema.evidence, schema.evidence.c.host_id == schema.hosts.c.host_id)
    .outerjoin(schema.host_states, schema.host_states.c.host_id == schema.hosts.c.host_id)
)
# What nearly every request reads, by name: see ``quick``.
QUICK: Final[Mapping[str, Select[Any]]] = {
    "head_at": HEAD_AT,
    "host_file": HOST_FILE,
    "host_now": HOST_NOW,
    "interests": INTERESTS,
}
EVIDENCE_PARTS: Final = (
    select(schema.evidence_parts.c.digest)
    .where(schema.evidence_parts.c.host_id == bindparam("host_id"))
    .order_by(schema.evidence_parts.c.position)
)
EVIDENCE_LOG: Final = select(schema.evidence_logs.c.digest).where(schema.evidence_logs.c.digest == bindparam("digest"))


def _replacing(table: Table, *keys: str, newer: str = "") -> Insert:
    """An INSERT that replaces the row with the same ``keys``, unless that row has a later ``newer``."""
    statement = upsert(table)
    others = {column.name: statement.excluded[column.name] for column in table.c if column.name not in keys}
    where = statement.excluded[newer] >= table.c[newer] if newer else None
    return statement.on_conflict_do_update(index_elements=list(keys), set_=others, where=where)


FORGET_PARTS: Final = delete(schema.evidence_parts).where(schema.evidence_parts.c.host_id == bindparam("host_id"))
KEEP_PARTS: Final = insert(schema.evidence_parts)
KEEP_LOG: Final = upsert(schema.evidence_logs).on_conflict_do_nothing()
BOOT_LOG: Final = (
    select(schema.evidence_logs.c.data)
    .join(schema.evidence_parts, schema.evidence_parts.c.digest == schema.evidence_logs.c.digest)
    .where(schema.evidence_parts.c.host_id == bindparam("host_id"), schema.evidence_parts.c.position == 0)
)
PUT_STATE: Final = _replacing(schema.host_states, "host_id", "profile_id")
PUT_PLACEMENT: Final = _replacing(schema.placements, "launch_key", "host_id")
KEEP_EVIDENCE: Final = _replacing(schema.evidence, "host_id", newer="time")


def _renewing(table: Table, same: tuple[str, ...], later: tuple[str, ...], new: tuple[str, ...]) -> Update:
    """An UPDATE of the columns ``new`` where ``same`` are equal and ``later`` not further on than what is given.

    The value of a column comes in the parameter of its name with ``new_`` before it.
    """

    def given(names: tuple[str, ...]) -> list[BindParameter[Any]]:
        return [bindparam(f"new_{name}", type_=table.c[name].type) for name in names]

    equal = [column == value for column, value in zip((table.c[name] for name in same), given(same), strict=True)]
    behind = tuple_(*(table.c[name] for name in later)) <= tuple_(*given(later))
    return update(table).where(and_(*equal, behind)).values(dict(zip(new, given(new), strict=True)))


# What an attestation that shows nothing new leaves behind, if what it renews is still what is on file.
RENEW_SEEN: Final = _renewing(
    schema.last_seen,
    ("host_id",),
    ("reset_count", "restart_count", "clock"),
    ("reset_count", "restart_count", "clock", "safe", "time"),
)
RENEW_STATE: Final = _renewing(
    schema.host_states,
    tuple(c.name for c in schema.host_states.c if c.name not in ("checked", "until")),
    ("checked",),
    ("checked", "until"),
)
