"""The store, on both databases: single use, counting, the append-only chain, many writers at once."""

from __future__ import annotations

import sqlite3
import stat
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import func, select

from watchword.authority.publishing.log import TreeReader
from watchword.authority.store import (
    BundleRow,
    DatabaseUrl,
    EkPin,
    EndorserRow,
    Head,
    Placement,
    ProfileRow,
    StackChange,
    StackRow,
    StackRule,
    StackState,
    Store,
    schema,
)
from watchword.authority.store.nonces import Nonces
from watchword.errors import Rejected, Unavailable, UsageError, WatchwordError
from watchword.launch.attest import HostState, Standing
from watchword.launch.challenge import LIFETIME
from watchword.verify.ek import EkClass
from watchword.verify.ima_log import RuntimeSeen
from watchword.verify.quote import LastSeen
from watchword.verify.roots import Root
from watchword.wire.log_leaf import LogLeaf, index_key, tag
from watchword.wire.merkle import EMPTY_ROOT, Frontier, inclusion_proof, inclusion_root, leaf_hash, node_hash

from .helpers import NOW, entry, host, location, raw, start_child

TOKEN = b"t" * 32


REFUSED = (sqlite3.IntegrityError, psycopg.IntegrityError)


@pytest.fixture
def store(where: Path | DatabaseUrl) -> Iterator[Store]:
    with Store.open(where) as opened:
        yield opened


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.sqlite3"


def stack(number: int = 1, **changes: object) -> StackRow:
    row = StackRow(
        digest=bytes([number]) * 32,
        name="compute",
        version=str(number),
        serial=number,
        state=StackState.ACTIVE,
        retire_at=None,
        added_at=NOW,
        endorsed_by=frozenset(),
        document=b"{}",
        envelope=None,
    )
    return replace(row, **changes)  # type: ignore[arg-type]


# -- nonces --------------------------------------------------------------------------------------------------------


def test_a_nonce_is_good_once(store: Store) -> None:
    with store.transaction() as tx:
        assert tx.use_nonce(b"n" * 32, NOW + 120)
        assert not tx.use_nonce(b"n" * 32, NOW + 120)
    with store.transaction() as tx:
        assert not tx.use_nonce(b"n" * 32, NOW + 120)
        assert tx.use_nonce(b"m" * 32, NOW + 120)


def test_pruned_nonces_stay_spent_when_the_clock_goes_back(store: Store) -> None:
    with store.transaction() as tx:
        tx.use_nonce(b"old", NOW + 10)
        tx.use_nonce(b"new", NOW + 100)
        assert tx.prune_nonces(NOW + 50) == 1
    with store.transaction() as tx:
        assert not tx.use_nonce(b"old", NOW + 10)
        assert not tx.use_nonce(b"new", NOW + 100)
        assert tx.prune_nonces(NOW - 1000) == 0
        assert not tx.use_nonce(b"old", NOW + 10)


def test_pruning_by_a_clock_that_is_ahead_does_not_refuse_what_was_not_spent(store: Store) -> None:
    with store.transaction() as tx:
        tx.use_nonce(b"old", NOW + 10)
        assert tx.prune_nonces(NOW + 1_000_000) == 1
        assert not tx.use_nonce(b"old", NOW + 10)
        assert tx.use_nonce(b"new", NOW + 11)


def begin_era(store: Store) -> bytes:
    with store.transaction() as tx:
        tx.begin_era()
    return store.nonces().era


def test_a_clock_that_was_ahead_blocks_launches_until_a_new_era(store: Store) -> None:
    with store.transaction() as tx:
        tx.use_nonce(b"ahead", NOW + 3720)
        tx.prune_nonces(NOW + 3720)
        assert not tx.use_nonce(b"now", NOW + LIFETIME)
    assert store.nonces() == Nonces(b"", NOW + 3720)
    assert store.nonces().blocks(NOW)
    assert store.nonces().blocks(NOW + 3600)
    assert not store.nonces().blocks(NOW + 3601)
    generation, era = store.generation(), begin_era(store)
    assert store.generation() == generation + 1  # so that whoever gives out nonces knows
    assert store.nonces() == Nonces(era, 0)
    with store.transaction() as tx:
        assert tx.use_nonce(b"new", NOW + LIFETIME, era)
        assert not tx.use_nonce(b"new", NOW + LIFETIME, era)


