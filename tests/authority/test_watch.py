"""Continuous attestation against real emulated TPMs: states, leases, and what must not change them (W1 to W3)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from watchword.agent.attest import keep_attesting, pause
from watchword.agent.transport import new_reply_key
from watchword.agent.unseal import evidence_for
from watchword.authority.deciding.watch import standing_now
from watchword.authority.store import DatabaseUrl, StackState
from watchword.errors import MalformedError, Rejected, Unavailable
from watchword.launch.attest import LEASE, HostState, Standing
from watchword.testing.farm import have_swtpm
from watchword.testing.world import TestHost, World, profile_document
from watchword.wire.evidence import Evidence, Purpose
from watchword.wire.ima_log import ImaLog
from watchword.wire.messages import Attested, AttestRequest, Challenge, ChallengeRequest, ReleaseRequest

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


def acts(world: World) -> list[str]:
    entries = [json.loads(decision.entry) for decision in world.store.decisions()]
    return [entry["act"] for entry in entries if entry.get("act", "").startswith("host-")]


def evidence(host: TestHost) -> tuple[Evidence, bytes]:
    """Good evidence for an attestation that was not sent, and the key of its reply."""
    request = ChallengeRequest(host.host_id, Purpose.ATTEST, "")
    challenge = say(host, request)
    assert isinstance(challenge, Challenge)
    key = new_reply_key()
    found: Evidence = host.use(lambda view: evidence_for(view, request, challenge, "", key)[0])
    return found, key


# --- what a host is worth -------------------------------------------------------------------------------------------


def test_a_good_host_is_trusted_for_the_time_of_a_lease(world: World) -> None:
    host = world.host()
    found = host.attest()
    assert replace(found, next=None) == Attested("trusted", "full", 2, world.now + LEASE)
    assert standing_now(state(world, host), world.now + LEASE - 1, revoked=False) == ("trusted", "")
    standing, reason = standing_now(state(world, host), world.now + LEASE, revoked=False)
    assert (standing, reason) == ("stale", "the host has not attested in time")


def test_a_state_from_the_future_is_stale(world: World) -> None:
    host = world.host()
    host.attest()
    assert state(world, host).at(world.now - 1) is Standing.STALE


def test_an_unlisted_program_degrades_a_host_until_the_next_boot(world: World) -> None:
    host = world.host()
    host.attest()
    host.machine.run_file(SERVICE, b"what is this")
    world.now += 60
    found = host.attest()
    assert (found.state, found.level, found.code) == ("degraded", "boot", "runtime-file")
    assert "unknown" in found.reason
    host.machine.reboot()
    world.now += 60
    assert host.attest().state == "trusted"
    assert acts(world) == ["host-enrolled", "host-trusted", "host-degraded", "host-trusted"]


def test_a_degraded_host_can_be_accepted_as_it_is(world: World) -> None:
    host = world.host()
    host.attest()
    host.machine.run_file(SERVICE, b"what is this")
    host.attest()
    with world.store.transaction() as tx:
        tx.forget_best(host.host_id)
    assert host.attest().state == "trusted"


def test_another_kernel_is_a_failure_and_no_refusal(world: World) -> None:
    host = world.host()
    host.attest()
    host.machine.reboot(world.boots / "kernel")
    found = host.attest()
    assert (found.state, found.rank, found.code) == ("failed", 0, "stack-none")
    assert state(world, host).stack == b""


def test_a_revoked_stack_fails_its_hosts_at_their_next_attestation(world: World) -> None:
    host = world.host()
    host.attest()
    world.set_stack_state(world.stack, StackState.REVOKED)
    assert host.attest().code == "stack-revoked"


def test_a_reboot_is_told_from_tampering(world: World) -> None:
    host = world.host()
    host.attest()
    first = state(world, host)
    host.machine.reboot()
    world.now += 30
    assert host.attest().state == "trusted"
    second = state(world, host)
    assert second.rebooted(first)
    assert second.since == world.now
    assert acts(world).count("host-trusted") == 2


def test_a_fleet_that_is_well_leaves_no_trace_in_the_record(world: World) -> None:
    host = world.host()
    for _ in range(4):
        host.attest()
        world.now += 60
    assert acts(world) == ["host-enrolled", "host-trusted"]
    assert state(world, host).since == 1_800_000_000


def test_a_host_that_was_silent_is_news_when_it_comes_back(world: World) -> None:
    host = world.host()
    host.attest()
    world.now += LEASE
    host.attest()
    assert acts(world) == ["host-enrolled", "host-trusted", "host-trusted"]
    assert state(world, host).since == world.now


def test_a_tenants_profile_is_judged_too_while_its_launch_is_there(world: World) -> None:
    host = world.host()
    fleet = world.profile
    strict = world.add_profile(profile_document(min_serial={"compute": 2}))
    with pytest.raises(Rejected):  # refused: no placement, no interest
        host.obtain(world.token())
    mine = world.add_profile(profile_document(max_age_seconds=60))
    host.obtain(world.token())
    assert host.attest().state == "trusted"
    assert set(world.store.states(host.host_id)) == {fleet.id, mine.id}
    assert strict.id not in world.store.states(host.host_id)


def test_each_profile_says_how_far_a_log_may_run_ahead(world: World) -> None:
    host = world.host()
    patient = world.profile
    document = json.loads(profile_document())
    strict = world.add_profile(json.dumps(document | {"max_log_ahead": 0}).encode())
    world.watch(strict)
    found, key = evidence(host)
    last = ImaLog.parse(found.ima_log).columns.raws[-1]
    reply = say(host, AttestRequest(replace(found, ima_log=found.ima_log + last)), key)
    assert reply.state == "trusted"
    states = world.store.states(host.host_id)
    assert states[patient.id].level == "full"
    assert (states[strict.id].level, states[strict.id].rank) == ("boot", 1)


def test_only_new_entries_are_sent_again(world: World) -> None:
    host = world.host()
    host.attest()
    host.machine.run_file(SERVICE, b"what is this")
    found, _ = evidence(host)
    assert found.ima_from > 0
    assert len(found.ima_log) < 200


# --- what must not change a state -----------------------------------------------------------------------------------


def test_w1_without_a_profile_there_is_no_challenge(boots: Path) -> None:
    if not have_swtpm():
        pytest.skip("swtpm is not installed: attestation needs real emulated TPMs")
    with World(boots) as world:
        host = world.host()
        with pytest.raises(Rejected) as caught:
            host.attest()
    assert (caught.value.clause, caught.value.code) == ("W1", "watch-none")


def test_w1_is_asked_again_when_the_evidence_comes(world: World) -> None:
    host = world.host()
    found, key = evidence(host)
    with world.store.transaction() as tx:
        tx.remove_watched(world.profile.id)
    reply = say(host, AttestRequest(found), key)
    assert (reply.clause, reply.code) == ("W1", "watch-none")


def test_w2_evidence_counts_once(world: World) -> None:
    host = world.host()
    found, key = evidence(host)
    assert isinstance(say(host, AttestRequest(found), key), Attested)
    before = state(world, host)
    world.now += 10
    reply = say(host, AttestRequest(found), key)
    assert (reply.clause, reply.code) == ("W2", "attest-replayed")
    assert state(world, host) == before


def test_w2_evidence_from_before_a_newer_one_does_not_count(world: World) -> None:
    host = world.host()
    old, key = evidence(host)
    host.machine.run_file(SERVICE, b"what is this")
    host.attest()
    before = state(world, host)
    reply = say(host, AttestRequest(old), key)
    assert (reply.clause, reply.code) == ("W2", "attest-replayed")
    assert state(world, host) == before


def test_a_stranger_cannot_spoil_a_state(world: World) -> None:
    """Anybody may ask for a challenge in a host's name; without its TPM nothing follows from it."""
    host, other = world.host(), world.host()
    host.attest()
    before = state(world, host)
    for change in ({"signature": b""}, {"attest": b""}, {"pcrs": {}}):
        found, key = evidence(host)
        reply = say(host, AttestRequest(replace(found, **change)), key)
        assert reply.clause in ("B3", "B4", "B8"), reply
        assert state(world, host) == before
    found, key = evidence(other)
    reply = say(other, AttestRequest(replace(found, host_id=host.host_id)), key)
    assert reply.code == "nonce-unknown"
    assert state(world, host) == before


