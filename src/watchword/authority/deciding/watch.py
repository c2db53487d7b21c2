"""Keeping up with hosts between launches: what they are worth, and the evidence that says so.

A state changes only when the evidence is the host's own. What fails before the quote is known to be its TPM's (clauses
A and B, and the nonce) may come from anybody who knows the host's id: it is refused, and the state that is on file runs
out by itself if nothing better comes.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from watchword.authority.deciding.look import Look, Looks
from watchword.authority.deciding.on_file import Keeping
from watchword.authority.deciding.renewals import Renewals
from watchword.authority.deciding.snapshot import Snapshot, Snapshots
from watchword.authority.deciding.verdicts import Verdicts
from watchword.authority.keys.keyring import Keyring
from watchword.authority.store import Renewal, Store, Transaction
from watchword.authority.telemetry import journal
from watchword.authority.telemetry.events import AttestationEvent, Tell
from watchword.authority.telemetry.work import Work
from watchword.errors import Rejected
from watchword.launch import challenge
from watchword.launch.attest import (
    Answered,
    Attestation,
    HostState,
    OnFile,
    Standing,
    answered,
    attest,
    check_new,
    is_own,
    judged,
    may_ask_ahead,
    rejected,
    selections_context,
    selections_for,
)
from watchword.launch.machine import pseudonym
from watchword.launch.renewal import Renewed, remember, renew
from watchword.policy.profile import Profile
from watchword.verify.quote import LastSeen
from watchword.verify.runtime_state import RuntimeState
from watchword.wire.evidence import Evidence, Purpose
from watchword.wire.messages import Attested, Challenge
from watchword.wire.tpm.attest import Attest, ClockInfo
from watchword.wire.trace import exchange_trace

__all__ = ["Watch", "standing_now"]


@dataclass(frozen=True, slots=True)
class _Found:
    """How a host stands, by profile id; ``runtime`` is how far its runtime log was judged."""

    states: Mapping[bytes, HostState]
    runtime: RuntimeState | None
    renewed: bool


class Watch:
    """Answers hosts that only want to be attested; for any number of threads.

    What changes nothing but times is left to ``renewals``, if there are any, and else written at once.
    """

    def __init__(
        self,
        store: Store,
        snapshots: Snapshots,
        keeping: Keeping,
        *,
        tell: Tell = journal.tell,
        renewals: Renewals | None = None,
    ) -> None:
        self._store = store
        self._renewals = renewals
        self._verdicts = Verdicts()
        self._snapshots = snapshots
        self._looks = Looks(store, snapshots, renewals)
        self._keeping = keeping
        self._tell = tell

    def challenge(self, host_id: bytes, keys: Keyring, now: int) -> Challenge:
        """A nonce for one attestation, and the PCRs that everybody who is interested in this host wants to see.

        Raises Rejected (W1).
        """
        generation, host = self._store.host_now(host_id)
        snapshot = self._snapshots.at(generation)
        profiles = self._looks.profiles(snapshot, self._store.interests(host_id))
        return _challenge(host_id, profiles, snapshot, host.runtime_state if host else None, keys, now)

    def attest(self, evidence: Evidence, reply_key: bytes, keys: Keyring, now: int, work: Work) -> Attested:
        """What the host is worth, by the first profile that it is judged by. Raises Rejected, MalformedError."""
        with work.phase("read"):
            look = self._looks.look(evidence.host_id, now)
        with work.phase("appraise"):
            answer = answered(evidence, reply_key, now, keys.mac_key, look.on_file)
            renewed = self._renewed(evidence, answer, look, now)
        if renewed is not None:
            with work.phase("commit"):
                self._renew(evidence.host_id, renewed, look.file.states, now)
            found = _Found(renewed.states, look.on_file.runtime, renewed=True)
            return self._attested(evidence, answer, look, found, keys, now, work)
        evidence = self._keeping.completed(evidence, answer, look.file)
        found = self._judge(evidence, answer, look, now, work)
        return self._attested(evidence, answer, look, found, keys, now, work)

    def at_once(self, evidence: Evidence, reply_key: bytes, keys: Keyring, now: int, work: Work) -> Attested | None:
        """The same for evidence that shows nothing new, where that is known after a look at one row and no wait.

        None: :meth:`attest` answers. Raises Rejected, MalformedError as that does, :class:`Unavailable`.
        """
        if self._verdicts.get(evidence.host_id) is None:
            return None
        with work.phase("read"):
            look = self._looks.at_hand(evidence.host_id, now)
        if look is None:
            return None
        with work.phase("appraise"):
            answer = answered(evidence, reply_key, now, keys.mac_key, look.on_file)
            renewed = self._renewed(evidence, answer, look, now)
        if renewed is None or not self._put_off(evidence.host_id, renewed, look.file.states, now):
            return None
        found = _Found(renewed.states, look.on_file.runtime, renewed=True)
        return self._attested(evidence, answer, look, found, keys, now, work)

    def _attested(
        self, evidence: Evidence, answer: Answered, look: Look, found: _Found, keys: Keyring, now: int, work: Work
    ) -> Attested:
        """Tell what was ``found``, and say it to the host."""
        first = look.profiles[0].id
        ahead = None  # a host in good order needs one request for each attestation
        if may_ask_ahead(look.profiles):
            boot = answer.quote.clock_info.reset_count
            ahead = _challenge(evidence.host_id, look.profiles, look.snapshot, found.runtime, keys, now, boot)
        self._tell_state(evidence, first, found.states[first], keys, work, renewed=found.renewed)
        return _reply(found.states[first], ahead)

    def _judge(self, evidence: Evidence, answer: Answered, look: Look, now: int, work: Work) -> _Found:
        on_file, file = look.on_file, look.file
        before = file.states
        try:
            with work.phase("appraise"):
                found = attest(evidence, answer, now, on_file)
        except Rejected as refusal:
            if is_own(refusal):
                self._fail(evidence, before, refusal, now)
            raise
        states = {a.profile.id: judged(a, before.get(a.profile.id), now, found.challenged_at) for a in found.appraisals}
        kept = None
        if not self._keeping.has(file, evidence, found.host, now):
            with work.phase("pack"):
                kept = self._keeping.ready(evidence, found.host, found.bound, found.challenged_at)
        with work.phase("commit"), self._store.transaction() as tx:
            self._remember(tx, evidence.host_id, found, now, on_file)
            self._put(tx, evidence.host_id, before, states, now)
            if kept is not None:
                kept.put(tx, evidence.host_id, now)
        after = on_file
        if found.host.runtime is not None:
            after = replace(on_file, seen=found.host.runtime.seen, runtime=found.runtime_state)
        self._verdicts.put(evidence.host_id, remember(evidence, answer, after, file.generation, states, now))
        return _Found(states, found.runtime_state, renewed=False)

    def _renewed(self, evidence: Evidence, answer: Answered, look: Look, now: int) -> Renewed | None:
        verdict, file = self._verdicts.get(evidence.host_id), look.file
        if verdict is None or not self._keeping.is_recent(file, now):
            return None
        return renew(evidence, answer, look.on_file, file.generation, file.states, verdict, now)

    def _renew(self, host_id: bytes, renewed: Renewed, before: Mapping[bytes, HostState], now: int) -> None:
        if self._put_off(host_id, renewed, before, now):
            return
        with self._store.transaction() as tx:
            _put_seen(tx, host_id, renewed.pcrs.clock_info, now)
            tx.renew([_renewal(host_id, renewed, now)])

    def _put_off(self, host_id: bytes, renewed: Renewed, before: Mapping[bytes, HostState], now: int) -> bool:
        """Whether what is renewed may be written later, with that of others."""
        ends = min(before[profile_id].until for profile_id in renewed.states)
        return self._renewals is not None and self._renewals.put(_renewal(host_id, renewed, now), ends)

    def _tell_state(
        self, evidence: Evidence, profile_id: bytes, state: HostState, keys: Keyring, work: Work, *, renewed: bool
    ) -> None:
        work.told = True
        self._tell(
            AttestationEvent(
                trace=exchange_trace(evidence.nonce),
                standing=str(state.standing),
                code=state.code,
                host=pseudonym(keys.pseudonym_key, evidence.host_id, profile_id),
                profile=profile_id.hex(),
                level=state.level,
                stack=state.stack.hex(),
                renewed=renewed,
                cost=work.cost(),
            )
        )

    def _fail(self, evidence: Evidence, before: Mapping[bytes, HostState], refusal: Rejected, now: int) -> None:
        states = {profile_id: rejected(refusal, state, now) for profile_id, state in before.items()}
        info = Attest.parse(evidence.attest).clock_info
        with self._store.transaction() as tx:
            # Old evidence does not fit what is on file by now, and says nothing about the host.
            check_new(info, tx.last_seen(evidence.host_id))
            self._put(tx, evidence.host_id, before, states, now)

    @staticmethod
    def _remember(tx: Transaction, host_id: bytes, found: Attestation, now: int, on_file: OnFile) -> None:
        info, runtime = found.host.pcrs.clock_info, found.host.runtime
        _put_seen(tx, host_id, info, now)
        if runtime is not None and (runtime.seen, found.runtime_state) != (on_file.seen, on_file.runtime):
            tx.update_runtime(host_id, runtime.seen, found.runtime_state)

    @staticmethod
    def _put(
        tx: Transaction, host_id: bytes, before: Mapping[bytes, HostState], states: Mapping[bytes, HostState], now: int
    ) -> None:
        """Only changes are acts of the record: a fleet that is well leaves no trace there."""
        for profile_id, state in states.items():
            previous = before.get(profile_id)
            tx.put_state(host_id, profile_id, state)
            if state.differs(previous, now) or state.rebooted(previous):
                tx.append_act(
                    now,
                    f"host-{state.standing}",
                    host_id.hex(),
                    profile=profile_id.hex(),
                    level=state.level,
                    was=str(previous.at(now)) if previous else None,
                    rebooted=state.rebooted(previous),
                    code=state.code,
                )


def _renewal(host_id: bytes, renewed: Renewed, now: int) -> Renewal:
    return Renewal(host_id, now, LastSeen.of(renewed.pcrs.clock_info), renewed.states)


def _put_seen(tx: Transaction, host_id: bytes, info: ClockInfo, now: int) -> None:
    if not tx.update_seen(host_id, LastSeen.of(info), now):
        check_new(info, tx.last_seen(host_id))  # W2 again: newer evidence came in between


def _reply(state: HostState, ahead: Challenge | None) -> Attested:
    return Attested(str(state.standing), state.level, state.rank, state.until, state.code, state.reason, ahead)


def _challenge(
    host_id: bytes,
    profiles: Sequence[Profile],
    snapshot: Snapshot,
    state: RuntimeState | None,
    keys: Keyring,
    now: int,
    boot: int | None = None,
) -> Challenge:
    """``state`` is how far the runtime log was judged; whichever stack judges now may not have seen that log.

    ``boot`` is the resetCount of the boot whose boot log was just looked at.
    """
    selections = selections_for(profiles)
    seen = state.seen if state is not None and snapshot.judges(state.stack, now) else None
    entries, reset_count = (seen.entries, seen.reset_count) if seen else (0, boot or 0)
    nonce = challenge.issue(
        keys.mac_key,
        host_id=host_id,
        purpose=Purpose.ATTEST,
        token_id=selections_context(selections),
        now=now,
        random=secrets.token_bytes(challenge.RANDOM_SIZE),
    )
    expires = now + challenge.lifetime(Purpose.ATTEST)
    return Challenge(nonce, selections, expires, entries, reset_count, boot is not None and boot == reset_count)


def standing_now(state: HostState | None, now: int, *, revoked: bool) -> tuple[str, str]:
    """How a host stands at ``now``, and why not better: "unknown" when it never attested, failed when revoked."""
    if revoked:
        return str(Standing.FAILED), "the host was revoked"
    if state is None:
        return "unknown", "the host has not attested"
    standing = state.at(now)
    return str(standing), "the host has not attested in time" if standing is Standing.STALE else state.reason
