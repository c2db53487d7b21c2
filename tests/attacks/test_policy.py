"""Attacks on what is good enough (clauses E1 to E5, F2)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.reference import machines

from watchword.authority.acts.admin import Admin
from watchword.authority.acts.stacks import Activation
from watchword.authority.store import StackState
from watchword.crypto import dsse
from watchword.errors import MalformedError, Rejected
from watchword.policy.profile import Profile
from watchword.policy.stack import PAYLOAD_TYPE
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


@pytest.mark.parametrize("half", ["kernel", "initrd"])
def test_mixed_stack_of_two_computed_releases(lone: Bench, half: str, tmp_path: Path) -> None:
    """mixed stack (two good halves): of two releases computed from their artifacts, before any host booted them (E2)"""
    world = lone.world
    for serial, boot in enumerate(("good", "release-2"), 1):
        world.add_stack(machines.recorded(world.boots, boot, tmp_path, stack="computed", serial=serial))
    world.add_profile(
        json.dumps(json.loads(profile_document(stacks=["computed"])) | {"pcrs": list(range(15))}).encode()
    )
    mixed, token = world.host(half), world.token(releases=3)
    lone.refused(token, "E2", "stack-none", attempt(mixed, token).send, suspect=mixed, learns=True)
    for whole in (lone.honest, world.host("release-2")):
        assert whole.obtain(token, f"vm-{whole.host_id.hex()}").secret == token.body.secret


def test_mixed_stack_of_two_pools(fresh: Bench) -> None:
    """mixed stack (two good halves): each half of a good release, in pools of their own (E2)"""
    world = fresh.world
    for serial, boot in enumerate(("good", "release-2"), 1):
        world.add_stack(pooled(world.boots / boot, version=f"pool {serial}".replace(" ", "-"), serial=serial))
    world.add_profile(profile_document(pools=["default", "special"]))
    mixed, token = world.host("kernel"), world.token()
    fresh.refused(token, "E2", "stack-none", attempt(mixed, token).send, suspect=mixed, learns=True)


def pooled(folder: Path, pool: str = "special", **fields: Any) -> bytes:
    """The stack of a recording, offered in a pool, or with other fields added to it."""
    named = {name: fields.pop(name) for name in ("version", "serial") if name in fields}
    document = json.loads(stack_from_recording(folder, **named))
    return json.dumps({**document, "pool": pool, **fields}).encode()


def test_pool_confusion(fresh: Bench) -> None:
    """pool confusion: a host of a special pool serves a tenant who did not ask for that pool (E2)"""
    world = fresh.world
    world.add_stack(pooled(world.boots / "release-2", version="2", serial=2))
    special, token = world.host("release-2"), world.token()
    fresh.refused(token, "E2", "stack-pool", attempt(special, token).send, suspect=special, learns=True)
    world.add_profile(profile_document(pools=["special"]))
    asked = world.token()
    assert special.obtain(asked).secret == asked.body.secret


def test_pool_confusion_at_an_endorser(fresh: Bench) -> None:
    """pool confusion: an endorser of one pool signs a release for another (G1)"""
    world, key = fresh.world, Ed25519PrivateKey.generate()
    admin = Admin(world.store, world.now, "operator")
    admin.add_endorser(key.public_key(), "special", pools=frozenset({"special"}))
    envelope = dsse.sign(pooled(world.boots / "release-2", "default", version="2", serial=2), PAYLOAD_TYPE, [key])
    before = world.store.head(), world.store.stacks()
    with pytest.raises(Rejected) as caught:
        admin.stacks.add(envelope, Activation(overlap_until=world.now + 60))
    assert (caught.value.clause, caught.value.code) == ("G1", "stack-endorser-limit")
    assert (world.store.head(), world.store.stacks()) == before


@pytest.mark.parametrize(("signed_by", "clause", "code"), [("a stranger", "G1", "stack-endorser"),
                                                           ("one of two", "G2", "stack-threshold"),
                                                           ("a forger", "S1", "document-signature")])  # fmt: skip
def test_release_signed_by_the_wrong_key(fresh: Bench, signed_by: str, clause: str, code: str) -> None:
    """release signed by the wrong key: a stranger's, too few, or forged under a known key's id (G1, G2, S1)"""
    world, one, two = fresh.world, Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    admin = Admin(world.store, world.now, "operator")
    keys = frozenset(admin.add_endorser(key.public_key(), "auditor").key_id for key in (one, two))
    admin.set_stack_rule("compute", "default", keys, 2)
    evil = pooled(world.boots / "kernel", "default", version="2", serial=2)
    signers = {"a stranger": [Ed25519PrivateKey.generate()], "one of two": [one], "a forger": [one, two]}
    envelope = dsse.sign(evil, PAYLOAD_TYPE, signers[signed_by])
    if signed_by == "a forger":
        good = json.loads(dsse.sign(evil + b" ", PAYLOAD_TYPE, [one, two]))
        envelope = json.dumps({**json.loads(envelope), "signatures": good["signatures"]}).encode()
    before = world.store.head(), world.store.stacks()
    with pytest.raises(Rejected) as caught:
        admin.stacks.add(envelope, Activation(overlap_until=world.now + 60))
    assert (caught.value.clause, caught.value.code) == (clause, code)
    assert (world.store.head(), world.store.stacks()) == before
    bad, token = world.host("kernel"), world.token()
    fresh.refused(token, "E2", "stack-none", attempt(bad, token).send, suspect=bad, learns=True)


def test_rollback(fresh: Bench) -> None:
    """rollback: an old release, well endorsed, is put in force again after a newer one (G5)"""
    world, key = fresh.world, Ed25519PrivateKey.generate()
    admin = Admin(world.store, world.now, "operator")
    admin.add_endorser(key.public_key(), "auditor")
    for serial, boot in ((2, "release-2"), (1, "initrd")):
        document = pooled(world.boots / boot, "default", version=f"v{serial}", serial=serial, name="storage")
        envelope = dsse.sign(document, PAYLOAD_TYPE, [key])
        if serial == 2:
            admin.stacks.add(envelope, Activation())
            continue
        with pytest.raises(Rejected) as caught:
            admin.stacks.add(envelope, Activation(overlap_until=world.now + 60))
        assert (caught.value.clause, caught.value.code) == ("G5", "stack-older")
    world.add_profile(profile_document(stacks=["storage", "compute"]))
    old, token = world.host("initrd"), world.token()
    fresh.refused(token, "E2", "stack-none", attempt(old, token).send, suspect=old, learns=True)


@pytest.mark.parametrize("what", ["event", "file", "stack"])
def test_known_bad_component(fresh: Bench, what: str) -> None:
    """known-bad component: a host of a good stack shows what a newer release names as bad (E3)"""
    world = fresh.world
    document = json.loads(world.store.stacks()[0].document)
    events = [e for c in document["components"] for v in c["variants"] for e in v["events"]]
    digests = {
        "event": "sha256:" + events[-1]["digests"]["sha256"],
        "file": "",
        "stack": f"sha256:{world.stack.digest.hex()}",
    }
    made = attempt(fresh.evil, world.token())
    digests["file"] = "sha256:" + made.runtime.entries[3].file().digest.hex()
    entry = {"what": what, "digest": digests[what], "reason": "has a hole"}
    fresh.honest.obtain(world.token())  # what is on file of its runtime log must not hide anything
    newer = pooled(world.boots / "initrd", "default", version="2", serial=2, known_bad=[entry])
    added, token = world.add_stack(newer), world.token()
    fresh.refused(token, "E3", "known-bad", attempt(fresh.evil, token).send, learns=True, still_good=False)
    with pytest.raises(Rejected):
        fresh.honest.obtain(world.token(), "vm-other")
    world.set_stack_state(added, StackState.RETIRING, world.now)
    fresh.evil.obtain(world.token(), "vm-later")
    fresh.honest.obtain(world.token(), "vm-later")


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
        tx.set_stack_state(old.digest, StackState.REVOKED, None, time=world.now)
    fresh.refused(token, "E3", "stack-revoked", attempt(fresh.evil, token).send, learns=True, still_good=False)
    assert newer.obtain(token).secret == token.body.secret


def test_retired_stack(fresh: Bench) -> None:
    """old stack after revocation: retired, it serves until its end and not after it (E3)"""
    world, token = fresh.world, fresh.world.token()
    only = world.store.stacks()[0]
    with world.store.transaction() as tx:
        tx.set_stack_state(only.digest, StackState.RETIRING, world.now + 60, time=world.now)
    fresh.evil.obtain(world.token())
    world.now += 60
    fresh.refused(token, "E3", "stack-expired", attempt(fresh.evil, token).send, learns=True, still_good=False)


RULES: list[tuple[dict[str, Any], str, str]] = [
    ({"pools": ["special"]}, "E2", "stack-pool"),
    ({"channels": ["testing"]}, "E2", "stack-channel"),
    ({"variants": {"firmware": ["model-b"]}}, "E2", "stack-variant"),
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