def test_logs_that_do_not_fit_fail_a_host_that_is_known(world: World) -> None:
    host = world.host()
    host.attest()
    found, key = evidence(host)
    reply = say(host, AttestRequest(replace(found, event_log=found.event_log[:-40])), key)
    assert reply.clause in ("C1", "C2")
    assert state(world, host).standing is Standing.FAILED
    assert host.attest().state == "trusted"


def test_evidence_is_for_one_purpose(world: World) -> None:
    host, token = world.host(), world.token()
    found, key = evidence(host)
    reply = say(host, ReleaseRequest(replace(found, token=token.text)), key)
    assert (reply.clause, reply.code) == ("B6", "nonce-unknown")
    reply = say(host, ChallengeRequest(host.host_id, Purpose.ATTEST, token.text))
    assert (reply.clause, reply.code) == ("B5", "purpose-unknown")
    reply = say(host, AttestRequest(replace(found, purpose=Purpose.LAUNCH)), key)
    assert (reply.clause, reply.code) == ("B5", "purpose-unknown")


def test_an_attestation_names_neither_token_nor_instance(world: World) -> None:
    host = world.host()
    found, key = evidence(host)
    for wrong in (replace(found, instance="vm"), replace(found, token=world.token().text)):
        assert say(host, AttestRequest(wrong), key).code == "malformed"


