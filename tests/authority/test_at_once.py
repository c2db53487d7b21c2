"""What the event loop answers: an attestation that shows nothing new, after a look at one row and without a wait."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from watchword.authority.deciding import renewals
from watchword.authority.deciding.host_rates import HostRates
from watchword.authority.deciding.launches import Launches
from watchword.authority.deciding.renewals import Renewals
from watchword.authority.deciding.snapshot import Snapshots
from watchword.authority.keys.high_water import HOLD, Hold, put_hold
from watchword.authority.serving.problems import Problem
from watchword.authority.store import EkPin, Host
from watchword.authority.telemetry.events import Event
from watchword.crypto.envelope import open_reply, seal_request
from watchword.errors import MalformedError
from watchword.testing.postgresql import Cluster
from watchword.testing.replayed import Recording, ReplayedHost
from watchword.testing.world import World
from watchword.verify.ek import EkClass
from watchword.wire.evidence import Purpose
from watchword.wire.messages import (
    Attested,
    AttestRequest,
    Challenge,
    ChallengeRequest,
    Refusal,
    Reply,
    Request,
    encode_request,
    parse_reply,
)

PERIOD = 120
KEY = bytes(32)


class Authority:
    """One process of an authority, and a host that is well."""

    def __init__(self, world: World, recording: Recording) -> None:
        self.world, self.events = world, list[Event]()
        self.renewals, self.snapshots = Renewals(world.store), Snapshots(world.store)
        self.launches = Launches(
            world.store, lambda: world.keys, lambda: world.now,
            tell=self.events.append, snapshots=self.snapshots, renewals=self.renewals,
        )  # fmt: skip
        self.host = ReplayedHost(recording)
        ak = self.host.tpm.ak
        with world.store.transaction() as tx:
            tx.put_host(Host(ak.host_id, ak.ek.encode(), ak.ak.encode(), EkClass.VIRTUAL, world.now))

    def sealed(self, request: Request, key: bytes = KEY) -> bytes:
        return seal_request(encode_request(request), self.world.keys.key_list, key)

    def handle(self, request: Request, key: bytes = KEY) -> Reply:
        return parse_reply(open_reply(self.launches.handle(self.sealed(request, key)), key))

    def at_once(self, request: Request, key: bytes = KEY) -> Reply | None:
        reply = self.launches.at_once(self.sealed(request, key))
        return parse_reply(open_reply(reply, key)) if reply is not None else None

    def evidence(self) -> tuple[AttestRequest, bytes]:
        """What the host shows next."""
        challenge = self.host.pending or self.handle(ChallengeRequest(self.host.host_id, Purpose.ATTEST, ""))
        assert isinstance(challenge, Challenge)
        return self.host.attest_request(challenge)

    def attest(self) -> None:
        """One attestation, by a thread."""
        reply = self.handle(*self.evidence())
        assert isinstance(reply, Attested)
        assert reply.state == "trusted"
        self.host.pending = reply.next
        self.world.now += PERIOD


@pytest.fixture
def world(boots: Path) -> Iterator[World]:
    with World(boots) as made:
        made.watch()
        yield made


@pytest.fixture
def authority(world: World, boots: Path) -> Authority:
    made = Authority(world, Recording.load(boots / "good"))
    made.attest()
    made.attest()
    made.renewals.flush()
    return made


def test_nothing_new_is_answered_at_once_and_written_with_others(authority: Authority) -> None:
    (state,) = authority.world.store.states(authority.host.host_id).values()
    reply = authority.at_once(*authority.evidence())
    assert isinstance(reply, Attested)
    assert (reply.state, reply.next is not None) == ("trusted", True)
    assert authority.world.store.states(authority.host.host_id)[authority.world.profile.id] == state
    authority.renewals.flush()
    assert authority.world.store.states(authority.host.host_id)[authority.world.profile.id].until == reply.until
    assert reply.until > state.until


def test_what_is_not_known_yet_needs_a_thread(authority: Authority, boots: Path) -> None:
    other = Authority(authority.world, Recording.load(boots / "good"))
    assert other.at_once(ChallengeRequest(other.host.host_id, Purpose.ATTEST, "")) is None
    request, key = other.evidence()
    told = len(other.events)
    assert other.at_once(request, key) is None  # nothing is remembered of this host
    assert len(other.events) == told


def test_what_cannot_be_opened_is_an_error_at_once(authority: Authority) -> None:
    with pytest.raises(MalformedError):
        authority.launches.at_once(b"x" * 300)


def test_after_a_change_of_the_rules_nothing_is_compiled_in_the_loop(authority: Authority) -> None:
    request, key = authority.evidence()
    with authority.world.store.transaction() as tx:
        tx.put_pin(EkPin(b"p" * 32, b"ek", EkClass.VIRTUAL, "another", authority.world.now))
    assert authority.at_once(request, key) is None
    assert authority.snapshots.at_hand(authority.world.store.generation()) is None
    assert isinstance(authority.handle(request, key), Attested)
    assert authority.snapshots.at_hand(authority.world.store.generation()) is not None


def test_a_profile_that_is_not_parsed_is_not_fetched_in_the_loop(authority: Authority) -> None:
    authority.snapshots._profiles.clear()
    request, key = authority.evidence()
    assert authority.at_once(request, key) is None
    assert isinstance(authority.handle(request, key), Attested)


def test_a_refusal_is_told_once_and_by_a_thread(authority: Authority) -> None:
    request, key = authority.evidence()
    assert authority.at_once(request, key) is not None
    told = len(authority.events)
    assert authority.at_once(request, key) is None  # seen already
    assert len(authority.events) == told
    reply = authority.handle(request, key)
    assert isinstance(reply, Refusal)
    assert reply.code == "attest-replayed"
    assert len(authority.events) == told + 1


def test_evidence_for_a_launch_is_none_for_an_attestation(authority: Authority) -> None:
    request, key = authority.evidence()
    changed = AttestRequest(replace(request.evidence, purpose=Purpose.LAUNCH))
    assert authority.at_once(changed, key) is None
    reply = authority.handle(changed, key)
    assert isinstance(reply, Refusal)
    assert reply.code == "purpose-unknown"


def test_nothing_is_answered_while_an_operator_has_to_decide(authority: Authority) -> None:
    request, key = authority.evidence()
    put_hold(authority.world.keys.directory, Hold("restored", 0, "test"))
    assert authority.at_once(request, key) is None
    (authority.world.keys.directory / HOLD).unlink()
    assert authority.at_once(request, key) is not None


def test_what_cannot_be_put_off_is_written_by_a_thread(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(renewals, "_MOST", 0)
    request, key = authority.evidence()
    assert authority.at_once(request, key) is None
    assert isinstance(authority.handle(request, key), Attested)
    (state,) = authority.world.store.states(authority.host.host_id).values()
    assert state.until > authority.world.now


def test_a_host_that_comes_too_often_is_no_exception(authority: Authority) -> None:
    authority.launches._rates = HostRates.of(2)
    for _ in range(2):
        request, key = authority.evidence()
        reply = authority.at_once(request, key)
        assert isinstance(reply, Attested)
        authority.host.pending = reply.next
    request, key = authority.evidence()
    with pytest.raises(Problem, match="more than 2 in a minute"):
        authority.at_once(request, key)


def test_a_store_on_a_server_is_never_read_in_the_loop(cluster: Cluster, boots: Path) -> None:
    with World(boots, database=cluster.new_database()) as world:
        world.watch()
        authority = Authority(world, Recording.load(boots / "good"))
        authority.attest()
        authority.attest()
        authority.renewals.flush()
        request, key = authority.evidence()
        assert authority.at_once(request, key) is None
        assert isinstance(authority.handle(request, key), Attested)
