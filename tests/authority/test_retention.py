"""What the authority forgets when its time is over, and what it never does."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from watchword.authority.app import Services, _prune
from watchword.authority.deciding.launches import Launches
from watchword.authority.store import DatabaseUrl, Placement, Store, schema
from watchword.authority.store.retention import Kind
from watchword.authority.telemetry.events import Event, PruneEvent
from watchword.authority.upkeep.retention import Retention, forget_old, forgettable
from watchword.errors import Rejected, UsageError
from watchword.launch.receipt import launch_key
from watchword.testing.farm import have_swtpm
from watchword.testing.world import World

from .helpers import NOW, host, raw

DAY = 86400
YEARS = 10 * 365 * DAY


@pytest.fixture
def world(boots: Path, database: DatabaseUrl | None) -> Iterator[World]:
    if not have_swtpm():
        pytest.skip("swtpm is not installed: the evidence comes from real emulated TPMs")
    with World(boots, database=database) as made:
        made.watch()
        yield made


@pytest.fixture
def store(where: Path | DatabaseUrl) -> Iterator[Store]:
    with Store.open(where) as opened:
        yield opened


def forget(store: Store, now: int, *limits: str, step: int = 200) -> dict[str, int]:
    found: dict[str, int] = {}
    for kind, count in forget_old(store, Retention.parse(limits), now, step):
        found[str(kind)] = found.get(str(kind), 0) + count
    return found


def rows(where: Path | DatabaseUrl) -> dict[str, int]:
    return {name: raw(where, f"SELECT count(*) FROM {name}")[0][0] for name in schema.metadata.tables}


# -- what is forgotten --------------------------------------------------------------------------------------------


def test_evidence_goes_with_the_logs_that_nobody_needs(world: World) -> None:
    first, second, other = world.host(), world.host(), world.host("release-2")
    first.attest()
    other.attest()
    world.now += 10 * DAY
    second.attest()
    assert forget(world.store, world.now + 20 * DAY) == {}  # exactly as old as it may be
    assert forget(world.store, world.now + 20 * DAY + 1) == {"evidence": 2, "logs": 2}
    assert [kept.host_id for kept in world.store.evidence()] == [second.host_id]
    kept = world.store.evidence_of(second.host_id)
    assert kept is not None
    assert kept.event_log == (world.boots / "good" / "eventlog.bin").read_bytes()  # the first host had the same


def test_states_go_when_a_host_was_silent_for_long(world: World) -> None:
    silent, loud = world.host(), world.host()
    silent.attest()
    loud.attest()
    until = world.store.states(silent.host_id)[world.profile.id].until
    assert forget(world.store, until + 90 * DAY, "evidence=never") == {}
    world.now = until + 90 * DAY
    loud.attest()
    assert forget(world.store, until + 90 * DAY + 1, "evidence=never") == {"states": 1}
    assert world.store.states(silent.host_id) == {}
    assert world.store.states(loud.host_id)
    assert silent.attest().state == "trusted"  # and nothing stands in the way of its return


def test_placements_stay_unless_somebody_says_so(world: World) -> None:
    token = world.token()
    world.host().obtain(token)
    key = launch_key(token.body.launch_id)
    forget(world.store, world.now + YEARS)
    assert world.store.placements(key)
    assert forget(world.store, world.now + 30 * DAY, "placements=30d") == {}
    assert world.store.placements(key)
    assert forget(world.store, world.now + 30 * DAY + 1, "placements=30d") == {"placements": 1}
    assert not world.store.placements(key)


def test_cosignatures_go_when_newer_ones_have_replaced_them(store: Store) -> None:
    with store.transaction() as tx:
        for name in ("a", "b", "late"):
            tx.put_witness(name, "", NOW)
        for number in range(6):
            tx.append_act(NOW + number * DAY, "witness-add", str(number))
        for size, witnesses in {1: "ab", 2: "ab", 3: "ab", 4: "ab", 6: "a"}.items():
            for name in witnesses:
                tx.put_cosignature(size, name, f"— {name} {size}")
        tx.put_cosignature(1, "late", "— late 1")
    # Entry 3 was made two days after the first; with thirty days kept, entries 1 and 2 are old now.
    assert forget(store, NOW + 32 * DAY) == {"cosignatures": 5}
    assert [store.cosignatures(size) for size in (1, 2, 3)] == [[], [], ["— a 3", "— b 3"]]
    assert store.witnessed_size() == 4
    assert forget(store, NOW + YEARS) == {"cosignatures": 2}
    assert [len(store.cosignatures(size)) for size in (1, 3, 4, 6)] == [0, 0, 2, 1]


def test_it_is_done_in_small_steps_between_which_others_work(store: Store) -> None:
    with store.transaction() as tx:
        for number in range(1, 6):
            tx.put_host(host(number))
            tx.put_placement(Placement(bytes([number]) * 32, bytes([number]) * 32, bytes(32), 1, 1, NOW))
    steps = []
    for kind, count in forget_old(store, Retention.parse(("placements=1d",)), NOW + 2 * DAY, 2):
        steps.append((kind, count))
        with store.transaction() as tx:  # the writer is free
            tx.append_act(NOW, "host-revoke", "ab" * 32)
    assert steps == [(Kind.PLACEMENTS, 2), (Kind.PLACEMENTS, 2), (Kind.PLACEMENTS, 1)]


def test_a_log_that_is_forgotten_while_evidence_is_made_ready_breaks_nothing(world: World) -> None:
    first = world.host()
    first.attest()
    kept = world.store.evidence_of(first.host_id)
    assert kept is not None
    packed = world.store.packed(kept.event_log)
    assert packed.data is None  # it is on file already
    assert forget(world.store, world.now + 31 * DAY)["logs"] == 2
    with world.store.transaction() as tx:
        tx.keep_evidence(first.host_id, world.now, kept.record, packed, 0, None)
    assert world.store.evidence_of(first.host_id) is None
    world.now += 31 * DAY
    first.attest()
    assert world.store.evidence_of(first.host_id) is not None


# -- what is not --------------------------------------------------------------------------------------------------

FORGOTTEN = {"evidence", "evidence_logs", "evidence_parts", "host_states", "placements", "log_cosignatures"}


def test_everything_else_stays_for_ever(world: World) -> None:
    token = world.token()
    seen = world.host()
    seen.obtain(token)
    seen.attest()
    before = rows(world.where)
    forget(world.store, world.now + YEARS, "evidence=1h", "states=1h", "placements=1h", "cosignatures=1h")
    after = rows(world.where)
    assert {name for name in before if before[name] != after[name]} == FORGOTTEN - {"log_cosignatures"}
    assert before["releases"] == 1
    world.store.verify_decisions()


@pytest.mark.parametrize("late", [-1, 0, YEARS])
def test_a_release_count_is_not_forgotten_before_or_after_its_token_expires(world: World, late: int) -> None:
    token, machine = world.token(), world.host()
    machine.obtain(token)
    forget(world.store, token.body.expires + late, "evidence=1h", "states=1h", "placements=1h", "cosignatures=1h")
    assert world.store.releases(bytes.fromhex(world.decisions(token)[0].token)) == 1
    with pytest.raises(Rejected) as caught:
        machine.obtain(token)  # as if the clock had been set back
    assert caught.value.code == "token-used-up"


def test_nobody_can_delete_a_count_or_a_leaf_by_hand(world: World) -> None:
    world.host().obtain(world.token())
    for table in ("releases", "decisions", "stack_history", "log_nodes"):
        if raw(world.where, f"SELECT count(*) FROM {table}")[0][0]:
            with pytest.raises((sqlite3.IntegrityError, psycopg.IntegrityError)):
                raw(world.where, f"DELETE FROM {table}")


def test_a_nonce_is_not_forgotten_before_it_expires(store: Store) -> None:
    with store.transaction() as tx:
        assert tx.use_nonce(b"n" * 32, NOW + 120)
        assert tx.prune_nonces(NOW + 119) == 0
        assert not tx.use_nonce(b"n" * 32, NOW + 120)
        assert tx.prune_nonces(NOW + 120) == 1
        assert not tx.use_nonce(b"n" * 32, NOW + 120)  # forgotten, and refused all the same


# -- settings, command, service -----------------------------------------------------------------------------------


def test_defaults_are_those_that_are_written_down() -> None:
    assert Retention().document() == {
        "evidence": 30 * DAY, "states": 90 * DAY, "placements": None, "cosignatures": 30 * DAY,
    }  # fmt: skip
    assert Retention.parse(("evidence=12h", "placements=400d", "states=never")).document() == {
        "evidence": 12 * 3600, "states": None, "placements": 400 * DAY, "cosignatures": 30 * DAY,
    }  # fmt: skip


@pytest.mark.parametrize(
    "text",
    ["", "evidence", "evidence=", "evidence=30", "evidence=30m", "evidence=0h", "evidence=-1d", "evidence=999999d",
     "releases=30d", "decisions=1d", "logs=1d", "evidence=٣d"],
)  # fmt: skip
def test_what_cannot_be_set_is_refused(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        Retention.parse((text,))
    assert caught.value.code == "retention"
    assert caught.value.hint


def test_the_command_counts_first_and_forgets_then(command: Any, data: Path) -> None:
    with Store.open(data / "store.sqlite3") as store, store.transaction() as tx:
        tx.put_host(host(1))
        tx.put_placement(Placement(b"l" * 32, bytes([1]) * 32, bytes(32), 1, 1, 1000))
    status, found = command("prune", "--retain", "placements=1d", "--dry-run")
    assert (status, found["dry_run"], found["rows"]["placements"]) == (0, True, 1)
    assert rows(data / "store.sqlite3")["placements"] == 1
    status, found = command("prune", "--retain", "placements=1d")
    assert (status, found["rows"]) == (
        0, {"evidence": 0, "logs": 0, "states": 0, "placements": 1, "cosignatures": 0},
    )  # fmt: skip
    assert rows(data / "store.sqlite3")["placements"] == 0
    _, record = command("decisions")
    assert record["decisions"][-1]["entry"]["act"] == "prune"
    assert record["decisions"][-1]["entry"]["details"]["placements"] == 1
    command("prune", "--retain", "placements=1d")
    assert len(command("decisions")[1]["decisions"]) == 1  # nothing was forgotten, and nothing is told


def test_the_service_forgets_and_says_so(world: World) -> None:
    told: list[Event] = []
    world.host().obtain(world.token())
    world.now += 31 * DAY
    launches = Launches(world.store, lambda: world.keys, lambda: world.now)
    _prune(Services(launches, world.store, lambda: world.keys, lambda: world.now, tell=told.append))
    found = {event.kind: event.count for event in told if isinstance(event, PruneEvent)}
    assert found == {"nonces": 1, "evidence": 1, "logs": 2}
    assert forgettable(world.store, Retention(), world.now) == dict.fromkeys(Kind, 0)
