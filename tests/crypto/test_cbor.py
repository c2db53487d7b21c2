"""Strict CBOR: what is read, and everything that is not."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watchword.crypto.cbor import MAX_DEPTH, Tag, dump, load
from watchword.errors import MalformedError

leaves = st.none() | st.booleans() | st.integers(-(2**64), 2**64 - 1) | st.binary(max_size=20) | st.text(max_size=20)
keys = st.integers(-(2**32), 2**32) | st.text(max_size=8)
items = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(keys, inner, max_size=4)
        | st.builds(Tag, st.sampled_from([1, 18, 32, 37, 111, 501, 506, 560]), inner)
    ),
    max_leaves=10,
)


@given(items)
def test_what_is_written_is_read(value: Any) -> None:
    assert load(dump(value), "x", 10_000) == value


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with suppress(MalformedError):
        dump(load(data, "x", 60))


@pytest.mark.parametrize(
    ("data", "value"),
    [
        ("1801", 1),  # longer than it needs to be: other people's encoders do that
        ("c11a54678000", Tag(1, 0x54678000)),
        ("c24101", Tag(2, b"\1")),  # no number is made of it
        ("d82550000102030405060708090a0b0c0d0e0f", Tag(37, bytes(range(16)))),
        ("d9d9f701", Tag(55799, 1)),
        ("fb3ff8000000000000", 1.5),
        ("a2613101f601".replace("f601", "0202"), {"1": 1, 2: 2}),
    ],
)
def test_other_encodings(data: str, value: Any) -> None:
    found = load(bytes.fromhex(data), "x", 100)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ("", "not CBOR"),
        ("0100", "byte 1: something follows"),
        ("9f01ff", "indefinite length"),
        ("bf0101ff", "indefinite length"),
        ("5f4101ff", "indefinite length"),
        ("7f6161ff", "indefinite length"),
        ("a201010102", "Duplicate map key"),
        ("a20101180102", "Duplicate map key"),  # the same key in a longer form
        ("a20101f502", "Duplicate map key"),  # Python takes true for 1
        ("a1f501", "neither an integer nor a text"),
        ("a1f93c0001", "neither an integer nor a text"),  # 1.0
        ("a1410001", "neither an integer nor a text"),
        ("a18001", "neither an integer nor a text"),
        ("a1c10101", "neither an integer nor a text"),
        ("d81c80", "tag 28"),
        ("82d81c80d81d00", "tag 28"),
        ("d81d00", "tag 29"),
        ("d81900", "tag 25"),
        ("d9010080", "tag 256"),
        ("f7", "UndefinedType"),
        ("e0", "CBORSimpleValue"),
        ("f97e00", "float"),
        ("f97c00", "float"),
        ("61ff", "not CBOR"),
        ("5b7fffffffffffffff00", "not CBOR"),
        ("9b7fffffffffffffff00", "not CBOR"),
        ("bb7fffffffffffffff00", "not CBOR"),
        ("1c", "not CBOR"),
        ("ff", "not CBOR"),
        ("81" * (MAX_DEPTH + 1) + "01", "nest"),
        ("d820" * (MAX_DEPTH + 1) + "01", "nest"),
        ("d82081" * MAX_DEPTH + "01", "nest"),
        ("d820" * 400_000 + "01", "nest"),
    ],
)
def test_refused(data: str, why: str) -> None:
    with pytest.raises(MalformedError, match=rf"^x: .*{why}"):
        load(bytes.fromhex(data), "x", 1_000_000)


def test_the_size_is_bounded() -> None:
    assert load(dump(bytes(95)), "x", 97) == bytes(95)
    with pytest.raises(MalformedError, match="98 bytes long, 97 are allowed"):
        load(dump(bytes(96)), "x", 97)
