"""Events: signed by the authority, and the next of their chain, or refused (W7)."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from watchword.authority.keys.keyring import Keyring
from watchword.crypto import dsse
from watchword.errors import MalformedError, Rejected, UsageError
from watchword.launch.event import PUBLIC, Event, Seen, check_next, sign_event, verify_event
from watchword.tenant.events import Chains

HOST, PROFILE, NOW = "ab" * 32, "cd" * 32, 1_800_000_000


@pytest.fixture(scope="module")
def ring(tmp_path_factory: pytest.TempPathFactory) -> Keyring:
    return Keyring.create(tmp_path_factory.mktemp("keys") / "keyring", authority="test", now=NOW)


def event(number: int = 1, previous: str = "", kind: str = "host-failed", seq: int = 7) -> Event:
    return Event(seq, NOW, kind, HOST, PROFILE, number, previous, {"level": "", "was": "trusted", "rebooted": False})


def digest(made: Event) -> str:
    return hashlib.sha256(made.encode()).hexdigest()


def refused(*arguments: object) -> str:
    with pytest.raises(Rejected) as caught:
        check_next(*arguments)  # type: ignore[arg-type]
    assert caught.value.clause == "W7"
    return caught.value.code


def test_an_event_is_what_its_authority_signed(ring: Keyring) -> None:
    made = event()
    envelope = sign_event(made.encode(), ring.signing_key)
    assert verify_event(envelope, ring.key_list) == (made, digest(made))
    stranger = sign_event(made.encode(), Ed25519PrivateKey.generate())
    with pytest.raises(Rejected, match="too few trusted keys"):
        verify_event(stranger, ring.key_list)
    other = event(kind="host-trusted").encode()
    forged = envelope.replace(base64.b64encode(made.encode()), base64.b64encode(other))
    assert forged != envelope
    with pytest.raises(Rejected) as caught:
        verify_event(forged, ring.key_list)
    assert caught.value.code == "document-signature"


@pytest.mark.parametrize("payload", [b"", b"[]", b"{", b'{"seq": 1}', event().encode().replace(b"event/1", b"event/2")])
def test_what_is_signed_must_be_an_event(ring: Keyring, payload: bytes) -> None:
    with pytest.raises(MalformedError):
        verify_event(sign_event(payload, ring.signing_key), ring.key_list)


def test_a_statement_of_another_kind_is_no_event(ring: Keyring) -> None:
    with pytest.raises(MalformedError):
        verify_event(
            dsse.sign(event().encode(), "application/vnd.watchword.receipt+json", [ring.signing_key]), ring.key_list
        )


def test_the_next_of_a_chain_follows_what_was_seen() -> None:
    first = event()
    seen = Seen(1, digest(first))
    check_next(first, None)
    check_next(event(2, seen.digest), seen)
    assert refused(first, seen) == "event-repeated"
    assert refused(event(3, seen.digest), seen) == "event-missing"
    assert refused(event(2, "00" * 32), seen) == "event-forked"


def test_chains_are_apart() -> None:
    assert event().chain == f"{HOST}/{PROFILE}"
    assert event(kind="stack-active").chain == event(kind="keys-rotate-log").chain == PUBLIC
    assert event(kind="gap").chain == event(kind="test").chain == ""


def test_a_receiver_remembers_what_it_saw(ring: Keyring, tmp_path: Path) -> None:
    path = tmp_path / "seen"
    first = event()
    second, third = event(2, digest(first), seq=8), event(3, "", seq=9)
    third = Event(**{name: getattr(third, name) for name in third.__struct_fields__} | {"previous": digest(second)})
    sealed = [sign_event(each.encode(), ring.signing_key) for each in (first, second, third)]
    chains = Chains.load(path)
    assert chains.take(sealed[0], ring.key_list) == first
    chains.save(path)
    assert path.stat().st_mode & 0o777 == 0o600
    again = Chains.load(path)
    with pytest.raises(Rejected, match="event-missing"):
        again.take(sealed[2], ring.key_list)
    assert again.take(sealed[1], ring.key_list) == second
    with pytest.raises(Rejected, match="event-repeated"):
        again.take(sealed[0], ring.key_list)
    gap = Event(30, NOW, "gap", "hook", "", 0, "", {"first": 9, "last": 30})
    assert again.take(sign_event(gap.encode(), ring.signing_key), ring.key_list) == gap
    assert again.take(sealed[0], ring.key_list) == first  # begins anew


@pytest.mark.parametrize(
    "text", ["", "{}", '{"format": "x", "seen": {}}', '{"format": "watchword-chains/1", "seen": {"a": [0, ""]}}']
)
def test_a_file_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "seen").write_text(text)
    with pytest.raises(UsageError, match="does not hold"):
        Chains.load(tmp_path / "seen")
