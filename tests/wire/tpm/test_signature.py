"""TPMT_SIGNATURE."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from watchword.errors import MalformedError
from watchword.wire.tpm.algorithms import Alg
from watchword.wire.tpm.signature import Signature

GOOD = [
    Signature(Alg.RSASSA, Alg.SHA256, rsa=b"s" * 256),
    Signature(Alg.RSAPSS, Alg.SHA384, rsa=b""),
    Signature(Alg.ECDSA, Alg.SHA256, r=b"r" * 32, s=b"s" * 31),
]


@pytest.mark.parametrize("signature", GOOD)
def test_round_trip(signature: Signature) -> None:
    assert Signature.parse(signature.encode()) == signature
    for bad in (signature.encode() + b"\0", signature.encode()[:-1]):
        with pytest.raises(MalformedError):
            Signature.parse(bad)


@pytest.mark.parametrize("data", ["0005000b", "00100000", "0018000bffff", "00140010", "0014000b0201"])
def test_malformed(data: str) -> None:
    with pytest.raises(MalformedError):
        Signature.parse(bytes.fromhex(data) + bytes(600))


@pytest.mark.parametrize(
    "values", [{}, {"rsa": b"", "r": b""}, {"r": b""}, {"rsa": b"", "r": b"", "s": b""}, {"s": b""}]
)
@pytest.mark.parametrize("scheme", [Alg.ECDSA, Alg.RSASSA])
def test_values_belong_to_the_scheme(scheme: Alg, values: dict[str, bytes]) -> None:
    with pytest.raises(MalformedError):
        Signature(scheme, Alg.SHA256, **values)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(GOOD), st.integers(0, 80), st.binary(max_size=8))
def test_any_bytes_parse_to_the_same_bytes_or_are_malformed(good: Signature, at: int, junk: bytes) -> None:
    data = good.encode()
    for candidate in (junk, data[:at] + junk + data[at + len(junk) :]):
        try:
            parsed = Signature.parse(candidate)
        except MalformedError:
            continue
        assert parsed.encode() == candidate
