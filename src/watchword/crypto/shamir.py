"""Splitting a secret so that any k of n shares give it back, and k - 1 of them say nothing about it.

Shamir's scheme, byte by byte: each byte of the secret is the constant term of a polynomial of degree k - 1 over GF(256)
with random other coefficients, and share x is its value at x. The field is that of AES, reduced by
x^8 + x^4 + x^3 + x + 1. Multiplication has neither tables nor branches that depend on a secret.
Sources: A. Shamir, "How to share a secret", 1979; FIPS 197 section 4.2.
"""

from __future__ import annotations

from collections.abc import Mapping

from watchword.wire.share import check_numbers

__all__ = ["combine", "random_size", "split"]

_REDUCTION = 0x1B  # what x^8 is


def random_size(size: int, threshold: int) -> int:
    """How many random bytes :func:`split` takes for a secret of ``size`` bytes."""
    return size * (threshold - 1)


def split(secret: bytes, threshold: int, count: int, random: bytes) -> tuple[bytes, ...]:
    """``count`` shares, each as long as ``secret``, the one for x = 1 first; ``threshold`` of them give it back.

    ``random`` is :func:`random_size` fresh bytes. Raises ``ValueError`` for numbers that no set has.
    """
    if problem := check_numbers(threshold, count):
        raise ValueError(problem)
    if not secret or len(random) != random_size(len(secret), threshold):
        raise ValueError("a secret needs (threshold - 1) random bytes for each of its own")
    size = len(secret)
    # The highest coefficient first, as Horner's rule takes them.
    rows = [random[at : at + size] for at in range(0, len(random), size)] + [secret]
    return tuple(_evaluate(rows, x) for x in range(1, count + 1))


def combine(shares: Mapping[int, bytes]) -> bytes:
    """The secret, from exactly as many shares as are needed, each under its x.

    Nothing here can tell whether a share is right: that is for the launch set. Raises ``ValueError``.
    """
    if not shares or len({len(share) for share in shares.values()}) != 1 or not all(0 < x < 256 for x in shares):
        raise ValueError("shares are of one length and have an x from 1 to 255")
    size = len(next(iter(shares.values())))
    secret = bytearray(size)
    for x, share in shares.items():
        weight = _weight(x, shares)
        for at in range(size):
            secret[at] ^= _multiply(share[at], weight)
    return bytes(secret)


def _evaluate(rows: list[bytes], x: int) -> bytes:
    values = bytearray(len(rows[0]))
    for row in rows:
        for at, coefficient in enumerate(row):
            values[at] = _multiply(values[at], x) ^ coefficient
    return bytes(values)


def _weight(x: int, shares: Mapping[int, bytes]) -> int:
    """Lagrange's polynomial of ``x`` at 0. It depends on which shares there are, and on no secret."""
    weight = 1
    for other in shares:
        if other != x:
            weight = _multiply(weight, _multiply(other, _invert(other ^ x)))
    return weight


def _multiply(a: int, b: int) -> int:
    product = 0
    for bit in range(8):
        product ^= -((b >> bit) & 1) & a
        a = ((a << 1) & 0xFF) ^ (-(a >> 7) & _REDUCTION)
    return product


def _invert(a: int) -> int:
    """a^254, which is 1/a; 0 for 0."""
    result = 1
    for _ in range(254):
        result = _multiply(result, a)
    return result
