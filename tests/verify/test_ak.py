"""Clauses A3 and A4: what kind of key an attestation key is, and that it lives beside the endorsement key."""

from __future__ import annotations

from dataclasses import replace

import pytest

from watchword.errors import MalformedError, Rejected
from watchword.testing.tpm_keys import TpmKeys
from watchword.verify.ak import VerifiedAk, ak_scheme, prove_ak, restore_ak, verify_ak_public
from watchword.verify.ek import EkClass, VerifiedEk, host_id, verify_pinned_ek
from watchword.wire.tpm.algorithms import Alg, Curve
from watchword.wire.tpm.public import Attributes, Public
from watchword.wire.tpm.schemes import EccPoint, KeyedHashParameters, RsaParameters, Scheme

TPM = TpmKeys()
RSA = TpmKeys(ak_scheme=Alg.RSASSA)
PROOF = b"p" * 32


def _pinned(tpm: TpmKeys) -> VerifiedEk:
    return verify_pinned_ek(tpm.ek, {host_id(tpm.ek): EkClass.FIRMWARE})


def _refused(code: str, ak: Public) -> None:
    for check in (
        lambda: verify_ak_public(ak),
        lambda: prove_ak(_pinned(TPM), ak, PROOF, PROOF),
        lambda: restore_ak(host_id(TPM.ek), TPM.ek.encode(), ak.encode(), EkClass.VIRTUAL),
    ):
        with pytest.raises(Rejected) as caught:
            check()
        assert (caught.value.clause, caught.value.code) == ("A3", code)


@pytest.mark.parametrize("tpm", [TPM, RSA, TpmKeys(ak_scheme=Alg.RSAPSS)], ids=lambda tpm: tpm.ak_scheme.name)
def test_a_good_key(tpm: TpmKeys) -> None:
    ak = prove_ak(_pinned(tpm), tpm.ak, PROOF, PROOF)
    assert (ak.host_id, ak.name, ak.ek_class) == (host_id(tpm.ek), tpm.ak.name(), EkClass.FIRMWARE)
    assert restore_ak(ak.host_id, tpm.ek.encode(), tpm.ak.encode(), EkClass.FIRMWARE) == ak
    assert tpm.verified_ak(EkClass.FIRMWARE) == ak


# --- A3 -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "missing",
    [
        Attributes.RESTRICTED,
        Attributes.SIGN,
        Attributes.FIXED_TPM,
        Attributes.FIXED_PARENT,
        Attributes.SENSITIVE_DATA_ORIGIN,
    ],
    ids=lambda flag: flag.name,
)
def test_a3_an_attribute_is_missing(missing: Attributes) -> None:
    _refused("ak-attributes", replace(TPM.ak, attributes=TPM.ak.attributes & ~missing))


@pytest.mark.parametrize(
    "surplus", [Attributes.DECRYPT, Attributes.ENCRYPTED_DUPLICATION, Attributes(1), Attributes(1 << 19)]
)
def test_a3_an_attribute_too_many(surplus: Attributes) -> None:
    _refused("ak-attributes", replace(TPM.ak, attributes=TPM.ak.attributes | surplus))


def test_a3_who_may_use_the_key_does_not_matter() -> None:
    attributes = TPM.ak.attributes & ~Attributes.USER_WITH_AUTH | Attributes.NO_DA | Attributes.ADMIN_WITH_POLICY
    verify_ak_public(replace(TPM.ak, attributes=attributes))


def _ecc(**changes) -> Public:
    return replace(TPM.ak, parameters=replace(TPM.ak.parameters, **changes))


def _rsa(**changes) -> Public:
    return replace(RSA.ak, parameters=replace(RSA.ak.parameters, **changes))


@pytest.mark.parametrize(
    "ak",
    [
        replace(TPM.ak, name_alg=Alg.SHA1),
        replace(TPM.ak, name_alg=Alg.NULL),
        _ecc(curve=Curve.P224),
        _ecc(curve=Curve.SM2_P256),
        _ecc(scheme=Scheme(Alg.NULL)),
        _ecc(scheme=Scheme(Alg.ECDSA, Alg.SHA1)),
        _ecc(scheme=Scheme(Alg.ECDSA, Alg.SM3_256)),
        _ecc(scheme=Scheme(Alg.ECDAA, Alg.SHA256, 1)),
        _ecc(scheme=Scheme(Alg.ECDH, Alg.SHA256)),
        _rsa(key_bits=1024),
        _rsa(exponent=3),
        _rsa(scheme=Scheme(Alg.NULL)),
        _rsa(scheme=Scheme(Alg.RSASSA, Alg.SHA1)),
        _rsa(scheme=Scheme(Alg.OAEP, Alg.SHA256)),
        replace(TPM.ak, type=Alg.KEYEDHASH, parameters=KeyedHashParameters(Scheme(Alg.NULL)), unique=b""),
    ],
)
def test_a3_algorithm(ak: Public) -> None:
    _refused("ak-algorithm", ak)


def test_a3_a_symmetric_key_that_names_a_signing_scheme() -> None:
    parameters = KeyedHashParameters(Scheme(Alg.RSASSA, Alg.SHA256))  # no TPM sends this; the rule must not need that
    with pytest.raises(Rejected) as caught:
        verify_ak_public(replace(TPM.ak, type=Alg.KEYEDHASH, parameters=parameters, unique=b""))
    assert caught.value.code == "ak-algorithm"


def test_a_point_off_the_curve_is_malformed() -> None:
    ak = replace(TPM.ak, unique=EccPoint(b"\1" * 32, b"\2" * 32))
    with pytest.raises(MalformedError):
        prove_ak(_pinned(TPM), ak, PROOF, PROOF)


def test_a_modulus_of_another_size_is_malformed() -> None:
    assert isinstance(RSA.ak.parameters, RsaParameters)
    with pytest.raises(MalformedError):
        prove_ak(_pinned(TPM), replace(RSA.ak, unique=b"\1" * 256), PROOF, PROOF)


# --- A4 -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("proof", [b"", b"q" * 32, PROOF[:-1], PROOF + b"p"])
def test_a4_proof(proof: bytes) -> None:
    with pytest.raises(Rejected) as caught:
        prove_ak(_pinned(TPM), TPM.ak, PROOF, proof)
    assert (caught.value.clause, caught.value.code) == ("A4", "ak-proof")
    assert PROOF.hex() not in str(caught.value)


def test_a4_an_empty_expectation_is_our_own_mistake() -> None:
    with pytest.raises(ValueError):
        prove_ak(_pinned(TPM), TPM.ak, b"", b"")


def test_a4_a_record_of_another_host() -> None:
    with pytest.raises(Rejected) as caught:
        restore_ak(host_id(RSA.ek), TPM.ek.encode(), TPM.ak.encode(), EkClass.VIRTUAL)
    assert (caught.value.clause, caught.value.code) == ("A4", "ak-record")


def test_only_the_check_makes_a_verified_key() -> None:
    ak = TPM.verified_ak()
    with pytest.raises(TypeError):
        VerifiedAk(object(), ak.host_id, ak.ek, ak.ak, ak.name, ak.ek_class, ak.scheme, ak.key)
    with pytest.raises((TypeError, ValueError)):
        replace(ak, host_id=bytes(32))


def test_scheme_of_what_is_no_key() -> None:
    with pytest.raises(MalformedError):
        ak_scheme(replace(TPM.ak, type=Alg.KEYEDHASH, parameters=KeyedHashParameters(Scheme(Alg.NULL)), unique=b""))
