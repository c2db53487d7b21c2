"""Attestation without a secret: what a host is worth right now, and for how long that counts.

A host shows its state again and again; the authority keeps one :class:`HostState` for each profile that somebody is
interested in. A state ends by itself (``until``): nobody has to notice that a host went silent.

    W1  there is a profile to judge the host by                  selections_for
    W2  the evidence is newer than what was seen of this host    attest
    W3  a state that was not renewed in time is stale            HostState.at
    W6  the evidence is what would be asked for now              answered

The challenge for the next attestation can come with a verdict (:func:`may_ask_ahead`). A state therefore counts from
when the nonce of its evidence was issued, which the host cannot move: a quote that was made early ends early.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from watchword.errors import Finding, MalformedError, Rejected
from watchword.launch import challenge
from watchword.launch.evidence import verify_evidence
from watchword.policy.appraise import Appraisal, appraise, covers
from watchword.policy.profile import Profile
from watchword.policy.release import StackRelease
from watchword.verify.ak import VerifiedAk
from watchword.verify.host import VerifiedHost
from watchword.verify.ima_log import RuntimeSeen
from watchword.verify.known_files import KnownFiles
from watchword.verify.quote import LastSeen
from watchword.verify.runtime_state import RuntimeState
from watchword.wire.evidence import Evidence, binding
from watchword.wire.tpm.attest import Attest, ClockInfo, QuoteInfo
from watchword.wire.tpm.pcr import PcrSelection, Selections, encode_selections

__all__ = [
    "LEASE",
    "Answered",
    "Attestation",
    "HostState",
    "OnFile",
    "Standing",
    "answered",
    "appraise_all",
    "attest",
    "check_new",
    "is_own",
    "judged",
    "may_ask_ahead",
    "outdated",
    "rejected",
    "selections_context",
    "selections_for",
]

LEASE = 360  # seconds that a state counts; agents renew it three times as often
_OWN_CLAUSES = ("C", "D")
_MAX_TEXT = 300  # characters of a reason


class Standing(StrEnum):
    """What a host is worth: as good as it was, worse than it was, not acceptable, or not heard of in time."""

    TRUSTED = "trusted"
    DEGRADED = "degraded"
    FAILED = "failed"
    STALE = "stale"


@dataclass(frozen=True, slots=True)
class HostState:
    """One host by one profile; times in Unix seconds.

    ``checked`` is when the nonce of the evidence was issued; ask :meth:`at` for the standing now. ``level`` and
    ``rank`` were reached ("" and 0 for none), ``best`` is the highest rank so far; ``since`` is when the standing, the
    rank or the boot (``reset_count``) last changed. ``code`` and ``reason`` are of the first finding in the way;
    ``stack`` is the digest (32 bytes, or empty) of the stack that matched.
    """

    standing: Standing
    level: str
    rank: int
    best: int
    since: int
    checked: int
    until: int
    reset_count: int
    stack: bytes
    code: str = ""
    reason: str = ""

    def at(self, now: int) -> Standing:
        """The standing at ``now`` (W3): an old one that nobody renewed is never believed."""
        return self.standing if self.checked <= now < self.until else Standing.STALE

    def rebooted(self, previous: HostState | None) -> bool:
        """Whether the host was started anew since ``previous``, which is no sign of tampering by itself."""
        return previous is not None and self.reset_count != previous.reset_count

    def differs(self, previous: HostState | None, now: int) -> bool:
        """Whether there is something to tell: another standing or level, or the host had fallen silent by ``now``."""
        if previous is None or previous.at(now) is Standing.STALE:
            return True
        return (self.standing, self.rank, self.code) != (previous.standing, previous.rank, previous.code)


@dataclass(frozen=True, slots=True)
class OnFile:
    """What the authority knows when it attests a host: as for a launch, and the ``profiles`` to judge by.

    ``continues`` says whether the runtime log may begin where ``runtime`` ends: whoever judged that still judges alike.
    """

    ak: VerifiedAk | None
    revoked: bool
    last: LastSeen | None
    seen: RuntimeSeen | None
    profiles: Sequence[Profile]
    releases: Sequence[StackRelease]
    files: KnownFiles | None = None
    runtime: RuntimeState | None = None
    continues: bool = True


@dataclass(frozen=True, slots=True)
class Answered:
    """Evidence that answers a challenge of this authority's for its host; whether it is true is still to be seen.

    ``ak`` is the host's, ``quote`` and ``info`` what the quote claims, ``bound`` the 32 bytes that must be in it,
    ``challenged_at`` when its nonce was issued (Unix seconds).
    """

    ak: VerifiedAk
    quote: Attest
    info: QuoteInfo
    bound: bytes
    challenged_at: int


@dataclass(frozen=True, slots=True)
class Attestation:
    """Authentic evidence and what follows from it, by profile, the first one first.

    ``bound`` is the 32-byte binding in the quote, ``challenged_at`` when its nonce was issued (Unix seconds).
    """

    host: VerifiedHost
    appraisals: tuple[Appraisal, ...]
    bound: bytes
    challenged_at: int

    @property
    def runtime_state(self) -> RuntimeState | None:
        """What to keep of the runtime log, so that the next evidence need not hold all of it."""
        return next((a.runtime_state for a in self.appraisals if a.runtime_state is not None), None)


def selections_for(profiles: Sequence[Profile]) -> Selections:
    """What a host is asked to quote so that it can be judged by all ``profiles`` of the first one's bank at once.

    Raises Rejected (W1) when there is none.
    """
    if not profiles:
        raise Rejected(
            Finding("W1", "watch-none", "this authority has no profile to judge this host by"),
            hint="The authority's operator names one: watchword authority watch add PROFILE.",
        )
    bank = profiles[0].bank
    together = sorted({pcr for profile in profiles if profile.bank is bank for pcr in profile.pcrs})
    return (PcrSelection(bank, tuple(together)), *profiles[0].also)


def may_ask_ahead(profiles: Sequence[Profile]) -> bool:
    """Whether no rule of ``profiles`` wants the challenge to be younger (E4) than one that came with a verdict gets."""
    ages = (level.rules.max_age_seconds for profile in profiles for level in profile.levels)
    return min(ages, default=0) >= challenge.ATTEST_LIFETIME


def selections_context(selections: Selections) -> bytes:
    """What the nonce of an attestation is issued for, in place of a token: exactly these PCRs (32 bytes)."""
    return hashlib.sha256(b"watchword/attest/1\0" + encode_selections(selections)).digest()


def answered(evidence: Evidence, reply_key: bytes, now: int, mac_key: bytes, known: OnFile) -> Answered:
    """Whether ``evidence``, which is about no launch, answers a challenge that would be given now (W1, W6, B6).

    ``reply_key`` is the key of the answer (32 bytes), ``now`` Unix seconds, ``mac_key`` that of the nonces. Nothing in
    the evidence is known to be true yet. Raises MalformedError, Rejected.
    """
    if evidence.token or evidence.instance:
        raise MalformedError("evidence: for an attestation there is neither token nor instance")
    wanted = selections_for(known.profiles)  # W1
    if known.ak is None:
        raise Rejected(
            Finding("A4", "host-unknown", "this host is not enrolled", actual=evidence.host_id.hex()),
            hint="Enrol the host first: watchword agent enrol.",
        )
    quote, info = _quote(evidence)
    selections = info.selections
    expires = challenge.check(
        mac_key,
        evidence.nonce,
        host_id=evidence.host_id,
        purpose=evidence.purpose,
        token_id=selections_context(selections),
        now=now,
    )
    _check_current(evidence, selections, wanted, known)
    bound = binding(
        host_id=evidence.host_id,
        nonce=evidence.nonce,
        purpose=evidence.purpose,
        token="",
        instance="",
        reply_key=reply_key,
    )
    return Answered(known.ak, quote, info, bound, expires - challenge.lifetime(evidence.purpose))


def attest(evidence: Evidence, answer: Answered, now: int, known: OnFile) -> Attestation:
    """Judge ``evidence`` by every profile on file that its quote covers; ``answer`` comes from :func:`answered`.

    ``now`` is Unix seconds. Raises Rejected with the clause of the first check of authenticity that fails; what a
    profile thinks of an authentic host is in the result.
    """
    host = verify_evidence(
        evidence,
        known,
        ak=answer.ak,
        bound=answer.bound,
        selections=answer.info.selections,
        max_ahead=_most_patient(known.profiles),
    )
    check_new(host.pcrs.clock_info, known.last)
    return Attestation(host, appraise_all(host, known, now, answer.challenged_at), answer.bound, answer.challenged_at)


def appraise_all(host: VerifiedHost, known: OnFile, now: int, challenged_at: int) -> tuple[Appraisal, ...]:
    """What every profile that the quote covers thinks of ``host``; times in Unix seconds."""
    return tuple(
        appraise(host, profile, known.releases, now, challenged_at=challenged_at)
        for profile in known.profiles
        if covers(host.pcrs.selections, profile)
    )


def _quote(evidence: Evidence) -> tuple[Attest, QuoteInfo]:
    """What the quote says, the PCRs that it covers among it: the nonce tells whether those were asked for.

    ``verify_evidence`` is then given the same selection, so that a quote about others has no nonce.
    """
    try:
        quote = Attest.parse(evidence.attest)
    except MalformedError as error:
        raise Rejected(Finding("B3", "quote-malformed", error.message)) from None
    if not isinstance(quote.attested, QuoteInfo):
        raise Rejected(Finding("B2", "quote-type", "this attestation is not a quote"))
    return quote, quote.attested


def _most_patient(profiles: Sequence[Profile]) -> int:
    """How far a log may run ahead by any of the profiles; each has its own last word (``policy.checks``)."""
    return max(profile.max_log_ahead for profile in profiles)


def _check_current(evidence: Evidence, selections: Selections, wanted: Selections, known: OnFile) -> None:
    """W6: between challenge and evidence, profiles, stacks and the log on file may have moved: nobody's fault."""
    ends = known.runtime.seen.entries if known.runtime is not None and known.continues else 0
    if selections == wanted and evidence.ima_from in (0, ends):
        return
    raise outdated("this authority would ask for other evidence by now")


