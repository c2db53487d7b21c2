"""Credential and import blobs."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from watchword.errors import MalformedError
from watchword.wire.tpm.algorithms import Alg
from watchword.wire.tpm.blobs import EncryptedSecret, IdObject, PrivateBlob, Sensitive

GOOD = [
    IdObject(b"i" * 32, b"encrypted"),
    PrivateBlob(b"", b""),
    EncryptedSecret(b"s" * 256),
    Sensitive(Alg.KEYEDHASH, b"auth", b"seed", b"data"),
]


@pytest.mark.parametrize("blob", GOOD, ids=lambda blob: type(blob).__name__)
def test_round_trip(blob) -> None:
    data = blob.encode()
    assert type(blob).parse(data) == blob
    for bad in (data + b"\0", data[:-1], b"\xff\xff" + data[2:]):
        with pytest.raises(MalformedError):
            type(blob).parse(bad)


def test_a_secret_is_not_shown() -> None:
    assert "data" not in repr(GOOD[-1])
    assert "seed" not in repr(GOOD[-1])


def test_other_peoples_credential(corpus: Path) -> None:
    data = (corpus / "keylime+keylime/quotes/keylime_test-data_files/mkcred.out").read_bytes()
    # tpm2_makecredential writes a magic and a version in front of the two buffers.
    size = 2 + int.from_bytes(data[8:10], "big") if data[:4] == bytes.fromhex("badcc0de") else 0
    start = 8 if size else 0
    size = size or 2 + int.from_bytes(data[:2], "big")
    assert IdObject.parse(data[start : start + size]).encode() == data[start : start + size]


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(GOOD), st.integers(0, 60), st.binary(max_size=8))
def test_any_bytes_parse_to_the_same_bytes_or_are_malformed(good, at: int, junk: bytes) -> None:
    data = good.encode()
    for candidate in (junk, data[:at] + junk + data[at + len(junk) :]):
        try:
            parsed = type(good).parse(candidate)
        except MalformedError:
            continue
        assert parsed.encode() == candidate
