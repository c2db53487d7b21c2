"""Secret sharing: against another implementation, against FIPS 197, and that too few shares say nothing."""

from __future__ import annotations

import itertools
import secrets
from collections import Counter

import pyshamir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from watchword.crypto.shamir import _invert, _multiply, combine, random_size, split
from watchword.wire.share import MAX_SHARES

SETS = [(k, n) for n in range(2, MAX_SHARES + 1) for k in range(n // 2 + 1, n + 1)]


def test_the_field_is_that_of_aes() -> None:
    """The examples of FIPS 197 section 4.2, and every inverse."""
    assert (_multiply(0x57, 0x83), _multiply(0x57, 0x13), _multiply(0x57, 0x02)) == (0xC1, 0xFE, 0xAE)
    assert all(_multiply(a, _invert(a)) == 1 for a in range(1, 256))
    assert _invert(0) == 0


@pytest.mark.parametrize(("threshold", "count"), SETS)
def test_any_enough_shares_give_the_secret(threshold: int, count: int) -> None:
    secret = secrets.token_bytes(32)
    shares = split(secret, threshold, count, secrets.token_bytes(random_size(32, threshold)))
    assert {len(share) for share in shares} == {32}
    for chosen in itertools.combinations(range(1, count + 1), threshold):
        assert combine({x: shares[x - 1] for x in chosen}) == secret


@pytest.mark.parametrize(("threshold", "count"), SETS)
def test_another_implementation_combines_our_shares(threshold: int, count: int) -> None:
    """pyshamir is a port of HashiCorp Vault's: a share is its bytes and then its x."""
    secret = secrets.token_bytes(32)
    shares = split(secret, threshold, count, secrets.token_bytes(random_size(32, threshold)))
    for chosen in itertools.combinations(range(1, count + 1), threshold):
        assert bytes(pyshamir.combine([bytearray(shares[x - 1] + bytes([x])) for x in chosen])) == secret


@pytest.mark.parametrize(("threshold", "count"), SETS)
def test_we_combine_the_shares_of_another_implementation(threshold: int, count: int) -> None:
    secret = secrets.token_bytes(32)
    theirs = {share[-1]: bytes(share[:-1]) for share in pyshamir.split(secret, count, threshold)}
    for chosen in itertools.combinations(theirs, threshold):
        assert combine({x: theirs[x] for x in chosen}) == secret


def test_a_vector() -> None:
    """s = 0x42 and 0x00, a = 0x01 and 0xff: s + a x, by hand."""
    assert split(b"\x42\x00", 2, 3, b"\x01\xff") == (b"\x43\xff", b"\x40\xe5", b"\x41\x1a")


@pytest.mark.parametrize(("threshold", "count"), [(2, 2), (2, 3)])
def test_one_share_is_as_likely_with_every_secret(threshold: int, count: int) -> None:
    """Over all random bytes each share takes each value exactly once, whatever the secret is."""
    for secret in (0x00, 0x42, 0xFF):
        seen = [split(bytes([secret]), threshold, count, bytes([r])) for r in range(256)]
        for at in range(count):
            assert Counter(shares[at][0] for shares in seen) == dict.fromkeys(range(256), 1)


@pytest.mark.parametrize("pair", list(itertools.combinations(range(1, 6), 2)))
def test_two_shares_of_three_needed_are_as_likely_with_every_secret(pair: tuple[int, int]) -> None:
    """All 65,536 random values: each pair of shares occurs exactly once for any secret.

    Which is to say that for two given shares every secret has exactly one explanation. Shares are sums, so those of
    all random values follow from 512 calls.
    """
    one, two = pair
    for secret in (0x00, 0x9A):
        high = [split(bytes([secret]), 3, 5, bytes([a, 0])) for a in range(256)]
        low = [split(b"\0", 3, 5, bytes([0, b])) for b in range(256)]
        seen = {(h[one - 1][0] ^ lo[one - 1][0], h[two - 1][0] ^ lo[two - 1][0]) for h in high for lo in low}
        assert len(seen) == 65_536


@settings(deadline=None)
@given(st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32), st.sampled_from(SETS))
def test_too_few_shares_fit_every_secret(secret: bytes, other: bytes, numbers: tuple[int, int]) -> None:
    """Given k - 1 shares of one secret, there are random bytes with which any other secret has the same shares."""
    threshold, count = numbers
    shares = split(secret, threshold, count, secrets.token_bytes(random_size(32, threshold)))
    known = {x: shares[x - 1] for x in range(1, threshold)}
    # The polynomial through the known shares and (0, other): its value at the next x is a share that fits.
    fitting = _through({0: other, **known}, threshold)
    assert combine({**known, threshold: fitting}) == other


def _through(points: dict[int, bytes], x: int) -> bytes:
    """The value at ``x`` of the polynomial through ``points``, by moving ``x`` to 0."""
    return combine({at ^ x: value for at, value in points.items()})


@pytest.mark.parametrize(("threshold", "count"), [(1, 2), (2, 4), (4, 3), (5, 9)])
def test_numbers_that_make_no_set(threshold: int, count: int) -> None:
    with pytest.raises(ValueError, match="shares"):
        split(b"s", threshold, count, bytes(max(0, threshold - 1)))


def test_random_bytes_are_never_stretched() -> None:
    for size in (0, 31, 33):
        with pytest.raises(ValueError, match="random bytes"):
            split(bytes(32), 2, 3, bytes(size))
    with pytest.raises(ValueError, match="random bytes"):
        split(b"", 2, 3, b"")


@pytest.mark.parametrize("shares", [{}, {0: b"a"}, {256: b"a"}, {1: b"a", 2: b"ab"}])
def test_shares_that_do_not_go_together(shares: dict[int, bytes]) -> None:
    with pytest.raises(ValueError, match="one length"):
        combine(shares)
