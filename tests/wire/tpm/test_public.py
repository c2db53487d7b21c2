"""Public areas: round trips, names, refusals."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from watchword.errors import MalformedError
from watchword.wire.tpm.algorithms import Alg, Curve
from watchword.wire.tpm.public import Attributes, Public
from watchword.wire.tpm.schemes import (
    EccParameters,
    EccPoint,
    KeyedHashParameters,
    RsaParameters,
    Scheme,
    SymCipherParameters,
    Symmetric,
)
from watchword.wire.tpm.templates import AK_TEMPLATE, EkKind, ek_template

NULL = Scheme(Alg.NULL)
AES = Symmetric(Alg.AES, 128, Alg.CFB)


def _of(kind: Alg, parameters, unique, name_alg: Alg = Alg.SHA256) -> Public:
    return Public(kind, name_alg, Attributes.SIGN, b"", parameters, unique)


GOOD = [
    AK_TEMPLATE,
    *(ek_template(kind) for kind in EkKind),
    _of(Alg.RSA, RsaParameters(Symmetric(Alg.NULL), Scheme(Alg.RSASSA, Alg.SHA256), 2048), b"n" * 256),
    _of(Alg.RSA, RsaParameters(AES, Scheme(Alg.RSAES), 1024, 3), b"n" * 128),
    _of(Alg.ECC, EccParameters(AES, Scheme(Alg.ECDAA, Alg.SHA256, 5), Curve.BN_P256, NULL), EccPoint(b"", b"")),
    _of(
        Alg.ECC,
        EccParameters(AES, Scheme(Alg.ECDH, Alg.SHA256), Curve.P521, Scheme(Alg.KDF2, Alg.SHA1)),
        EccPoint(b"x" * 66, b"y" * 66),
    ),
    _of(Alg.KEYEDHASH, KeyedHashParameters(NULL), b"u" * 32),
    _of(Alg.KEYEDHASH, KeyedHashParameters(Scheme(Alg.HMAC, Alg.SHA256)), b""),
    _of(Alg.KEYEDHASH, KeyedHashParameters(Scheme(Alg.XOR, Alg.SHA256, int(Alg.KDF1_SP800_108))), b""),
    _of(Alg.SYMCIPHER, SymCipherParameters(AES), b"u" * 32, Alg.NULL),
]


@pytest.mark.parametrize("public", GOOD, ids=lambda public: public.type.name)
def test_round_trip(public: Public) -> None:
    assert Public.parse(public.encode()) == public
    assert Public.parse_2b(public.encode_2b()) == public
    with pytest.raises(MalformedError):
        Public.parse(public.encode() + b"\0")
    with pytest.raises(MalformedError, match="1 trailing"):
        Public.parse_2b(public.encode_2b() + b"\0")
    with pytest.raises(MalformedError):
        Public.parse(public.encode()[:-1])


def test_name_is_the_algorithm_and_the_hash() -> None:
    public = ek_template(EkKind.P384)
    assert public.name() == b"\x00\x0c" + hashlib.sha384(public.encode()).digest()
    assert GOOD[-1].name() == b""


def test_other_peoples_public_area_has_the_name_they_recorded(corpus: Path) -> None:
    folder = corpus / "keylime+keylime/quotes/keylime_test-data_files"
    public = Public.parse_2b((folder / "ak.pub").read_bytes())
    assert public.name() == (folder / "ak.name").read_bytes()


def test_two_hundred_vector_keys_round_trip(corpus: Path) -> None:
    for name in ("rsa_labeled_encaps", "ecc_labeled_encaps"):
        for vector in json.loads((corpus / "google+go-tpm/vectors" / f"{name}.json").read_text()):
            data = bytes.fromhex(vector["PublicKey"])
            assert Public.parse(data).encode() == data


@pytest.mark.parametrize(
    ("kind", "parameters", "unique"),
    [
        (Alg.RSA, KeyedHashParameters(NULL), b""),
        (Alg.ECC, GOOD[0].parameters, b"not a point"),
        (Alg.KEYEDHASH, KeyedHashParameters(NULL), EccPoint(b"", b"")),
        (Alg.AES, SymCipherParameters(AES), b""),
    ],
)
def test_type_parameters_and_unique_belong_together(kind: Alg, parameters, unique) -> None:
    with pytest.raises(MalformedError):
        _of(kind, parameters, unique)


@pytest.mark.parametrize(
    ("at", "value"),
    [
        (0, "0006"),  # type AES
        (2, "0006"),  # name algorithm AES
        (8, "0041"),  # policy longer than any digest
        (10, "0018"),  # symmetric algorithm ECDSA
        (12, "0014"),  # ECC scheme RSASSA
        (14, "0010"),  # ECDSA without a hash
        (16, "0099"),  # no such curve
        (18, "0006"),  # KDF AES
    ],
)
def test_a_wrong_field_is_malformed(at: int, value: str) -> None:
    data = bytearray(AK_TEMPLATE.encode())
    data[at : at + 2] = bytes.fromhex(value)
    with pytest.raises(MalformedError):
        Public.parse(bytes(data))


def test_size_is_bounded() -> None:
    with pytest.raises(MalformedError):
        Public.parse(AK_TEMPLATE.encode() + bytes(5000))
    with pytest.raises(MalformedError):
        Public.parse_2b(b"\x13\x88" + bytes(5000))


@settings(max_examples=80, deadline=None)
@given(st.sampled_from(GOOD), st.integers(0, 400), st.binary(max_size=8))
def test_any_bytes_parse_to_the_same_bytes_or_are_malformed(public: Public, at: int, junk: bytes) -> None:
    data = public.encode()
    for candidate in (junk, data[:at] + junk + data[at + len(junk) :], data[:at] + junk):
        try:
            parsed = Public.parse(candidate)
        except MalformedError:
            continue
        assert parsed.encode() == candidate


def test_the_size_of_a_public_area_is_bounded() -> None:
    with pytest.raises(MalformedError, match="longer than"):
        Public.parse(AK_TEMPLATE.encode() + bytes(8192))


def test_nothing_may_follow_a_point() -> None:
    data = EccPoint(b"x" * 32, b"y" * 32).encode()
    assert EccPoint.parse(data) == EccPoint(b"x" * 32, b"y" * 32)
    with pytest.raises(MalformedError, match="1 trailing"):
        EccPoint.parse(data + b"\0")
