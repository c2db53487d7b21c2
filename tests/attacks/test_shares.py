"""Secrets split over several authorities: what one of them, or the provider, may try.

Real TPMs, three real authorities. Each test ends with what the host has and what each authority recorded.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from watchword.agent.unseal import request_release
from watchword.crypto.launch_set import LaunchSet, share_digest
from watchword.crypto.shamir import combine
from watchword.crypto.token import open_token
from watchword.errors import MalformedError, Rejected, Unavailable
from watchword.testing.circle import Circle, CircleHost, Slow, SplitSecret, Unreachable
from watchword.testing.farm import have_swtpm
from watchword.wire.share import Bundle, SealedSet, SharePlace
from watchword.wire.token import Token, TokenBody


@pytest.fixture(scope="module")
def circle(boots: Path) -> Iterator[Circle]:
    if not have_swtpm():
        pytest.skip("swtpm is not installed: attacks need real emulated TPMs")
    with Circle(boots) as found:
        yield found


@pytest.fixture(scope="module")
def good(circle: Circle) -> CircleHost:
    return circle.host()


@pytest.fixture
def host(circle: Circle, good: CircleHost) -> Iterator[CircleHost]:
    ways = list(good.ways)
    honest = [world.launches for world in circle.worlds]
    yield good
    good.ways = ways
    for world, launches in zip(circle.worlds, honest, strict=True):
        world.launches = launches


def body(circle: Circle, split: SplitSecret, number: int) -> TokenBody:
    """What the authority ``number`` finds in its token: it has the key."""
    return open_token(split.bundle.tokens[number], circle.worlds[number].keys.sealing_keys)


def flipped(grant: TokenBody) -> TokenBody:
    return replace(grant, secret=bytes([grant.secret[0] ^ 1]) + grant.secret[1:])


def refused(host: CircleHost, text: str) -> Rejected:
    with pytest.raises(Rejected) as caught:
        host.obtain(text)
    assert (caught.value.clause, caught.value.code) == ("L3", "shares-few")
    return caught.value


def said(error: Rejected) -> dict[str, str]:
    """What each authority's part in it was, by name."""
    return {finding.subject: finding.code for finding in error.findings[1:]}


# -- as it should be ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("threshold", [2, 3])
def test_enough_authorities_give_the_secret(circle: Circle, host: CircleHost, threshold: int) -> None:
    split = circle.split(threshold)
    found = host.obtain(split.text)
    assert found.secret == split.secret
    assert found.launch_id.hex() == split.record.launch_id
    assert sorted(circle.released(split), reverse=True) == [1] * threshold + [0] * (3 - threshold)
    runs = {d.share.run for n in range(3) for d in circle.decisions(n, split) if d.share is not msgspec.UNSET}
    assert len(runs) == 1
    assert host.told == []
    assert host.reopen(split.text) == found


def test_one_authority_out_of_reach(circle: Circle, host: CircleHost) -> None:
    split = circle.split()
    host.ways[0] = Unreachable()
    assert host.obtain(split.text).secret == split.secret
    assert circle.released(split) == [0, 1, 1]


def test_an_authority_that_never_answers_costs_its_time_out_and_no_more(circle: Circle, host: CircleHost) -> None:
    split = circle.split(3)

    host.ways[2] = Unreachable(after=5)
    with pytest.raises(Unavailable) as caught:
        host.obtain(split.text, seconds=1.0)
    assert caught.value.code == "shares-few"
    assert "three.test: exchange-slow" in caught.value.message
    assert circle.released(split) == [0, 0, 0]  # nothing was spent


def test_a_host_with_several_authorities_still_takes_a_whole_secret(circle: Circle, host: CircleHost) -> None:
    for world in circle.worlds:
        token = world.token()
        assert host.obtain(token.text).secret == token.body.secret


# -- a false share -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("liar", [0, 1, 2])
def test_false_share(circle: Circle, host: CircleHost, liar: int) -> None:
    """False share: it is known whose it is, and with another authority's share the launch succeeds all the same."""
    names = ["one.test", "two.test", "three.test"]
    split = circle.split()
    circle.lies(liar, flipped)
    last = (liar + 1) % 3
    host.ways[last] = Slow(host.ways[last], 1.0)  # so that the liar is among those asked first
    assert host.obtain(split.text).secret == split.secret
    assert host.told == [(names[liar], "share-false")]
    assert circle.released(split) == [1, 1, 1]


def test_false_share_without_another(circle: Circle, host: CircleHost) -> None:
    """False share."""
    split = circle.split(3)
    circle.lies(1, flipped)
    error = refused(host, split.text)
    assert said(error) == {"two.test": "share-false"}