def test_no_nonce_of_an_era_before_is_good(store: Store) -> None:
    """Neither used nor unused, forgotten nor remembered, whatever the clock says."""
    eras = [b"", begin_era(store), begin_era(store)]
    assert len(set(eras)) == 3
    assert {len(era) for era in eras[1:]} == {16}
    with store.transaction() as tx:
        for era in eras[:2]:
            assert not tx.use_nonce(b"n" + era, NOW + 1_000_000, era)
        assert tx.use_nonce(b"n", NOW + LIFETIME, eras[2])


def test_nonces_of_an_era_stay_spent_when_the_clock_goes_back(store: Store) -> None:
    era = begin_era(store)
    with store.transaction() as tx:
        assert tx.use_nonce(b"old", NOW + 10, era)
        assert tx.use_nonce(b"new", NOW + 100, era)
        assert tx.prune_nonces(NOW + 50) == 1
        assert not tx.use_nonce(b"old", NOW + 10, era)
        assert not tx.use_nonce(b"new", NOW + 100, era)
    assert store.nonces() == Nonces(era, NOW + 10)


def test_a_program_from_before_eras_forgets_no_nonce_of_one(store: Store, where: Path | DatabaseUrl) -> None:
    """Its clock is ahead, it forgets all it knows, and the mark of its own nonces stays where it is."""
    with store.transaction() as tx:
        tx.use_nonce(b"first", NOW + 5000)
        tx.prune_nonces(NOW + 5000)
    era = begin_era(store)
    with store.transaction() as tx:
        assert tx.use_nonce(b"n", NOW + LIFETIME, era)
    raw(where, "DELETE FROM used_nonces")
    with store.transaction() as tx:
        assert not tx.use_nonce(b"n", NOW + LIFETIME, era)
    assert raw(where, "SELECT nonces_pruned FROM state") == [(NOW + 5000,)]


def test_a_transaction_that_fails_changes_nothing(store: Store) -> None:
    with pytest.raises(RuntimeError, match="stop"), store.transaction() as tx:  # noqa: PT012 - it is the block that must fail
        assert tx.use_nonce(b"n", NOW)
        tx.count_release(TOKEN)
        tx.append_decision(NOW, b"", entry())
        tx.put_host(host())
        raise RuntimeError("stop")
    assert store.releases(TOKEN) == 0
    assert store.head().seq == 0
    assert store.hosts() == ()
    with store.transaction() as tx:
        assert tx.use_nonce(b"n", NOW)


# -- counts --------------------------------------------------------------------------------------------------------


def test_releases_are_counted_per_token(store: Store) -> None:
    with store.transaction() as tx:
        assert tx.releases(TOKEN) == 0
        assert [tx.count_release(TOKEN), tx.count_release(TOKEN)] == [1, 2]
        assert tx.count_release(b"other") == 1
        assert tx.releases(TOKEN) == 2
    assert store.releases(TOKEN) == 2


def release_once(store: Store, allowed: int) -> bool:
    """One release as the service does it: count and decide together."""
    with store.transaction() as tx:
        if tx.releases(TOKEN) >= allowed:
            return False
        number = tx.count_release(TOKEN)
        tx.append_decision(NOW, b"", entry(f"release {number}"))
        return True


def test_threads_never_release_more_than_allowed(store: Store) -> None:
    barrier = threading.Barrier(8)

    def work(_: int) -> int:
        barrier.wait()
        return sum(release_once(store, 10) for _ in range(4))

    with ThreadPoolExecutor(8) as pool:
        released = sum(pool.map(work, range(8)))
    assert (released, store.releases(TOKEN)) == (10, 10)
    assert store.verify_decisions().seq == 10


