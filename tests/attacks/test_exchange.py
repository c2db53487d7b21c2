"""Attacks by whoever carries the messages: an untrusted relay, or anybody on the wire."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from watchword.agent.tpm.errors import TpmError
from watchword.errors import MalformedError, Rejected, Unavailable, WatchwordError
from watchword.launch.challenge import LIFETIME
from watchword.wire.token import token_id

from .helpers import Bench, nth, sitting_on


def flip(data: bytes, place: int) -> bytes:
    place %= len(data)
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


def test_relay_reads_evidence_or_release(bench: Bench) -> None:
    """relay reads or alters evidence or release: nothing of what matters is in what it carries"""
    token = bench.world.token()
    with sitting_on(bench.evil) as meddler:
        assert bench.evil.obtain(token, "instance-of-the-tenant").secret == token.body.secret
    carried = b"".join(meddler.requests + meddler.replies)
    assert len(carried) > 10_000
    event_log = bench.evil.machine.event_log_path.read_bytes()
    ima_log = bench.evil.machine.ima_log_path.read_bytes()
    private = {
        "event log": event_log[200:232],
        "IMA log": ima_log[100:132],
        "a path": b"/usr/",
        "host id": bench.evil.host_id,
        "EK certificate": bench.evil.machine.tpm.certificates.popitem()[1][:40],
        "token": token.text.encode(),
        "token id": token_id(token.text),
        "instance": b"instance-of-the-tenant",
        "secret": token.body.secret,
        "launch id": token.body.launch_id,
        "profile": bench.world.profile.id,
    }
    for name, value in private.items():
        assert value not in carried, name


@pytest.mark.parametrize("message", [1, 2])
@pytest.mark.parametrize("place", [0, 5, 9, 50, 400, -1])
def test_relay_alters_evidence(bench: Bench, message: int, place: int) -> None:
    """relay reads or alters evidence or release: an altered request does not open"""
    token = bench.world.token()
    decisions = len(list(bench.world.store.decisions()))
    with (
        sitting_on(bench.evil, on_request=nth(message, lambda data: flip(data, place))),
        pytest.raises((MalformedError, Unavailable)),
    ):
        bench.evil.obtain(token)
    assert len(list(bench.world.store.decisions())) == decisions
    assert bench.honest.obtain(token).secret == token.body.secret


@pytest.mark.parametrize("message", [1, 2])
@pytest.mark.parametrize("place", [0, 5, 20, -1])
def test_relay_alters_release(bench: Bench, message: int, place: int) -> None:
    """relay reads or alters evidence or release: an altered reply does not open"""
    token = bench.world.token(releases=2)
    refused(bench, token, on_reply=nth(message, lambda data: flip(data, place)))


def refused(bench: Bench, token: object, **actions: Callable[[bytes], bytes]) -> None:
    """The host must notice that this reply is not the answer to its request."""
    with sitting_on(bench.evil, **actions), pytest.raises(MalformedError) as caught:
        bench.evil.obtain(token)  # type: ignore[arg-type]
    assert caught.value.code == "reply-unopenable"


def test_relay_replays_a_reply(bench: Bench) -> None:
    """relay reads or alters evidence or release: the reply to an earlier request of the same host"""
    token = bench.world.token(releases=2)
    with sitting_on(bench.evil) as meddler:
        bench.evil.obtain(token)
    for message in (1, 2):
        refused(bench, token, on_reply=nth(message, lambda _, earlier=meddler.replies[message - 1]: earlier))


def test_relay_swaps_replies(bench: Bench) -> None:
    """relay reads or alters evidence or release: the release of another host"""
    token = bench.world.token(releases=3)
    with sitting_on(bench.honest) as meddler:
        bench.honest.obtain(token)
    refused(bench, token, on_reply=nth(2, lambda _: meddler.replies[1]))


def test_relay_swaps_requests(bench: Bench) -> None:
    """relay reads or alters evidence or release: the request of another host in place of this one's"""
    token = bench.world.token(releases=3)
    with sitting_on(bench.honest) as meddler:
        bench.honest.obtain(token)
    refused(bench, token, on_request=nth(1, lambda _: meddler.requests[0]))


def test_relay_answers_by_itself(bench: Bench) -> None:
    """relay reads or alters evidence or release: it cannot refuse in the authority's name, nor grant"""
    token = bench.world.token()
    refused(bench, token, on_reply=nth(1, lambda _: b"WWRP\x01" + bytes(64)))
    refused(bench, token, on_reply=nth(1, lambda _: b""))


def test_relay_delays_evidence(fresh: Bench) -> None:
    """relay reads or alters evidence or release: kept back until the nonce is too old (B6)"""
    token = fresh.world.token()

    def wait(data: bytes) -> bytes:
        fresh.world.now += LIFETIME + 1
        return data

    with sitting_on(fresh.evil, on_request=nth(2, wait)), pytest.raises(Rejected) as caught:
        fresh.evil.obtain(token)
    assert (caught.value.clause, caught.value.code) == ("B6", "nonce-expired")
    assert fresh.honest.obtain(token).secret == token.body.secret


def test_relay_delivers_twice(bench: Bench) -> None:
    """replayed evidence: by the relay, which gets a refusal and changes nothing (B6)"""
    token = bench.world.token()
    with sitting_on(bench.evil) as meddler:
        assert bench.evil.obtain(token).secret == token.body.secret
        bench.evil.exchange.inner.send(meddler.requests[1])  # type: ignore[attr-defined]
    assert [d.outcome for d in bench.world.decisions(token)] == ["released", "refused"]
    assert bench.world.decisions(token)[1].findings[0].code == "nonce-used"
    assert bench.world.store.releases(token_id(token.text)) == 1


@pytest.mark.parametrize("sealed", [b"", b"WWRQ\x01", bytes(1000), b"WWRQ\x01" + bytes(2000)])
def test_rubbish(bench: Bench, sealed: bytes) -> None:
    """relay reads or alters evidence or release: what cannot be opened is not answered and leaves no trace"""
    decisions = len(list(bench.world.store.decisions()))
    with pytest.raises(WatchwordError) as caught:
        bench.evil.exchange.send(sealed)
    assert not isinstance(caught.value, TpmError)
    assert len(list(bench.world.store.decisions())) == decisions
