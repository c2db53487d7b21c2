"""A challenge that comes with a verdict: one request for each attestation, and what must not follow from that (W6)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from watchword.agent.attest import Follower, attest
from watchword.agent.transport import new_reply_key
from watchword.agent.unseal import evidence_for
from watchword.authority.deciding.launches import Launches
from watchword.authority.store import DatabaseUrl, Store
from watchword.authority.store.host_file import HostFile
from watchword.errors import Rejected
from watchword.launch.attest import LEASE, HostState, Standing
from watchword.launch.challenge import ATTEST_LIFETIME
from watchword.testing.farm import have_swtpm
from watchword.testing.world import Direct, TestHost, World, profile_document, stack_from_recording
from watchword.wire.evidence import Evidence, Purpose
from watchword.wire.messages import Attested, AttestRequest, Challenge, ChallengeRequest

from ..attacks.helpers import say

SERVICE = b"/usr/bin/unknown"


@pytest.fixture
def world(boots: Path, database: DatabaseUrl | None) -> Iterator[World]:
    if not have_swtpm():
        pytest.skip("swtpm is not installed: attestation needs real emulated TPMs")
    with World(boots, database=database) as made:
        made.watch()
        yield made


def state(world: World, host: TestHost) -> HostState:
    return world.store.states(host.host_id)[world.profile.id]


def requests(host: TestHost) -> int:
    assert isinstance(host.exchange, Direct)
    return len(host.exchange.sent)


def ahead(host: TestHost) -> Challenge:
    challenge = host.attest().next
    assert challenge is not None
    return challenge


def answer(host: TestHost, challenge: Challenge) -> tuple[Evidence, bytes]:
    """Evidence for a challenge, and the key of its reply."""
    request, key = ChallengeRequest(host.host_id, Purpose.ATTEST, ""), new_reply_key()
    found: Evidence = host.use(lambda view: evidence_for(view, request, challenge, "", key)[0])
    return found, key


def follow(host: TestHost, follower: Follower) -> Attested:
    found: Attested = host.use(follower.attest)
    return found


def refused(host: TestHost, challenge: Challenge) -> str:
    """The code with which evidence for ``challenge`` is refused; it leaves the state as it was."""
    evidence, key = answer(host, challenge)
    before = host.world.store.states(host.host_id)
    reply = say(host, AttestRequest(evidence), key)
    assert host.world.store.states(host.host_id) == before
    return f"{reply.clause} {reply.code}"


def test_every_attestation_but_the_first_is_one_request(world: World) -> None:
    host = world.host()
    follower = Follower(host.host_id, lambda: world.now)
    before = requests(host)
    assert follow(host, follower).state == "trusted"
    assert requests(host) == before + 2
    for number in range(1, 4):
        world.now += 100
        assert follow(host, follower).state == "trusted"
        assert requests(host) == before + 2 + number


def test_new_entries_alone_are_sent_for_it(world: World) -> None:
    host = world.host()
    challenge = ahead(host)
    host.machine.run_file(SERVICE, b"what is this")
    evidence, key = answer(host, challenge)
    assert evidence.ima_from == challenge.ima_from > 0
    assert say(host, AttestRequest(evidence), key).code == "runtime-file"


def test_a_state_counts_from_when_its_nonce_was_issued(world: World) -> None:
    """A host that quotes while it is good, and goes bad, gains nothing by sending the quote late."""
    host = world.host()
    challenge, issued = ahead(host), world.now
    evidence, key = answer(host, challenge)
    world.now += ATTEST_LIFETIME
    reply = say(host, AttestRequest(evidence), key)
    assert reply.until == issued + LEASE
    found = state(world, host)
    assert (found.checked, found.until) == (issued, issued + LEASE)
    assert found.at(issued + LEASE) is Standing.STALE


def test_it_does_not_last_for_ever(world: World) -> None:
    host = world.host()
    challenge = ahead(host)
    world.now += ATTEST_LIFETIME + 1
    assert refused(host, challenge) == "B6 nonce-expired"


def test_it_is_for_one_host(world: World) -> None:
    host, other = world.host(), world.host()
    other.attest()
    assert refused(other, replace(ahead(host), ima_from=0)) == "B6 nonce-unknown"


def test_a_quote_for_it_counts_once(world: World) -> None:
    host = world.host()
    evidence, key = answer(host, ahead(host))
    assert isinstance(say(host, AttestRequest(evidence), key), Attested)
    assert say(host, AttestRequest(evidence), key).code == "attest-replayed"


def test_a_host_in_good_order_is_no_news(world: World) -> None:
    """The challenge is older than the state on file, which is no silence."""
    host = world.host()
    challenge = ahead(host)
    first = state(world, host)
    world.now += 100
    host.attest()
    world.now += 100
    evidence, key = answer(host, challenge)
    assert isinstance(say(host, AttestRequest(evidence), key), Attested)
    assert state(world, host).since == first.since
    acts = [json.loads(decision.entry)["act"] for decision in world.store.decisions()]
    assert acts == ["host-enrolled", "host-trusted"]


def test_the_newest_quote_decides_whatever_its_challenge(world: World) -> None:
    """An older challenge may carry newer bad news: it must not be held back by a younger challenge."""
    host = world.host()
    challenge = ahead(host)
    world.now += 100
    host.attest()
    host.machine.run_file(SERVICE, b"what is this")
    evidence, key = answer(host, challenge)
    assert say(host, AttestRequest(evidence), key).state == "degraded"
    assert state(world, host).standing is Standing.DEGRADED


@pytest.mark.parametrize(("most", "given"), [(ATTEST_LIFETIME - 1, False), (ATTEST_LIFETIME, True)])
def test_e4_a_profile_may_want_younger_challenges(world: World, most: int, given: bool) -> None:
    host = world.host()
    world.watch(world.add_profile(profile_document(max_age_seconds=most)))
    found = host.attest()
    assert found.state == "trusted"
    assert (found.next is not None) is given


# --- what moved since the challenge ---------------------------------------------------------------------------------


def test_w6_other_pcrs_are_wanted_by_now(world: World) -> None:
    host = world.host()
    challenge = ahead(host)
    document = json.loads(profile_document())
    world.watch(world.add_profile(json.dumps(document | {"pcrs": [*document["pcrs"], 12]}).encode()))
    assert refused(host, challenge) == "W6 challenge-outdated"


def test_w6_stacks_that_judge_alike_no_more(world: World) -> None:
    host = world.host()
    challenge = ahead(host)
    old = world.stack
    world.add_stack(stack_from_recording(world.boots / "good", version="2", serial=2))
    with world.store.transaction() as tx:
        tx.set_stack_state(old.digest, "revoked", None, time=world.now)
    assert refused(host, challenge) == "W6 challenge-outdated"
    assert host.attest().state == "trusted"


def test_w6_a_log_that_others_read_further(world: World) -> None:
    host = world.host()
    challenge = ahead(host)
    host.machine.run_file(SERVICE, b"what is this")
    host.attest()
    assert refused(host, challenge) == "W6 challenge-outdated"


def test_w6_a_log_that_nobody_has_read(world: World) -> None:
    host = world.host()
    challenge = ahead(host)
    host.enrol()
    assert refused(host, replace(challenge, ima_from=3)) == "W6 challenge-outdated"


@pytest.mark.parametrize("late", [False, True])
def test_the_agent_asks_again_by_itself(world: World, late: bool) -> None:
    host = world.host()
    follower = Follower(host.host_id, lambda: world.now)
    follow(host, follower)
    host.machine.run_file(SERVICE, b"what is this")
    host.attest()
    world.now += ATTEST_LIFETIME if late else 60
    before = requests(host)
    assert follow(host, follower).state == "degraded"
    assert requests(host) == before + (2 if late else 3)  # one that is out of date by the clock is not even tried


def test_the_agent_asks_again_when_the_keys_were_replaced(world: World) -> None:
    host = world.host()
    challenge = replace(ahead(host), nonce=bytes(48))
    assert host.use(lambda view: attest(view, host.host_id, challenge)).state == "trusted"


def test_a_challenge_is_not_tried_twice(world: World) -> None:
    host = world.host()
    follower = Follower(host.host_id, lambda: world.now)
    follow(host, follower)
    with world.store.transaction() as tx:
        tx.revoke_host(host.host_id, "sold", world.now)
    for used in (1, 2):
        before = requests(host)
        with pytest.raises(Rejected) as caught:
            follow(host, follower)
        assert caught.value.code == "host-revoked"
        assert requests(host) == before + used


# --- two requests of one host at the same time ----------------------------------------------------------------------


class Interrupted(Store):
    """Something else happens between what is read for an attestation and what follows from it."""

    meanwhile: Callable[[], object] | None = None

    def host_file(self, host_id: bytes) -> HostFile:
        found = super().host_file(host_id)
        if self.meanwhile is not None:
            self.meanwhile()
        return found


@pytest.mark.parametrize("spoiled", [False, True])
def test_w2_holds_when_newer_evidence_comes_in_between(world: World, spoiled: bool) -> None:
    host = world.host()
    host.attest()
    old, key = answer(host, ahead(host))
    if spoiled:
        old = replace(old, event_log=b"no log")
    host.machine.run_file(SERVICE, b"what is this")
    with Interrupted.open(world.where) as store:
        store.meanwhile = host.attest
        slow = Launches(store, lambda: world.keys, lambda: world.now)
        reply = say(TestHost(host.machine, world, Direct(slow)), AttestRequest(old), key)
    assert (reply.clause, reply.code) == ("W2", "attest-replayed")
    assert state(world, host).code == "runtime-file"
