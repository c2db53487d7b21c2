"""Attacks on tokens, nonces and counts (clauses B5, B6, F1 to F5)."""

from __future__ import annotations

import base64
import contextlib
import json
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from watchword.agent.transport import new_reply_key
from watchword.authority.deciding.launches import Launches
from watchword.authority.publishing.log import PublicLog
from watchword.authority.store import Store
from watchword.crypto import dsse
from watchword.crypto.note import sign
from watchword.crypto.token import seal_token
from watchword.errors import Rejected, Unavailable
from watchword.launch import challenge as nonces
from watchword.launch.receipt import PAYLOAD_TYPE, launch_key, make_receipt, verify_receipt
from watchword.testing.world import Direct, TestHost, Token, World, stack_from_recording
from watchword.verify.log import check_consistency, log_origin, verify_checkpoint
from watchword.wire.evidence import Purpose
from watchword.wire.log_leaf import LogLeaf, commitment
from watchword.wire.merkle import leaf_hash
from watchword.wire.messages import ChallengeRequest, Refusal, Release
from watchword.wire.note import Checkpoint
from watchword.wire.token import token_id

from .helpers import Attempt, Bench, attempt, challenge, say, tamper

# --- replays --------------------------------------------------------------------------------------------------------


def test_replayed_evidence(bench: Bench) -> None:
    """replayed evidence: the very same request again (B6)"""
    token = bench.world.token(releases=3)
    made = attempt(bench.evil, token)
    made.release()
    bench.refused(token, "B6", "nonce-used", made.send, learns=True)


def test_replayed_evidence_for_another_reader(bench: Bench) -> None:
    """replayed evidence: with a reply key of the attacker's (B5)"""
    token = bench.world.token(releases=2)
    made = attempt(bench.evil, token)
    bench.refused(token, "B5", "quote-binding", lambda: made.send(reply_key=new_reply_key()))


def test_replayed_evidence_with_a_new_nonce(bench: Bench) -> None:
    """replayed evidence: an old quote under a fresh nonce (B5)"""
    token = bench.world.token()
    old = attempt(bench.evil, token)
    fresh_nonce = challenge(bench.evil, token).nonce
    bench.refused(token, "B5", "quote-binding", lambda: old.send(nonce=fresh_nonce))


def test_replayed_evidence_after_its_time(fresh: Bench) -> None:
    """replayed evidence: after the nonce has expired (B6)"""
    token = fresh.world.token()
    made = attempt(fresh.evil, token)
    fresh.world.now += nonces.LIFETIME + 1
    fresh.refused(token, "B6", "nonce-expired", made.send)


def test_replayed_evidence_before_its_time(fresh: Bench) -> None:
    """replayed evidence: the authority's clock went back, so a nonce seems to come from the future (B6)"""
    token = fresh.world.token(expires=2_000_000_000)
    made = attempt(fresh.evil, token)
    fresh.world.now -= 3600
    fresh.refused(token, "B6", "nonce-expired", made.send)


def test_refused_evidence_cannot_be_tried_again(fresh: Bench) -> None:
    """replayed evidence: what was refused once is spent, even if it would be good now (B6)"""
    world, token = fresh.world, fresh.world.token()
    bad = world.host("release-2")
    made = attempt(bad, token)
    assert isinstance(made.send(), Refusal)
    world.add_stack(stack_from_recording(world.boots / "release-2", version="2", serial=2))
    fresh.refused(token, "B6", "nonce-used", made.send, suspect=bad, learns=True)


@pytest.mark.parametrize("what", ["own", "other-host", "other-token", "other-purpose"])
def test_nonce_that_was_not_issued_for_this(bench: Bench, what: str) -> None:
    """replayed evidence: over a nonce that was made up, or issued for another host, token or purpose (B6)"""
    world, token = bench.world, bench.world.token()
    good = attempt(bench.evil, token)
    issued = {"host_id": bench.evil.host_id, "purpose": Purpose.LAUNCH, "token_id": token_id(token.text)}
    other = {
        "own": {},
        "other-host": {"host_id": bench.honest.host_id},
        "other-token": {"token_id": token_id(world.token().text)},
        "other-purpose": {"purpose": Purpose.ATTEST},
    }[what]
    key = bytes(32) if what == "own" else world.keys.mac_key
    nonce = nonces.issue(key, now=world.now, random=bytes(16), **{**issued, **other})
    bench.refused(token, "B6", "nonce-unknown", lambda: good.send(nonce=nonce))


