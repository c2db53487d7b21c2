"""One host that asks too often waits; nobody can make another one wait."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from watchword.agent.transport import HttpsExchange
from watchword.authority.app import Services
from watchword.authority.deciding.host_rates import HostRates, Spending
from watchword.authority.deciding.launches import Launches
from watchword.authority.keys.keyring import KeyringSource
from watchword.authority.serving.problems import Problem
from watchword.errors import Rejected, Unavailable
from watchword.testing.farm import have_swtpm
from watchword.testing.world import Direct, TestHost, World
from watchword.wire.evidence import Purpose
from watchword.wire.messages import Challenge, ChallengeRequest, Refusal, Release

from ..attacks.helpers import attempt, say
from .conftest import serving


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def spent(spending: Spending, host_id: bytes) -> bool:
    try:
        spending.check(host_id)
    except Problem:
        return True
    return False


def test_so_many_at_once_and_then_as_many_in_a_minute() -> None:
    clock = Clock()
    spending = Spending(6, clock)
    for _ in range(6):
        assert not spent(spending, b"a")
        spending.charge(b"a")
    assert spent(spending, b"a")
    assert not spent(spending, b"b")
    with pytest.raises(Problem) as caught:
        spending.check(b"a")
    assert caught.value.headers == {"Retry-After": "10"}
    clock.now += 10
    assert not spent(spending, b"a")
    spending.charge(b"a")
    assert spent(spending, b"a")
    clock.now += 3600
    for _ in range(6):
        spending.check(b"a")
        spending.charge(b"a")
    assert spent(spending, b"a")


def test_no_limit_remembers_nobody() -> None:
    spending = Spending(0)
    for _ in range(1000):
        spending.charge(b"a")
        spending.check(b"a")
    assert not spending._free_at


def test_so_many_hosts_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("watchword.authority.deciding.host_rates._MAX_HOSTS", 3)
    spending = Spending(1, Clock())
    for name in b"abcd":
        spending.charge(bytes([name]))
    assert [name for name in b"abcd" if spent(spending, bytes([name]))] == list(b"bcd")


@pytest.fixture
def world(boots: Path) -> Iterator[World]:
    if not have_swtpm():
        pytest.skip("swtpm is not installed: attestation needs real emulated TPMs")
    with World(boots, clock=int(time.time())) as made:
        made.watch()
        made.launches = Launches(made.store, lambda: made.keys, lambda: made.now, rates=HostRates.of(3))
        yield made


def limited(host: TestHost) -> bool:
    """Whether the host gets no challenge."""
    try:
        say(host, ChallengeRequest(host.host_id, Purpose.ATTEST, ""))
    except Problem:
        return True
    return False


def test_launches_and_attestations_of_a_host_count_together(world: World) -> None:
    busy, other = world.host(), world.host()
    busy.attest()
    attempt(busy, world.token()).release()
    refused = world.token(level=2, releases=1)
    spare = attempt(busy, refused)
    spare.release()
    assert limited(busy)
    with pytest.raises(Problem):
        spare.send()
    assert not limited(other)
    other.attest()


def test_nobody_spends_what_is_anothers(world: World) -> None:
    """Naming its id, sending bad evidence in its name, sending what it sent again: none of it counts."""
    victim, evil = world.host(), world.host()
    for _ in range(10):
        assert isinstance(say(evil, ChallengeRequest(victim.host_id, Purpose.ATTEST, "")), Challenge)
        assert isinstance(attempt(evil, world.token(), host_id=victim.host_id).send(), Refusal)
    made = attempt(victim, world.token(releases=8))
    assert isinstance(made.send(), Release)
    for _ in range(10):
        assert isinstance(made.send(), Refusal)
    assert not limited(victim)
    victim.attest()
    victim.attest()
    assert limited(victim)
    assert not limited(evil)


def test_evidence_that_is_the_hosts_own_counts_when_it_is_refused(world: World) -> None:
    host = world.host()
    host.machine.run_file(b"/usr/bin/unknown", b"what is this")
    for _ in range(3):
        with pytest.raises(Rejected) as caught:
            host.obtain(world.token())
        assert caught.value.code == "runtime-file"
    assert limited(host)


def test_enrolments_have_a_limit_of_their_own(world: World) -> None:
    host = world.host()
    for _ in range(5):
        host.enrol()
    with pytest.raises(Problem) as caught:
        host.enrol()
    assert int(caught.value.headers["Retry-After"]) in (9, 10)
    assert not limited(host)


def test_over_http_it_is_status_429_and_when_to_come_again(world: World) -> None:
    world.keys = world.keys.with_names(["127.0.0.1"], int(time.time()))
    services = Services(world.launches, world.store, KeyringSource(world.keys), lambda: world.now)
    with serving(services, world.keys) as address:
        host = world.host()
        with closing(HttpsExchange(address.url, world.keys.key_list)) as host.exchange:
            for _ in range(3):
                host.attest()
            with pytest.raises(Unavailable, match="status 429") as caught:
                host.attest()
            assert caught.value.code == "rate-limited"
        host.exchange = Direct(world.launches)