def test_processes_never_release_more_than_allowed(where: Path | DatabaseUrl) -> None:
    children = [start_child("release", location(where), "10", "8", "") for _ in range(3)]
    printed = [child.communicate(timeout=60)[0].split() for child in children]
    with Store.open(where) as store:
        assert (sum(words.count("released") for words in printed), store.releases(TOKEN)) == (10, 10)
        assert store.verify_decisions().seq == 10


@pytest.mark.parametrize("statement", ["UPDATE releases SET count = 0", "DELETE FROM releases"])
def test_a_release_count_never_goes_back(store: Store, where: Path | DatabaseUrl, statement: str) -> None:
    release_once(store, 1)
    with pytest.raises(REFUSED):
        raw(where, statement)
    assert store.releases(TOKEN) == 1


# -- the decision record -------------------------------------------------------------------------------------------


def fill(store: Store, count: int = 3) -> None:
    for number in range(count):
        with store.transaction() as tx:
            tx.append_decision(NOW + number, b"", entry(str(number), time=NOW + number))


def test_decisions_form_a_tree(store: Store) -> None:
    with store.transaction() as tx:
        first = tx.append_decision(NOW, b"", entry("1"))
        second = tx.append_decision(NOW, b"k" * 32, entry("2", launch=b"k" * 32))
        third = tx.append_decision(NOW, b"k" * 32, entry("3", launch=b"k" * 32))
    assert [(each.seq, each.number) for each in (first, second, third)] == [(1, 0), (2, 1), (3, 2)]
    assert store.head_at(1) == Head(1, leaf_hash(first.leaf))
    two = node_hash(leaf_hash(first.leaf), leaf_hash(second.leaf))
    assert store.head() == Head(3, node_hash(two, leaf_hash(third.leaf)))
    assert LogLeaf.parse(third.leaf).tag == tag(index_key(b"k" * 32), 2)
    assert list(store.decisions()) == [first, second, third]
    assert list(store.decisions(launch_key=b"k" * 32)) == [second, third]
    assert store.verify_decisions() == store.head()
    assert (store.head_at(4), store.head_at(0)) == (None, Head(0, EMPTY_ROOT))


def test_tiles_hold_what_the_leaves_give(store: Store) -> None:
    with store.transaction() as tx:
        for number in range(520):
            tx.append_decision(NOW, b"", entry(str(number)))
    hashes = [leaf_hash(leaf) for leaf in store.leaves(0, 1000)]
    assert (len(hashes), len(store.tile(0, 0)), len(store.tile(0, 2)), store.tile(0, 3)) == (520, 256, 8, [])
    trees = []
    for at in (0, 256):
        tree = Frontier()
        for hashed in hashes[at : at + 256]:
            tree, _ = tree.append(hashed)
        trees.append(tree.root())
    assert store.tile(1, 0) == trees
    assert store.tile(2, 0) == store.tile(7, 0) == store.tile(0, (1 << 54) - 1) == []
    reader = TreeReader(store)
    for size in (1, 255, 256, 257, 519, 520):
        head = store.head_at(size)
        assert head is not None
        for index in {0, size // 2, size - 1}:
            proof = inclusion_proof(index, size, reader.subtree)
            assert inclusion_root(index, size, hashes[index], proof) == head.root


def test_a_sealed_act_looks_like_a_decision(store: Store) -> None:
    with store.transaction() as tx:
        sealed = tx.append_act(NOW, "host-enrolled", "ab" * 32, by="alice")
        shown = tx.append_act(NOW, "stack-add", "cd" * 32, by="alice", name="compute", secret="x")
        decided = tx.append_decision(NOW, b"k" * 32, entry("1", launch=b"k" * 32))
    assert len(sealed.leaf) == len(decided.leaf) == 65
    text = LogLeaf.parse(shown.leaf).public
    assert b'"subject":"' + b"cd" * 32 in text
    assert b'"name":"compute"' in text
    assert b"alice" not in text
    assert b"secret" not in text


def test_many_decisions_are_read_in_pages(store: Store) -> None:
    with store.transaction() as tx:
        for number in range(1203):
            tx.append_decision(NOW, b"", entry(str(number)))
    assert [d.seq for d in store.decisions(after=200)] == list(range(201, 1204))
    assert store.verify_decisions().seq == 1203


def test_an_entry_has_a_bounded_size(store: Store) -> None:
    for bad in (b"", b"x" * (128 * 1024 + 1)):
        with pytest.raises(ValueError, match="decision entry"), store.transaction() as tx:
            tx.append_decision(NOW, b"", bad)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE decisions SET entry = x'00' WHERE seq = 2",
        "DELETE FROM decisions WHERE seq = 3",
        (
            "INSERT OR REPLACE INTO decisions "
            "SELECT seq, 0, launch_key, number, salt, entry, leaf, frontier FROM decisions WHERE seq = 2"
        ),
        (
            "INSERT INTO decisions "
            "SELECT 5, time, launch_key, number, salt, entry, leaf, frontier FROM decisions WHERE seq = 3"
        ),
        (
            "INSERT INTO decisions "
            "SELECT 4, time, launch_key, number, salt, entry, leaf, x'00' FROM decisions WHERE seq = 3"
        ),
        (
            "INSERT INTO decisions "
            "SELECT 4, time, launch_key, -1, salt, entry, leaf, frontier FROM decisions WHERE seq = 3"
        ),
        (
            "INSERT INTO decisions "
            "SELECT NULL, time, launch_key, number, salt, entry, leaf, frontier FROM decisions WHERE seq = 3"
        ),
    ],
)
def test_the_database_refuses_to_change_decisions(store: Store, where: Path | DatabaseUrl, statement: str) -> None:
    if "OR REPLACE" in statement and isinstance(where, DatabaseUrl):
        statement = "TRUNCATE decisions"  # what each has beside the words of the standard
    fill(store)
    before = list(store.decisions())
    with pytest.raises(REFUSED):
        raw(where, statement)
    assert list(store.decisions()) == before