def test_purpose_confused(bench: Bench) -> None:
    """replayed evidence: made for another purpose (B5, B6)"""
    token = bench.world.token()
    ask = ChallengeRequest(bench.evil.host_id, Purpose.ATTEST, token.text)
    bench.refused(token, "B5", "purpose-unknown", lambda: say(bench.evil, ask), recorded=False)
    token = bench.world.token()
    made = attempt(bench.evil, token)
    bench.refused(token, "B6", "nonce-unknown", lambda: made.send(purpose=Purpose.ATTEST))


# --- tokens ---------------------------------------------------------------------------------------------------------


def test_token_on_a_second_instance(bench: Bench) -> None:
    """token on a second instance: evidence made for one machine, presented for another (B5)"""
    token = bench.world.token()
    made = attempt(bench.evil, token, "vm-1")
    bench.refused(token, "B5", "quote-binding", lambda: made.send(instance="vm-2"))


def test_replayed_token(bench: Bench) -> None:
    """replayed token: on a second machine, on the same host (F4)"""
    token = bench.world.token()
    bench.honest.obtain(token, "vm-1")
    made = attempt(bench.evil, token, "vm-2")
    bench.refused(token, "F4", "token-used-up", made.send, learns=True, still_good=False)


def test_more_releases_than_allowed(bench: Bench) -> None:
    """more releases than allowed (F4)"""
    token = bench.world.token(releases=3)
    for number in range(3):
        bench.honest.obtain(token, f"vm-{number}")
    made = attempt(bench.evil, token, "vm-3")
    bench.refused(token, "F4", "token-used-up", made.send, learns=True, still_good=False)
    assert [decision.releases for decision in bench.world.decisions(token)] == [1, 2, 3, 3]


def test_expired_token(fresh: Bench) -> None:
    """expired token (F3)"""
    token = fresh.world.token(expires=fresh.world.now)
    ask = ChallengeRequest(fresh.evil.host_id, Purpose.LAUNCH, token.text)
    fresh.refused(token, "F3", "token-expired", lambda: say(fresh.evil, ask), recorded=False, still_good=False)


def test_token_that_expires_meanwhile(fresh: Bench) -> None:
    """expired token: good at the challenge, and not any more with the evidence (F3)"""
    token = fresh.world.token(expires=fresh.world.now + 10)
    made = attempt(fresh.evil, token)
    fresh.world.now += 10
    fresh.refused(token, "F3", "token-expired", made.send, still_good=False)


def test_token_of_another_authority(bench: Bench) -> None:
    """profile softened: a token sealed to somebody else's key (F1)"""
    body = bench.world.token().body
    token = Token(seal_token(body, X25519PrivateKey.generate().public_key()), body)
    ask = ChallengeRequest(bench.evil.host_id, Purpose.LAUNCH, token.text)
    bench.refused(token, "F1", "token-unopenable", lambda: say(bench.evil, ask), recorded=False, still_good=False)


def test_altered_token(bench: Bench) -> None:
    """profile softened: no byte of a token can be changed (F1)"""
    token = bench.world.token()
    raw = base64.urlsafe_b64decode(token.text + "=" * (-len(token.text) % 4))
    for place in range(4, len(raw), 11):
        bent = raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :]
        text = base64.urlsafe_b64encode(bent).rstrip(b"=").decode()
        reply = say(bench.evil, ChallengeRequest(bench.evil.host_id, Purpose.LAUNCH, text))
        assert isinstance(reply, Refusal)
        assert (reply.clause, reply.code) == ("F1", "token-unopenable")
    assert bench.honest.obtain(token).secret == token.body.secret


def test_token_swapped_under_the_evidence(bench: Bench) -> None:
    """replayed token: evidence made for one token, presented with another (B6)"""
    mine, theirs = bench.world.token(), bench.world.token()
    made = attempt(bench.evil, mine)
    bench.refused(theirs, "B6", "nonce-unknown", lambda: made.send(token=theirs.text))


# --- counts and the record ------------------------------------------------------------------------------------------