def test_other_pcrs_than_asked_for_have_no_nonce(world: World) -> None:
    host = world.host()
    request = ChallengeRequest(host.host_id, Purpose.ATTEST, "")
    challenge = say(host, request)
    assert isinstance(challenge, Challenge)
    fewer = replace(challenge, selections=(replace(challenge.selections[0], pcrs=(0, 7)),))
    key = new_reply_key()
    found = host.use(lambda view: evidence_for(view, request, fewer, "", key)[0])
    assert say(host, AttestRequest(found), key).code == "nonce-unknown"


def test_a_revoked_host_is_refused_and_stands_as_failed(world: World) -> None:
    host = world.host()
    host.attest()
    with world.store.transaction() as tx:
        tx.revoke_host(host.host_id, "sold", world.now)
    with pytest.raises(Rejected) as caught:
        host.attest()
    assert caught.value.code == "host-revoked"
    assert standing_now(state(world, host), world.now, revoked=True) == ("failed", "the host was revoked")


def test_a_host_that_is_not_enrolled_is_refused(world: World) -> None:
    host = world.host(enrolled=False)
    host.host_id = bytes(32)
    with pytest.raises(Rejected) as caught:
        host.attest()
    assert caught.value.code == "host-unknown"


def test_a_quote_of_another_kind_is_refused_before_anything_else(world: World) -> None:
    host = world.host()
    found, key = evidence(host)
    other = found.attest[:4] + b"\x80\x19" + found.attest[6:]
    assert say(host, AttestRequest(replace(found, attest=other)), key).code == "quote-type"


# --- the agent's patience -------------------------------------------------------------------------------------------


def test_the_agent_comes_back_in_time_and_not_all_at_once() -> None:
    assert 108 <= pause(360, 0, None, 0.0) <= pause(360, 0, None, 1.0) <= 132
    assert pause(240, 0, None, 0.5, 2) == 120
    assert pause(360, 0, 30, 0.5) == 30
    assert pause(-10, 0, None, 0.5) == 5
    failures = [pause(None, n, None, 0.5) for n in range(1, 9)]
    assert failures == [15, 30, 60, 120, 240, 480, 600, 600]
    assert pause(None, 8, 40, 0.5) == 40


def test_the_agent_goes_on_after_a_failure() -> None:
    answers = iter([Unavailable("exchange-failed", "no way"), MalformedError("odd"), Attested("trusted", "a", 1, 400)])
    waits: list[float] = []

    def once() -> Attested:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def wait(seconds: float) -> bool:
        waits.append(seconds)
        return len(waits) == 3

    outcomes = list(keep_attesting(once, lambda: 100, wait))
    assert 90 <= waits[2] <= 110
    assert [type(outcome.error) for outcome in outcomes] == [Unavailable, MalformedError, type(None)]
    assert waits[0] < waits[1] < waits[2]
