"""Operations on hosts, on how they are watched, and on the record."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from itertools import islice
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from watchword.authority.deciding.watch import standing_now
from watchword.authority.operations.desk import Answer, Desk, Named, Nothing, Operation, Question, Text, one
from watchword.authority.store import Decision, Host
from watchword.errors import UsageError

__all__ = ["OPERATIONS"]

_TRACE: Final = re.compile(r"[0-9a-f]{16,64}")
MAX_PAGE: Final = 1000  # entries of the record in one answer
Reason = Annotated[Text, Meta(min_length=1)]


class HostOf(Question, frozen=True):
    """A host: its id, or the first digits of it."""

    host: Named


class HostChange(Question, frozen=True):
    """A host, and why something is done about it."""

    host: Named
    reason: Reason


class WatchOf(Question, frozen=True):
    """A profile by which all hosts are judged: its id, or the first digits of it."""

    profile: Named


class WatchHosts(Question, frozen=True):
    """How all hosts stand by ``profile``, the first watched one unless given."""

    profile: Named | None = None


class Record(Question, frozen=True):
    """Entries of the record after number ``after``; only ``acts``, what people did, or about a launch's ``trace``."""

    after: Annotated[int, Meta(ge=0, lt=1 << 53)] = 0
    limit: Annotated[int, Meta(ge=1, le=MAX_PAGE)] = 50
    acts: bool = False
    trace: Named | None = None


# -- hosts ---------------------------------------------------------------------------------------------------------


def _host_list(desk: Desk, _ask: Nothing) -> Answer:
    return {"hosts": [_host(row) for row in desk.store.hosts()]}


def _host_show(desk: Desk, ask: HostOf) -> Answer:
    row = _found(desk, ask.host)
    return _host(row) | {
        "ek_public": row.ek_public.hex(),
        "ak_public": row.ak_public.hex(),
        "last": asdict(row.last) if row.last else None,
        "runtime_entries": row.runtime.entries if row.runtime else None,
    }


def _host_revoke(desk: Desk, ask: HostChange) -> Answer:
    return _host(desk.admin.revoke_host(_found(desk, ask.host).host_id, ask.reason))


def _found(desk: Desk, text: str) -> Host:
    return one(desk.store.hosts(), text, lambda row: row.host_id.hex(), "host")


def _host(row: Host) -> Answer:
    return {
        "host": row.host_id.hex(),
        "class": str(row.ek_class),
        "enrolled_at": row.enrolled_at,
        "last_seen": row.last_time,
        "revoked_at": row.revoked_at,
        "revoked_reason": row.revoked_reason,
    }


# -- watching ------------------------------------------------------------------------------------------------------


def _watch_add(desk: Desk, ask: WatchOf) -> Answer:
    row = one(desk.store.profiles(), ask.profile, lambda row: row.id.hex(), "profile")
    desk.admin.watch(row.id)
    return {"watched": row.id.hex(), "name": row.name}


def _watch_remove(desk: Desk, ask: WatchOf) -> Answer:
    found = one(desk.store.watched(), ask.profile, bytes.hex, "watched profile")
    desk.admin.unwatch(found)
    return {"removed": found.hex()}


def _watch_list(desk: Desk, _ask: Nothing) -> Answer:
    names = {row.id: row.name for row in desk.store.profiles()}
    return {"watched": [{"id": profile.hex(), "name": names[profile]} for profile in desk.store.watched()]}


def _watch_hosts(desk: Desk, ask: WatchHosts) -> Answer:
    store = desk.store
    ids = store.watched() if ask.profile is None else tuple(row.id for row in store.profiles())
    chosen = one(ids, ask.profile, bytes.hex, "profile") if ask.profile is not None else next(iter(ids), None)
    states = store.states_by(chosen) if chosen is not None else {}
    labels = {row.digest: row.label for row in store.stack_infos()}
    rows: list[dict[str, Any]] = []
    for host in store.hosts():
        state = states.get(host.host_id)
        standing, reason = standing_now(state, desk.now, revoked=host.revoked)
        rows.append(
            {
                "host": host.host_id.hex(),
                "state": standing,
                "level": state.level if state else "",
                "since": state.since if state else None,
                "until": state.until if state else None,
                "stack": labels.get(state.stack, "") if state else "",
                "code": state.code if state and reason == state.reason else "",
                "reason": reason,
            }
        )
    return {"hosts": rows, "counts": dict(Counter(row["state"] for row in rows))}


def _watch_accept(desk: Desk, ask: HostChange) -> Answer:
    row = _found(desk, ask.host)
    desk.admin.accept_host(row.host_id, ask.reason)
    return {"accepted": row.host_id.hex()}


# -- the record ----------------------------------------------------------------------------------------------------


def _record(desk: Desk, ask: Record) -> Answer:
    head = desk.store.head()
    found = desk.store.decisions(after=ask.after, launch_key=b"" if ask.acts else None)
    rows = [
        {"seq": each.seq, "leaf": each.leaf.hex(), "entry": msgspec.json.decode(each.entry)}
        for each in islice(filter(_about(ask.trace), found), ask.limit)
    ]
    return {"head": {"seq": head.seq, "root": head.root.hex()}, "decisions": rows}


def _about(trace: str | None) -> Callable[[Decision], bool]:
    """Whether a decision is about the launch with this trace id, the beginning of its token's id."""
    if trace is None:
        return lambda _: True
    if not _TRACE.fullmatch(trace):
        raise UsageError("bad-trace", f"{trace[:80]!r} is not a trace id", hint="it has 16 to 64 hex digits")
    return lambda d: bool(d.launch_key) and str(msgspec.json.decode(d.entry).get("token", "")).startswith(trace)


OPERATIONS: Final = (
    Operation("host list", "read-hosts", Nothing, _host_list, changes=False),
    Operation("host show", "read-hosts", HostOf, _host_show, changes=False),
    Operation("host revoke", "host-revoke", HostChange, _host_revoke),
    Operation("watch list", "read-hosts", Nothing, _watch_list, changes=False),
    Operation("watch hosts", "read-hosts", WatchHosts, _watch_hosts, changes=False),
    Operation("watch add", "watch", WatchOf, _watch_add),
    Operation("watch remove", "watch", WatchOf, _watch_remove),
    Operation("watch accept", "host-accept", HostChange, _watch_accept),
    Operation("decisions", "read-record", Record, _record, changes=False),
)
