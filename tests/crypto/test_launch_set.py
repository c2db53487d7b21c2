"""Which shares a launch consists of: nothing else passes for one, and no honest share can be made to look false."""

from __future__ import annotations

import secrets
from dataclasses import replace

import pytest

from watchword.crypto.envelope import LaunchShare
from watchword.crypto.launch_set import LaunchSet, check_share, open_set, share_digest
from watchword.errors import Rejected
from watchword.wire.share import SealedSet, SharePlace

INPUTS = b"i" * 32


def a_set(threshold: int = 2, count: int = 3) -> tuple[SealedSet, list[LaunchShare]]:
    shares = [secrets.token_bytes(32) for _ in range(count)]
    digests = tuple(share_digest(at, share, INPUTS) for at, share in enumerate(shares, 1))
    made = LaunchSet(threshold, digests)
    launch_id = made.launch_id()
    released = [
        LaunchShare(share, launch_id, INPUTS, 0, SharePlace(at, threshold, count)) for at, share in enumerate(shares, 1)
    ]
    return made.seal(), released


def refused(sealed: SealedSet, share: LaunchShare) -> str:
    with pytest.raises(Rejected) as caught:
        check_share(sealed, share)
    assert caught.value.clause == "L3"
    return caught.value.code


def test_every_share_of_the_set() -> None:
    for numbers in ((2, 2), (2, 3), (5, 8), (8, 8)):
        sealed, shares = a_set(*numbers)
        for share in shares:
            check_share(SealedSet.parse(sealed.text()), share)


def test_a_false_share() -> None:
    sealed, shares = a_set()
    flipped = bytes([shares[0].share[0] ^ 1]) + shares[0].share[1:]
    assert refused(sealed, replace(shares[0], share=flipped)) == "share-false"
    assert refused(sealed, replace(shares[0], share=shares[1].share)) == "share-false"


def test_what_goes_with_a_share_is_bound_too() -> None:
    sealed, shares = a_set()
    for change in (
        {"inputs": b"j" * 32},
        {"flags": 1},
        {"place": SharePlace(2, 2, 3)},
        {"place": SharePlace(1, 3, 3)},
        {"place": SharePlace(1, 2, 2)},
    ):
        assert refused(sealed, replace(shares[0], **change)) == "share-false"  # type: ignore[arg-type]


def test_a_share_of_another_set() -> None:
    (sealed, shares), (other, others) = a_set(), a_set()
    assert refused(sealed, others[0]) == "share-set"
    assert refused(other, shares[0]) == "share-set"
    assert refused(sealed, replace(others[0], launch_id=shares[0].launch_id)) == "share-false"


def test_a_threshold_lowered_on_the_way() -> None:
    sealed, shares = a_set(3, 3)
    for lowered in (replace(sealed, threshold=2), SealedSet(2, 2, sealed.sealed[:48])):
        assert refused(lowered, shares[0]) == "share-set"


def test_a_set_opens_under_its_own_launch_id_only() -> None:
    """Even when it was encrypted under another one: whoever made a set up cannot blame an honest share."""
    _, shares = a_set()
    mine = LaunchSet(2, tuple(secrets.token_bytes(16) for _ in range(3)))
    forged = encrypted_under(mine, shares[0].launch_id)
    with pytest.raises(Rejected) as caught:
        open_set(forged, shares[0].launch_id)
    assert caught.value.code == "share-set"
    assert "does not have the launch id" in caught.value.message


def encrypted_under(content: LaunchSet, launch_id: bytes) -> SealedSet:
    from watchword.crypto.launch_set import _ONCE, _cipher

    empty = SealedSet(content.threshold, len(content.digests), b"")
    return replace(empty, sealed=_cipher(launch_id).encrypt(_ONCE, b"".join(content.digests), empty.header()))


def test_sets_differ_in_their_launch_id() -> None:
    digests = tuple(bytes([number]) * 16 for number in range(4))
    ids = {
        LaunchSet(2, digests[:3]).launch_id(),
        LaunchSet(3, digests[:3]).launch_id(),
        LaunchSet(3, digests).launch_id(),
        LaunchSet(2, (digests[1], digests[0], digests[2])).launch_id(),
    }
    assert len(ids) == 4


def test_the_set_shows_nothing_of_a_launch() -> None:
    """It travels through the provider: no digest and no launch id can be read from it."""
    sealed, shares = a_set()
    assert shares[0].launch_id not in sealed.sealed
    assert share_digest(1, shares[0].share, INPUTS) not in sealed.sealed
