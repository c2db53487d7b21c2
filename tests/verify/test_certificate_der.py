"""The DER reader: one way to encode a value, every length checked, nothing but MalformedError."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from watchword.errors import MalformedError
from watchword.verify.der import Der, whole_sequence

from .certificates import integer, moment, oid, sequence, tlv


def reader(data: bytes) -> Der:
    return Der(data, "test", "test-code")


def refused(data: bytes, read: Callable[[Der], object], why: str) -> None:
    with pytest.raises(MalformedError, match=why) as caught:
        read(reader(data))
    assert caught.value.code == "test-code"


def test_values() -> None:
    data = integer(-1) + integer(1 << 70) + oid("2.23.133.8.1") + tlv(1, b"\xff") + tlv(4, b"x") + tlv(3, b"\0ab")
    der = reader(data)
    assert [der.integer(), der.integer(), der.identifier()] == [-1, 1 << 70, "2.23.133.8.1"]
    assert [der.boolean(), der.octets(), der.whole_bytes()] == [True, b"x", b"ab"]
    assert not der.more
    der.finish()


@pytest.mark.parametrize("text", ["0.9.2342", "1.2.840.113549.1.1.11", "2.5.29.37.0", "2.999.3", "1.2.16384"])
def test_identifiers(text: str) -> None:
    assert reader(oid(text)).identifier() == text


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "missing"),
        (b"\x02", "cut short"),
        (b"\x02\x02\x01", "2 bytes, 1 are left"),
        (b"\x02\x80\x01\x00\x00", "length"),  # indefinite
        (b"\x02\x81\x01\x01", "length"),  # one byte too many
        (b"\x02\x82\x00\x80" + bytes(128), "length"),
        (b"\x02\x85\x01\x00\x00\x00\x00\x01", "length"),
        (b"\x02\x84\xff\xff\xff\xff\x01", "4294967295 bytes"),
        (b"\x02\xff\x01", "length"),
        (b"\x02\x82", "length"),
        (b"\x1f\x02\x01\x01", "tag is longer"),
        (b"\x04\x01\x01", "0x04 is where 0x02 belongs"),
        (b"\x02\x00", "shortest"),
        (b"\x02\x02\x00\x01", "shortest"),
        (b"\x02\x02\xff\x80", "shortest"),
    ],
)
def test_what_is_no_integer(data: bytes, why: str) -> None:
    refused(data, Der.integer, why)


def test_long_lengths() -> None:
    assert reader(tlv(4, bytes(300))).octets() == bytes(300)
    assert reader(tlv(4, bytes(128))).octets() == bytes(128)


@pytest.mark.parametrize("data", [tlv(1, b"\x01"), tlv(1), tlv(1, b"\0\0")])
def test_what_is_no_boolean(data: bytes) -> None:
    refused(data, Der.boolean, "boolean")


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (tlv(6), "empty"),
        (tlv(6, b"\x2a" * 65), "too long"),
        (tlv(6, b"\x2a\x86"), "cut short"),
        (tlv(6, b"\x2a\x80\x01"), "shortest"),
    ],
)
def test_what_is_no_identifier(data: bytes, why: str) -> None:
    refused(data, Der.identifier, why)


def test_named_bits() -> None:
    assert reader(bytes.fromhex("03020106")).named_bits() == {5, 6}
    assert reader(bytes.fromhex("0303070080")).named_bits() == {8}
    assert reader(bytes.fromhex("030100")).named_bits() == set()


@pytest.mark.parametrize("data", ["0300", "03020801", "03020101", "030101", "030a00" + "00" * 9])
def test_what_is_no_named_bits(data: str) -> None:
    refused(bytes.fromhex(data), Der.named_bits, "bit")


def test_a_key_has_whole_bytes() -> None:
    refused(bytes.fromhex("03020106"), Der.whole_bytes, "whole bytes")


@pytest.mark.parametrize(
    ("text", "year"),
    [("491231235959", 2049), ("500101000000", 1950), ("99991231235959", 9999), ("20500101000000", 2050)],
)
def test_times(text: str, year: int) -> None:
    found = datetime.fromtimestamp(reader(moment(text)).time(), UTC)
    assert (found.year, found.strftime("%m%d%H%M%S")) == (year, text[-10:])


@pytest.mark.parametrize(
    "data",
    [
        moment("20260101000000")[:-1] + b"0",
        tlv(0x17, b"2601010000Z"),
        tlv(0x17, b"260101000000+0000"),
        tlv(0x18, b"20260101000000.5Z"),
        tlv(0x17, b"20260101000000Z"),
        tlv(0x17, "26010100000٣".encode()[:12] + b"Z"),
        tlv(0x17, b"261301000000Z"),
        tlv(0x17, b"260230000000Z"),
        tlv(0x17, b"260101000060Z"),
        tlv(0x18, b"00000101000000Z"),
        tlv(0x04, b"260101000000Z"),
    ],
)
def test_what_is_no_time(data: bytes) -> None:
    refused(data, Der.time, "time")


def test_trailing_bytes() -> None:
    refused(b"\x05\x00\x05\x00", lambda der: (der.take(5), der.finish()), "2 trailing")
    with pytest.raises(MalformedError, match="trailing"):
        whole_sequence(sequence() + b"\0", "test", "test-code")


READS = (
    Der.any, Der.integer, Der.boolean, Der.octets, Der.whole_bytes, Der.named_bits, Der.identifier, Der.time,
    Der.finish,    lambda der: der.take_whole(0x30), lambda der: der.inside(0x30).any(), lambda der: der.next_is(0x30),
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=40), st.lists(st.sampled_from(READS), max_size=6))
def test_any_bytes_give_a_value_or_an_error(data: bytes, reads) -> None:
    der = reader(data)
    with contextlib.suppress(MalformedError):
        for read in reads:
            read(der)


@settings(max_examples=100, deadline=None)
@given(st.integers(-(1 << 200), 1 << 200), st.binary(max_size=300))
def test_what_was_written_is_read(number: int, data: bytes) -> None:
    der = whole_sequence(sequence(integer(number), tlv(4, data)), "test", "test-code")
    assert (der.integer(), der.octets()) == (number, data)
    der.finish()