@pytest.mark.parametrize(
    ("statement", "why"),
    [
        ("UPDATE decisions SET entry = CAST('{\"time\": 1800000001}' AS BLOB) WHERE seq = 2", "not what was logged"),
        ("UPDATE decisions SET salt = zeroblob(32) WHERE seq = 2", "not what was logged"),
        ("UPDATE decisions SET leaf = zeroblob(65) WHERE seq = 2", "does not lead to its root"),
        ("UPDATE decisions SET frontier = zeroblob(64) WHERE seq = 3", "does not lead to its root"),
        ("UPDATE decisions SET number = 7 WHERE seq = 2", "another number of entries"),
        ("DELETE FROM decisions WHERE seq = 2", "out of order"),
        ("DELETE FROM decisions WHERE seq = 1", "out of order"),
        ("UPDATE decisions SET launch_key = x'aa' WHERE seq = 2", "filed under another"),
        ("UPDATE decisions SET time = 5 WHERE seq = 2", "filed under another"),
    ],
)
def test_tampering_behind_the_triggers_is_found(
    store: Store, where: Path | DatabaseUrl, statement: str, why: str
) -> None:
    fill(store)
    triggers = ("no_update", "no_delete", "in_order")
    raw(where, *(f"DROP TRIGGER decisions_{trigger}" for trigger in triggers), statement)
    with pytest.raises(Rejected, match=why) as caught:
        store.verify_decisions()
    assert caught.value.code == "decision-log"


def test_an_entry_that_is_no_decision_is_found(store: Store) -> None:
    with store.transaction() as tx:
        tx.append_decision(NOW, b"", b"not json")
    with pytest.raises(Rejected, match="not a decision"):
        store.verify_decisions()


def test_acts_join_the_same_log(store: Store) -> None:
    fill(store, 1)
    with store.transaction() as tx:
        act = tx.append_act(NOW, "host-enrolled", "ab" * 32, by="alice", reason="new")
    assert b'"by":"alice"' in act.entry
    assert store.verify_decisions().seq == 2


# -- hosts ---------------------------------------------------------------------------------------------------------


