"""Is a verified host good enough? (clauses D5 and E; the last step before a secret may be sealed)

``appraise`` compares the host with every stack on file and evaluates every level of the profile; nothing stops at the
first finding. ``Appraisal.approve`` is the only way to an :class:`Approved`, and only an ``Approved`` can seal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import InitVar, dataclass

from watchword.errors import Finding, Rejected
from watchword.policy.checks import CHECKS, Context, bad_boot
from watchword.policy.command_line import known_command_line
from watchword.policy.file_signature import Work
from watchword.policy.known_bad import KnownBad
from watchword.policy.match import Mismatch, StackMatch, match, nearest
from watchword.policy.profile import Level, Profile
from watchword.policy.release import StackRelease, known_bad
from watchword.policy.runtime import RuntimeResult, bad_files, judge_runtime
from watchword.verify.host import VerifiedHost
from watchword.verify.runtime_state import RuntimeState
from watchword.wire.tpm.pcr import Selections

__all__ = ["Appraisal", "Approved", "LevelResult", "appraise", "covers"]

_PROOF = object()  # module-private: whoever has it went through approve()


@dataclass(frozen=True, slots=True)
class Approved:
    """A host that reached a level of a profile; ``rank`` 1 is the lowest. Made by :meth:`Appraisal.approve` only.

    ``selections`` are the boot PCRs that a secret must be sealed to; their verified values are ``host.pcrs.values``.
    ``profile_id`` and ``stack_digest`` are the 32-byte SHA-256 of the two documents.
    """

    _proof: InitVar[object]
    host: VerifiedHost
    profile_id: bytes
    level: str
    rank: int
    stack_name: str
    stack_version: str
    stack_digest: bytes
    selections: Selections

    def __post_init__(self, _proof: object) -> None:
        if _proof is not _PROOF:
            raise TypeError("an Approved is made by Appraisal.approve and nowhere else")


@dataclass(frozen=True, slots=True)
class LevelResult:
    """How one level fared: it holds exactly when there are no findings."""

    name: str
    rank: int
    findings: tuple[Finding, ...]

    @property
    def holds(self) -> bool:
        return not self.findings


@dataclass(frozen=True, slots=True)
class Appraisal:
    """The outcome. ``rank`` 0 and ``level`` None mean that no level holds; rank 1 is the lowest level.

    ``release`` is the stack that the boot log matched, with the ``variants`` chosen; ``nearest`` the name of the stack
    that came closest when none did. ``levels`` has a result for each level, lowest first; ``notes`` are findings that
    are only worth telling. ``runtime_state`` is what to keep of the host, so that it need not send its whole runtime
    log again in this boot; None when it has to.
    """

    _proof: InitVar[object]
    host: VerifiedHost
    profile: Profile
    level: str | None
    rank: int
    release: StackRelease | None
    variants: tuple[tuple[str, str], ...]
    nearest: str
    levels: tuple[LevelResult, ...]
    notes: tuple[Finding, ...]
    runtime_state: RuntimeState | None

    def __post_init__(self, _proof: object) -> None:
        if _proof is not _PROOF:
            raise TypeError("an Appraisal is made by appraise and nowhere else")

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Every finding of every level once, the lowest level's first, then the notes."""
        return tuple(dict.fromkeys([f for result in self.levels for f in result.findings] + list(self.notes)))

    def approve(self, required_rank: int) -> Approved:
        """The host's approval if it reached ``required_rank`` (1 is the lowest level) or more.

        Raises Rejected with every finding that keeps the host from that level; a rank that the profile does not have
        is never reached.
        """
        if not 1 <= required_rank <= len(self.profile.levels):
            text = "the profile has no such level"
            raise Rejected(_level_finding(text, f"rank 1 to {len(self.profile.levels)}", f"rank {required_rank}"))
        if self.rank < required_rank or self.release is None or self.level is None:
            wanted = self.levels[required_rank - 1]
            found = f"{self.level} (rank {self.rank})" if self.level else "no level"
            summary = _level_finding("the host is not good enough", f"{wanted.name} (rank {required_rank})", found)
            raise Rejected(*wanted.findings, summary)
        return Approved(
            _proof=_PROOF,
            host=self.host,
            profile_id=self.profile.id,
            level=self.level,
            rank=self.rank,
            stack_name=self.release.stack.name,
            stack_version=self.release.stack.version,
            stack_digest=self.release.digest,
            selections=self.profile.boot_selections(),
        )


