"""Nonces: ours, for one thing, for a short time."""

from __future__ import annotations

from typing import Any

import pytest

from watchword.errors import Rejected
from watchword.launch import challenge
from watchword.wire.evidence import Purpose
from watchword.wire.messages import NONCE_SIZE

KEY, NOW = b"k" * 32, 1_800_000_000
FOR: dict[str, Any] = {"host_id": b"h" * 32, "purpose": Purpose.LAUNCH, "token_id": b"t" * 32}


def issue(random: bytes = bytes(16), **changes: Any) -> bytes:
    return challenge.issue(KEY, **{**FOR, **changes}, now=NOW, random=random)


def reason(nonce: bytes, now: int = NOW, key: bytes = KEY, **changes: Any) -> str:
    with pytest.raises(Rejected) as caught:
        challenge.check(key, nonce, **{**FOR, **changes}, now=now)
    assert caught.value.clause == "B6"
    return caught.value.code


def test_a_good_nonce() -> None:
    nonce = issue()
    assert len(nonce) == NONCE_SIZE
    for now in (NOW, NOW + challenge.LIFETIME):
        assert challenge.check(KEY, nonce, **FOR, now=now) == NOW + challenge.LIFETIME


def test_a_nonce_to_attest_with_lasts_longer() -> None:
    nonce, good = issue(purpose=Purpose.ATTEST), {**FOR, "purpose": Purpose.ATTEST}
    for now in (NOW, NOW + challenge.ATTEST_LIFETIME):
        assert challenge.check(KEY, nonce, **good, now=now) == NOW + challenge.ATTEST_LIFETIME
    for now in (NOW - 1, NOW + challenge.ATTEST_LIFETIME + 1):
        assert reason(nonce, now, purpose=Purpose.ATTEST) == "nonce-expired"


@pytest.mark.parametrize("now", [NOW - 1, NOW + challenge.LIFETIME + 1])
def test_a_nonce_outside_of_its_time(now: int) -> None:
    assert reason(issue(), now) == "nonce-expired"


@pytest.mark.parametrize(
    "changes", [{"host_id": b"i" * 32}, {"purpose": Purpose.ATTEST}, {"token_id": b"u" * 32}, {"key": b"l" * 32}]
)
def test_a_nonce_for_something_else(changes: dict[str, Any]) -> None:
    assert reason(issue(), **changes) == "nonce-unknown"


def test_a_nonce_of_another_era() -> None:
    first, later, other = b"", b"1" * 16, b"2" * 16
    assert challenge.check(KEY, issue(era=later), **FOR, now=NOW, era=later)
    for issued, now in ((first, later), (later, first), (later, other)):
        assert reason(issue(era=issued), era=now) == "nonce-unknown"
    with pytest.raises(ValueError, match="an era has 16 bytes"):
        issue(era=b"short")


def test_every_byte_counts() -> None:
    nonce = issue()
    for place in range(NONCE_SIZE):
        assert reason(nonce[:place] + bytes([nonce[place] ^ 1]) + nonce[place + 1 :]) == "nonce-unknown"


def test_nonces_and_their_ids_differ() -> None:
    nonces = [issue(bytes([number]) * 16) for number in range(5)]
    assert len(set(nonces)) == len({challenge.nonce_id(nonce) for nonce in nonces}) == 5
    assert len(challenge.nonce_id(nonces[0])) == 32
