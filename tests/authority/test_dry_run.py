"""The fleet under other rules: real evidence of emulated hosts, judged again without asking them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from watchword.authority.deciding.dry_run import Plan, dry_run
from watchword.authority.store import StackState
from watchword.errors import MalformedError, UsageError
from watchword.launch.on_file import Record, verify_record
from watchword.policy.dry_run import Effect, Summary
from watchword.policy.profile import Profile
from watchword.policy.release import StackRelease
from watchword.policy.stack import CompiledStack
from watchword.testing.farm import have_swtpm
from watchword.testing.world import World, profile_document, stack_from_recording
from watchword.verify.ak import restore_ak
from watchword.wire.tpm.pcr import encode_selections

from ..attacks.helpers import tamper


@pytest.fixture
def world(boots: Path) -> Iterator[World]:
    if not have_swtpm():
        pytest.skip("swtpm is not installed: the evidence comes from real emulated TPMs")
    with World(boots) as made:
        made.watch()
        yield made


def fleet(world: World) -> None:
    """Two good hosts, one that booted the next release, and one that never attested."""
    for recording in ("good", "good-again", "release-2"):
        world.host(recording).attest()
    world.host("good")


def release(world: World, recording: str, **fields: object) -> StackRelease:
    stack = CompiledStack.parse(stack_from_recording(world.boots / recording, **fields))  # type: ignore[arg-type]
    return StackRelease(stack, stack.digest, frozenset())


def effects(world: World, plan: Plan, now: int | None = None) -> Summary:
    return Summary.of(dry_run(world.store, plan, world.profile, now or world.now))


def test_nothing_changes_when_nothing_is_changed(world: World) -> None:
    fleet(world)
    found = effects(world, Plan())
    assert found.counts() == {"same": 3, "better": 0, "worse": 0, "refused": 0, "unknown": 1}
    assert found.moves == {("full", "full"): 2, ("", ""): 1}
    assert [reason.code for reason in found.reasons()] == ["evidence-none"]
    assert not found.harmless


def test_a_release_becomes_active(world: World) -> None:
    fleet(world)
    before = world.store.head()
    found = effects(world, Plan(activate=(release(world, "release-2", version="2", serial=2),)))
    assert found.effects[Effect.BETTER] == 1
    assert found.moves["", "full"] == 1
    assert world.store.head() == before
    assert world.store.counts().stacks == 1


def test_a_revocation_says_whom_it_hits_and_why(world: World) -> None:
    fleet(world)
    found = effects(world, Plan(revoke=frozenset({world.stack.digest})))
    assert found.effects[Effect.REFUSED] == 2
    [reason] = [reason for reason in found.reasons() if reason.code == "stack-revoked"]
    assert reason.hosts == 2
    assert len(set(reason.samples)) == 2


def test_an_end_and_a_later_time_are_looked_ahead_to(world: World) -> None:
    fleet(world)
    assert effects(world, Plan(end=frozenset({world.stack.digest}))).effects[Effect.REFUSED] == 2
    world.set_stack_state(world.stack, StackState.RETIRING, world.now + 3600)
    both_now = effects(world, Plan())
    assert both_now.moves["full", "full"] == 2
    later = effects(world, Plan(), world.now + 3600)
    assert later.moves["", ""] == 3  # before and after the change, it is over


def test_a_profile_that_asks_for_more(world: World) -> None:
    fleet(world)
    stricter = Profile.parse(profile_document(min_serial={"compute": 2}))
    found = effects(world, Plan(profile=stricter))
    assert found.effects[Effect.REFUSED] == 2
    assert "stack-rolled-back" in {reason.code for reason in found.reasons()}


def test_a_profile_that_evidence_on_file_cannot_answer(world: World) -> None:
    fleet(world)
    document = json.loads(profile_document())
    wider = Profile.parse(json.dumps(document | {"pcrs": [*document["pcrs"], 14]}).encode())
    found = effects(world, Plan(profile=wider))
    assert found.effects[Effect.UNKNOWN] == 4
    assert {reason.code for reason in found.reasons()} == {"profile-level", "evidence-none"}


def test_what_ran_since_the_first_log_counts_too(world: World) -> None:
    host = world.host()
    host.attest()
    for number in range(70):  # more parts than are kept apart
        host.machine.run_file(b"/opt/tool-%d" % number, b"content %d" % number)
        host.attest()
    kept = world.store.evidence_of(host.host_id)
    assert kept is not None
    assert kept.ima_log == host.machine.ima_log_path.read_bytes()
    assert effects(world, Plan()).moves == {("boot", "boot"): 1}


def test_a_launch_leaves_evidence_too(world: World) -> None:
    host = world.host()
    host.obtain(world.token())
    assert effects(world, Plan()).moves == {("full", "full"): 1}


def test_a_reboot_takes_the_place_of_the_old_evidence(world: World) -> None:
    host = world.host()
    host.attest()
    host.machine.reboot(world.boots / "release-2")
    host.attest()
    assert effects(world, Plan()).moves == {("", ""): 1}
    with world.store.transaction() as tx:
        assert tx.forget_evidence(world.now) == 0
    kept = world.store.evidence_of(host.host_id)
    assert kept is not None
    assert kept.event_log == (world.boots / "release-2" / "eventlog.bin").read_bytes()


def test_old_evidence_is_forgotten_with_its_logs(world: World) -> None:
    first, second = world.host(), world.host()
    first.attest()
    world.now += 100
    second.attest()
    with world.store.transaction() as tx:
        assert tx.forget_evidence(world.now) == 1
    assert world.store.evidence_of(first.host_id) is None
    kept = world.store.evidence_of(second.host_id)
    assert kept is not None
    assert kept.ima_log
    world.now += 100
    with world.store.transaction() as tx:
        assert tx.forget_evidence(world.now) == 1
    assert not list(world.store.evidence())


def test_evidence_of_the_same_state_is_replaced_once_an_hour(world: World) -> None:
    host, start = world.host(), world.now
    host.attest()

    def kept_at() -> int:
        kept = world.store.evidence_of(host.host_id)
        assert kept is not None
        return kept.time

    world.now += 3599
    host.attest()
    assert kept_at() == start
    world.now += 1
    host.attest()
    assert kept_at() == start + 3600
    host.machine.run_file(b"/opt/tool", b"content")
    world.now += 1
    host.attest()
    assert kept_at() == start + 3601


def test_evidence_that_somebody_changed_is_worth_nothing(world: World) -> None:
    host = world.host()
    host.attest()
    kept = world.store.evidence_of(host.host_id)
    assert kept is not None
    for changed in (kept.record.encode()[:-1] + b"\7", kept.record.encode().replace(kept.record.bound, bytes(32))):
        tamper(world, "UPDATE evidence SET record = ?", changed)
        assert effects(world, Plan()).effects[Effect.UNKNOWN] == 1


def test_a_part_that_continues_nothing_is_not_kept(world: World) -> None:
    host = world.host()
    host.attest()
    tamper(world, "DELETE FROM evidence")
    host.machine.run_file(b"/opt/tool", b"content")
    host.attest()
    [reason] = effects(world, Plan()).reasons()
    assert (reason.code, reason.hosts) == ("runtime-log-part", 1)


def test_an_unknown_stack_is_the_callers_mistake(world: World) -> None:
    with pytest.raises(UsageError) as caught:
        effects(world, Plan(revoke=frozenset({bytes(32)})))
    assert caught.value.code == "stack-unknown"


def test_a_record_is_what_was_written(world: World) -> None:
    host = world.host()
    host.attest()
    kept = world.store.evidence_of(host.host_id)
    assert kept is not None
    data, selections = kept.record.encode(), encode_selections(kept.record.selections)
    assert Record.parse(data) == kept.record
    longer = data.replace(
        len(selections).to_bytes(2) + selections, (len(selections) + 1).to_bytes(2) + selections + b"\0"
    )
    assert len(longer) == len(data) + 1
    for wrong in (b"\2" + data[1:], data[:-1], data + b"\0", longer):
        with pytest.raises(MalformedError):
            Record.parse(wrong)


def test_a_record_says_how_many_entries_are_kept_with_it(world: World) -> None:
    host = world.host()
    host.attest()
    kept, row = world.store.evidence_of(host.host_id), world.store.host(host.host_id)
    assert kept is not None
    assert row is not None
    ak = restore_ak(host.host_id, row.ek_public, row.ak_public, row.ek_class)
    logs = kept.event_log, kept.ima_log
    assert verify_record(kept.record, ak, *logs).runtime is not None
    for number, why in ((0, "a runtime log of no entries"), (kept.record.entries + 1, "another number of entries")):
        with pytest.raises(MalformedError, match=why):
            verify_record(replace(kept.record, entries=number), ak, *logs)