def test_two_authorities_racing_for_the_last_release(stored: Bench) -> None:
    """two authorities racing for the last release (F4)"""
    world = stored.world
    token = world.token(releases=3)
    made = [attempt(stored.evil, token, f"vm-{number}") for number in range(8)]
    with Store.open(world.where) as second:
        authorities = (world.launches, Launches(second, lambda: world.keys, lambda: world.now))
        barrier = threading.Barrier(len(made))

        def race(number: int) -> object:
            barrier.wait()
            host = TestHost(stored.evil.machine, world, Direct(authorities[number % 2]))
            return replace(made[number], host=host).send()

        with ThreadPoolExecutor(len(made)) as pool:
            replies = list(pool.map(race, range(len(made))))
    assert sum(isinstance(reply, Release) for reply in replies) == 3
    assert {reply.code for reply in replies if isinstance(reply, Refusal)} == {"token-used-up"}
    assert world.store.releases(token_id(token.text)) == 3
    assert sorted(d.outcome for d in world.decisions(token)) == ["refused"] * 5 + ["released"] * 3
    assert world.store.verify_decisions().seq == len(list(world.store.decisions()))


def test_same_evidence_racing(stored: Bench) -> None:
    """two authorities racing for the last release: with one and the same evidence (B6)"""
    world = stored.world
    token = world.token(releases=8)
    made = attempt(stored.evil, token)
    barrier = threading.Barrier(4)

    def race(_number: int) -> object:
        barrier.wait()
        return made.send()

    with ThreadPoolExecutor(4) as pool:
        replies = list(pool.map(race, range(4)))
    assert sum(isinstance(reply, Release) for reply in replies) == 1
    assert {reply.code for reply in replies if isinstance(reply, Refusal)} == {"nonce-used"}
    assert world.store.releases(token_id(token.text)) == 1


def receipt_of(world: World, token: Token) -> bytes:
    """The receipt of the newest decision about a launch."""
    entry = list(world.store.decisions(launch_key=launch_key(token.body.launch_id)))[-1]
    [position] = PublicLog(world.store).positions(world.keys, [entry])
    return make_receipt(world.keys.key_list.authority, entry.entry, position, world.keys.signing_key)


def test_forged_receipt(lone: Bench) -> None:
    """forged receipt: signed by another key, altered, or of another launch (S1, S2)"""
    world, token = lone.world, lone.world.token()
    lone.honest.obtain(token)
    good, keys = receipt_of(world, token), world.keys.key_list
    assert verify_receipt(good, keys).decision.outcome == "released"

    payload = dsse.open_unverified(good)[1]
    forged = dsse.sign(payload, PAYLOAD_TYPE, [Ed25519PrivateKey.generate()])
    assert reason(forged, world) == ("S2", "document-signers")

    document = json.loads(good)
    improved = json.loads(payload)
    improved["entry"] = improved["entry"].replace('"rank":2', '"rank":9')
    assert improved["entry"] != json.loads(payload)["entry"]
    document["payload"] = base64.b64encode(json.dumps(improved).encode()).decode()
    assert reason(json.dumps(document).encode(), world) == ("S1", "document-signature")


def test_forged_receipt_with_the_signing_key(lone: Bench) -> None:
    """forged receipt: whoever stole the signing key alone still has no log that has it (R2, T1, T2)"""
    world, token = lone.world, lone.world.token()
    lone.honest.obtain(token)
    document = json.loads(dsse.open_unverified(receipt_of(world, token))[1])

    def forge(entry: str, **place: object) -> tuple[str, str]:
        forged = {**document, "entry": entry, "log": {**document["log"], **place}}
        return reason(dsse.sign(json.dumps(forged).encode(), PAYLOAD_TYPE, [world.keys.signing_key]), world)

    improved = document["entry"].replace('"rank":2', '"rank":9')
    assert forge(improved) == ("R2", "receipt-commitment")
    salt = bytes.fromhex(document["log"]["salt"])
    old = LogLeaf.parse(bytes.fromhex(document["log"]["leaf"]))
    leaf = LogLeaf(old.tag, commitment(salt, improved.encode())).encode()
    assert forge(improved, leaf=leaf.hex()) == ("T2", "log-inclusion")
    origin = log_origin(world.keys.key_list.authority)
    own = sign(Checkpoint(origin, 1, leaf_hash(leaf)).encode(), origin, Ed25519PrivateKey.generate()).encode().decode()
    place = {"leaf": leaf.hex(), "index": 0, "proof": [], "checkpoint": own}
    assert forge(improved, **place) == ("T1", "checkpoint-signature")


def reason(receipt: bytes, world: World) -> tuple[str, str]:
    with pytest.raises(Rejected) as caught:
        verify_receipt(receipt, world.keys.key_list)
    return caught.value.clause, caught.value.code


