"""Operations on stack releases and on the rules about who must sign them."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from msgspec import Meta

from watchword.authority.acts.endorsement import MAX_ENVELOPE
from watchword.authority.acts.stacks import Activation, Taken
from watchword.authority.operations.desk import (
    Answer,
    Desk,
    Document,
    Named,
    Nothing,
    Operation,
    Question,
    Text,
    Time,
    find_stack,
    one,
)
from watchword.authority.store import StackInfo, StackRule
from watchword.policy.explain import explain_stack
from watchword.policy.stack import CompiledStack

__all__ = ["OPERATIONS", "stack_document"]


class StackOf(Question, frozen=True):
    """A release: its digest, the first digits of it, or NAME@VERSION."""

    stack: Named


class StackList(Question, frozen=True):
    """Releases, those in ``state`` only when it is given."""

    state: Literal["draft", "active", "retiring", "revoked"] | None = None


class StackAdd(Question, frozen=True):
    """A release (DSSE envelope; the bare document when ``unendorsed``) to take over, as a draft or at once."""

    document: Document
    draft: bool = False
    unendorsed: bool = False
    overlap_until: Time | None = None
    allow_rollback: bool = False
    reason: Text = ""


class StackActivate(Question, frozen=True):
    """A release to put in force."""

    stack: Named
    overlap_until: Time | None = None
    allow_rollback: bool = False
    reason: Text = ""


class StackRetire(Question, frozen=True):
    """A release that ends ``at``, in Unix seconds."""

    stack: Named
    at: Time
    reason: Text = ""


class StackRevoke(Question, frozen=True):
    """A release to refuse from now on."""

    stack: Named
    reason: Text = ""


class RuleSet(Question, frozen=True):
    """So many of these endorsers (ids, or the first digits) must sign releases of this name in this pool."""

    name: Named
    endorsers: Annotated[tuple[Named, ...], Meta(min_length=1, max_length=64)]
    threshold: Annotated[int, Meta(ge=1, le=64)] = 1
    pool: Named = "default"


class RuleOf(Question, frozen=True):
    """A rule."""

    name: Named
    pool: Named = "default"


def _list(desk: Desk, ask: StackList) -> Answer:
    return {"stacks": [stack_document(row) for row in desk.store.stack_infos() if ask.state in (None, row.state)]}


def _add(desk: Desk, ask: StackAdd) -> Answer:
    how = Activation(ask.overlap_until, ask.allow_rollback, ask.reason)
    return _taken(desk.admin.stacks.add(ask.document, how, endorsed=not ask.unendorsed, draft=ask.draft))


def _activate(desk: Desk, ask: StackActivate) -> Answer:
    how = Activation(ask.overlap_until, ask.allow_rollback, ask.reason)
    return _taken(desk.admin.stacks.activate(find_stack(desk.store.stack_infos(), ask.stack), how))


def _taken(taken: Taken) -> Answer:
    return stack_document(taken.row) | {
        "label": taken.row.label,
        "retiring": [other.digest.hex() for other in taken.retiring],
        "same_boot": [twin.digest.hex() for twin in taken.twins],
        "labels": {each.digest.hex(): each.label for each in (*taken.retiring, *taken.twins)},
    }


def _retire(desk: Desk, ask: StackRetire) -> Answer:
    row = find_stack(desk.store.stack_infos(), ask.stack)
    desk.admin.stacks.retire(row, ask.at, ask.reason)
    return _state(row, "retiring", ask.at)


def _revoke(desk: Desk, ask: StackRevoke) -> Answer:
    row = find_stack(desk.store.stack_infos(), ask.stack)
    desk.admin.stacks.revoke(row, ask.reason)
    return _state(row, "revoked", None)


def _state(row: StackInfo, state: str, retire_at: int | None) -> Answer:
    return {"digest": row.digest.hex(), "state": state, "retire_at": retire_at, "label": row.label}


def _show(desk: Desk, ask: StackOf) -> Answer:
    info = find_stack(desk.store.stack_infos(), ask.stack)
    row = next(row for row in desk.store.stacks() if row.digest == info.digest)
    names = {each.key_id: each.name for each in desk.store.endorsers()}
    return stack_document(row) | {
        "endorsers": [{"key": key_id, "name": names.get(key_id, "")} for key_id in sorted(row.endorsed_by)],
        "history": _changes(desk, row.digest),
        "words": explain_stack(CompiledStack.parse(row.document)),
    }


def _history(desk: Desk, ask: StackOf) -> Answer:
    row = find_stack(desk.store.stack_infos(), ask.stack)
    return {"digest": row.digest.hex(), "history": _changes(desk, row.digest)}


def _changes(desk: Desk, digest: bytes) -> list[dict[str, Any]]:
    return [
        {"time": c.time, "state": str(c.state), "retire_at": c.retire_at, "by": c.by, "reason": c.reason}
        for c in desk.store.stack_history(digest)
    ]


def stack_document(row: StackInfo) -> Answer:
    """What is told of a release."""
    return {
        "name": row.name,
        "version": row.version,
        "serial": row.serial,
        "pool": row.pool,
        "channel": row.channel,
        "state": str(row.state),
        "digest": row.digest.hex(),
        "retire_at": row.retire_at,
        "endorsed_by": sorted(row.endorsed_by),
        "added_at": row.added_at,
    }


def _rule_set(desk: Desk, ask: RuleSet) -> Answer:
    known = desk.store.endorsers()
    keys = {one(known, text, lambda row: row.key_id, "endorser").key_id for text in ask.endorsers}
    return _rule(desk.admin.set_stack_rule(ask.name, ask.pool, frozenset(keys), ask.threshold))


def _rule_list(desk: Desk, _ask: Nothing) -> Answer:
    return {"rules": [_rule(row) for row in desk.store.stack_rules()]}


def _rule_remove(desk: Desk, ask: RuleOf) -> Answer:
    desk.admin.remove_stack_rule(ask.name, ask.pool)
    return {"removed": ask.name, "pool": ask.pool}


def _rule(row: StackRule) -> Answer:
    return {
        "name": row.name,
        "pool": row.pool,
        "threshold": row.threshold,
        "keys": sorted(row.keys),
        "added_at": row.added_at,
    }


def _in_force(ask: StackAdd) -> str | None:
    return None if ask.draft else "stack-activate"


_ENVELOPE: Final = MAX_ENVELOPE * 4 // 3 + (16 << 10)  # as base64, and the other fields

OPERATIONS: Final = (
    Operation("stack list", "read-catalogue", StackList, _list, changes=False),
    Operation("stack show", "read-catalogue", StackOf, _show, changes=False),
    Operation("stack history", "read-catalogue", StackOf, _history, changes=False),
    Operation("stack add", "stack-draft", StackAdd, _add, limit=_ENVELOPE, also=_in_force),
    Operation("stack activate", "stack-activate", StackActivate, _activate),
    Operation("stack retire", "stack-retire", StackRetire, _retire),
    Operation("stack revoke", "stack-revoke", StackRevoke, _revoke),
    Operation("stack rule list", "read-trust", Nothing, _rule_list, changes=False),
    Operation("stack rule set", "stack-rule", RuleSet, _rule_set),
    Operation("stack rule remove", "stack-rule", RuleOf, _rule_remove),
)