def appraise(
    host: VerifiedHost, profile: Profile, releases: Sequence[StackRelease], now: int, *, challenged_at: int
) -> Appraisal:
    """Judge ``host`` by ``profile`` with the stacks on file, revoked and expired ones included (they explain much).

    Drafts are left out: they decide nothing, and a host is not compared with them.
    ``now`` and ``challenged_at`` (when the nonce in the quote was issued) are Unix seconds. The level reached is the
    highest one all of whose rules hold; a level stands by itself and does not need the lower ones. When several
    stacks match, the one that reaches the highest level counts, the newest of equals. Never raises for a bad host.
    Raises Rejected when the host was not verified over all PCRs of the profile; more than those change nothing.
    """
    _check_quoted(host, profile)
    bad = known_bad(releases, now)
    matches, misses = _compare(host, releases)
    closest = nearest(misses)
    unmatched = () if matches or closest is None else closest.findings
    candidates: Sequence[tuple[StackMatch | None, StackRelease | None]] = matches or [(None, None)]
    shown = bad_boot(host, [release.digest for _, release in matches], bad)
    outcomes = []
    work = Work()  # one for all stacks that match
    for found, release in candidates:
        runtime = _runtime(host, profile, release, bad, work)
        context = Context(
            host=host,
            profile=profile,
            release=release,
            variants=found.variants if found else (),
            unmatched=unmatched,
            runtime=runtime.findings,
            known_bad=(*shown, *runtime.bad),
            command_line=known_command_line(host.boot, found) if profile.asks_command_line else None,
            challenged_at=challenged_at,
            now=now,
        )
        outcomes.append((_levels(context), found, release, runtime.state))
    results, found, release, state = max(outcomes, key=lambda o: (_rank(o[0]), o[2].stack.serial if o[2] else 0))
    rank = _rank(results)
    return Appraisal(
        _proof=_PROOF,
        host=host,
        profile=profile,
        level=results[rank - 1].name if rank else None,
        rank=rank,
        release=release,
        variants=found.variants if found else (),
        nearest=closest.stack.label if closest and not found else "",
        levels=results,
        notes=_notes(host),
        runtime_state=state,
    )


def covers(quoted: Selections, profile: Profile) -> bool:
    """Whether a quote over ``quoted`` shows everything that ``profile`` judges by, in the bank that it judges by."""
    have = {selection.bank: set(selection.pcrs) for selection in quoted}
    wanted = profile.selections()
    return quoted[0].bank is profile.bank and all(set(s.pcrs) <= have.get(s.bank, set()) for s in wanted)


def _check_quoted(host: VerifiedHost, profile: Profile) -> None:
    if not covers(host.pcrs.selections, profile) or host.boot.bank is not profile.bank:
        text = "the host was not verified over the PCRs that this profile quotes"
        raise Rejected(Finding("E5", "profile-level", text, str(profile.pcrs), str(host.pcrs.selections)))


def _compare(
    host: VerifiedHost, releases: Sequence[StackRelease]
) -> tuple[list[tuple[StackMatch, StackRelease]], list[Mismatch]]:
    matches: list[tuple[StackMatch, StackRelease]] = []
    misses: list[Mismatch] = []
    for release in releases:
        if release.state == "draft":
            continue
        outcome = match(release.stack, host.boot)
        if isinstance(outcome, StackMatch):
            matches.append((outcome, release))
        else:
            misses.append(outcome)
    return matches, misses


def _runtime(
    host: VerifiedHost, profile: Profile, release: StackRelease | None, bad: KnownBad, work: Work
) -> RuntimeResult:
    """D5 once for all levels, if one of them asks; what is known to be bad is looked for in any case."""
    if release is None or not any(level.rules.runtime == "listed" for level in profile.levels):
        return RuntimeResult((), None, bad_files(host.runtime, bad))
    return judge_runtime(host.runtime, release.stack, bad, work)


def _levels(context: Context) -> tuple[LevelResult, ...]:
    return tuple(_level(context, level, rank) for rank, level in enumerate(context.profile.levels, 1))


def _level(context: Context, level: Level, rank: int) -> LevelResult:
    findings = tuple(finding for check in CHECKS for finding in check(context, level.rules))
    return LevelResult(level.name, rank, findings)


def _rank(results: tuple[LevelResult, ...]) -> int:
    return max((result.rank for result in results if result.holds), default=0)


def _notes(host: VerifiedHost) -> tuple[Finding, ...]:
    found = (*host.boot.findings, *(host.runtime.findings if host.runtime else ()))
    return tuple(finding for finding in found if not finding.fatal)


def _level_finding(message: str, expected: str, actual: str) -> Finding:
    return Finding("E5", "profile-level", message, expected, actual)