def outdated(why: str) -> Rejected:
    """W6: what a host is told whose evidence answers what would not be asked now."""
    return Rejected(Finding("W6", "challenge-outdated", why), hint="Ask for a new challenge and quote again.")


def is_own(refusal: Rejected) -> bool:
    """Whether what was refused is the host's own word: logs are looked at once its TPM is known to have quoted."""
    return refusal.clause[:1] in _OWN_CLAUSES


def check_new(info: ClockInfo | LastSeen, last: LastSeen | None) -> None:
    """W2: the TPM's own clock makes every attestation count once, so that no nonce needs to be remembered.

    ``last`` is the newest quote on file. Raises Rejected.
    """
    if last is not None and (info.reset_count, info.clock) <= (last.reset_count, last.clock):
        text = "evidence of this host that is as new or newer was seen already"
        expected, actual = f"after {last.clock} ms", f"{info.clock} ms"
        raise Rejected(
            Finding("W2", "attest-replayed", text, expected, actual), hint="Ask for a new challenge and quote again."
        )


def judged(
    appraisal: Appraisal, previous: HostState | None, now: int, challenged_at: int, lease: int = LEASE
) -> HostState:
    """The state that follows from an appraisal; ``previous`` is the one on file, times in Unix seconds."""
    best = max(appraisal.rank, previous.best if previous else 0)
    standing = Standing.FAILED if not appraisal.rank else Standing.DEGRADED
    wanted = appraisal.levels[best - 1] if best else appraisal.levels[0]
    finding = next(iter(wanted.findings), None)
    if appraisal.rank and appraisal.rank == best:
        standing, finding = Standing.TRUSTED, None
    stack = appraisal.release.digest if appraisal.release else b""
    reset_count = appraisal.host.pcrs.clock_info.reset_count
    state = HostState(
        standing, appraisal.level or "", appraisal.rank, best, now, challenged_at, challenged_at + lease, reset_count,
        stack, finding.code if finding else "", _sentence(finding),
    )  # fmt: skip
    return _continued(state, previous, now)


def rejected(refusal: Rejected, previous: HostState, now: int, lease: int = LEASE) -> HostState:
    """The state of a host whose quote is its own and whose evidence is not acceptable; ``previous`` is on file."""
    finding = refusal.findings[0]
    state = HostState(
        Standing.FAILED, "", 0, previous.best, now, now, now + lease, previous.reset_count, b"",
        finding.code, _sentence(finding),
    )  # fmt: skip
    return _continued(state, previous, now)


def _continued(state: HostState, previous: HostState | None, now: int) -> HostState:
    if previous is None or state.differs(previous, now) or state.rebooted(previous):
        return state
    return replace(state, since=previous.since)


def _sentence(finding: Finding | None) -> str:
    if finding is None:
        return ""
    text = finding.message + (f" ({finding.subject})" if finding.subject else "")
    return text[:_MAX_TEXT].encode("utf-8", "backslashreplace").decode()
