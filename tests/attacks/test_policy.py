"""Attacks on what is good enough (clauses E1 to E5, F2)."""

from __future__ import annotations

from typing import Any

import pytest

from watchword.authority.store import StackState
from watchword.errors import MalformedError
from watchword.policy.profile import Profile
from watchword.testing.world import profile_document, stack_from_recording
from watchword.wire.evidence import Purpose
from watchword.wire.messages import ChallengeRequest

from .helpers import Bench, attempt, say, tamper


@pytest.mark.parametrize("recording", ["kernel", "initrd", "cmdline", "secure-boot-off", "machine"])
def test_untrusted_host_launch(bench: Bench, recording: str) -> None:
    """untrusted-host launch: another kernel, initrd, command line, firmware or machine than the stack's (E2)"""
    bad, token = bench.world.host(recording), bench.world.token()
    bench.refused(token, "E2", "stack-none", attempt(bad, token).send, suspect=bad, learns=True)


@pytest.mark.parametrize("half", ["kernel", "initrd"])
def test_mixed_stack(fresh: Bench, half: str) -> None:
    """mixed stack (two good halves): the kernel of one release with the initrd of another (E2)"""
    world = fresh.world
    world.add_stack(stack_from_recording(world.boots / "release-2", version="2", serial=2))
    mixed, newer, token = world.host(half), world.host("release-2"), world.token(releases=2)
    fresh.refused(token, "E2", "stack-none", attempt(mixed, token).send, suspect=mixed, learns=True)
    assert newer.obtain(token).secret == token.body.secret  # the whole release is good


def test_profile_softened(fresh: Bench) -> None:
    """profile softened: a softer profile of the same name changes nothing for a token that names the strict one (D5)"""
    world, token = fresh.world, fresh.world.token()
    bad = world.host("altered-binary")
    soft = profile_document().replace(b'"listed"', b'"ignored"')
    assert Profile.parse(soft).name == world.profile.name
    world.add_profile(soft)
    fresh.refused(token, "D5", "runtime-file", attempt(bad, token).send, suspect=bad, learns=True)


def test_profile_softened_in_the_database(fresh: Bench) -> None:
    """profile softened: in the authority's own database, under the id of the strict one (F2)"""
    world, token = fresh.world, fresh.world.token()
    strict = world.profile.id
    document = world.store.profile(strict)
    tamper(
        world,
        "update profiles set document = ? where id = ?",
        profile_document(runtime="ignored", stacks=["x"])[:-1] + b" }",
        strict,
    )
    bad = world.host("altered-binary")
    fresh.refused(token, "F2", "profile-unknown", attempt(bad, token).send, suspect=bad, still_good=False)
    tamper(world, "update profiles set document = ? where id = ?", document, strict)


def test_unknown_profile(bench: Bench) -> None:
    """profile softened: a token whose profile the authority does not have (F2)"""
    token = bench.world.token(profile=bytes(32))
    ask = ChallengeRequest(bench.evil.host_id, Purpose.LAUNCH, token.text)
    bench.refused(token, "F2", "profile-unknown", lambda: say(bench.evil, ask), recorded=False, still_good=False)


def test_level_not_reached(bench: Bench) -> None:
    """profile softened: a host that reaches a lower level only (D5); that level's tokens it may have"""
    bad = bench.world.host("altered-binary")
    token = bench.world.token()
    bench.refused(token, "D5", "runtime-file", attempt(bad, token).send, suspect=bad, learns=True)
    lower = bench.world.token(level=1)
    assert bad.obtain(lower).secret == lower.body.secret


def test_level_that_does_not_exist(bench: Bench) -> None:
    """profile softened: a token for a level above all of the profile (E5)"""
    token = bench.world.token(level=3)
    bench.refused(token, "E5", "profile-level", attempt(bench.evil, token).send, learns=True, still_good=False)


@pytest.mark.parametrize("levels", [b"[]", b'[{"name": "x", "rules": {}}]'])
def test_empty_profile(levels: bytes) -> None:
    """profile softened: one without levels or without rules is no profile (E1)"""
    with pytest.raises(MalformedError):
        Profile.parse(
            b'{"format":"watchword-profile/1","name":"x","bank":"sha256","pcrs":[0],"levels":' + levels + b"}"
        )


def test_old_stack_after_revocation(fresh: Bench) -> None:
    """old stack after revocation (E3)"""
    world = fresh.world
    world.add_stack(stack_from_recording(world.boots / "release-2", version="2", serial=2))
    newer, token = world.host("release-2"), world.token()
    old = next(row for row in world.store.stacks() if row.version == "1")
    with world.store.transaction() as tx:
        tx.set_stack_state(old.digest, StackState.REVOKED, None)
    fresh.refused(token, "E3", "stack-revoked", attempt(fresh.evil, token).send, learns=True, still_good=False)
    assert newer.obtain(token).secret == token.body.secret


def test_retired_stack(fresh: Bench) -> None:
    """old stack after revocation: retired, it serves until its end and not after it (E3)"""
    world, token = fresh.world, fresh.world.token()
    only = world.store.stacks()[0]
    with world.store.transaction() as tx:
        tx.set_stack_state(only.digest, StackState.RETIRING, world.now + 60)
    fresh.evil.obtain(world.token())
    world.now += 60
    fresh.refused(token, "E3", "stack-expired", attempt(fresh.evil, token).send, learns=True, still_good=False)


RULES: list[tuple[dict[str, Any], str, str]] = [
    ({"min_serial": {"compute": 2}}, "E3", "stack-rolled-back"),
    ({"endorsers": {"keys": ["ab" * 32], "threshold": 1}}, "E3", "stack-endorsers"),
    ({"stacks": ["other"]}, "E2", "stack-none"),
    ({"covers": [0, 1, 4]}, "E2", "coverage"),
]


@pytest.mark.parametrize(("rules", "clause", "code"), RULES)
def test_stack_that_a_rule_excludes(fresh: Bench, rules: dict[str, Any], clause: str, code: str) -> None:
    """old stack after revocation: rolled back, not endorsed, of another name, or silent about a PCR (E2, E3)"""
    world = fresh.world
    world.add_profile(profile_document(**rules))
    token = world.token()
    fresh.refused(token, clause, code, attempt(fresh.evil, token).send, learns=True, still_good=False)


def test_evidence_that_lay_about(fresh: Bench) -> None:
    """replayed evidence: kept back for longer than the profile allows (E4)"""
    world = fresh.world
    world.add_profile(profile_document(max_age_seconds=5))
    token = world.token()
    made = attempt(fresh.evil, token)
    world.now += 6
    fresh.refused(token, "E4", "evidence-age", made.send, learns=True)