@pytest.mark.parametrize(
    "lie",
    [
        lambda grant: replace(grant, inputs=bytes(32)),
        lambda grant: replace(grant, place=SharePlace(grant.place.index, 2, 2)),
        lambda grant: replace(grant, place=SharePlace(grant.place.index, 3, 3)),
        lambda grant: replace(grant, place=SharePlace(grant.place.index % 3 + 1, 2, 3)),
    ],
    ids=["other-inputs", "two-of-two", "higher-threshold", "another-place"],
)
def test_false_terms_of_a_share(circle: Circle, host: CircleHost, lie: object) -> None:
    """False share."""
    split = circle.split()
    host.ways[2] = Unreachable()
    circle.lies(0, lie)  # type: ignore[arg-type]
    with pytest.raises(Unavailable) as caught:
        host.obtain(split.text)
    assert "one.test: share-false" in caught.value.message


def test_share_of_another_set(circle: Circle, host: CircleHost) -> None:
    """False share: the authority answers with the share of another launch of the same tenant."""
    split, other = circle.split(3), circle.split(3)
    replay = body(circle, other, 0)
    circle.lies(0, lambda grant: replay)
    assert said(refused(host, split.text)) == {"one.test": "share-set"}


def test_share_of_another_set_under_this_launch_id(circle: Circle, host: CircleHost) -> None:
    """False share."""
    split, other = circle.split(3), circle.split(3)
    replay = replace(body(circle, other, 0), launch_id=bytes.fromhex(split.record.launch_id))
    circle.lies(0, lambda grant: replay)
    assert said(refused(host, split.text)) == {"one.test": "share-false"}


def test_share_passed_off_as_the_whole_secret(circle: Circle, host: CircleHost) -> None:
    """Share passed off as a whole secret, and the reverse."""
    split = circle.split(3)
    circle.lies(0, lambda grant: replace(grant, place=None))
    error = refused(host, split.text)
    assert said(error) == {"one.test": "share-missing"}
    assert "payload-unopenable" in error.findings[1].message


def test_whole_secret_passed_off_as_a_share(circle: Circle, host: CircleHost) -> None:
    """Share passed off as a whole secret, and the reverse."""
    world = circle.worlds[0]
    token = world.token()
    circle.lies(0, lambda grant: replace(grant, place=SharePlace(1, 2, 2)))
    with pytest.raises(MalformedError) as caught:
        host.obtain(token.text)
    assert caught.value.code == "payload-unopenable"


def test_no_honest_share_can_be_made_to_look_false(circle: Circle, host: CircleHost) -> None:
    """False share: an authority and the provider make up a set together, and no honest share looks false by it."""
    split = circle.split()
    mine = body(circle, split, 0)
    forged = LaunchSet(2, (share_digest(1, mine.secret, mine.inputs), bytes(16), bytes(16)))
    circle.lies(0, lambda grant: replace(grant, launch_id=forged.launch_id()))
    error = refused(host, Bundle(split.bundle.tokens, forged.seal().text()).text())
    assert said(error) == {"two.test": "share-set", "three.test": "share-set"}


# -- one authority alone -----------------------------------------------------------------------------------------------


def test_one_authority_alone_learns_nothing(circle: Circle) -> None:
    """One authority alone: what each finds in its token has no more to do with the secret than with any other."""
    split = circle.split()
    grants = [body(circle, split, number) for number in range(3)]
    assert split.secret not in [grant.secret for grant in grants]
    for a, b in itertools.permutations(range(3), 2):
        ours, theirs = grants[a], grants[b]
        # For any secret there is a share of the other authority that fits what this one has.
        for secret in (bytes(32), b"\xff" * 32):
            wanted = {a + 1: ours.secret, b + 1: _fitting(a + 1, ours.secret, b + 1, secret)}
            assert combine(wanted) == secret
        assert combine({a + 1: ours.secret, b + 1: theirs.secret}) == split.secret


def _fitting(x: int, share: bytes, other: int, secret: bytes) -> bytes:
    """The share at ``other`` of the line through ``secret`` at 0 and ``share`` at ``x``."""
    return combine({other: secret, x ^ other: share})


def test_one_subpoena_releases_nothing(circle: Circle, host: CircleHost) -> None:
    """One authority alone: an authority that gives its key away opens its own token and no other."""
    split = circle.split()
    for number, token in enumerate(split.bundle.tokens):
        for other, world in enumerate(circle.worlds):
            if other != number:
                with pytest.raises(Rejected, match="F1"):
                    open_token(token, world.keys.sealing_keys)


# -- the provider ------------------------------------------------------------------------------------------------------


def test_threshold_lowered_by_the_provider(circle: Circle, host: CircleHost) -> None:
    """Threshold lowered by the provider."""
    split = circle.split(3)
    sealed = SealedSet.parse(split.bundle.launch_set)
    lowered = replace(sealed, threshold=2).text()
    error = refused(host, Bundle(split.bundle.tokens, lowered).text())
    assert set(said(error).values()) == {"share-set"}