def test_a_host_is_kept_with_what_was_seen(store: Store) -> None:
    last = LastSeen(reset_count=3, restart_count=1, clock=99, safe=True)
    runtime = RuntimeSeen(reset_count=3, entries=12, aggregate=b"a" * 32)
    with store.transaction() as tx:
        tx.put_host(host())
        tx.update_seen(host().host_id, last, NOW + 5)
        tx.update_runtime(host().host_id, runtime)
        tx.update_seen(host().host_id, replace(last, clock=100), NOW + 6)
    found = store.host(host().host_id)
    assert found == replace(host(), last=replace(last, clock=100), last_time=NOW + 6, runtime=runtime)
    assert store.hosts() == (found,)
    assert store.host(b"?" * 32) is None


def test_what_was_seen_never_goes_back(store: Store) -> None:
    seen = LastSeen(reset_count=3, restart_count=1, clock=(1 << 40), safe=True)
    with store.transaction() as tx:
        tx.put_host(host())
        assert tx.update_seen(host().host_id, seen, NOW)
        assert not tx.update_seen(host().host_id, replace(seen, clock=99), NOW + 1)
        assert not tx.update_seen(host().host_id, replace(seen, reset_count=2, clock=(1 << 41)), NOW + 1)
        assert tx.last_seen(host().host_id) == seen
        assert tx.update_seen(host().host_id, replace(seen, reset_count=(1 << 32) - 1, clock=1), NOW + 1)
        with pytest.raises(UsageError):
            tx.forget_best(host().host_id)


def test_text_may_hold_whatever_a_host_puts_there(store: Store) -> None:
    state = HostState(
        Standing.FAILED, "", 0, 0, NOW, NOW, NOW + 1, 1, b"", "ima-file", "a file: \0 \x1b \N{SNOWMAN} \U0001f600"
    )
    with store.transaction() as tx:
        tx.put_host(host())
        tx.put_state(host().host_id, b"p" * 32, state)
    assert store.states(host().host_id) == {
        b"p" * 32: replace(state, reason="a file: \u2400 \x1b \N{SNOWMAN} \U0001f600")
    }


def test_names_are_ordered_alike_everywhere(store: Store) -> None:
    names = ["Zeta", "alpha", "alpha-2", "alpha1", "_x", "\xe4"]
    with store.transaction() as tx:
        for name in names:
            tx.put_stack_rule(StackRule(name, "default", 1, frozenset({"aa"}), NOW))
    assert [rule.name for rule in store.stack_rules()] == sorted(names)


def test_intermediates_are_kept_once(store: Store) -> None:
    shared = Root(b"certificate", EkClass.VIRTUAL, "x", "here", is_anchor=False)
    with store.transaction() as tx:
        for name in ("one", "two"):
            tx.put_bundle(BundleRow(name, 1, b"d" * 32, NOW), [shared])
    assert store.intermediates() == (b"certificate",)


def test_host_and_generation_come_together(store: Store) -> None:
    assert store.host_now(host().host_id) == (0, None)
    with store.transaction() as tx:
        tx.put_host(host())
        tx.update_seen(host().host_id, LastSeen(reset_count=3, restart_count=1, clock=99, safe=False), NOW + 5)
        tx.update_runtime(host().host_id, RuntimeSeen(reset_count=3, entries=12, aggregate=b"a" * 32))
        tx.put_host(host(2, ak=b"another"))
        tx.put_profile(ProfileRow(b"p" * 32, b"{}", "gold", NOW))
    for host_id in (host().host_id, host(2).host_id, b"?" * 32):
        assert store.host_now(host_id) == (store.generation(), store.host(host_id))


def test_the_file_of_a_host_says_what_the_tables_say(store: Store) -> None:
    state = HostState(Standing.TRUSTED, "full", 2, 2, NOW, NOW, NOW + 60, 3, b"s" * 32)
    with store.transaction() as tx:
        for number in (1, 2):
            tx.put_host(host(number))
        tx.update_seen(host(1).host_id, LastSeen(reset_count=3, restart_count=1, clock=99, safe=True), NOW + 5)
        tx.update_runtime(host(1).host_id, RuntimeSeen(reset_count=3, entries=12, aggregate=b"a" * 32))
        for profile, standing in ((b"p" * 32, Standing.TRUSTED), (b"q" * 32, Standing.FAILED)):
            tx.put_state(host(1).host_id, profile, replace(state, standing=standing))
            tx.put_placement(Placement(profile, host(1).host_id, profile, 1, 3, NOW))
    for host_id in (host(1).host_id, host(2).host_id, b"?" * 32):
        file = store.host_file(host_id)
        assert (file.generation, file.host) == store.host_now(host_id)
        assert (file.states, file.interests) == (store.states(host_id), store.interests(host_id))
    file = store.host_file(host(1).host_id)
    assert len(file.states) == len(file.interests) == 2
    assert file.host is not None
    assert file.host.last is not None
    assert file.host.last.safe is True


