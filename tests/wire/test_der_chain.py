"""Certificates one behind the other: where they begin and end, and what is no such thing."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watchword.errors import MalformedError
from watchword.wire.der_chain import MAX_NV_CHAIN, split_der_chain


def element(size: int) -> bytes:
    """A SEQUENCE of ``size`` bytes of contents, its length in the shortest form."""
    if size < 0x80:
        return bytes((0x30, size)) + b"x" * size
    digits = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((0x30, 0x80 | len(digits))) + digits + b"x" * size


LARGEST = element(8192 - 4)


@pytest.mark.parametrize(
    "chain", [(), (0,), (127,), (128, 255), (256,), (8188,), (1, 2, 3, 4, 5, 6, 7, 8), (8188,) * 4]
)
@pytest.mark.parametrize("padding", [b"", b"\0", b"\xff" * 3])
def test_what_was_put_together_comes_apart(chain: tuple[int, ...], padding: bytes) -> None:
    parts = tuple(map(element, chain))
    data = b"".join(parts) + padding
    if len(data) <= MAX_NV_CHAIN:
        assert split_der_chain(data) == parts


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (bytes(MAX_NV_CHAIN + 1), "longer than 32768 bytes"),
        (element(1) * 9, "more than 8"),
        (element(1) + b"\0\xff", "neither a certificate nor padding"),
        (element(1) + b"\x31\0", "neither a certificate nor padding"),
        (element(1) + b"\x30", "neither a certificate nor padding"),
        (b"\x30\x80\0\0", "no certificate of at most"),
        (b"\x30\x83\x01\0\0" + bytes(70000)[:20000], "no certificate of at most"),
        (b"\x30\x82\x01", "no certificate of at most"),
        (b"\x30\x81\x7f" + bytes(127), "shortest form"),
        (b"\x30\x82\0\xff" + bytes(255), "shortest form"),
        (element(8189), "8193 bytes, 8192 are allowed"),
        (LARGEST[:-1], "8192 bytes, 8191 are left"),
    ],
)
def test_what_is_no_chain(data: bytes, why: str) -> None:
    with pytest.raises(MalformedError, match=why) as caught:
        split_der_chain(data)
    assert caught.value.code == "ek-certificate-malformed"


@given(st.binary(max_size=60))
def test_any_bytes_come_apart_or_are_malformed(noise: bytes) -> None:
    for data in (noise, element(3) + noise, element(200) + noise):
        with contextlib.suppress(MalformedError):
            parts = split_der_chain(data)
            assert data.startswith(b"".join(parts))
