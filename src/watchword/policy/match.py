"""Does a boot log consist of exactly one whole stack? (clause E2)

For every PCR that a stack covers, the log must be the events of one chosen variant per component, in component order,
with nothing before, between or after. A variant is taken whole or not at all, over all its PCRs at once: the kernel of
one release never goes with the initrd of another, because they are events of the same variant.

Only digests decide, and they were replayed to the quoted values. Event types and texts are for messages.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from watchword.errors import Finding
from watchword.policy.document import digest_name
from watchword.policy.stack import CompiledStack, CompiledVariant, ExpectedEvent
from watchword.verify.boot_log import BootEvent, VerifiedBootLog
from watchword.wire.tpm.algorithms import Alg

__all__ = ["Mismatch", "StackMatch", "match", "nearest"]

_MAX_STATES = 1024  # ways of choosing variants that are followed at the same time

_Positions = tuple[int, ...]  # for each covered PCR, how many of its log events are explained


@dataclass(frozen=True, slots=True)
class StackMatch:
    """The stack explains every event of the PCRs it covers; ``variants`` are the (component, variant) names chosen."""

    stack: CompiledStack
    variants: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Mismatch:
    """The stack does not fit. ``explained`` events were accounted for before the one that the finding describes."""

    stack: CompiledStack
    explained: int
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class _Miss:
    explained: int
    component: str
    expected: ExpectedEvent | None
    actual: BootEvent | None
    pcr: int
    position: int


def match(stack: CompiledStack, log: VerifiedBootLog) -> StackMatch | Mismatch:
    """Compare ``stack`` with a verified boot log: the whole stack, and nothing but it, for every PCR that it covers."""
    unsigned = sorted(set(stack.pcrs) - log.pcrs)
    if unsigned:
        # The verified log has no events of PCRs that were not quoted: "none found" would prove nothing there.
        text = f"{stack.label} covers PCRs that the profile does not quote"
        return _mismatch(stack, text, str(stack.pcrs), f"not quoted: {unsigned}")
    if log.bank not in stack.banks:
        names = ", ".join(sorted(map(digest_name, stack.banks)))
        return _mismatch(stack, f"{stack.label} has no digests for the bank", names, digest_name(log.bank))
    return _Search(stack, log).run()


def nearest(mismatches: Sequence[Mismatch]) -> Mismatch | None:
    """The stack that explained most events, the newest of equals; None when there is none."""
    return max(mismatches, key=lambda m: (m.explained, m.stack.serial), default=None)


def _mismatch(stack: CompiledStack, message: str, expected: str, actual: str) -> Mismatch:
    finding = Finding("E2", "stack-none", message, expected, actual, subject=f"stack {stack.label}")
    return Mismatch(stack, 0, (finding,))


class _Search:
    """One comparison: the set of reachable positions after each component, and the best failure so far."""

    def __init__(self, stack: CompiledStack, log: VerifiedBootLog) -> None:
        self.stack = stack
        self.bank: Alg = log.bank
        self.slot: Mapping[int, int] = {pcr: i for i, pcr in enumerate(stack.pcrs)}
        self.events: list[list[BootEvent]] = [[] for _ in stack.pcrs]
        for event in log.events:
            if event.pcr in self.slot:
                self.events[self.slot[event.pcr]].append(event)
        self.best: _Miss | None = None

    def run(self) -> StackMatch | Mismatch:
        # Two ways of choosing variants that explain equally much have the same future, so one of them is kept.
        states: dict[_Positions, tuple[tuple[str, str], ...]] = {(0,) * len(self.stack.pcrs): ()}
        for component in self.stack.components:
            after: dict[_Positions, tuple[tuple[str, str], ...]] = {}
            for positions, chosen in states.items():
                for variant in component.variants:
                    moved = self.advance(positions, variant, component.name)
                    if moved is not None:
                        after.setdefault(moved, (*chosen, (component.name, variant.name)))
            if len(after) > _MAX_STATES:
                return _mismatch(self.stack, "the stack is too ambiguous to be matched", "", component.name)
            states = after
        for positions, chosen in states.items():
            if self.whole(positions):
                return StackMatch(self.stack, chosen)
        return self.failure()

    def advance(self, start: _Positions, variant: CompiledVariant, component: str) -> _Positions | None:
        """Positions after all events of ``variant``, or None when one of them is not the next in its PCR."""
        at = list(start)
        for expected in variant.events:
            slot = self.slot[expected.pcr]
            found = self.events[slot]
            actual = found[at[slot]] if at[slot] < len(found) else None
            if actual is None or actual.digest != expected.digests[self.bank]:
                self.missed(_Miss(sum(at), component, expected, actual, expected.pcr, at[slot]))
                return None
            at[slot] += 1
        return tuple(at)

    def whole(self, positions: _Positions) -> bool:
        """Whether every event of every covered PCR is explained."""
        for pcr, slot in self.slot.items():
            at = positions[slot]
            if at < len(self.events[slot]):
                self.missed(_Miss(sum(positions), "", None, self.events[slot][at], pcr, at))
                return False
        return True

    def missed(self, miss: _Miss) -> None:
        if self.best is None or miss.explained > self.best.explained:
            self.best = miss

    def failure(self) -> Mismatch:
        miss = self.best
        assert miss is not None  # every path to here has missed at least once
        return Mismatch(self.stack, miss.explained, (self.describe(miss),))

    def describe(self, miss: _Miss) -> Finding:
        where = f"pcr {miss.pcr} event {miss.position}"
        if miss.actual is not None:
            where += f" (log event {miss.actual.index})"
        if miss.component:
            where += f", component {miss.component}"
        if miss.expected is None:
            message = f"the log has an event that stack {self.stack.label} does not have"
        elif miss.actual is None:
            message = f"the log ends before stack {self.stack.label} does"
        else:
            message = f"the first event that differs from stack {self.stack.label}"
        return Finding("E2", "stack-none", message, self._expected(miss.expected), _shown(miss.actual), where)

    def _expected(self, event: ExpectedEvent | None) -> str:
        return "no event" if event is None else f"{event.digests[self.bank].hex()} {event.note}".rstrip()


def _shown(event: BootEvent | None) -> str:
    if event is None:
        return "no event"
    text = event.text if event.tied or not event.text else f"{event.text} (as the host says)"
    return f"{event.digest.hex()} {text}".rstrip()