def test_what_goes_wrong_with_the_file_of_a_host_is_our_own_error(store: Store, where: Path | DatabaseUrl) -> None:
    store.host_file(host().host_id)
    raw(where, "ALTER TABLE host_states RENAME TO elsewhere")
    with pytest.raises(Unavailable, match="cannot be used") as caught:
        store.host_file(host().host_id)
    assert caught.value.code == "store-unavailable"
    raw(where, "ALTER TABLE elsewhere RENAME TO host_states")
    assert store.host_file(host().host_id).host is None


def test_what_is_read_together_is_of_one_moment(store: Store) -> None:
    query = select(func.count()).select_from(schema.hosts)
    with store._reading_together() as connection:
        before = connection.execute(query).scalar()
        with store.transaction() as tx:
            tx.put_host(host())
        assert connection.execute(query).scalar() == before == 0
    with store._reading() as connection:
        assert connection.execute(query).scalar() == 1


def test_enrolling_again_starts_over(store: Store) -> None:
    with store.transaction() as tx:
        tx.put_host(host())
        tx.update_seen(host().host_id, LastSeen(reset_count=9, restart_count=0, clock=1, safe=True), NOW)
        tx.update_runtime(host().host_id, RuntimeSeen(reset_count=9, entries=1, aggregate=b""))
        tx.put_host(host(ak=b"new ak", time=NOW + 1))
    assert store.host(host().host_id) == host(ak=b"new ak", time=NOW + 1)


def test_a_revoked_host_stays_revoked(store: Store) -> None:
    with store.transaction() as tx:
        tx.put_host(host())
        tx.revoke_host(host().host_id, "stolen", NOW)
    found = store.host(host().host_id)
    assert found is not None
    assert found.revoked
    with pytest.raises(Rejected) as caught, store.transaction() as tx:
        tx.put_host(host(ak=b"new ak"))
    assert caught.value.code == "host-revoked"
    assert store.host(host().host_id) == found
    with pytest.raises(UsageError), store.transaction() as tx:
        tx.revoke_host(host().host_id, "again", NOW)


def test_two_hosts_cannot_share_an_attestation_key(store: Store) -> None:
    with store.transaction() as tx:
        tx.put_host(host(1, ak=b"same"))
    with pytest.raises(Rejected) as caught, store.transaction() as tx:
        tx.put_host(host(2, ak=b"same"))
    assert caught.value.code == "host-merged"
    assert len(store.hosts()) == 1


# -- what is allowed -----------------------------------------------------------------------------------------------


def test_every_change_of_what_is_allowed_moves_the_generation(store: Store) -> None:
    pin = EkPin(b"h" * 32, b"ek", EkClass.VIRTUAL, "lab", NOW)
    endorser = EndorserRow("ab" * 32, "ed25519", b"k" * 44, "auditor", NOW)
    acts = [
        lambda tx: tx.put_pin(pin),
        lambda tx: tx.remove_pin(pin.host_id),
        lambda tx: tx.put_stack(stack()),
        lambda tx: tx.put_endorser(endorser),
        lambda tx: tx.put_endorsement(stack().digest, endorser.key_id),
        lambda tx: tx.set_stack_state(stack().digest, StackState.RETIRING, NOW + 5, time=NOW),
        lambda tx: tx.remove_endorser(endorser.key_id),
    ]
    for act in acts:
        before = store.generation()
        with store.transaction() as tx:
            act(tx)
        assert store.generation() > before
    before = store.generation()
    with store.transaction() as tx:
        tx.put_profile(ProfileRow(b"p" * 32, b"{}", "gold", NOW))
    release_once(store, 1)
    assert store.generation() == before


