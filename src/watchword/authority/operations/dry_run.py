"""The operation that tries a change on the fleet and changes nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Annotated, Any, Final

from msgspec import Meta

from watchword.authority.acts.endorsement import MAX_ENVELOPE
from watchword.authority.deciding.dry_run import Plan, dry_run, open_release
from watchword.authority.operations.desk import (
    Answer,
    Desk,
    Document,
    Named,
    Operation,
    Question,
    Time,
    find_stack,
    one,
)
from watchword.authority.serving.problems import Problem
from watchword.authority.store import StackInfo, Store
from watchword.errors import UsageError
from watchword.policy.dry_run import Effect, HostChange, Summary
from watchword.policy.profile import MAX_PROFILE_SIZE, Profile
from watchword.policy.release import StackRelease
from watchword.policy.stack import CompiledStack

__all__ = ["OPERATIONS", "SECONDS", "try_change"]

SECONDS: Final = 120.0  # that one may take for somebody elsewhere
MAX_WORSE: Final = 10_000  # hosts that are listed
_BAD: Final = (Effect.WORSE, Effect.REFUSED, Effect.UNKNOWN)
_Stacks = Annotated[tuple[Named, ...], Meta(max_length=64)]
_alone = threading.Lock()


class DryRunOf(Question, frozen=True):
    """What if these ``stacks`` on file and endorsed ``releases`` were active, those revoked, those at their end.

    ``profile`` (an id), or the ``document`` of one, takes the place of ``watched``, the first watched one unless given.
    ``at`` is the time in question; with ``hosts`` every host that gets worse is listed.
    """

    stacks: _Stacks = ()
    releases: Annotated[tuple[Document, ...], Meta(max_length=8)] = ()
    revoke: _Stacks = ()
    end: _Stacks = ()
    profile: Named | None = None
    document: Document | None = None
    watched: Named | None = None
    at: Time | None = None
    hosts: bool = False


def try_change(
    desk: Desk, ask: DryRunOf, *, seconds: float | None = None, progress: Callable[[int], None] = lambda done: None
) -> Answer:
    """What it does to the fleet, looked at for at most so many ``seconds``; ``complete`` says whether all of it was.

    ``progress`` is told how many hosts were looked at. Raises :class:`UsageError`, Rejected, MalformedError.
    """
    store, now = desk.store, desk.now if ask.at is None else ask.at
    plan, today = _plan(store, ask), _today(store, ask.watched)
    summary, worse, complete = Summary(), list[HostChange](), True
    end = time.monotonic() + seconds if seconds is not None else None
    for change in dry_run(store, plan, today, now, progress):
        if end is not None and time.monotonic() > end:
            complete = False
            break
        summary.add(change)
        if ask.hosts and change.effect in _BAD and len(worse) < MAX_WORSE:
            worse.append(change)
    answer = _document(summary, today, now) | {"complete": complete, "harmless": summary.harmless and complete}
    return answer | ({"worse": [_worse(change) for change in worse]} if ask.hosts else {})


def _one_at_a_time(desk: Desk, ask: DryRunOf) -> Answer:
    if not _alone.acquire(blocking=False):
        raise Problem("overloaded", "another dry run is under way")
    try:
        return try_change(desk, ask, seconds=SECONDS)
    finally:
        _alone.release()


def _plan(store: Store, ask: DryRunOf) -> Plan:
    rows = store.stack_infos()
    if ask.profile is not None and ask.document is not None:
        raise UsageError("usage", "give a profile's id or its document, not both")
    profile = Profile.parse(ask.document) if ask.document is not None else None
    return Plan(
        activate=(
            *(open_release(store, envelope, endorsed=True) for envelope in ask.releases),
            *(_release(store, rows, name) for name in ask.stacks),
        ),
        revoke=frozenset(find_stack(rows, name).digest for name in ask.revoke),
        end=frozenset(find_stack(rows, name).digest for name in ask.end),
        profile=_profile(store, ask.profile) if ask.profile is not None else profile,
    )


def _release(store: Store, rows: tuple[StackInfo, ...], name: str) -> StackRelease:
    info = find_stack(rows, name)
    row = next(row for row in store.stacks() if row.digest == info.digest)
    return StackRelease(CompiledStack.parse(row.document), row.digest, row.endorsed_by)


def _profile(store: Store, text: str) -> Profile:
    return Profile.parse(one(store.profiles(), text, lambda row: row.id.hex(), "profile").document)


def _today(store: Store, text: str | None) -> Profile:
    if text is not None:
        return _profile(store, text)
    first = next(iter(store.watched()), None)
    if first is None:
        raise UsageError(
            "watch-none",
            "hosts are judged by no profile yet",
            hint="name one with --watched, or let them be: watchword authority watch add PROFILE",
        )
    return _profile(store, first.hex())


def _document(summary: Summary, profile: Profile, now: int) -> dict[str, Any]:
    return {
        "profile": profile.id.hex(),
        "at": now,
        "hosts": summary.hosts,
        "effects": dict(summary.counts()),
        "moves": [
            {"before": before, "after": after, "hosts": count}
            for (before, after), count in sorted(summary.moves.items(), key=lambda move: -move[1])
        ],
        "reasons": [
            {"code": r.code, "text": r.text, "hosts": r.hosts, "samples": [host.hex() for host in r.samples]}
            for r in summary.reasons()
        ],
    }


def _worse(change: HostChange) -> dict[str, str]:
    return {
        "host": change.host_id.hex(),
        "effect": str(change.effect),
        "before": change.before,
        "after": change.after,
    }


_LIMIT: Final = (MAX_ENVELOPE + MAX_PROFILE_SIZE) * 4 // 3 + (64 << 10)  # as base64, and the other fields

OPERATIONS: Final = (
    Operation("dry-run", "dry-run", DryRunOf, _one_at_a_time, changes=True, limit=_LIMIT, seconds=SECONDS),
)
