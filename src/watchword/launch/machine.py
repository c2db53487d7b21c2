"""One request for a launch secret, from sealed token to sealed release, without I/O.

The authority drives it; everything that touches the world happens between the steps and comes in as an argument.
Steps called out of order are our own bug and raise ``RuntimeError``; a refusal by the evidence raises
:class:`Rejected` and moves to ``REFUSED``, from where only recording is possible. A release can therefore leave only
after its decision was recorded (clause F5): ``seal`` exists in no other state.

    NEW ── open_token ──▶ GRANTED ── accept_nonce ──▶ CHALLENGED ── appraise ──▶ APPROVED ── count ──▶ COUNTED
                             │                            │                         │                    │
                             └────────────┬───────────────┴────────────┬────────────┘                 recorded
                                          ▼                            ▼                                 ▼
                                       REFUSED ────── recorded ─────▶ CLOSED ◀─────── seal ────────── RECORDED
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import NoReturn

import msgspec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from watchword.crypto.token import open_token
from watchword.errors import Finding, Rejected
from watchword.launch import challenge, release
from watchword.launch.evidence import verify_evidence
from watchword.launch.receipt import Decision, FindingRecord, ShareRecord, StackRecord, launch_key
from watchword.policy.appraise import Appraisal, Approved, appraise
from watchword.policy.ear import submodule_of
from watchword.policy.ear_claims import Submodule
from watchword.policy.profile import Profile
from watchword.policy.release import StackRelease
from watchword.policy.stack import CompiledStack
from watchword.verify.ak import VerifiedAk
from watchword.verify.host import VerifiedHost
from watchword.verify.ima_log import RuntimeSeen
from watchword.verify.known_files import KnownFiles
from watchword.verify.quote import LastSeen
from watchword.verify.runtime_state import RuntimeState
from watchword.wire.evidence import Evidence, binding
from watchword.wire.messages import Release
from watchword.wire.token import TokenBody, token_id

__all__ = ["Known", "Launch", "State", "pseudonym"]

_MAX_FINDINGS = 50  # that a decision keeps


class State(Enum):
    """Where a request stands."""

    NEW = auto()
    GRANTED = auto()
    CHALLENGED = auto()
    APPROVED = auto()
    COUNTED = auto()
    REFUSED = auto()
    RECORDED = auto()
    CLOSED = auto()


# step -> (the state it needs, the state it leads to)
TRANSITIONS: Mapping[str, tuple[frozenset[State], State]] = {
    "open_token": (frozenset({State.NEW}), State.GRANTED),
    "accept_nonce": (frozenset({State.GRANTED}), State.CHALLENGED),
    "appraise": (frozenset({State.CHALLENGED}), State.APPROVED),
    "count": (frozenset({State.APPROVED}), State.COUNTED),
    "refuse": (frozenset({State.GRANTED, State.CHALLENGED, State.APPROVED}), State.REFUSED),
    "recorded": (frozenset({State.COUNTED}), State.RECORDED),
    "recorded_refusal": (frozenset({State.REFUSED}), State.CLOSED),
    "seal": (frozenset({State.RECORDED}), State.CLOSED),
}


@dataclass(frozen=True, slots=True)
class Known:
    """What the authority has on file when it appraises: the host as enrolled, the profile, the stacks."""

    ak: VerifiedAk | None
    revoked: bool
    last: LastSeen | None
    seen: RuntimeSeen | None
    profile: Profile | None
    releases: Sequence[StackRelease]
    files: KnownFiles | None = None  # saves time, decides nothing
    runtime: RuntimeState | None = None  # of a runtime log that need not be sent again


class Launch:
    """One request; ``evidence`` and its ``reply_key`` as they arrived, ``now`` in Unix seconds."""

    def __init__(self, evidence: Evidence, reply_key: bytes, now: int) -> None:
        self.state = State.NEW
        self.evidence = evidence
        self.now = now
        self.token_id = token_id(evidence.token)
        self.nonce_id = challenge.nonce_id(evidence.nonce)
        self.nonce_expires = 0
        self.nonce_era = b""
        self.host: VerifiedHost | None = None
        # Of the host's runtime log, before this request.
        self.known_runtime: tuple[RuntimeSeen | None, RuntimeState | None] = (None, None)
        self.findings: tuple[Finding, ...] = ()
        self.bound = binding(
            host_id=evidence.host_id,
            nonce=evidence.nonce,
            purpose=evidence.purpose,
            token=evidence.token,
            instance=evidence.instance,
            reply_key=reply_key,
            run=evidence.run,
        )
        self._grant: TokenBody | None = None
        self._appraisal: Appraisal | None = None
        self._approved: Approved | None = None

    @property
    def runtime_state(self) -> RuntimeState | None:
        """What to keep of the host's runtime log, so that its next request need not send it again."""
        return self._appraisal.runtime_state if self._appraisal is not None else None

    @property
    def grant(self) -> TokenBody:
        """The opened token; there is one from ``GRANTED`` on."""
        assert self._grant is not None
        return self._grant

    def open_token(self, keys: Mapping[bytes, X25519PrivateKey], void: Collection[bytes] = ()) -> None:
        """F1: the token opens with one of the authority's sealing ``keys`` (by 4-byte id) that is not in ``void``."""
        self._expect("open_token")
        self._grant = open_token(self.evidence.token, keys, void)
        self._move("open_token")

    def accept_nonce(self, mac_key: bytes, era: bytes = b"") -> None:
        """B6, first half: the nonce is ours, for this host, purpose and token, of this ``era``, and fresh.

        F3, F6: so is the token.
        """
        self._expect("accept_nonce")
        evidence, self.nonce_era = self.evidence, era
        try:
            self.nonce_expires = challenge.check(
                mac_key,
                evidence.nonce,
                host_id=evidence.host_id,
                purpose=evidence.purpose,
                token_id=self.token_id,
                now=self.now,
                era=era,
            )
            release.check_grant(self.grant, self.now)  # F3
            release.check_purpose(self.grant, evidence.purpose)  # F6
        except Rejected as rejected:
            self._refuse(rejected)
        self._move("accept_nonce")

    def appraise(self, known: Known) -> None:
        """A5 to E5 over the evidence, then F2: the level that the token demands was reached."""
        self._expect("appraise")
        self.known_runtime = (known.seen, known.runtime)
        try:
            ak, profile = self._prerequisites(known)
            self.host = verify_evidence(
                self.evidence,
                known,
                ak=ak,
                bound=self.bound,
                selections=profile.selections(),
                max_ahead=profile.max_log_ahead,
            )
            challenged_at = self.nonce_expires - challenge.LIFETIME
            self._appraisal = appraise(self.host, profile, known.releases, self.now, challenged_at=challenged_at)
            self._approved = self._appraisal.approve(self.grant.level)  # F2
        except Rejected as rejected:
            self._refuse(rejected)
        self._move("appraise")

    def count(self, *, nonce_is_fresh: bool, releases: int) -> None:
        """B6, second half, and F4. The caller holds the lock under which both were looked up and will be written."""
        self._expect("count")
        grant = self.grant
        try:
            if not nonce_is_fresh:
                raise Rejected(Finding("B6", "nonce-used", "the nonce was used before: this evidence is a replay"))
            if releases >= grant.releases:
                expected, actual = f"at most {grant.releases}", f"{releases} before this one"
                raise Rejected(
                    Finding("F4", "token-used-up", "the token has no release left", expected, actual),
                    hint="Somebody launched with this token before. The tenant makes a new one for each machine.",
                )
        except Rejected as rejected:
            self._refuse(rejected)
        self._move("count")

    def refuse(self, rejected: Rejected) -> None:
        """Refuse for a reason from outside of the evidence: a record on file that does not hold any more."""
        self._expect("refuse")
        self.findings = rejected.findings
        self._move("refuse")

    def decision(self, *, releases: int, pseudonym_key: bytes, lease: int = release.LEASE) -> Decision:
        """The entry for the log, in ``COUNTED`` or ``REFUSED``; ``releases`` counts this one if it is one."""
        released = self.state is State.COUNTED
        if not released and self.state is not State.REFUSED:
            raise RuntimeError(f"nothing was decided in state {self.state.name}")
        appraisal, grant = self._appraisal, self.grant
        result = self._result(released)
        stack = appraisal.release if appraisal else None
        return Decision(
            outcome="released" if released else "refused",
            time=self.now,
            launch=launch_key(grant.launch_id).hex(),
            token=self.token_id.hex(),
            instance=self.evidence.instance,
            profile=grant.profile.hex(),
            inputs=grant.inputs.hex(),
            level=(appraisal.level or "") if appraisal else "",
            rank=appraisal.rank if appraisal else 0,
            required=grant.level,
            stack=_stack_record(stack.stack) if stack else None,
            host=pseudonym(pseudonym_key, self.evidence.host_id, grant.profile),
            releases=releases,
            allowed=grant.releases,
            lease=lease if released else 0,
            evidence=hashlib.sha256(self.evidence.attest).hexdigest(),
            findings=tuple(FindingRecord.of(f) for f in self.findings[:_MAX_FINDINGS]),
            status=result.status.value,
            vector={claim.value: value for claim, value in result.vector.items()},
            share=_share_record(grant, self.evidence.run) if grant.place is not None else msgspec.UNSET,
        )

    def _result(self, released: bool) -> Submodule:
        """The attestation result: of the appraisal when it decided, else of the findings that did."""
        appraised = self._appraisal if released or self._approved is None else None
        outcome = appraised if appraised is not None else self.findings
        return submodule_of(outcome, required=self.grant.level, profile_id=self.grant.profile)

    def recorded(self) -> None:
        """F5: the decision is durable. The caller says so only after the commit."""
        step = "recorded_refusal" if self.state is State.REFUSED else "recorded"
        self._expect(step)
        self._move(step)

    def seal(self, data_key: bytes) -> Release:
        """The release for exactly this host in this boot; ``data_key`` is 32 fresh bytes."""
        self._expect("seal")
        assert self._approved is not None
        sealed = release.seal(self._approved, self.grant, context=self.bound, data_key=data_key)
        self._move("seal")
        return sealed

    def _prerequisites(self, known: Known) -> tuple[VerifiedAk, Profile]:
        if known.ak is None:
            raise Rejected(
                Finding("A4", "host-unknown", "this host is not enrolled", actual=self.evidence.host_id.hex()),
                hint="Enrol the host first: watchword agent enrol.",
            )
        if known.profile is None or known.profile.id != self.grant.profile:
            raise Rejected(
                Finding("F2", "profile-unknown", "the token names a profile that this authority does not have",
                        actual=self.grant.profile.hex()),
                hint="Give the profile to the authority: watchword authority profile add FILE.",
            )  # fmt: skip
        return known.ak, known.profile

    def _refuse(self, rejected: Rejected) -> NoReturn:
        self.refuse(rejected)
        raise rejected

    def _expect(self, step: str) -> None:
        if self.state not in TRANSITIONS[step][0]:
            raise RuntimeError(f"{step} is not possible in state {self.state.name}")

    def _move(self, step: str) -> None:
        self.state = TRANSITIONS[step][1]


def _share_record(grant: TokenBody, run: bytes) -> ShareRecord:
    assert grant.place is not None
    return ShareRecord(grant.place.index, grant.place.threshold, grant.place.count, run.hex())


def _stack_record(stack: CompiledStack) -> StackRecord:
    return StackRecord(stack.name, stack.version, stack.digest.hex(), stack.origin)


def pseudonym(key: bytes, host_id: bytes, profile_id: bytes) -> str:
    """The name of a host in receipts for one profile: stable, and not to be linked across profiles. 32 hex digits."""
    return hmac.new(key, b"watchword/pseudonym/1\0" + host_id + profile_id, hashlib.sha256).hexdigest()[:32]