def test_an_endorser_that_is_removed_no_longer_counts(store: Store) -> None:
    endorser = EndorserRow("ab" * 32, "ed25519", b"k" * 44, "auditor", NOW)
    with store.transaction() as tx:
        tx.put_endorser(endorser)
        tx.put_stack(stack(endorsed_by=frozenset({endorser.key_id}), envelope=b"{}"))
    signed = stack(endorsed_by=frozenset({endorser.key_id}), envelope=b"{}", activated_at=NOW)
    assert store.stacks() == (signed,)
    assert store.stack_infos()[0].endorsed_by == {endorser.key_id}
    with store.transaction() as tx:
        tx.remove_endorser(endorser.key_id)
    assert store.stacks()[0].endorsed_by == frozenset()


def test_limits_of_endorsers_are_kept(store: Store) -> None:
    plain = EndorserRow("ab" * 32, "ed25519", b"k" * 44, "auditor", NOW)
    limited = replace(plain, stacks=frozenset({"compute", "storage"}), pools=frozenset({"special"}))
    for endorser in (plain, limited, plain):
        with store.transaction() as tx:
            tx.put_endorser(endorser)
        assert store.endorsers() == (endorser,)
    assert limited.may_endorse("compute", "special")
    assert not limited.may_endorse("compute", "default")
    assert not limited.may_endorse("network", "special")


def test_adding_again_never_brings_a_revoked_stack_back(store: Store) -> None:
    with store.transaction() as tx:
        tx.put_stack(stack())
        tx.set_stack_state(stack().digest, StackState.REVOKED, None, time=NOW)
    with pytest.raises(UsageError), store.transaction() as tx:
        tx.put_stack(stack())
    with pytest.raises(UsageError), store.transaction() as tx:
        tx.set_stack_state(b"?" * 32, StackState.ACTIVE, None, time=NOW)
    assert store.stacks()[0].state is StackState.REVOKED


def test_the_history_of_a_stack_cannot_be_changed(store: Store, where: Path | DatabaseUrl) -> None:
    with store.transaction() as tx:
        tx.put_stack(stack(state=StackState.DRAFT), by="eve", reason="new")
        tx.set_stack_state(stack().digest, StackState.ACTIVE, None, time=NOW + 1, by="eve")
        tx.set_stack_state(stack().digest, StackState.RETIRING, NOW + 9, time=NOW + 2, by="eve", reason="old")
        tx.set_stack_state(stack().digest, StackState.ACTIVE, None, time=NOW + 3, by="eve", reason="not yet")
    assert store.stack_history(stack().digest) == (
        StackChange(NOW, StackState.DRAFT, None, "eve", "new"),
        StackChange(NOW + 1, StackState.ACTIVE, None, "eve", ""),
        StackChange(NOW + 2, StackState.RETIRING, NOW + 9, "eve", "old"),
        StackChange(NOW + 3, StackState.ACTIVE, None, "eve", "not yet"),
    )
    assert store.stacks()[0].activated_at == NOW + 1
    for statement in ("UPDATE stack_history SET reason = 'x'", "DELETE FROM stack_history"):
        with pytest.raises(REFUSED, match="append-only"):
            raw(where, statement)


def test_rules_are_kept(store: Store) -> None:
    rule = StackRule("compute", "default", 2, frozenset({"aa", "bb"}), NOW)
    other = replace(rule, pool="special", threshold=1)
    with store.transaction() as tx:
        tx.put_stack_rule(replace(rule, keys=frozenset({"cc"}), threshold=1))
        tx.put_stack_rule(rule)
        tx.put_stack_rule(other)
    assert store.stack_rules() == (rule, other)
    with store.transaction() as tx:
        tx.remove_stack_rule("compute", "default")
    assert store.stack_rules() == (other,)
    with pytest.raises(UsageError), store.transaction() as tx:
        tx.remove_stack_rule("compute", "default")


