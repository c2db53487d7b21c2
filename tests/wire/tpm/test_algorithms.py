"""Hash identifiers, sizes and digests."""

from __future__ import annotations

import hashlib

import pytest

from watchword.errors import MalformedError, UsageError
from watchword.wire.reader import Reader
from watchword.wire.tpm.algorithms import (
    HASHES,
    Alg,
    Curve,
    alg_by_name,
    digest,
    digest_size,
    hash_name,
    read_alg,
    read_curve,
    read_hash,
)


@pytest.mark.parametrize("alg", HASHES)
def test_size_name_and_digest_agree(alg: Alg) -> None:
    if hash_name(alg) not in hashlib.algorithms_available:
        pytest.skip("this OpenSSL has no such hash")
    assert digest(alg, b"a", b"bc") == hashlib.new(hash_name(alg), b"abc").digest()
    assert len(digest(alg)) == digest_size(alg)
    assert alg_by_name(HASHES[alg]) is alg


def test_a_hash_this_machine_lacks_is_malformed_not_a_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashlib, "algorithms_available", set())
    with pytest.raises(MalformedError, match="not available"):
        digest(Alg.SM3_256, b"")


@pytest.mark.parametrize("call", [digest_size, hash_name, digest])
def test_what_is_not_a_hash(call) -> None:
    with pytest.raises(MalformedError):
        call(Alg.AES)


def test_unknown_name() -> None:
    with pytest.raises(UsageError) as caught:
        alg_by_name("md5")
    assert caught.value.code == "unknown-hash"


def test_reading_identifiers() -> None:
    assert read_alg(Reader(b"\x00\x10", "x")) is Alg.NULL
    assert read_hash(Reader(b"\x00\x0b", "x")) is Alg.SHA256
    assert read_curve(Reader(b"\x00\x03", "x")) is Curve.P256
    for read, data in ((read_alg, b"\x7f\xff"), (read_hash, b"\x00\x10"), (read_curve, b"\x00\x00")):
        with pytest.raises(MalformedError):
            read(Reader(data, "x"))
