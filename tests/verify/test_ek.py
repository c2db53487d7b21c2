"""Clauses A1 and A2: who vouches for an endorsement key, and what its public area must be."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, ObjectIdentifier
from hypothesis import given, settings
from hypothesis import strategies as st

from watchword.crypto.tpm_key import point
from watchword.errors import MalformedError, Rejected, UsageError
from watchword.testing.tpm_keys import TpmKeys
from watchword.verify.certificate import read_stored
from watchword.verify.ek import EkClass, TrustAnchor, VerifiedEk, host_id, verify_ek, verify_pinned_ek
from watchword.wire.tpm.algorithms import Alg
from watchword.wire.tpm.public import Attributes
from watchword.wire.tpm.schemes import EccPoint
from watchword.wire.tpm.templates import EkKind, ek_template

from .certificates import (
    ANCHOR,
    DAY,
    LEAF,
    MAKER,
    NOW,
    P256,
    P384,
    RSA,
    Extension,
    authority,
    ek_leaf,
    tpm_name,
    usage,
    without,
)


def _verify(leaf: bytes = LEAF, maker: bytes = MAKER, kind: EkKind = EkKind.P256, **changes) -> VerifiedEk:
    arguments = {"intermediates": [maker], "anchors": [ANCHOR], "now": NOW}
    return verify_ek(leaf, kind=kind, **(arguments | changes))


def _refused(clause: str, code: str, *arguments, **changes) -> None:
    with pytest.raises(Rejected) as caught:
        _verify(*arguments, **changes)
    assert (caught.value.clause, caught.value.code) == (clause, code), caught.value


# --- good certificates ----------------------------------------------------------------------------------------------


def test_a_good_certificate() -> None:
    ek = _verify()
    assert ek.public == ek_template(EkKind.P256, point(P256.public_key()))
    assert ek.host_id == host_id(ek.public)
    assert (ek.ek_class, ek.anchor, ek.deviations, ek.serial) == (EkClass.HARDWARE, "Test root", (), 1000)
    assert len(ek.fingerprint) == 64


@pytest.mark.parametrize(
    ("kind", "key", "bit"),
    [
        (EkKind.P384, P384, "key_agreement"),
        (EkKind.P256_H, P256, "key_agreement"),
        (EkKind.RSA2048, RSA, "key_encipherment"),
        (EkKind.RSA2048_H, RSA, "key_encipherment"),
    ],
)
def test_other_kinds(kind: EkKind, key, bit: str) -> None:
    extensions = (*without(x509.KeyUsage), (usage(bit), True))
    ek = _verify(ek_leaf(key=key.public_key(), extensions=extensions).der(), kind=kind)
    assert ek.public.parameters == ek_template(kind).parameters


def test_an_anchor_that_is_the_issuer_itself() -> None:
    assert _verify(anchors=[TrustAnchor(MAKER, EkClass.FIRMWARE, "maker")]).ek_class is EkClass.FIRMWARE


def test_the_class_is_that_of_the_anchor_reached() -> None:
    other = ec.generate_private_key(ec.SECP256R1())
    stranger = authority("root", "root", key=other.public_key(), signer=other).der()
    anchors = [TrustAnchor(stranger, EkClass.HARDWARE, "other"), replace(ANCHOR, ek_class=EkClass.VIRTUAL)]
    assert _verify(anchors=anchors).ek_class is EkClass.VIRTUAL


def test_tolerated_and_named() -> None:
    bare = ek_leaf(extensions=((tpm_name(), True),)).der()
    assert [each.code for each in _verify(bare).deviations] == ["ek-usage-absent", "ek-key-usage-absent"]
    padded = LEAF + b"\xff" * 700
    framed = bytes.fromhex("100100") + (len(LEAF) + 2).to_bytes(2, "big") + bytes.fromhex("1002") + LEAF
    assert [each.code for each in _verify(padded).deviations] == ["ek-certificate-padding"]
    assert [each.code for each in _verify(framed).deviations] == ["ek-certificate-header"]
    both = _verify(framed + bytes(64))
    assert [each.code for each in both.deviations] == ["ek-certificate-header", "ek-certificate-padding"]
    assert both.fingerprint == _verify().fingerprint
    assert not any(each.fatal for each in both.deviations)


# --- A1: the chain --------------------------------------------------------------------------------------------------


def test_a1_no_chain() -> None:
    _refused("A1", "ek-chain", intermediates=[])
    _refused("A1", "ek-chain", anchors=[])


def test_a1_another_root_with_the_same_name() -> None:
    other = ec.generate_private_key(ec.SECP256R1())
    fake = authority("root", "root", key=other.public_key(), signer=other).der()
    _refused("A1", "ek-chain", anchors=[TrustAnchor(fake, EkClass.HARDWARE, "fake")])


def test_a1_signature_by_somebody_else() -> None:
    _refused("A1", "ek-chain", ek_leaf(signer=ec.generate_private_key(ec.SECP256R1())).der())


@pytest.mark.parametrize("signer", [ec.SECP256R1, ec.SECP384R1])
def test_a1_self_signed(signer) -> None:
    key = ec.generate_private_key(signer())
    leaf = ek_leaf(subject="me", issuer="me", key=key.public_key(), signer=key).der()
    _refused("A1", "ek-chain", leaf)


@pytest.mark.parametrize("moment", [int(datetime(2023, 1, 1, tzinfo=UTC).timestamp()), NOW + 20 * 365 * DAY])
def test_a1_time(moment: int) -> None:
    _refused("A1", "ek-chain", now=moment)


def test_a1_an_expired_certificate_or_maker() -> None:
    past = datetime.fromtimestamp(NOW, UTC) - timedelta(days=1)
    _refused("A1", "ek-chain", ek_leaf(until=past).der())
    _refused("A1", "ek-chain", maker=authority("maker", "root", until=past).der())


def test_a1_an_issuer_that_may_not_sign() -> None:
    extensions = ((x509.BasicConstraints(True, None), True), (usage("crl_sign"), True))
    _refused("A1", "ek-chain", maker=authority("maker", "root", extensions=extensions).der())
    root = authority("root", "root", extensions=extensions).der()
    _refused("A1", "ek-chain", anchors=[TrustAnchor(root, EkClass.HARDWARE, "root")])


def test_a1_an_issuer_without_a_key_usage() -> None:
    extensions = ((x509.BasicConstraints(True, None), True),)
    _refused("A1", "ek-chain", maker=authority("maker", "root", extensions=extensions).der())


@pytest.mark.parametrize("basic", [(), ((x509.BasicConstraints(False, None), True),)])
def test_a1_an_issuer_that_is_no_authority(basic: tuple[Extension, ...]) -> None:
    extensions = (*basic, (usage("key_cert_sign"), True))
    _refused("A1", "ek-chain", maker=authority("maker", "root", extensions=extensions).der())


def test_a1_an_endorsement_key_that_issues() -> None:
    """A genuine EK certificate is no authority, whatever its holder signs with some key of that name."""
    below = ek_leaf(issuer="stolen", signer=P256).der()
    above = ek_leaf(subject="stolen").der()
    _refused("A1", "ek-chain", below, intermediates=[above, MAKER])


def test_a1_path_length() -> None:
    extensions = ((x509.BasicConstraints(True, 0), True), (usage("key_cert_sign"), True))
    root = authority("root", "root", extensions=extensions).der()
    _refused("A1", "ek-chain", anchors=[TrustAnchor(root, EkClass.HARDWARE, "root")])


def test_a1_unknown_critical_extension() -> None:
    unknown = x509.UnrecognizedExtension(ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"\x05\x00")
    _refused("A1", "ek-chain", ek_leaf(extensions=(*ek_leaf().extensions, (unknown, True))).der())
    assert _verify(ek_leaf(extensions=(*ek_leaf().extensions, (unknown, False))).der())


def test_a1_a_weak_signature() -> None:
    weak = rsa.generate_private_key(65537, 1024)
    maker = authority("maker", "root", key=weak.public_key()).der()
    _refused("A1", "ek-chain", ek_leaf(signer=weak).der(), maker)


def test_a1_a_certificate_authority_as_endorsement_key() -> None:
    extensions = (*without(x509.BasicConstraints), (x509.BasicConstraints(True, None), True))
    _refused("A1", "ek-certificate-ca", ek_leaf(extensions=extensions).der())


@pytest.mark.parametrize("usages", [[ObjectIdentifier("2.23.133.8.3")], [ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE]])
def test_a1_a_certificate_for_something_else(usages: list[ObjectIdentifier]) -> None:
    extensions = (*without(x509.ExtendedKeyUsage), (x509.ExtendedKeyUsage(usages), False))
    _refused("A1", "ek-usage", ek_leaf(extensions=extensions).der())


def test_a1_a_key_usage_for_something_else() -> None:
    extensions = (*without(x509.KeyUsage), (usage("digital_signature", "key_encipherment"), True))
    _refused("A1", "ek-usage", ek_leaf(extensions=extensions).der())
    extensions = (*without(x509.KeyUsage), (usage("key_agreement"), True))
    _refused("A1", "ek-usage", ek_leaf(key=RSA.public_key(), extensions=extensions).der(), kind=EkKind.RSA2048)


def test_a1_the_callers_own_anchors() -> None:
    with pytest.raises(UsageError) as caught:
        _verify(anchors=[replace(ANCHOR, certificate_der=b"nonsense")])
    assert caught.value.code == "anchor-unreadable"
    with pytest.raises(UsageError) as caught:
        _verify(anchors=[ANCHOR, replace(ANCHOR, ek_class=EkClass.VIRTUAL)])
    assert caught.value.code == "anchor-class"


# --- A2 -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "key"),
    [
        (EkKind.P256, P384),
        (EkKind.P384, P256),
        (EkKind.RSA2048, P256),
        (EkKind.P256, ec.generate_private_key(ec.SECP521R1())),
        (EkKind.P256, RSA),
        (EkKind.RSA3072, RSA),
        (EkKind.RSA2048, rsa.generate_private_key(3, 2048)),
        (EkKind.RSA2048, rsa.generate_private_key(65537, 3072)),
    ],
)
def test_a2_a_key_that_the_template_does_not_make(kind: EkKind, key) -> None:
    extensions = (*without(x509.KeyUsage), (usage("key_agreement", "key_encipherment"), True))
    _refused("A2", "ek-key", ek_leaf(key=key.public_key(), extensions=extensions).der(), kind=kind)


def test_a_short_rsa_key_never_passes() -> None:
    weak = rsa.generate_private_key(65537, 1024)
    extensions = without(x509.KeyUsage)
    with pytest.raises(Rejected):
        _verify(ek_leaf(key=weak.public_key(), extensions=extensions).der(), kind=EkKind.RSA2048)


# --- pinned keys ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [EkKind.P256, EkKind.RSA2048, EkKind.P384])
def test_a_pinned_key(kind: EkKind) -> None:
    public = TpmKeys(kind).ek
    ek = verify_pinned_ek(public, {host_id(public): EkClass.VIRTUAL})
    assert (ek.public, ek.anchor, ek.ek_class) == (public, "pinned", EkClass.VIRTUAL)


def _pinned_refused(clause: str, code: str, call: Callable[[], VerifiedEk]) -> None:
    with pytest.raises(Rejected) as caught:
        call()
    assert (caught.value.clause, caught.value.code) == (clause, code)


def test_a_key_that_is_not_pinned() -> None:
    pins = {host_id(TpmKeys().ek): EkClass.VIRTUAL}
    _pinned_refused("A1", "ek-not-pinned", lambda: verify_pinned_ek(TpmKeys().ek, pins))


def test_a_pin_of_something_that_is_no_endorsement_key() -> None:
    tpm = TpmKeys()
    for public in (
        tpm.ak,
        replace(tpm.ek, attributes=tpm.ek.attributes & ~Attributes.RESTRICTED),
        replace(tpm.ek, auth_policy=b""),
        replace(tpm.ek, name_alg=Alg.SHA1),
    ):
        pins = {host_id(public): EkClass.VIRTUAL}
        _pinned_refused("A2", "ek-template", lambda public=public, pins=pins: verify_pinned_ek(public, pins))


def test_a_pinned_point_off_the_curve() -> None:
    public = ek_template(EkKind.P256, EccPoint(b"\1" * 32, b"\2" * 32))
    with pytest.raises(MalformedError):
        verify_pinned_ek(public, {host_id(public): EkClass.VIRTUAL})


def test_only_the_check_makes_a_verified_key() -> None:
    ek = _verify()
    with pytest.raises(TypeError):
        VerifiedEk(object(), ek.public, ek.host_id, ek.ek_class, "", "", 0, ())
    with pytest.raises((TypeError, ValueError)):
        replace(ek, host_id=bytes(32))


# --- bytes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x30",
        LEAF[:-1],
        LEAF + b"\x01",
        LEAF + b"\0\xff",
        LEAF + LEAF,
        b"\x30\x80" + LEAF[2:],
        bytes.fromhex("1001000001") + bytes.fromhex("1002") + LEAF,
        bytes.fromhex("100100ffff1002") + LEAF,
        LEAF + bytes(9000),
    ],
)
def test_what_is_no_certificate(data: bytes) -> None:
    with pytest.raises(MalformedError) as caught:
        _verify(data)
    assert caught.value.code == "ek-certificate-malformed"


def test_too_many_intermediates() -> None:
    with pytest.raises(MalformedError):
        _verify(intermediates=[MAKER] * 9)
    with pytest.raises(MalformedError):
        _verify(intermediates=[b"nonsense"])


SIGNED = x509.load_der_x509_certificate(LEAF).tbs_certificate_bytes
HEADER = LEAF.index(SIGNED)


@settings(max_examples=80, deadline=None)
@given(st.integers(0, len(SIGNED) - 1), st.integers(1, 255))
def test_no_signed_byte_of_a_certificate_can_change(at: int, flip: int) -> None:
    data = bytearray(LEAF)
    data[HEADER + at] ^= flip
    with pytest.raises((MalformedError, Rejected)):
        _verify(bytes(data))


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(LEAF) - 1), st.integers(0, 255)), max_size=4), st.binary(max_size=40))
def test_any_bytes_are_a_certificate_or_malformed(changes: list[tuple[int, int]], noise: bytes) -> None:
    data = bytearray(LEAF)
    for at, value in changes:
        data[at] = value
    for candidate in (noise, bytes(data), bytes(data) + noise, bytes(data)[: len(noise) * 8]):
        with contextlib.suppress(MalformedError):
            assert read_stored(candidate).der in candidate


def test_a_certificate_of_an_impossible_version() -> None:
    at = LEAF.index(bytes.fromhex("a003020102"))
    with pytest.raises(MalformedError):
        read_stored(LEAF[: at + 4] + b"\x54" + LEAF[at + 5 :])


# --- other people's certificates ------------------------------------------------------------------------------------


def _pem(path: Path) -> list[bytes]:
    return [each.public_bytes(Encoding.DER) for each in x509.load_pem_x509_certificates(path.read_bytes())]


def test_a_real_stm_certificate_leads_to_its_makers_root(corpus: Path) -> None:
    store = corpus / "keylime+keylime/certs/tpm_cert_store"
    (leaf,) = _pem(corpus / "immune-gmbh+guard-oss/ekcerts/philippEK_0.pem")
    anchor = TrustAnchor(_pem(store / "STM_RSA_RT.pem")[0], EkClass.HARDWARE, "STM")
    middle = _pem(store / "STM_RSA_06I.pem")
    ek = verify_ek(leaf, middle, [anchor], EkKind.RSA2048, NOW)
    assert (ek.ek_class, ek.anchor, ek.deviations) == (EkClass.HARDWARE, "STM", ())
    with pytest.raises(Rejected) as caught:
        verify_ek(leaf, middle, [ANCHOR], EkKind.RSA2048, NOW)
    assert caught.value.code == "ek-chain"


def test_padding_of_a_real_nv_index(corpus: Path) -> None:
    stored = read_stored((corpus / "openeuler-mirror+kunpengsecl/ekcerts/RSA_EK_cert.bin").read_bytes())
    assert [each.code for each in stored.deviations] == ["ek-certificate-padding"]


@pytest.mark.parametrize("name", ["Intel_nuc1.cer", "plat_cert1.cer"])
def test_a_real_attribute_certificate_is_no_certificate_of_a_key(corpus: Path, name: str) -> None:
    with pytest.raises(MalformedError, match="attribute certificate") as caught:
        read_stored((corpus / "google+go-attestation/attrcerts" / name).read_bytes())
    assert caught.value.code == "ek-certificate-malformed"
