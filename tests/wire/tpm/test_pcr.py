"""PCR selections and the digest over what they select."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from watchword.errors import MalformedError
from watchword.wire.reader import parse_whole
from watchword.wire.tpm.algorithms import Alg
from watchword.wire.tpm.pcr import (
    PcrSelection,
    encode_selections,
    parse_selections,
    pcr_digest,
    selected_values,
)

VALUES = {
    Alg.SHA256: {pcr: bytes([pcr]) * 32 for pcr in range(24)},
    Alg.SHA1: {pcr: bytes([pcr]) * 20 for pcr in range(24)},
}
SELECTIONS = (PcrSelection(Alg.SHA256, (0, 7, 14)), PcrSelection(Alg.SHA1, (10,)))
ENCODED = bytes.fromhex("00000002 000b 03 814000 0004 03 000400")


def _parse(data: bytes):
    return parse_whole(data, "TPML_PCR_SELECTION", parse_selections)


def test_encoding_is_that_of_the_specification() -> None:
    assert encode_selections(SELECTIONS) == ENCODED
    assert _parse(ENCODED) == SELECTIONS
    assert [str(selection) for selection in SELECTIONS] == ["sha256:0,7,14", "sha1:10"]


@pytest.mark.parametrize("size", range(5))
def test_a_bit_map_keeps_its_size(size: int) -> None:
    data = b"\x00\x00\x00\x01\x00\x0b" + bytes([size]) + bytes(size)
    assert encode_selections(_parse(data)) == data


def test_as_many_selections_as_the_reference_implementation_has_banks() -> None:
    data = b"\x00\x00\x00\x10" + b"\x00\x0b\x03\x01\x00\x00" * 16
    assert len(_parse(data)) == 16


def test_the_same_pcrs_are_equal_whatever_the_size_of_the_bit_map() -> None:
    assert PcrSelection(Alg.SHA256, (0,), 1) == PcrSelection(Alg.SHA256, (0,), 4)
    assert PcrSelection(Alg.SHA256, (0,)) != PcrSelection(Alg.SHA256, (1,))
    assert PcrSelection(Alg.SHA256, (0,)) != PcrSelection(Alg.SHA384, (0,))


@pytest.mark.parametrize(
    "data",
    [
        "00000011" + "000b03000000" * 17,  # more selections than any TPM has banks
        "00000001 000b 05 0000000000",  # bit map of five bytes
        "00000001 0010 03 000000",  # NULL is not a bank
        "00000001 000b 03 0000",  # cut short
        "00000001 000b 03 000000 00",  # trailing byte
    ],
)
def test_malformed(data: str) -> None:
    with pytest.raises(MalformedError):
        _parse(bytes.fromhex(data))


@pytest.mark.parametrize("pcrs", [(1, 0), (1, 1), (-1,), (24,)])
def test_pcr_numbers_ascend_and_fit(pcrs: tuple[int, ...]) -> None:
    with pytest.raises(MalformedError):
        PcrSelection(Alg.SHA256, pcrs)


def test_digest_is_over_the_values_in_order() -> None:
    expected = b"".join(VALUES[Alg.SHA256][pcr] for pcr in (0, 7, 14)) + VALUES[Alg.SHA1][10]
    assert pcr_digest(Alg.SHA256, SELECTIONS, VALUES) == hashlib.sha256(expected).digest()
    assert pcr_digest(Alg.SHA384, SELECTIONS, VALUES) == hashlib.sha384(expected).digest()
    assert b"".join(selected_values(SELECTIONS, VALUES)) == expected


@pytest.mark.parametrize("missing", [{}, {Alg.SHA256: {0: bytes(32)}}])
def test_a_missing_value_is_malformed(missing) -> None:
    with pytest.raises(MalformedError, match="is missing"):
        pcr_digest(Alg.SHA256, SELECTIONS, missing)


def test_bytes_cannot_move_from_one_pcr_to_the_next() -> None:
    selection = (PcrSelection(Alg.SHA256, (0, 1)),)
    moved = {Alg.SHA256: {0: bytes(31), 1: bytes(33)}}
    with pytest.raises(MalformedError, match="31 bytes"):
        pcr_digest(Alg.SHA256, selection, moved)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_parse_to_the_same_bytes_or_are_malformed(data: bytes) -> None:
    for candidate in (data, b"\x00\x00\x00\x01\x00\x0b" + data):
        try:
            selections = _parse(candidate)
        except MalformedError:
            continue
        assert encode_selections(selections) == candidate


@pytest.mark.parametrize("size", [-1, 5])
def test_a_bit_map_has_four_bytes_at_most_however_it_was_made(size: int) -> None:
    with pytest.raises(MalformedError, match="0 to 4 are allowed"):
        PcrSelection(Alg.SHA256, (), size)


def test_a_bit_map_that_is_too_long_is_not_read() -> None:
    with pytest.raises(MalformedError, match="TPML_PCR_SELECTION: a PCR bit map of 5 bytes"):
        _parse(bytes.fromhex("00000001 000b 05 0000000000"))
