"""The life of stack releases: draft, active, retiring, revoked. Every step is one transaction, with who and why.

    (added) ──▶ draft ──▶ active ──▶ retiring ──▶ (ended)
                  │         ▲ │  ◀──────┘ │
                  └────▶ revoked ◀────────┘      back to active with a reason

Nothing is final but the history. A step that is refused changes nothing and is not recorded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from watchword.authority.acts import admission
from watchword.authority.acts.endorsement import endorser_keys, open_stack
from watchword.authority.acts.texts import short_text
from watchword.authority.store import StackInfo, StackRow, StackState, Store, Transaction
from watchword.errors import Finding, MalformedError, Rejected, UsageError
from watchword.policy.stack import CompiledStack
from watchword.policy.twins import same_boot

__all__ = ["Activation", "StackAdmin", "Taken"]

_D, _A, _E, _V = StackState.DRAFT, StackState.ACTIVE, StackState.RETIRING, StackState.REVOKED
_STEPS: Final[Mapping[StackState, frozenset[StackState]]] = MappingProxyType(
    {
        _D: frozenset({_A, _V}),
        _A: frozenset({_E, _V}),
        _E: frozenset({_A, _E, _V}),
        _V: frozenset({_A}),
    }
)


@dataclass(frozen=True, slots=True)
class Activation:
    """How a release becomes active: what it may push aside, and why.

    ``overlap_until`` (Unix seconds) ends the other active releases of the same name, pool and channel;
    ``allow_rollback`` lets an older serial in, and needs a ``reason``.
    """

    overlap_until: int | None = None
    allow_rollback: bool = False
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Taken:
    """A release after a step: ``retiring`` are those that end because of it, ``twins`` others that match its boots."""

    row: StackRow
    retiring: tuple[StackInfo, ...] = ()
    twins: tuple[StackInfo, ...] = ()


@dataclass(frozen=True, slots=True)
class StackAdmin:
    """Acts of ``actor`` (how the operator is named in the record) at ``now`` (Unix seconds) on ``store``."""

    store: Store
    now: int
    actor: str

    def add(self, envelope: bytes, how: Activation, *, endorsed: bool = True, draft: bool = False) -> Taken:
        """Register a release: a DSSE envelope, or with ``endorsed`` False a bare document that no rule is about.

        A release that is here already gets the signatures that are new. Raises :class:`Rejected` (G1 to G6),
        MalformedError, :class:`UsageError` (``stack-known``, ``stack-reason``).
        """
        document, signed = self._open(envelope, endorsed)
        stack = CompiledStack.parse(document)
        known = next((row for row in self.store.stacks() if row.digest == stack.digest), None)
        if known is not None:
            return Taken(self._sign_again(known, envelope, signed, stack))
        row = self._row(stack, document, envelope if endorsed else None, signed, draft)
        with self.store.transaction() as tx:
            self._check_signatures(row, stack, signed)
            admission.check_time(stack, self.now)
            taken = self._settle(tx, row, stack, how, draft)
            tx.put_stack(row, by=self.actor, reason=short_text(how.reason))
            self._record(tx, "stack-add", row, how, endorsed_by=sorted(row.endorsed_by), state=str(row.state))
        return taken

    def activate(self, info: StackInfo, how: Activation) -> Taken:
        """Let a draft, or a release that was retiring or revoked (with a reason), be in force.

        Raises :class:`Rejected` (G1 to G6), :class:`UsageError` (``stack-state``, ``stack-reason``).
        """
        row = self._row_of(info)
        self._check_step(row, _A)
        if row.state in (_E, _V) and not how.reason:
            raise UsageError("stack-reason", f"say why {row.label} is to be in force again", hint="--reason TEXT")
        stack = CompiledStack.parse(row.document)
        with self.store.transaction() as tx:
            self._check_signatures(row, stack, row.endorsed_by)
            admission.check_time(stack, self.now)
            taken = self._settle(tx, row, stack, how, draft=False)
            tx.set_stack_state(row.digest, _A, None, time=self.now, by=self.actor, reason=short_text(how.reason))
            self._record(tx, "stack-active", row, how, before=str(row.state))
        return replace(taken, row=self._row_of(row))

    def retire(self, info: StackInfo, at: int, reason: str = "") -> None:
        """Let a release be accepted until ``at`` (Unix seconds) and no longer. Raises :class:`UsageError`."""
        self._move(info, _E, at, reason)

    def revoke(self, info: StackInfo, reason: str = "") -> None:
        """Refuse a release from now on (E3). Raises :class:`UsageError`."""
        self._move(info, _V, None, reason)

    # -- steps ------------------------------------------------------------------------------------------------

    def _open(self, envelope: bytes, endorsed: bool) -> tuple[bytes, frozenset[str]]:
        if not endorsed:
            return envelope, frozenset()
        try:
            return open_stack(envelope, endorser_keys(self.store.endorsers()))
        except MalformedError:
            if not _is_bare(envelope):
                raise
        raise Rejected(
            Finding("G1", "stack-unsigned", "this is a bare stack document: nobody has signed it"),
            hint="watchword stack endorse FILE --key KEY -o FILE; for trying things, --unendorsed",
        )

    def _row(
        self, stack: CompiledStack, document: bytes, envelope: bytes | None, signed: frozenset[str], draft: bool
    ) -> StackRow:
        return StackRow(
            digest=stack.digest,
            name=stack.name,
            version=stack.version,
            serial=stack.serial,
            state=_D if draft else _A,
            retire_at=None,
            added_at=self.now,
            endorsed_by=admission.counted_signers(stack, signed, self.store.endorsers()),
            pool=stack.pool,
            channel=stack.channel,
            document=document,
            envelope=envelope,
        )

    def _check_signatures(self, row: StackRow, stack: CompiledStack, signed: frozenset[str]) -> None:
        if row.envelope is not None:
            admission.check_signers(stack, signed, row.endorsed_by)
        admission.check_rule(stack, row.endorsed_by, self.store.stack_rules())

    def _settle(self, tx: Transaction, row: StackRow, stack: CompiledStack, how: Activation, draft: bool) -> Taken:
        """Everything about the other releases: order, overlap, and those that match the same boots."""
        if how.allow_rollback and not how.reason:
            raise UsageError("stack-reason", "say why an older release is to be in force", hint="--reason TEXT")
        others = [other for other in self.store.stacks() if other.digest != stack.digest]
        lane = [o for o in others if (o.name, o.pool, o.channel) == (stack.name, stack.pool, stack.channel)]
        admission.check_order(stack, lane, allow_rollback=how.allow_rollback)
        compiled = {o.digest: CompiledStack.parse(o.document) for o in others if o.state is not _V}
        twins = tuple(o for o in others if o.digest in compiled and same_boot(stack, compiled[o.digest]))
        if draft:
            return Taken(row, (), twins)
        ends = frozenset(digest for digest, each in compiled.items() if each.not_after is not None)
        retiring = admission.check_overlap(stack, lane, ends, how.overlap_until)
        for other in retiring:
            reason = f"followed by {row.label}"
            tx.set_stack_state(other.digest, _E, how.overlap_until, time=self.now, by=self.actor, reason=reason)
            self._record(tx, "stack-retiring", other, Activation(reason=reason), retire_at=how.overlap_until)
        return Taken(row, retiring, twins)

    def _sign_again(self, row: StackRow, envelope: bytes, signed: frozenset[str], stack: CompiledStack) -> StackRow:
        new = admission.counted_signers(stack, signed, self.store.endorsers()) - row.endorsed_by
        if not new:
            raise UsageError("stack-known", f"the stack {row.digest.hex()} is here already")
        with self.store.transaction() as tx:
            for key_id in sorted(new):
                tx.put_endorsement(row.digest, key_id)
            if row.envelope is None or row.endorsed_by <= signed:
                tx.set_envelope(row.digest, envelope)
            self._record(tx, "stack-endorsed", row, Activation(), endorsed_by=sorted(new))
        return self._row_of(row)

    def _move(self, info: StackInfo, state: StackState, retire_at: int | None, reason: str) -> None:
        self._check_step(info, state)
        with self.store.transaction() as tx:
            tx.set_stack_state(info.digest, state, retire_at, time=self.now, by=self.actor, reason=short_text(reason))
            self._record(tx, f"stack-{state}", info, Activation(reason=reason), retire_at=retire_at)

    @staticmethod
    def _check_step(row: StackInfo, state: StackState) -> None:
        if state not in _STEPS[row.state]:
            may = ", ".join(sorted(_STEPS[row.state]))
            raise UsageError(
                "stack-state", f"{row.label} is {row.state} and cannot become {state}", hint=f"only: {may}"
            )

    def _row_of(self, info: StackInfo) -> StackRow:
        for row in self.store.stacks():
            if row.digest == info.digest:
                return row
        raise UsageError("stack-unknown", f"there is no stack {info.digest.hex()}")

    def _record(self, tx: Transaction, act: str, row: StackInfo, how: Activation, **details: object) -> None:
        named = {"name": row.name, "version": row.version, "pool": row.pool, "channel": row.channel}
        if how.allow_rollback:
            details["rollback"] = True
        if how.reason:
            details["reason"] = how.reason
        tx.append_act(self.now, act, row.digest.hex(), by=self.actor, **named, **details)


def _is_bare(data: bytes) -> bool:
    try:
        CompiledStack.parse(data)
    except MalformedError:
        return False
    return True
