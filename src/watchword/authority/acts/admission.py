"""May this release of a stack be taken over? (clauses G1 to G6)

Every refusal has a reason and leaves nothing behind: these functions decide, and ``authority.acts.stacks`` changes the
store in one transaction that they can still stop.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from watchword.authority.store import EndorserRow, StackInfo, StackRule, StackState
from watchword.errors import Finding, Rejected
from watchword.policy.stack import CompiledStack

__all__ = [
    "FUTURE_SECONDS",
    "check_order",
    "check_overlap",
    "check_rule",
    "check_signers",
    "check_time",
    "counted_signers",
]

FUTURE_SECONDS: Final = 300  # how far the clock of whoever made a release may be ahead of ours


def counted_signers(stack: CompiledStack, signed: frozenset[str], endorsers: Iterable[EndorserRow]) -> frozenset[str]:
    """Those of the keys in ``signed`` whose endorsers may sign for this stack and pool."""
    return frozenset(e.key_id for e in endorsers if e.key_id in signed and e.may_endorse(stack.name, stack.pool))


def check_signers(stack: CompiledStack, signed: frozenset[str], counted: frozenset[str]) -> None:
    """G1: a known endorser signed, and one who may. ``signed`` are the known keys whose signatures verified."""
    if not signed:
        raise Rejected(
            Finding("G1", "stack-endorser", "no endorser that this authority knows has signed this stack"),
            hint="add the endorser's public key first: watchword authority endorser add FILE",
        )
    if not counted:
        text = f"whoever signed may not endorse stack {stack.name} in pool {stack.pool}"
        raise Rejected(
            Finding("G1", "stack-endorser-limit", text, actual=" ".join(sorted(signed))),
            hint="see 'watchword authority endorser list' for what each may sign",
        )


def check_rule(stack: CompiledStack, counted: frozenset[str], rules: Iterable[StackRule]) -> None:
    """G2: the endorsers that the rule for this name and pool asks for signed; without a rule, any one will do."""
    for rule in rules:
        if (rule.name, rule.pool) != (stack.name, stack.pool):
            continue
        found = counted & rule.keys
        if len(found) < rule.threshold:
            wanted = f"{rule.threshold} of {' '.join(sorted(rule.keys))}"
            text = f"too few of the endorsers signed that stack {stack.name} in pool {stack.pool} needs"
            raise Rejected(
                Finding("G2", "stack-threshold", text, wanted, " ".join(sorted(found)) or "none"),
                hint="have another endorser sign the same envelope: watchword stack endorse FILE --key KEY -o FILE",
            )


def check_time(stack: CompiledStack, now: int) -> None:
    """G3: it has not ended, and was not made in the future; ``now`` in Unix seconds."""
    if stack.not_after is not None and now >= stack.not_after:
        text = "the release has ended already, by its own word"
        raise Rejected(Finding("G3", "stack-ended", text, f"not_after beyond {now}", str(stack.not_after)))
    if stack.issued is not None and stack.issued > now + FUTURE_SECONDS:
        text = "the release was made in the future: one of the clocks is wrong"
        raise Rejected(
            Finding("G3", "stack-issued", text, f"up to {now + FUTURE_SECONDS}", str(stack.issued)),
            hint="compare this machine's clock with that of whoever made the release",
        )


def check_order(stack: CompiledStack, lane: Sequence[StackInfo], *, allow_rollback: bool) -> None:
    """G4 and G5 against the other releases of the same name, pool and channel.

    A serial is given to one document only. Nothing older than what was active once comes back unless an operator says
    so.
    """
    for other in lane:
        if other.serial == stack.serial:
            text = f"another document was registered before with this serial: {other.label}"
            raise Rejected(
                Finding("G4", "stack-serial", text, f"not {stack.serial}", str(stack.serial)),
                hint="a new release has a new, higher serial",
            )
    newest = max((other.serial for other in lane if other.activated_at is not None), default=0)
    if stack.serial < newest and not allow_rollback:
        text = "a newer release of this stack, pool and channel was active already"
        raise Rejected(
            Finding("G5", "stack-older", text, f"a serial above {newest}", str(stack.serial)),
            hint="to go back on purpose: --allow-rollback --reason TEXT",
        )


def check_overlap(
    stack: CompiledStack, lane: Sequence[StackInfo], ends: frozenset[bytes], until: int | None
) -> tuple[StackInfo, ...]:
    """G6: no other release stays active for ever beside this one by mistake. Those that ``until`` puts an end to.

    ``ends`` are the digests of releases that end by themselves (not_after). One that is superseded may stay.
    """
    active = [other for other in lane if other.state is StackState.ACTIVE]
    if until is not None:
        return tuple(active)
    stays = [other for other in active if other.digest not in stack.supersedes and other.digest not in ends]
    if stays:
        text = f"{stays[0].label} is active too, and this release neither supersedes it nor does it end"
        raise Rejected(
            Finding("G6", "stack-overlap", text, f"supersedes sha256:{stays[0].digest.hex()}", "both active"),
            hint="say until when both are good: --overlap-until TIME, or --retire-old-in 2h",
        )
    return ()
