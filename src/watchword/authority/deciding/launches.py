"""What the authority does with a message from a host: the I/O around ``launch``.

``handle`` opens the sealed request, answers it and seals the reply. Whatever the evidence says, the reply is a
message; only a request that cannot be opened raises. The order inside ``_release`` is the promise of clause F5: the
decision is durable before a release exists.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable

from watchword.authority.deciding.host_rates import HostRates
from watchword.authority.deciding.on_file import Keeping, Kept
from watchword.authority.deciding.renewals import Renewals
from watchword.authority.deciding.snapshot import Snapshot, Snapshots
from watchword.authority.deciding.watch import Watch
from watchword.authority.keys.high_water import HighWater
from watchword.authority.keys.keyring import Keyring
from watchword.authority.store import Host, Placement, Store, Transaction
from watchword.authority.telemetry import journal
from watchword.authority.telemetry.events import Tell
from watchword.authority.telemetry.messages import answered, decided, ended_with
from watchword.authority.telemetry.work import Work
from watchword.crypto.envelope import open_request, seal_reply
from watchword.crypto.token import open_token
from watchword.errors import Finding, MalformedError, Rejected, Unavailable, WatchwordError
from watchword.launch import challenge, enrol, release
from watchword.launch.machine import Known, Launch, State
from watchword.launch.receipt import Decision, launch_key
from watchword.verify.ak import restore_ak
from watchword.verify.quote import LastSeen
from watchword.verify.runtime_state import RuntimeSeen
from watchword.wire.evidence import Purpose
from watchword.wire.messages import (
    Attested,
    AttestRequest,
    Challenge,
    ChallengeRequest,
    EnrolBegin,
    EnrolChallenge,
    EnrolFinish,
    Enrolled,
    Refusal,
    Release,
    ReleaseRequest,
    Reply,
    Request,
    encode_reply,
    parse_request,
)
from watchword.wire.token import token_id

__all__ = ["Launches"]


class Launches:
    """Answers sealed messages; for any number of threads. ``clock`` gives Unix seconds.

    With ``keep_evidence`` the newest evidence of each host stays on file, for the dry run of a change. ``tell`` hears
    how every message ended. ``rates`` say how often one host may come; there is no limit unless they are given.
    ``snapshots`` may be shared with whatever else reads the store. ``renewals`` are written by who gives them; without,
    every attestation is written at once.
    """

    def __init__(
        self,
        store: Store,
        keyring: Callable[[], Keyring],
        clock: Callable[[], float] = time.time,
        *,
        keep_evidence: bool = True,
        tell: Tell = journal.tell,
        rates: HostRates | None = None,
        snapshots: Snapshots | None = None,
        renewals: Renewals | None = None,
    ) -> None:
        self._store = store
        self._keyring = keyring
        self._clock = clock
        self._tell = tell
        self._rates = rates or HostRates()
        self._snapshots = snapshots or Snapshots(store)
        self._water = HighWater(store)
        self._keeping = Keeping(store, keep=keep_evidence)
        self._may_answer_at_once = store.local and renewals is not None
        self._watch = Watch(store, self._snapshots, self._keeping, tell=tell, renewals=renewals)

    def handle(self, sealed: bytes) -> bytes:
        """The sealed reply to a sealed request.

        Raises :class:`MalformedError` when it cannot even be opened, :class:`Problem` (``rate-limited``).
        """
        keys, work = self._keyring(), Work()
        request: Request | None = None
        with work.phase("open"):
            plain, reply_key = open_request(sealed, keys.sealing_keys)
            del sealed  # a first runtime log is large: no copy of it is kept longer than needed
        try:
            with work.phase("open"):
                request = parse_request(plain)
                del plain
            reply = self._answer(request, reply_key, keys, work)
            event = answered(request, reply, work)
        except WatchwordError as error:
            event = None if work.told else ended_with(request, error, work)
            reply = _refusal(error)
        if event is not None:
            self._tell(event)
        return seal_reply(encode_reply(reply), reply_key)

    def at_once(self, sealed: bytes) -> bytes | None:
        """The sealed reply if it takes no more than a look at one row, as that to a host that shows nothing new does.

        None: :meth:`handle` answers. Raises as that does.
        """
        if not self._may_answer_at_once:
            return None
        keys, work = self._keyring(), Work()
        with work.phase("open"):
            plain, reply_key = open_request(sealed, keys.sealing_keys)
        try:
            with work.phase("open"):
                request = parse_request(plain)
            if not isinstance(request, AttestRequest):
                return None
            reply = self._attest_at_once(request, reply_key, keys, work)
        except WatchwordError:
            return None  # it costs little to find out again, and is told there
        return seal_reply(encode_reply(reply), reply_key) if reply is not None else None

    def _attest_at_once(self, request: AttestRequest, reply_key: bytes, keys: Keyring, work: Work) -> Attested | None:
        host_id = request.evidence.host_id
        self._water.check_held(keys)
        self._rates.evidence.check(host_id)
        _check_attests(request)
        attested = self._watch.at_once(request.evidence, reply_key, keys, int(self._clock()), work)
        if attested is not None:
            self._rates.evidence.charge(host_id)
        return attested

    def _answer(self, request: Request, reply_key: bytes, keys: Keyring, work: Work) -> Reply:
        now = int(self._clock())
        self._water.check_held(keys)
        match request:
            case EnrolBegin():
                return self._enrol_begin(request, keys, now)
            case EnrolFinish():
                return self._enrol_finish(request, keys, now)
            case ChallengeRequest():
                self._rates.evidence.check(request.host_id)
                return self._challenge(request, keys, now)
            case ReleaseRequest():
                self._rates.evidence.check(request.evidence.host_id)
                return self._release(Launch(request.evidence, reply_key, now), keys, now, work)
            case AttestRequest():
                self._rates.evidence.check(request.evidence.host_id)
                return self._attest(request, reply_key, keys, now, work)

    # -- enrolment ---------------------------------------------------------------------------------------------

    def _enrol_begin(self, request: EnrolBegin, keys: Keyring, now: int) -> EnrolChallenge:
        return enrol.begin(
            request,
            trusted=self._snapshots.current().trusted,
            now=now,
            cookie_key=_cookie_key(keys),
            secret=secrets.token_bytes(enrol.SECRET_SIZE),
            random=secrets.token_bytes(enrol.COOKIE_RANDOM_SIZE),
        )

    def _enrol_finish(self, request: EnrolFinish, keys: Keyring, now: int) -> Enrolled:
        trusted = self._snapshots.current().trusted
        ek, ak = enrol.finish(request, trusted=trusted, now=now, cookie_key=_cookie_key(keys))
        self._rates.enrolments.check(ek.host_id)
        self._rates.enrolments.charge(ek.host_id)
        host = Host(
            host_id=ek.host_id,
            ek_public=ek.public.encode(),
            ak_public=ak.ak.encode(),
            ek_class=ek.ek_class,
            enrolled_at=now,
        )
        with self._store.transaction() as tx:
            tx.put_host(host)
            tx.append_act(now, "host-enrolled", ek.host_id.hex())
        return Enrolled(ek.host_id)

    # -- challenge and release ---------------------------------------------------------------------------------

    def _challenge(self, request: ChallengeRequest, keys: Keyring, now: int) -> Challenge:
        if request.purpose is Purpose.ATTEST and not request.token:
            return self._watch.challenge(request.host_id, keys, now)
        if request.purpose not in (Purpose.LAUNCH, Purpose.SHARE):
            raise Rejected(Finding("B5", "purpose-unknown", "this authority gives out secrets for launches only"))
        self._water.check(keys)
        keys.check_tokens()
        grant = open_token(request.token, keys.sealing_keys, keys.void)
        release.check_grant(grant, now)
        release.check_purpose(grant, request.purpose)
        profile = self._snapshots.profile(grant.profile)
        if profile is None:
            raise Rejected(
                Finding("F2", "profile-unknown", "this authority does not have the token's profile",
                        actual=grant.profile.hex()),
                hint="Give the profile to the authority: watchword authority profile add FILE.",
            )  # fmt: skip
        generation, host = self._store.host_now(request.host_id)
        snapshot = self._snapshots.at(generation)
        nonce = challenge.issue(
            keys.mac_key,
            host_id=request.host_id,
            purpose=request.purpose,
            token_id=token_id(request.token),
            now=now,
            random=secrets.token_bytes(challenge.RANDOM_SIZE),
            era=snapshot.nonce_era,
        )
        known, reset_count = self._on_file(host, snapshot, now)
        return Challenge(nonce, profile.selections(), now + challenge.LIFETIME, known, reset_count)

    @staticmethod
    def _on_file(host: Host | None, snapshot: Snapshot, now: int) -> tuple[int, int]:
        """How many entries of the host's runtime log are judged already, and in which boot (its resetCount)."""
        state = host.runtime_state if host is not None else None
        if state is None or not snapshot.judges(state.stack, now):
            return 0, 0  # whichever stack judges now has not seen that log
        return state.seen.entries, state.seen.reset_count

    def _attest(self, request: AttestRequest, reply_key: bytes, keys: Keyring, now: int, work: Work) -> Attested:
        _check_attests(request)
        attested = self._watch.attest(request.evidence, reply_key, keys, now, work)
        self._rates.evidence.charge(request.evidence.host_id)
        return attested

    def _release(self, launch: Launch, keys: Keyring, now: int, work: Work) -> Release:
        self._water.check(keys)
        keys.check_tokens()  # before it counts: what cannot be signed cannot leave
        launch.open_token(keys.sealing_keys, keys.void)
        refused: Rejected | None = None
        try:
            with work.phase("read"):
                generation, host = self._store.host_now(launch.evidence.host_id)
                snapshot = self._snapshots.at(generation)
            launch.accept_nonce(keys.mac_key, snapshot.nonce_era)
            with work.phase("read"):
                known = self._known(launch, host, snapshot)
            with work.phase("appraise"):
                launch.appraise(known)
        except Rejected as rejected:
            refused = rejected
            if launch.state is not State.REFUSED:  # what is on file for the host was refused, not its evidence
                launch.refuse(rejected)
        with work.phase("pack"):
            kept = self._kept(launch)
        with work.phase("commit"), self._store.transaction() as tx:
            refused = self._decide(launch, tx, refused, kept)
            entry, decision = self._record(launch, tx, keys)
        launch.recorded()
        if refused is not None:
            self._told(work, entry, decision)
            raise refused
        with work.phase("mark"):
            self._water.advance(keys, entry)
        with work.phase("seal"):
            sealed = launch.seal(secrets.token_bytes(release.DATA_KEY_SIZE))
        self._told(work, entry, decision)
        return sealed

    def _told(self, work: Work, entry: int, decision: Decision) -> None:
        work.told = True
        self._tell(decided(entry, decision, work))

    def _known(self, launch: Launch, host: Host | None, snapshot: Snapshot) -> Known:
        profile = self._snapshots.profile(launch.grant.profile)
        if host is None:
            return Known(None, False, None, None, profile, snapshot.releases)
        ak = restore_ak(host.host_id, host.ek_public, host.ak_public, host.ek_class)
        files = self._snapshots.known_files(snapshot, profile.bank, launch.now) if profile is not None else None
        return Known(ak, host.revoked, host.last, host.runtime, profile, snapshot.releases, files, host.runtime_state)

    def _kept(self, launch: Launch) -> Kept | None:
        if launch.host is None:
            return None
        challenged_at = launch.nonce_expires - challenge.LIFETIME
        return self._keeping.ready(launch.evidence, launch.host, launch.bound, challenged_at)

    @staticmethod
    def _keep_runtime(launch: Launch, tx: Transaction, seen: RuntimeSeen) -> None:
        state = launch.runtime_state
        if (seen, state) != launch.known_runtime:
            tx.update_runtime(launch.evidence.host_id, seen, state)

    def _decide(self, launch: Launch, tx: Transaction, refused: Rejected | None, kept: Kept | None) -> Rejected | None:
        """Under the writer's lock: spend the nonce, count the release, remember the host's clock and evidence."""
        spend = (launch.nonce_id, launch.nonce_expires, launch.nonce_era)
        fresh = tx.use_nonce(*spend) if launch.nonce_expires else False
        if refused is None:
            try:
                launch.count(nonce_is_fresh=fresh, releases=tx.releases(launch.token_id))
            except Rejected as rejected:
                refused = rejected
        host = launch.host
        if host is not None and fresh:
            self._rates.evidence.charge(launch.evidence.host_id)
            seen = host.pcrs.clock_info
            tx.update_seen(launch.evidence.host_id, LastSeen.of(seen), launch.now)
            if host.runtime is not None:
                self._keep_runtime(launch, tx, host.runtime.seen)
            if kept is not None:
                kept.put(tx, launch.evidence.host_id, launch.now)
            if refused is None:
                tx.put_placement(_placement(launch, host.pcrs.clock_info.reset_count))
        return refused

    @staticmethod
    def _record(launch: Launch, tx: Transaction, keys: Keyring) -> tuple[int, Decision]:
        """F5: the decision joins the log in the same transaction as the count it reports."""
        if launch.state is State.COUNTED:
            releases = tx.count_release(launch.token_id)
        else:
            releases = tx.releases(launch.token_id)
        decision = launch.decision(releases=releases, pseudonym_key=keys.pseudonym_key)
        entry = tx.append_decision(launch.now, launch_key(launch.grant.launch_id), decision.encode())
        return entry.seq, decision