@pytest.mark.parametrize(
    "statement",
    [
        "update decisions set entry = cast(replace(entry, 'refused', 'released') as blob) where seq = ?",
        "delete from decisions where seq = ?",
        "update decisions set launch_key = zeroblob(32) where seq = ?",
    ],
)
def test_forked_log(lone: Bench, statement: str) -> None:
    """forked log: an entry that was altered, dropped or hidden no longer leads to the root (F5)"""
    world = lone.world
    bad = world.host("kernel")
    token = world.token(releases=2)
    assert isinstance(attempt(bad, token).send(), Refusal)
    seq = world.store.head().seq
    lone.honest.obtain(token)
    world.store.verify_decisions()
    force(world, statement, seq)
    with pytest.raises(Rejected) as caught:
        world.store.verify_decisions()
    assert (caught.value.clause, caught.value.code) == ("F5", "decision-log")


def test_forked_log_at_its_end(lone: Bench) -> None:
    """forked log: the last entry was altered, and nothing follows it that would show it (F5)"""
    world, token = lone.world, lone.world.token()
    lone.honest.obtain(token)
    statement = "update decisions set entry = cast(replace(entry, 'vm-1', 'vm-2') as blob) where seq = ?"
    force(world, statement, world.store.head().seq)
    with pytest.raises(Rejected) as caught:
        world.store.verify_decisions()
    assert (caught.value.clause, caught.value.code) == ("F5", "decision-log")


def test_dropped_entry(lone: Bench) -> None:
    """dropped entry: a release taken out of the log, and everything after it made to fit (T3)"""
    world, token = lone.world, lone.world.token()
    log = PublicLog(world.store)
    lone.honest.obtain(token)
    before = verify_checkpoint(log.newest(world.keys).encode(), world.keys.key_list)
    dropped = list(world.store.decisions())[:-1]
    with Store.open(world.folder / "rewritten.sqlite") as rewritten, rewritten.transaction() as tx:
        for each in dropped:
            tx.append_decision(each.time, each.launch_key, each.entry)
        for number in range(3):
            tx.append_act(world.now, "host-enrolled", f"{number:064x}")
    with Store.open(world.folder / "rewritten.sqlite") as rewritten:
        after = verify_checkpoint(PublicLog(rewritten).newest(world.keys).encode(), world.keys.key_list)
        proof = PublicLog(rewritten).consistency(before.size, after.size)
    with pytest.raises(Rejected) as caught:
        check_consistency(before.checkpoint, after.checkpoint, proof)
    assert (caught.value.clause, caught.value.code) == ("T3", "log-fork")


def force(world: World, statement: str, *values: object) -> None:
    """Like :func:`tamper`, past the triggers that guard the record against mistakes."""
    with contextlib.closing(sqlite3.connect(world.folder / "store.sqlite3")) as database, database:
        for (name,) in database.execute("select name from sqlite_master where type = 'trigger'").fetchall():
            database.execute(f'drop trigger "{name}"')
    tamper(world, statement, *values)


def test_authority_database_stolen(lone: Bench) -> None:
    """authority database stolen: it holds no secret, no token, no launch id, and no key"""
    world, token = lone.world, lone.world.token()
    lone.honest.obtain(token)
    everything = b"".join(path.read_bytes() for path in world.folder.glob("store.sqlite*"))
    assert token_id(token.text) in everything
    for name, value in secrets_of(token, world).items():
        assert value not in everything, name
        assert value.hex().encode() not in everything, name


def secrets_of(token: Token, world: World) -> dict[str, bytes]:
    return {
        "secret": token.body.secret,
        "launch id": token.body.launch_id,
        "token": token.text.encode(),
        "mac key": world.keys.mac_key,
        "pseudonym key": world.keys.pseudonym_key,
        **{f"sealing key {i}": key.private_bytes_raw() for i, key in enumerate(world.keys.sealing_keys.values())},
        "signing key": world.keys.signing_key.private_bytes_raw(),
        "log key": world.keys.log_key.private_bytes_raw(),
    }


def test_decision_is_durable_before_the_release(stored: Bench) -> None:
    """authority killed at every step: when the record cannot be written, nothing leaves (F5)"""
    world, token = stored.world, stored.world.token()
    made: Attempt = attempt(stored.evil, token)

    class Full(Store):
        def _before_commit(self) -> None:
            raise Unavailable("store-unavailable", "the disk is full")

    with Full.open(world.where) as full:
        dying = Launches(full, lambda: world.keys, lambda: world.now)
        reply = replace(made, host=TestHost(stored.evil.machine, world, Direct(dying))).send()
    assert isinstance(reply, Refusal)
    assert (reply.code, reply.retry) == ("store-unavailable", True)
    assert world.decisions(token) == []
    made.release()  # nothing was spent: the same evidence is good after all