def test_duplicated_share(circle: Circle, host: CircleHost) -> None:
    """Duplicated share."""
    split = circle.split()
    one = split.bundle.tokens[0]
    error = refused(host, Bundle((one, one, one), split.bundle.launch_set).text())
    assert "share-duplicate" in said(error).values()
    assert circle.released(split) == [0, 0, 0]


def test_duplicated_share_beside_good_ones(circle: Circle, host: CircleHost) -> None:
    split = circle.split()
    one, two, _ = split.bundle.tokens
    assert host.obtain(Bundle((one, one, two), split.bundle.launch_set).text()).secret == split.secret
    assert host.told == [("one.test", "share-duplicate")]


def test_same_share_from_two_authorities(circle: Circle, host: CircleHost) -> None:
    """Duplicated share."""
    split = circle.split(3)
    copy = body(circle, split, 0)
    circle.lies(1, lambda grant: copy)
    assert "share-duplicate" in said(refused(host, split.text)).values()


def test_tokens_swapped_between_authorities(circle: Circle, host: CircleHost) -> None:
    """Tokens swapped between authorities: a token says by its key whose it is; relabelled it does not open."""
    split = circle.split()
    shuffled = Bundle(tuple(reversed(split.bundle.tokens)), split.bundle.launch_set)
    assert host.obtain(shuffled.text()).secret == split.secret
    fresh = circle.split()
    one, two, three = map(Token.parse, fresh.bundle.tokens)
    swapped = (replace(one, key_id=two.key_id), replace(two, key_id=one.key_id), three)
    error = refused(host, Bundle(tuple(token.text() for token in swapped), fresh.bundle.launch_set).text())
    assert said(error) == {"one.test": "token-unopenable", "two.test": "token-unopenable"}
    assert circle.released(fresh) == [0, 0, 0]


def test_tokens_of_two_launches(circle: Circle, host: CircleHost) -> None:
    """Tokens of two launches mixed."""
    one, two = circle.split(), circle.split()
    mixed = (one.bundle.tokens[0], two.bundle.tokens[1], two.bundle.tokens[2])
    error = refused(host, Bundle(mixed, one.bundle.launch_set).text())
    assert set(said(error).values()) == {"share-set"}


def test_fewer_than_needed(circle: Circle, host: CircleHost) -> None:
    """Fewer shares than needed."""
    split = circle.split(3)
    for tokens in (split.bundle.tokens[:2], split.bundle.tokens[:1]):
        with pytest.raises(MalformedError) as caught:
            host.obtain(Bundle(tokens, split.bundle.launch_set).text())
        assert caught.value.code == "bundle"
    assert circle.released(split) == [0, 0, 0]


def test_share_alone(circle: Circle, host: CircleHost) -> None:
    """Share alone."""
    split = circle.split()
    with pytest.raises(MalformedError) as caught:
        host.obtain(split.bundle.tokens[0])
    assert caught.value.code == "bundle"


def test_share_alone_at_an_agent_that_knows_no_shares(circle: Circle, host: CircleHost) -> None:
    """Share alone: it asks for the secret as it always did; the authority refuses before anything is spent."""
    split = circle.split()
    with pytest.raises(Rejected) as caught:
        host.use(lambda h: request_release(h.towards(h.links[0]), host.host_id, split.bundle.tokens[0], "vm-1"))
    assert (caught.value.clause, caught.value.code) == ("F6", "share-purpose")
    assert host.obtain(split.text).secret == split.secret


def test_whole_secret_among_shares(circle: Circle, host: CircleHost) -> None:
    split, whole = circle.split(), circle.worlds[0].token()
    with pytest.raises(MalformedError) as caught:
        host.obtain(Bundle((whole.text, *split.bundle.tokens[1:]), split.bundle.launch_set).text())
    assert caught.value.code == "bundle"


def test_shares_used_twice(circle: Circle, host: CircleHost) -> None:
    """Shares used for a second machine: too few authorities still have a release, because each needs more than half."""
    split = circle.split()
    assert host.obtain(split.text).secret == split.secret
    with pytest.raises(Rejected) as caught:
        host.obtain(split.text, "vm-2")
    assert caught.value.code == "shares-few"
    assert list(said(caught.value).values()).count("token-used-up") == 2
    assert sum(circle.released(split)) <= 3


def test_shares_collected_by_two_hosts(circle: Circle, host: CircleHost) -> None:
    """Shares collected by two hosts: each is known to some authorities only, and none has enough."""
    other = circle.host(enrolled=(2,))
    split = circle.split(3)
    for each in (host, other):
        if each is host:
            host.ways[2] = Unreachable()
        with pytest.raises((Rejected, Unavailable)) as caught:
            each.obtain(split.text)
        assert caught.value.code == "shares-few"
    assert sum(circle.released(split)) <= 1


def test_share_refused_to_a_bad_host(circle: Circle) -> None:
    bad = circle.host("kernel")
    split = circle.split()
    assert list(said(refused(bad, split.text)).values()) == ["stack-none", "stack-none"]
    assert circle.released(split) == [0, 0, 0]