def _check_attests(request: AttestRequest) -> None:
    if request.evidence.purpose is not Purpose.ATTEST:
        raise Rejected(Finding("B5", "purpose-unknown", "this evidence was not made for an attestation"))


def _placement(launch: Launch, reset_count: int) -> Placement:
    grant = launch.grant
    return Placement(
        launch_key(grant.launch_id), launch.evidence.host_id, grant.profile, grant.level, reset_count, launch.now
    )


def _cookie_key(keys: Keyring) -> bytes:
    return hmac.new(keys.mac_key, b"watchword/enrol-cookie-key/1", hashlib.sha256).digest()


def _refusal(error: WatchwordError) -> Refusal:
    """What the host is told; what went wrong inside the authority stays in its log."""
    if isinstance(error, Rejected):
        return Refusal(error.code, error.clause, _sentence(error.findings[0]))
    if isinstance(error, MalformedError):
        return Refusal(error.code, "", error.message)
    code = error.code if isinstance(error, Unavailable) else "internal"
    return Refusal(code, "", "the authority could not decide; nothing was released", retry=True)


def _sentence(finding: Finding) -> str:
    text = finding.message
    if finding.subject:
        text += f" ({finding.subject})"
    if finding.expected or finding.actual:
        text += f"; expected {finding.expected[:200]!r}, found {finding.actual[:200]!r}"
    return text
