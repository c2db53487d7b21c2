"""Where a host's own logs leave a stack: for finding out, never for trusting the host. Nothing here is verified."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from watchword.errors import UsageError
from watchword.policy.capture import CapturedEvent
from watchword.policy.document import DIGEST_NAMES, digest_name
from watchword.policy.stack import RUNTIME_PCR, CompiledStack, CompiledVariant, ExpectedEvent, FileDigest
from watchword.wire.ima_log import ImaLog
from watchword.wire.tpm.algorithms import Alg

__all__ = ["BootDiff", "Deviation", "FilesDiff", "UnlistedFile", "compare_boot", "compare_files"]

_MAX_STATES = 1024  # ways of choosing variants that are followed at the same time
_BOOT_AGGREGATE = b"boot_aggregate"

_Positions = tuple[int, ...]
_Chosen = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Deviation:
    """Where one variant stops to explain the log: event ``position``, from 0, of ``pcr``. None is "no event there"."""

    component: str
    variant: str
    explained: int
    pcr: int
    position: int
    expected: ExpectedEvent | None
    actual: bytes | None
    note: str


@dataclass(frozen=True, slots=True)
class BootDiff:
    """``chosen`` are the variants that explain the log from its beginning; ``deviations`` the ways in which it goes on
    differently, the nearest first, none when the whole log is explained."""

    bank: Alg
    chosen: _Chosen
    deviations: tuple[Deviation, ...]


@dataclass(frozen=True, slots=True)
class UnlistedFile:
    """A file that the stack does not list with this digest; ``listed`` are the digests it has for the path."""

    path: bytes
    algorithm: str
    digest: bytes
    listed: frozenset[FileDigest]


@dataclass(frozen=True, slots=True)
class FilesDiff:
    """``measured`` files in all, ``violations`` of the log, and what is not listed. Signatures are not looked at."""

    measured: int
    violations: int
    unlisted: tuple[UnlistedFile, ...] = field(repr=False)


def compare_boot(stack: CompiledStack, events: Sequence[CapturedEvent]) -> BootDiff:
    """Follow ``stack`` through the extended ``events`` of a log as far as it goes.

    Raises UsageError (``diff-bank``) when there is no bank that both have, (``diff-ambiguous``) for a stack that
    cannot be followed.
    """
    covered = [event for event in events if event[0] in stack.pcrs]
    bank = next(
        (a for a in DIGEST_NAMES.values() if a in stack.banks and all(a in digests for _, digests, _ in covered)), None
    )
    if bank is None:
        names = ", ".join(sorted(map(digest_name, stack.banks)))
        raise UsageError("diff-bank", f"the log has no {names} digests, and the stack has no others")
    return _Walk(stack, bank, covered).run()


def compare_files(stack: CompiledStack, log: ImaLog) -> FilesDiff:
    """The files of a runtime log that ``stack`` does not list, each once, in the order of the log."""
    seen: dict[tuple[bytes, str, bytes], UnlistedFile | None] = {}
    violations = 0
    for entry in log.entries:
        if entry.pcr != RUNTIME_PCR:
            continue
        if entry.violation:
            violations += 1
            continue
        file = entry.file()
        if file.path == _BOOT_AGGREGATE:
            continue
        key = (file.path, ("verity:" if file.kind == "verity" else "") + file.algorithm, file.digest)
        if key not in seen:
            seen[key] = _unlisted(stack, *key, contents=file.kind != "verity")
    return FilesDiff(len(seen), violations, tuple(each for each in seen.values() if each is not None))


def _unlisted(
    stack: CompiledStack, path: bytes, algorithm: str, digest: bytes, *, contents: bool
) -> UnlistedFile | None:
    """None when the file is listed; the digest of a hash tree (``contents`` False) never is."""
    alg = DIGEST_NAMES.get(algorithm.replace("-", "_")) if contents else None
    listed = stack.files.get(path, frozenset())
    if alg is not None and ((alg, digest) in listed or (alg, digest) in stack.any_path):
        return None
    return UnlistedFile(path, algorithm, digest, listed)


class _Walk:
    """All ways through the log at once; of those with equal positions one is kept, for their future is the same."""

    def __init__(self, stack: CompiledStack, bank: Alg, events: Sequence[CapturedEvent]) -> None:
        self.stack = stack
        self.bank = bank
        self.slot = {pcr: i for i, pcr in enumerate(stack.pcrs)}
        self.log: list[list[tuple[bytes, str]]] = [[] for _ in stack.pcrs]
        for pcr, digests, note in events:
            self.log[self.slot[pcr]].append((digests[bank], note))

    def run(self) -> BootDiff:
        states: dict[_Positions, _Chosen] = {(0,) * len(self.slot): ()}
        for component in self.stack.components:
            after: dict[_Positions, _Chosen] = {}
            misses: list[tuple[_Chosen, Deviation]] = []
            for positions, chosen in states.items():
                for variant in component.variants:
                    moved = self.advance(positions, variant, component.name)
                    if isinstance(moved, Deviation):
                        misses.append((chosen, moved))
                    else:
                        after.setdefault(moved, (*chosen, (component.name, variant.name)))
            if not after:
                return self.nearest(misses)
            if len(after) > _MAX_STATES:
                raise UsageError("diff-ambiguous", f"{self.stack.label} has too many combinations to be followed")
            states = after
        return self.ends(states)

    def advance(self, start: _Positions, variant: CompiledVariant, component: str) -> _Positions | Deviation:
        at = list(start)
        for expected in variant.events:
            slot = self.slot[expected.pcr]
            here = self.log[slot][at[slot]] if at[slot] < len(self.log[slot]) else (None, "")
            if here[0] != expected.digests[self.bank]:
                return Deviation(component, variant.name, sum(at), expected.pcr, at[slot], expected, *here)
            at[slot] += 1
        return tuple(at)

    def nearest(self, misses: list[tuple[_Chosen, Deviation]]) -> BootDiff:
        """The way that got furthest, and from its last common point every variant that was tried."""
        best, _ = max(misses, key=lambda miss: miss[1].explained)
        tried = sorted((d for chosen, d in misses if chosen == best), key=lambda d: -d.explained)
        return BootDiff(self.bank, best, tuple(tried))

    def ends(self, states: dict[_Positions, _Chosen]) -> BootDiff:
        """After the last component nothing may be left in the log."""
        positions, chosen = max(states.items(), key=lambda state: sum(state[0]))
        left = tuple(
            Deviation("", "", sum(positions), pcr, positions[slot], None, *self.log[slot][positions[slot]])
            for pcr, slot in self.slot.items()
            if positions[slot] < len(self.log[slot])
        )
        return BootDiff(self.bank, chosen, left)
