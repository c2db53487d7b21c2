"""W8: what shows nothing new is worth what it was worth, and anything new is looked at in full."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from watchword.authority.deciding.launches import Launches
from watchword.authority.deciding.renewals import FLUSH_SECONDS, Renewals
from watchword.authority.deciding.verdicts import Verdicts
from watchword.authority.store import DatabaseUrl, Host, Placement, Renewal, StackState
from watchword.authority.telemetry.events import AttestationEvent, Event
from watchword.crypto.envelope import open_reply, seal_request
from watchword.errors import Rejected, Unavailable
from watchword.launch.attest import LEASE, HostState, Standing
from watchword.launch.renewal import Verdict
from watchword.testing.replayed import Recording, ReplayedHost
from watchword.testing.soft_tpm import SoftTpm
from watchword.testing.world import World, profile_document
from watchword.verify.ek import EkClass
from watchword.verify.quote import LastSeen
from watchword.wire.evidence import Purpose
from watchword.wire.ima_log import ImaLog
from watchword.wire.messages import (
    Attested,
    AttestRequest,
    Challenge,
    ChallengeRequest,
    Refusal,
    Reply,
    Request,
    encode_request,
    parse_reply,
)
from watchword.wire.tpm.algorithms import Alg
from watchword.wire.tpm.attest import Attest, ClockInfo, QuoteInfo

PERIOD = 150  # seconds between two attestations


@dataclass
class Bench:
    """A host of software and an authority; ``events`` are what the authority tells."""

    world: World
    host: ReplayedHost
    events: list[Event] = field(default_factory=list)
    renewals: Renewals | None = None
    keep: bool = True
    at_once: bool = False  # as the service does: what takes no more than a look at a row is answered without a thread
    asked_again: int = 0
    answered_at_once: int = 0
    launches: Launches = field(init=False)

    def __post_init__(self) -> None:
        self.restart()
        self.enrol()

    def restart(self) -> None:
        """Another process of the same authority."""
        if self.at_once:
            self.renewals = Renewals(self.world.store)
        self.launches = Launches(
            self.world.store, lambda: self.world.keys, lambda: self.world.now,
            keep_evidence=self.keep, tell=self.events.append, renewals=self.renewals,
        )  # fmt: skip

    def enrol(self) -> None:
        ak = self.host.tpm.ak
        with self.world.store.transaction() as tx:
            tx.put_host(Host(ak.host_id, ak.ek.encode(), ak.ak.encode(), EkClass.VIRTUAL, self.world.now))

    def say(self, request: Request, key: bytes = bytes(32)) -> Reply:
        sealed = seal_request(encode_request(request), self.world.keys.key_list, key)
        reply = self.launches.at_once(sealed) if self.at_once else None
        self.answered_at_once += reply is not None
        reply = reply or self.launches.handle(sealed)
        if self.at_once:
            assert self.renewals is not None
            self.renewals.flush()
        return parse_reply(open_reply(reply, key))

    def challenge(self) -> Challenge:
        """The one that came with the last verdict, or else a new one."""
        challenge = self.host.pending or self.say(ChallengeRequest(self.host.host_id, Purpose.ATTEST, ""))
        assert isinstance(challenge, Challenge)
        return challenge

    def attest(self, change: Callable[[AttestRequest], AttestRequest] = lambda request: request) -> Reply:
        """One attestation, ``change``d on its way."""
        request, key = self.host.attest_request(self.challenge())
        reply = self.say(change(request), key)
        self.host.pending = reply.next if isinstance(reply, Attested) else None
        return reply

    def settled(self) -> None:
        """Until there is nothing new, so that the next attestation is a renewal."""
        assert self.standing() == "trusted"
        self.world.now += PERIOD
        assert self.standing() == "trusted"
        self.world.now += PERIOD

    def standing(self, change: Callable[[AttestRequest], AttestRequest] = lambda request: request) -> str:
        """What came of an attestation, tried again as the agent does: a standing, or the code of a refusal."""
        reply = self.attest(change)
        if isinstance(reply, Refusal) and reply.code == "challenge-outdated":
            self.asked_again += 1
            reply = self.attest(change)
        return reply.state if isinstance(reply, Attested) else f"{reply.clause} {reply.code}"  # type: ignore[union-attr]

    @property
    def renewed(self) -> bool:
        """Whether the newest attestation was a renewal."""
        found = [event for event in self.events if isinstance(event, AttestationEvent)]
        return found[-1].renewed

    @property
    def state(self) -> HostState:
        return self.world.store.states(self.host.host_id)[self.world.profile.id]


@pytest.fixture
def world(boots: Path, database: DatabaseUrl | None) -> Iterator[World]:
    with World(boots, database=database) as made:
        made.watch()
        yield made


@pytest.fixture
def recording(boots: Path) -> Recording:
    return Recording.load(boots / "good")


@pytest.fixture(params=[False, True], ids=["in-a-thread", "at-once"])
def bench(world: World, recording: Recording, request: pytest.FixtureRequest) -> Bench:
    made = Bench(world, ReplayedHost(recording), at_once=request.param)
    made.settled()
    return made


def test_what_shows_nothing_new_moves_times_and_nothing_else(bench: Bench) -> None:
    before, entries = bench.state, bench.world.store.head().seq
    assert (bench.standing(), bench.renewed) == ("trusted", True)
    assert bench.state == replace(before, checked=before.checked + PERIOD, until=before.until + PERIOD)
    assert bench.world.store.head().seq == entries
    assert bench.world.store.host(bench.host.host_id).last.clock == bench.host.clock  # type: ignore[union-attr]


def test_no_log_is_sent_again_in_one_boot(bench: Bench) -> None:
    request, _ = bench.host.attest_request(bench.challenge())
    assert (request.evidence.event_log, request.evidence.ima_log) == (b"", b"")


def test_a_boot_log_that_is_sent_again_must_be_the_same(bench: Bench, recording: Recording) -> None:
    def with_log(log: bytes) -> Callable[[AttestRequest], AttestRequest]:
        return lambda request: AttestRequest(replace(request.evidence, event_log=log))

    assert (bench.standing(with_log(recording.event_log)), bench.renewed) == ("trusted", True)
    assert bench.standing(with_log(recording.event_log[:-40])).startswith("C")
    assert bench.state.standing is Standing.FAILED
    assert (bench.standing(), bench.renewed) == ("trusted", False)  # it is judged anew, and comes back


@pytest.mark.parametrize("keep", [True, False])
def test_another_process_judges_what_is_on_file_or_asks_again(world: World, recording: Recording, keep: bool) -> None:
    bench = Bench(world, ReplayedHost(recording), keep=keep)
    bench.settled()
    bench.restart()
    assert (bench.standing(), bench.renewed) == ("trusted", False)
    assert bench.asked_again == (0 if keep else 1)
    world.now += PERIOD
    assert (bench.standing(), bench.renewed) == ("trusted", True)


def test_a_boot_log_of_another_boot_is_not_taken_in_its_place(bench: Bench, recording: Recording) -> None:
    bench.restart()
    request, key = bench.host.attest_request(bench.challenge())
    bench.host = ReplayedHost(recording, bench.host.tpm, bench.host.clock)  # the same TPM
    quoted = rebooted(bench, request)
    reply = bench.say(quoted, key)
    assert isinstance(reply, Refusal)
    assert (reply.clause, reply.code) == ("W6", "challenge-outdated")


def rebooted(bench: Bench, request: AttestRequest) -> AttestRequest:
    """The same evidence, with a quote of the next boot."""
    return requoted(bench, request, reset_count=2)


def requoted(
    bench: Bench, request: AttestRequest, *, reset_count: int = 1, firmware: int = 1, tpm: SoftTpm | None = None,
    pcrs: dict[int, bytes] | None = None,
) -> AttestRequest:  # fmt: skip
    """The same evidence, with another quote for the same challenge."""
    told = Attest.parse(request.evidence.attest)
    assert isinstance(told.attested, QuoteInfo)
    values = {Alg.SHA256: dict(request.evidence.pcrs[Alg.SHA256]) | (pcrs or {})}
    clock = ClockInfo(bench.host.clock, reset_count, 0, True)
    attest, signature = (tpm or bench.host.tpm).quote(
        told.attested.selections, values, told.extra_data, clock, firmware
    )
    return AttestRequest(replace(request.evidence, attest=attest, signature=signature, pcrs=values))


def test_an_authentic_quote_is_needed_all_the_same(bench: Bench) -> None:
    forged = requoted(bench, bench.host.attest_request(bench.challenge())[0], tpm=SoftTpm.create())
    assert bench.standing(lambda r: AttestRequest(replace(r.evidence, signature=forged.evidence.signature))) == (
        "B4 quote-signature"
    )
    bench.settled()
    with bench.world.store.transaction() as tx:
        tx.revoke_host(bench.host.host_id, "sold", bench.world.now)
    assert bench.standing() == "A5 host-revoked"


def test_what_anybody_may_have_sent_changes_nothing(bench: Bench) -> None:
    bench.restart()  # nothing is remembered, and all of it is judged
    before = bench.state
    forged = requoted(bench, bench.host.attest_request(bench.challenge())[0], tpm=SoftTpm.create())
    assert bench.standing(lambda r: AttestRequest(replace(r.evidence, signature=forged.evidence.signature))) == (
        "B4 quote-signature"
    )
    assert bench.state == before


def test_a_quote_counts_once(bench: Bench) -> None:
    request, key = bench.host.attest_request(bench.challenge())
    assert isinstance(bench.say(request, key), Attested)
    assert bench.renewed
    reply = bench.say(request, key)
    assert isinstance(reply, Refusal)
    assert (reply.clause, reply.code) == ("W2", "attest-replayed")


def test_new_pcr_values_are_judged(bench: Bench) -> None:
    assert bench.standing(lambda r: requoted(bench, r, pcrs={4: bytes(32)})).startswith("C2")
    assert bench.state.standing is Standing.FAILED


def test_a_file_that_ran_is_judged(bench: Bench) -> None:
    assert bench.standing(lambda r: requoted(bench, r, pcrs={10: bytes(32)})).startswith("D3")
    assert bench.state.standing is Standing.FAILED


def test_another_boot_is_judged(bench: Bench, recording: Recording) -> None:
    bench.host.pending = None
    whole = lambda r: rebooted(  # noqa: E731
        bench, AttestRequest(replace(r.evidence, ima_from=0, ima_log=recording.runtime_log))
    )
    assert (bench.standing(whole), bench.renewed) == ("trusted", False)
    assert bench.state.reset_count == 2


def test_other_firmware_of_the_tpm_is_judged(bench: Bench) -> None:
    bench.standing(lambda r: requoted(bench, r, firmware=2))
    assert not bench.renewed


def test_a_part_of_a_runtime_log_is_judged(bench: Bench) -> None:
    reply = bench.attest(lambda r: AttestRequest(replace(r.evidence, ima_log=b"no log")))
    assert isinstance(reply, Refusal)


@pytest.fixture(params=["runtime", "boot"])
def either(request: pytest.FixtureRequest, world: World, recording: Recording) -> Bench:
    """A host that is judged by what ran, or by what it booted only."""
    if request.param == "boot":
        with world.store.transaction() as tx:
            tx.remove_watched(world.profile.id)
        world.watch(world.add_profile(boot_only()))
    made = Bench(world, ReplayedHost(recording))
    made.settled()
    return made


def boot_only() -> bytes:
    """A profile without the runtime log."""
    document = json.loads(profile_document())
    document["pcrs"].remove(10)
    for level in document["levels"]:
        level["rules"]["runtime"] = "ignored"
    return json.dumps(document).encode()


def test_what_is_believed_and_allowed_is_asked_again(either: Bench) -> None:
    either.world.set_stack_state(either.world.stack, StackState.REVOKED)
    assert (either.standing(), either.renewed) == ("failed", False)


def test_time_alone_ends_what_a_stack_is_good_for(either: Bench) -> None:
    bench = either
    bench.world.set_stack_state(bench.world.stack, StackState.RETIRING, retire_at=bench.world.now + PERIOD + 1)
    assert (bench.standing(), bench.renewed) == ("trusted", False)
    bench.world.now += PERIOD
    assert (bench.standing(), bench.renewed) == ("trusted", True)
    bench.world.now += 1
    assert (bench.standing(), bench.renewed) == ("failed", False)


def test_a_clock_that_is_set_back_has_everything_judged(world: World, recording: Recording) -> None:
    bench = Bench(world, ReplayedHost(recording))
    bench.host.pending = bench.challenge()
    world.now += 200
    assert bench.standing() == "trusted"
    bench.host.pending = None
    world.now -= 100
    assert (bench.standing(), bench.renewed) == ("trusted", False)


def test_a_launch_under_another_profile_has_it_asked(bench: Bench) -> None:
    asked = [bench.world.profile.id]
    others = [bench.world.add_profile(profile_document(max_age_seconds=age)).id for age in (300, 400)]
    bench.standing()  # adding a profile is a change of what is allowed
    for other in others:  # the second in place of the first: as many profiles as before
        assert (bench.standing(), bench.renewed) == ("trusted", True)
        with bench.world.store.transaction() as tx:
            tx.put_placement(Placement(bytes(32), bench.host.host_id, other, 1, 1, bench.world.now))
        assert (bench.standing(), bench.renewed) == ("trusted", False)
        asked.append(other)
        assert set(bench.world.store.states(bench.host.host_id)) == set(asked)


def test_the_next_boot_shows_its_own_boot_log(either: Bench) -> None:
    request, key = either.host.attest_request(either.challenge())
    reply = either.say(rebooted(either, request), key)
    assert isinstance(reply, Refusal)
    assert (reply.clause, reply.code) == ("W6", "challenge-outdated")


def test_a_whole_runtime_log_that_is_empty_is_none(bench: Bench) -> None:
    assert bench.standing(lambda r: AttestRequest(replace(r.evidence, ima_from=0))).startswith(("C1", "D1"))


def test_what_another_replica_keeps_of_the_runtime_log_counts(bench: Bench, recording: Recording) -> None:
    known = bench.world.store.host(bench.host.host_id)
    assert known is not None
    assert known.runtime is not None
    assert known.runtime_state is not None
    raw = ImaLog.parse(recording.runtime_log).columns.raws[1]
    with bench.world.store.transaction() as tx:
        tx.update_runtime(bench.host.host_id, known.runtime, replace(known.runtime_state, kept=((1, raw),)))
    bench.standing()
    assert not bench.renewed


def test_another_profile_is_asked(bench: Bench) -> None:
    first = bench.world.profile
    bench.world.watch(bench.world.add_profile(profile_document(max_age_seconds=300)))
    bench.host.pending = None
    bench.standing()
    assert not bench.renewed
    assert set(bench.world.store.states(bench.host.host_id)) == {first.id, bench.world.profile.id}


def test_a_profile_that_asks_for_young_challenges_has_everything_judged(world: World, recording: Recording) -> None:
    world.watch(world.add_profile(profile_document(max_age_seconds=30)))
    bench = Bench(world, ReplayedHost(recording))
    for _ in range(3):
        assert (bench.standing(), bench.renewed) == ("trusted", False)
        world.now += PERIOD


def test_a_host_that_comes_back_is_news(bench: Bench) -> None:
    entries = bench.world.store.head().seq
    bench.world.now += LEASE
    bench.host.pending = None
    assert (bench.standing(), bench.renewed) == ("trusted", False)
    assert bench.world.store.head().seq == entries + 1


def test_a_state_that_somebody_else_changed_is_not_brought_back(bench: Bench) -> None:
    failed = replace(bench.state, standing=Standing.FAILED, rank=0, level="", code="x")
    with bench.world.store.transaction() as tx:
        tx.put_state(bench.host.host_id, bench.world.profile.id, failed)
    assert not bench.renewed or bench.standing() == "trusted"
    assert not bench.renewed


def test_a_runtime_log_that_somebody_else_read_further_is_asked_for(bench: Bench) -> None:
    known = bench.world.store.host(bench.host.host_id)
    assert known is not None
    assert known.runtime is not None
    further = replace(known.runtime, entries=known.runtime.entries + 1)
    with bench.world.store.transaction() as tx:
        tx.update_runtime(bench.host.host_id, further, known.runtime_state)
    assert bench.standing() == "D6 runtime-log-truncated"


def test_evidence_on_file_is_replaced_once_an_hour(bench: Bench) -> None:
    found = []
    for _ in range(3600 // PERIOD + 1):
        assert bench.standing() == "trusted"
        found.append(bench.renewed)
        bench.world.now += PERIOD
    assert found.count(False) == 1
    kept = bench.world.store.evidence_of(bench.host.host_id)
    assert kept is not None
    assert kept.time > bench.world.now - 3600


# --- what is written together ---------------------------------------------------------------------------------------


@pytest.fixture
def together(world: World, recording: Recording) -> Bench:
    made = Bench(world, ReplayedHost(recording), renewals=Renewals(world.store))
    made.settled()
    return made


def flush(bench: Bench) -> None:
    assert bench.renewals is not None
    bench.renewals.flush()


def test_renewals_wait_and_are_written_together(together: Bench) -> None:
    flush(together)
    before = together.state
    assert (together.standing(), together.renewed) == ("trusted", True)
    assert together.state == before
    flush(together)
    assert together.state == replace(before, checked=before.checked + PERIOD, until=before.until + PERIOD)
    assert together.world.store.host(together.host.host_id).last.clock == together.host.clock  # type: ignore[union-attr]


def test_a_quote_that_waits_counts_once(together: Bench) -> None:
    request, key = together.host.attest_request(together.challenge())
    assert isinstance(together.say(request, key), Attested)
    assert together.renewed
    reply = together.say(request, key)
    assert isinstance(reply, Refusal)
    assert (reply.clause, reply.code) == ("W2", "attest-replayed")


def test_what_waits_does_not_overrule_what_came_since(together: Bench) -> None:
    together.standing()
    failed = replace(together.state, standing=Standing.FAILED, rank=0, level="", code="x")
    with together.world.store.transaction() as tx:
        tx.put_state(together.host.host_id, together.world.profile.id, failed)
    flush(together)
    assert together.state == failed


@pytest.mark.parametrize("what", ["level", "best", "since", "reset_count", "stack", "code", "reason"])
def test_what_waits_renews_nothing_else(together: Bench, what: str) -> None:
    together.standing()
    other = {"level": "x", "stack": bytes(32), "code": "x", "reason": "x"}.get(what, 7)
    changed = replace(together.state, **{what: other})
    with together.world.store.transaction() as tx:
        tx.put_state(together.host.host_id, together.world.profile.id, changed)
    flush(together)
    assert together.state == changed


def test_what_waits_does_not_set_a_newer_time_back(together: Bench) -> None:
    together.standing()
    newer, last = replace(together.state, checked=together.world.now + 9, until=together.world.now + 9 + LEASE), None
    with together.world.store.transaction() as tx:
        tx.put_state(together.host.host_id, together.world.profile.id, newer)
        last = LastSeen(1, 0, together.host.clock + 9, True)
        assert tx.update_seen(together.host.host_id, last, together.world.now)
    flush(together)
    assert together.state == newer
    assert together.world.store.host(together.host.host_id).last == last  # type: ignore[union-attr]


def test_an_enrolment_in_between_starts_over(together: Bench) -> None:
    together.standing()
    together.enrol()
    flush(together)
    found = together.world.store.host(together.host.host_id)
    assert found is not None
    assert found.last is None
    assert together.world.store.states(together.host.host_id) == {}


def test_what_ends_soon_is_written_at_once(together: Bench) -> None:
    flush(together)
    together.world.now = together.state.until - 10
    together.host.pending = None
    assert (together.standing(), together.renewed) == ("trusted", True)
    assert together.state.checked == together.world.now


def test_a_store_that_fails_loses_nothing_and_takes_no_more(world: World, recording: Recording) -> None:
    bench = Bench(world, ReplayedHost(recording), renewals=Renewals(world.store))
    bench.settled()
    flush(bench)
    bench.standing()
    assert bench.renewals is not None
    broken = Renewals(world.store)
    renewal = Renewal(bench.host.host_id, world.now, LastSeen(1, 0, 10**9, True), {world.profile.id: bench.state})
    assert broken.put(renewal, world.now + LEASE)
    with pytest.MonkeyPatch.context() as patched:  # somebody else writes
        patched.setattr("watchword.authority.store.store.BUSY_SECONDS", 0.01)
        holder = threading.Thread(target=world.store._writer.acquire)
        holder.start()
        holder.join()
        with pytest.raises(Unavailable):
            broken.flush()
    assert broken.last(bench.host.host_id) == renewal.last
    assert not broken.put(replace(renewal, last=LastSeen(1, 0, 10**9 + 1, True)), world.now + LEASE)
    world.store._writer.release()
    broken.flush()
    assert broken.last(bench.host.host_id) is None
    assert broken.put(replace(renewal, last=LastSeen(1, 0, 10**9 + 1, True)), world.now + LEASE)


def test_older_evidence_does_not_wait_behind_newer(world: World) -> None:
    renewals = Renewals(world.store)
    newer = Renewal(bytes(32), world.now, LastSeen(1, 0, 100, True), {})
    assert renewals.put(newer, world.now + LEASE)
    for clock in (100, 99):
        with pytest.raises(Rejected, match="as new or newer"):
            renewals.put(replace(newer, last=LastSeen(1, 0, clock, True)), world.now + LEASE)


def test_the_newest_of_what_waits_and_what_is_on_file_counts(world: World) -> None:
    renewals, host_id = Renewals(world.store), bytes(32)
    older, newer = (LastSeen(1, 0, clock, True) for clock in (100, 200))
    assert renewals.newest(host_id, None) is None
    assert renewals.newest(host_id, older) == older
    assert renewals.put(Renewal(host_id, world.now, older, {}), world.now + LEASE)
    assert renewals.newest(host_id, None) == older
    assert renewals.newest(host_id, newer) == newer


def test_no_more_verdicts_are_remembered_than_there_is_room_for() -> None:
    verdicts, verdict = Verdicts(2), Verdict(b"", (), b"", 0, None)
    for host_id in (b"a", b"b", b"a", b"c"):
        verdicts.put(host_id, verdict)
    assert [verdicts.get(host_id) for host_id in (b"a", b"b", b"c")] == [verdict, None, verdict]
    verdicts.put(b"a", None)
    assert verdicts.get(b"a") is None


def test_they_wait_for_less_than_anybody_notices() -> None:
    assert FLUSH_SECONDS * 10 < LEASE / 10
