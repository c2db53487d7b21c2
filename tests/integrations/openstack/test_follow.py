"""The status service hears of a host that fails within seconds, and falls back to asking when it hears nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.authority.conftest import Service, authority_in
from tests.authority.helpers import NOW, host

from watchword.authority.store import ProfileRow
from watchword.cli import openstack_provider
from watchword.crypto.keylist import KeyList
from watchword.errors import Rejected, Unavailable
from watchword.integrations.openstack.status_service import (
    StatusConfig,
    Statuses,
    StatusServer,
    ask_authority,
    follow_authority,
)
from watchword.launch.attest import HostState, Standing
from watchword.launch.event import Event

PROFILE = b"p" * 32
HOST = host(1).host_id
CONFIG = StatusConfig("", "", ("gold",), {HOST.hex(): "cmp1"}, interval=3600.0)


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Service]:
    with authority_in(tmp_path) as made:
        with made.store.transaction() as tx:
            tx.put_profile(ProfileRow(PROFILE, b"{}", "gold", NOW))
            tx.put_watched(PROFILE, NOW)
            tx.put_host(host(1))
        put(made, Standing.TRUSTED)
        yield made


def put(running: Service, standing: Standing) -> None:
    """What the authority does when a host was judged."""
    rank = 1 if standing is Standing.TRUSTED else 0
    state = HostState(standing, "gold" if rank else "", rank, 1, NOW, NOW, NOW + 360, 1, b"", "runtime-unknown", "why")
    with running.store.transaction() as tx:
        tx.put_state(HOST, PROFILE, state)
        tx.append_act(NOW, f"host-{standing}", HOST.hex(), profile=PROFILE.hex(), level=state.level, code=state.code)


def keys(running: Service) -> Callable[[], KeyList]:
    return lambda: running.ring.key_list


def entry(statuses: Statuses) -> tuple[str, int]:
    found = statuses.document()["hosts"]["cmp1"]
    return found["state"], found["rank"]


def until(condition: Callable[[], object], seconds: float = 20) -> float:
    started = time.monotonic()
    while not condition():
        assert time.monotonic() < started + seconds
        time.sleep(0.05)
    return time.monotonic() - started


@pytest.fixture
def following(running: Service) -> Iterator[Statuses]:
    statuses = Statuses(CONFIG, ask_authority(running.address.url, keys(running)), lambda: NOW)
    follow = follow_authority(running.address.url, keys(running))
    thread = threading.Thread(target=statuses.follow, args=(follow,), daemon=True)
    thread.start()
    until(lambda: entry(statuses) == ("trusted", 1))
    yield statuses
    statuses.stop()
    with running.store.transaction() as tx:
        tx.append_act(NOW, "host-enrolled", HOST.hex())  # ends the question that waits
    thread.join(30)


def test_a_host_that_fails_is_known_at_once_and_comes_back(running: Service, following: Statuses) -> None:
    put(running, Standing.FAILED)
    assert until(lambda: entry(following) == ("untrusted", 0)) < 15  # not the hour between two polls
    put(running, Standing.TRUSTED)
    until(lambda: entry(following) == ("trusted", 1))


def event(kind: str) -> Event:
    return Event(1, NOW, kind, HOST.hex(), PROFILE.hex(), 1, "", {"code": "runtime-unknown"})


def scripted(*answers: tuple[list[Event], int, bool]) -> Callable[[Mapping[str, Any]], tuple[list[Event], int, bool]]:
    left = list(answers)

    def follow(question: Mapping[str, Any]) -> tuple[list[Event], int, bool]:
        if not left:
            raise Unavailable("http-unreachable", "the authority is gone")
        return left.pop(0)

    return follow


def test_bad_news_counts_even_when_nobody_can_be_asked(running: Service) -> None:
    gone = False

    def ask(question: Mapping[str, Any]) -> Mapping[str, Any]:
        if gone:
            raise Unavailable("http-unreachable", "the authority is gone")
        return {HOST.hex(): {"state": "trusted", "rank": 1, "until": NOW + 360, "level": "gold"}}

    statuses = Statuses(CONFIG, ask, lambda: NOW)
    follow = scripted(([], 5, True), ([event("host-failed")], 6, True))
    place = statuses._follow_once(follow, {"hosts": [HOST.hex()]}, None)
    assert entry(statuses) == ("trusted", 1)
    gone = True
    with pytest.raises(Unavailable):
        statuses._follow_once(follow, {"hosts": [HOST.hex()]}, place)
    assert entry(statuses) == ("untrusted", 0)


def test_good_news_is_only_a_reason_to_ask(running: Service) -> None:
    """An event is signed, but may be an old one that somebody repeats."""
    asked = []

    def ask(question: Mapping[str, Any]) -> Mapping[str, Any]:
        asked.append(question)
        return {HOST.hex(): {"state": "failed", "rank": 0}}

    statuses = Statuses(CONFIG, ask, lambda: NOW)
    statuses._follow_once(scripted(([event("host-trusted")], 6, True)), {"hosts": [HOST.hex()]}, 5)
    assert (entry(statuses), len(asked)) == (("untrusted", 0), 1)
    statuses._follow_once(scripted(([], 7, False)), {"hosts": [HOST.hex()]}, 6)  # something is missing
    statuses._follow_once(scripted(([], 7, True)), {"hosts": [HOST.hex()]}, 7)
    assert len(asked) == 2


def test_an_event_that_another_authority_signed_is_refused(running: Service, tmp_path: Path) -> None:
    with authority_in(tmp_path / "other") as other:
        mixed = KeyList(**{
            name: getattr(running.ring.key_list, name) for name in running.ring.key_list.__dataclass_fields__
        } | {"signing": other.ring.key_list.signing, "retired_signing": ()})  # fmt: skip
        put(running, Standing.FAILED)
        with pytest.raises(Rejected):
            follow_authority(running.address.url, lambda: mixed)({"hosts": [HOST.hex()], "after": 0})


def test_a_stream_that_is_broken_leaves_polling(running: Service) -> None:
    config = StatusConfig("", "", (), CONFIG.hosts, interval=0.2)
    statuses = Statuses(config, ask_authority(running.address.url, keys(running)), lambda: NOW)
    threads = [
        threading.Thread(target=statuses.run, daemon=True),
        threading.Thread(target=statuses.follow, args=(scripted(),), daemon=True),
    ]
    for thread in threads:
        thread.start()
    until(lambda: entry(statuses) == ("trusted", 1))
    put(running, Standing.FAILED)
    until(lambda: entry(statuses) == ("untrusted", 0))
    statuses.stop()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()


def test_whoever_waits_for_news_gets_it(running: Service, following: Statuses) -> None:
    with StatusServer("127.0.0.1", 0, following) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{server.port}"
        hosts, revision = openstack_provider._hosts(url)
        assert hosts["cmp1"]["rank"] == 1
        assert revision is not None
        timer = threading.Timer(1.0, put, (running, Standing.FAILED))
        timer.start()
        started = time.monotonic()
        openstack_provider._pause(url, revision, 600)
        assert 0.9 < time.monotonic() - started < 15
        assert openstack_provider._hosts(url)[0]["cmp1"]["rank"] == 0
        openstack_provider._pause(url, None, 0.1)
        assert httpx2.get(f"{url}/v1/hosts?older=1").status_code == 404
        server.shutdown()
        thread.join()
        timer.join()