def test_published_profiles_are_counted(store: Store) -> None:
    with store.transaction() as tx:
        assert tx.put_profile(ProfileRow(b"p" * 32, b"{}", "gold", NOW))
        assert tx.put_profile(ProfileRow(b"q" * 32, b"{ }", "gold", NOW, published=True))
        assert not tx.put_profile(ProfileRow(b"p" * 32, b"{}", "gold", NOW, published=True))
        assert tx.published_profiles() == 1
    with store.transaction() as tx:
        tx.remove_profile(b"q" * 32)
    assert [row.id for row in store.profiles()] == [b"p" * 32]
    with pytest.raises(UsageError), store.transaction() as tx:
        tx.remove_profile(b"q" * 32)
    with store.transaction() as tx:
        tx.put_watched(b"p" * 32, NOW)
    with pytest.raises(UsageError) as caught, store.transaction() as tx:
        tx.remove_profile(b"p" * 32)
    assert caught.value.code == "profile-watched"


def test_the_survey_counts_hosts_by_how_they_stand(store: Store) -> None:
    state = HostState(Standing.TRUSTED, "full", 2, 2, NOW, NOW, NOW + 60, 1, b"")
    with store.transaction() as tx:
        tx.put_profile(ProfileRow(b"p" * 32, b"{}", "gold", NOW))
        tx.put_watched(b"p" * 32, NOW)
        for number in range(1, 5):
            tx.put_host(host(number))
        tx.put_state(host(1).host_id, b"p" * 32, state)
        tx.put_state(host(2).host_id, b"p" * 32, replace(state, until=NOW))
        tx.revoke_host(host(3).host_id, "x", NOW)
        tx.append_decision(NOW, b"", entry())
    found = store.survey(NOW)
    assert {(count.standing, count.level, count.hosts) for count in found.hosts} == {
        ("trusted", "full", 1),
        ("stale", "", 1),
        ("revoked", "", 1),
        ("unknown", "", 1),
    }
    assert (found.log, found.witnessed, found.rows["hosts"]) == ((1, NOW), (1, NOW), 4)


def test_counts(store: Store) -> None:
    release_once(store, 1)
    with store.transaction() as tx:
        tx.put_host(host(1))
        tx.put_host(host(2))
        tx.revoke_host(host(2).host_id, "x", NOW)
        tx.put_stack(stack())
    counts = store.counts()
    assert (counts.hosts, counts.hosts_revoked, counts.stacks, counts.releases, counts.decisions) == (2, 1, 1, 1, 1)


# -- the file ------------------------------------------------------------------------------------------------------


@pytest.fixture
def in_file(path: Path) -> Iterator[Store]:
    with Store.open(path) as opened:
        yield opened


def test_the_file_is_private_and_durable(in_file: Store, path: Path) -> None:
    store = in_file
    fill(store, 1)
    for file in path.parent.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
    with store._engine.connect() as connection:
        settings = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    assert settings == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 10_000}


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (lambda path: path.write_bytes(b"no database, but long enough to look at" * 40), "store-format"),
        (lambda path: sqlite3.connect(path).execute("CREATE TABLE x (y)").connection.close(), "store-format"),
        (lambda path: path.mkdir(), "store-unavailable"),
        (lambda path: path.symlink_to("/dev/null"), "store-unavailable"),
    ],
)
def test_another_kind_of_file_is_refused(path: Path, make: object, code: str) -> None:
    make(path)  # type: ignore[operator]
    with pytest.raises(WatchwordError) as caught:
        Store.open(path)
    assert caught.value.code == code


def test_a_full_disk_is_told_and_undone(in_file: Store) -> None:
    store = in_file
    with store._engine.connect() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
    store._engine.dispose()

    from sqlalchemy import event

    event.listen(store._engine, "connect", lambda raw, _: raw.execute(f"PRAGMA max_page_count = {pages + 1}").close())
    with pytest.raises(Unavailable, match="full"), store.transaction() as tx:  # noqa: PT012 - which entry is one too many is not ours to say
        for number in range(100):
            tx.append_decision(NOW, b"", entry("x" * 1000 + str(number)))
    assert store.head().seq == 0
