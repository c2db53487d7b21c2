"""Events: written with their acts, told to who may know, in order, waiting, and noticed when nothing happens."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from watchword.authority.keys.keyring import Keyring
from watchword.authority.publishing.news import note_fallen
from watchword.authority.store import Audience, DatabaseUrl, ProfileRow, Store, Transaction
from watchword.launch.attest import HostState, Standing
from watchword.launch.event import verify_event
from watchword.tenant.events import Chains

from .conftest import Service, authority_in
from .helpers import NOW, host

PROFILE, OTHERS = b"p" * 32, b"q" * 32
EVERYTHING = Audience(None, None)


@pytest.fixture
def store(where: Path | DatabaseUrl) -> Iterator[Store]:
    with Store.open(where) as made:
        yield made


def happened(
    tx: Transaction, number: int, standing: str = "failed", *, profile: bytes = PROFILE, time: int = NOW
) -> None:
    tx.append_act(
        time, f"host-{standing}", host(number).host_id.hex(), profile=profile.hex(), level="gold", was=None,
        rebooted=False, code="x", secret="never told",
    )  # fmt: skip


def told(store: Store, audience: Audience = EVERYTHING, after: int = 0) -> list[tuple[int, str, str, int]]:
    found = [json.loads(payload) for _, payload in store.events(after, audience, 100).payloads]
    return [(each["seq"], each["type"], each["subject"][:4], each["number"]) for each in found]


def test_an_act_and_its_event_are_one(store: Store) -> None:
    with store.transaction() as tx:
        happened(tx, 1)
        tx.append_act(NOW, "profile-publish", "ab", by="tenant", name="a tenant's")  # nobody else's business
    with suppress(ZeroDivisionError), store.transaction() as tx:
        happened(tx, 1)
        raise ZeroDivisionError
    assert told(store) == [(1, "host-failed", "0101", 1)]
    assert b"secret" not in store.events(0, EVERYTHING, 1).payloads[0][1]
    assert b"never told" not in store.events(0, EVERYTHING, 1).payloads[0][1]


def test_who_may_know_is_told_and_nobody_else(store: Store) -> None:
    with store.transaction() as tx:
        happened(tx, 1)
        happened(tx, 2)
        happened(tx, 1, "trusted", profile=OTHERS)
        tx.append_act(NOW, "host-revoke", host(1).host_id.hex(), reason="private")
        tx.append_act(NOW, "stack-revoked", "ee" * 32, name="compute", version="1", reason="private")
    public = (5, "stack-revoked", "eeee", 1)
    one = (host(1).host_id,)
    assert told(store, Audience((), [])) == [public]
    assert told(store, Audience(one, [PROFILE.hex()])) == [
        (1, "host-failed", "0101", 1), (4, "host-revoke", "0101", 1), public,
    ]  # fmt: skip
    assert told(store, Audience(one, None, public=False), after=1) == [
        (3, "host-trusted", "0101", 1),
        (4, "host-revoke", "0101", 1),
    ]
    assert len(told(store)) == 5
    assert all(b"private" not in payload for _, payload in store.events(0, EVERYTHING, 9).payloads)


def test_pages_and_what_is_not_on_file_any_more(store: Store) -> None:
    with store.transaction() as tx:
        for at in range(5):
            happened(tx, 1, time=NOW + at)
            happened(tx, 2, time=NOW + at)
    page = store.events(0, Audience((host(1).host_id,), None), 2)
    assert ([seq for seq, _ in page.payloads], page.last, page.complete) == ([1, 3], 3, True)
    assert store.events(9, Audience((host(1).host_id,), None), 2).last == 10
    with store.transaction() as tx:
        assert tx.prune_events(NOW + 2) == 4
    assert not store.events(3, EVERYTHING, 1).complete
    assert store.events(4, EVERYTHING, 1).complete
    assert not store.events(11, EVERYTHING, 1).complete  # never was: somebody restored an older copy
    with store.transaction() as tx:
        tx.prune_events(NOW + 100)
        happened(tx, 1)
    assert told(store) == [(11, "host-failed", "0101", 6)]  # numbers go on


def test_an_older_store_gets_its_tables(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite3"
    with Store.open(path) as store, store.transaction() as tx:
        for table in ("alembic_version", "events", "event_chains", "stale_noted", "webhooks", "era_nonces"):
            tx._connection.exec_driver_sql(f"DROP TABLE {table}")
        for column in ("nonce_era", "era_pruned"):
            tx._connection.exec_driver_sql(f"ALTER TABLE state DROP COLUMN {column}")
    with Store.open(path) as store:
        with store.transaction() as tx:
            happened(tx, 1)
        assert len(told(store)) == 1


# -- silence -------------------------------------------------------------------------------------------------------


def put_state(store: Store, number: int, until: int) -> None:
    state = HostState(Standing.TRUSTED, "gold", 1, 1, NOW, NOW, until, 1, b"")
    with store.transaction() as tx:
        tx.put_state(host(number).host_id, PROFILE, state)


def test_a_host_that_falls_silent_is_noticed_once(store: Store) -> None:
    with store.transaction() as tx:
        for number in (1, 2, 3):
            tx.put_host(host(number))
        tx.revoke_host(host(3).host_id, "", NOW)
    for number in (1, 2, 3):
        put_state(store, number, NOW + 100 * number)
    assert note_fallen(store, NOW + 99) == 0
    assert note_fallen(store, NOW + 100) == 1
    assert note_fallen(store, NOW + 199) == 0
    put_state(store, 1, NOW + 180)  # it came back, and fell silent again
    assert note_fallen(store, NOW + 500) == 2
    assert note_fallen(store, NOW + 900) == 0
    assert [each[1:] for each in told(store)] == [
        ("host-stale", "0101", 1), ("host-stale", "0101", 2), ("host-stale", "0202", 1),
    ]  # fmt: skip


# -- over HTTP -----------------------------------------------------------------------------------------------------


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Service]:
    with authority_in(tmp_path) as made:
        with made.store.transaction() as tx:
            tx.put_profile(ProfileRow(PROFILE, b"{}", "gold", NOW))
            tx.put_watched(PROFILE, NOW)
        yield made


def ask(running: Service, **question: Any) -> dict[str, Any]:
    with running.client() as client:
        answer = client.post("/v1/events", json=question)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def opened(running: Service, answer: dict[str, Any], chains: Chains | None = None) -> list[tuple[str, str]]:
    chains = chains or Chains()
    found = [chains.take(json.dumps(each).encode(), running.ring.key_list) for each in answer["events"]]
    return [(each.type, each.subject[:4]) for each in found]


def test_events_are_signed_and_chained(running: Service) -> None:
    start = ask(running, hosts=[host(1).host_id.hex()])
    assert (start["events"], start["complete"], start["profile"]) == ([], True, PROFILE.hex())
    with running.store.transaction() as tx:
        happened(tx, 1)
        happened(tx, 2)
        happened(tx, 1, "trusted")
        happened(tx, 1, "trusted", profile=OTHERS)
    found = ask(running, hosts=[host(1).host_id.hex()], after=start["next"])
    assert opened(running, found) == [("host-failed", "0101"), ("host-trusted", "0101")]
    assert ask(running, hosts=[host(1).host_id.hex()], after=found["next"])["events"] == []
    assert opened(running, ask(running, after=0)) == []
    now_by = ask(running, hosts=[host(1).host_id.hex()], profile=OTHERS.hex(), after=0)
    assert opened(running, now_by) == [("host-trusted", "0101")]


def test_a_question_waits_for_what_is_about_it(running: Service) -> None:
    place = ask(running)["next"]
    started = time.monotonic()

    def later() -> None:
        for number in (2, 1):
            time.sleep(0.7)
            with running.store.transaction() as tx:
                happened(tx, number)

    other = threading.Thread(target=later)
    other.start()
    found = ask(running, hosts=[host(1).host_id.hex()], after=place, wait=20)
    other.join()
    assert opened(running, found) == [("host-failed", "0101")]
    assert 1.3 < time.monotonic() - started < 15
    started = time.monotonic()
    assert ask(running, hosts=[host(1).host_id.hex()], after=found["next"], wait=1)["events"] == []
    assert 0.9 < time.monotonic() - started < 10


def test_silence_is_told_by_the_service_itself(running: Service) -> None:
    with running.store.transaction() as tx:
        tx.put_host(host(1))
    put_state(running.store, 1, NOW - 1)
    found = ask(running, hosts=[host(1).host_id.hex()], after=0, wait=20)
    assert opened(running, found) == [("host-stale", "0101")]


def test_who_has_no_role_does_not_see_all(running: Service) -> None:
    with running.client() as client:
        answer = client.post("/v1/events", json={"all": True, "after": 0})
    assert (answer.status_code, answer.json()["type"]) == (401, "urn:watchword:problem:unauthenticated")


def test_an_event_that_somebody_dropped_is_noticed(running: Service) -> None:
    with running.store.transaction() as tx:
        for standing in ("trusted", "failed", "trusted"):
            happened(tx, 1, standing)
    found = ask(running, hosts=[host(1).host_id.hex()], after=0)
    del found["events"][1]
    with pytest.raises(Exception, match="event-missing"):
        opened(running, found)


def test_a_key_that_was_replaced_still_verifies(running: Service) -> None:
    with running.store.transaction() as tx:
        happened(tx, 1)
    envelope = json.dumps(ask(running, hosts=[host(1).host_id.hex()], after=0)["events"][0]).encode()
    running.ring.rotate_signing(NOW)
    newer = Keyring.load(running.ring.directory)
    assert verify_event(envelope, newer.key_list)[0].type == "host-failed"


@pytest.mark.parametrize(
    "question",
    [
        {"hosts": "x"},
        {"hosts": ["x"]},
        {"after": -1},
        {"after": 1.5},
        {"wait": 26},
        {"profile": "x"},
        {"more": 1},
        [],
        1,
    ],
)
def test_a_question_that_is_none_is_refused(running: Service, question: object) -> None:
    with running.client() as client:
        answer = client.post("/v1/events", json=question)
    assert (answer.status_code, answer.json()["type"]) == (400, "urn:watchword:problem:body-malformed")
