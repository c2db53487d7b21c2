"""What a change of stacks or profiles would do to hosts, judged over evidence that was verified before.

Both sides are appraised in the same way and at the same time, so that what differs is the change alone. How old the
evidence is does not matter here (E4): the question is what the software is worth.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from watchword.errors import Finding, Rejected
from watchword.policy.appraise import Appraisal, appraise, covers
from watchword.policy.profile import Profile
from watchword.policy.release import StackRelease
from watchword.verify.host import VerifiedHost

__all__ = ["Effect", "HostChange", "Reason", "Rules", "Summary", "compare", "unknown"]

_SAMPLES = 5  # host ids that are named for each reason
_MAX_REASONS = 200


@dataclass(frozen=True, slots=True)
class Rules:
    """What hosts are judged by: one profile, and the stacks on file."""

    profile: Profile
    releases: Sequence[StackRelease]


class Effect(StrEnum):
    """What happens to one host. ``UNKNOWN``: its evidence on file cannot tell."""

    SAME = "same"
    BETTER = "better"
    WORSE = "worse"
    REFUSED = "refused"  # it reached a level before, and reaches none then
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class HostChange:
    """One host: the levels before and after ("" for none), and the findings in the way of the level before."""

    host_id: bytes
    effect: Effect
    before: str
    after: str
    findings: tuple[Finding, ...] = ()


def compare(host: VerifiedHost, before: Rules, after: Rules, now: int) -> HostChange:
    """What the change from ``before`` to ``after`` does to ``host`` at ``now`` (Unix seconds)."""
    identity = host.ak.host_id
    if not covers(host.pcrs.selections, after.profile):
        missing = Finding("E5", "profile-level", "the evidence on file does not cover the PCRs of the profile")
        return HostChange(identity, Effect.UNKNOWN, "", "", (missing,))
    old = _appraised(host, before, now) if covers(host.pcrs.selections, before.profile) else None
    new = _appraised(host, after, now)
    was, becomes = old.rank if old else 0, new.rank
    wanted = max(1, min(was or 1, len(new.levels)))
    return HostChange(
        identity,
        _effect(was, becomes),
        (old.level or "") if old else "",
        new.level or "",
        new.levels[wanted - 1].findings if becomes < wanted else (),
    )


def unknown(host_id: bytes, refusal: Rejected) -> HostChange:
    """A host whose evidence on file cannot be used: too old to be verified, or kept without its runtime log."""
    return HostChange(host_id, Effect.UNKNOWN, "", "", refusal.findings)


def _appraised(host: VerifiedHost, rules: Rules, now: int) -> Appraisal:
    return appraise(host, rules.profile, rules.releases, now, challenged_at=now)


def _effect(was: int, becomes: int) -> Effect:
    if becomes == was:
        return Effect.SAME
    if becomes > was:
        return Effect.BETTER
    return Effect.WORSE if becomes else Effect.REFUSED


@dataclass(frozen=True, slots=True)
class Reason:
    """Why hosts get worse: one kind of finding, how many hosts have it, and some of them."""

    code: str
    text: str
    hosts: int
    samples: tuple[bytes, ...]


@dataclass(slots=True)
class Summary:
    """The changes of a fleet, counted as they come; memory does not grow with the number of hosts."""

    effects: Counter[Effect] = field(default_factory=Counter)
    moves: Counter[tuple[str, str]] = field(default_factory=Counter)
    _reasons: Counter[tuple[str, str]] = field(default_factory=Counter)
    _samples: dict[tuple[str, str], list[bytes]] = field(default_factory=dict)

    def add(self, change: HostChange) -> None:
        """Count one host."""
        self.effects[change.effect] += 1
        if change.effect is not Effect.UNKNOWN:
            self.moves[change.before, change.after] += 1
        if change.effect in (Effect.WORSE, Effect.REFUSED, Effect.UNKNOWN):
            for key in dict.fromkeys((f.code, _about(f)) for f in change.findings):
                self._count(key, change.host_id)

    def _count(self, key: tuple[str, str], host_id: bytes) -> None:
        if key not in self._reasons and len(self._reasons) >= _MAX_REASONS:
            key = ("other", "further reasons")
        self._reasons[key] += 1
        samples = self._samples.setdefault(key, [])
        if len(samples) < _SAMPLES:
            samples.append(host_id)

    @property
    def hosts(self) -> int:
        """How many hosts were looked at."""
        return sum(self.effects.values())

    @property
    def harmless(self) -> bool:
        """Whether no host gets worse, and none cannot be told."""
        return not any(self.effects[bad] for bad in (Effect.WORSE, Effect.REFUSED, Effect.UNKNOWN))

    def reasons(self) -> tuple[Reason, ...]:
        """Why hosts get worse or cannot be told, the most frequent reason first."""
        return tuple(
            Reason(code, text, count, tuple(self._samples[code, text]))
            for (code, text), count in self._reasons.most_common()
        )

    @classmethod
    def of(cls, changes: Iterable[HostChange]) -> Summary:
        """Count all of ``changes``."""
        summary = cls()
        for change in changes:
            summary.add(change)
        return summary

    def counts(self) -> Mapping[str, int]:
        """Hosts by effect, all effects named."""
        return {str(effect): self.effects[effect] for effect in Effect}


def _about(finding: Finding) -> str:
    return finding.message + (f" ({finding.subject})" if finding.subject else "")
