"""Reading certificates: what is refused as malformed, what is tolerated and by which name."""

from __future__ import annotations

import base64
import contextlib
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from watchword.errors import MalformedError
from watchword.verify.certificate import (
    Certificate,
    issuer_text,
    load_certificate,
    parse_nv_chain,
    pem_certificates,
    read_stored,
    subject_text,
    tpm_names,
)

from .certificates import (
    CA_BASIC,
    ECDSA_SHA256,
    EK_BASIC,
    EK_EXTENSIONS,
    LEAF,
    MAKER,
    P256,
    ROOT,
    RSA,
    Raw,
    extension,
    integer,
    moment,
    oaep_spki,
    oid,
    raw_authority,
    raw_name,
    sequence,
    spki,
    tlv,
)


def malformed(raw: Raw, why: str) -> None:
    with pytest.raises(MalformedError, match=why) as caught:
        read_stored(raw.der())
    assert caught.value.code == "ek-certificate-malformed"


def deviations(raw: Raw) -> list[str]:
    return [each.code for each in read_stored(raw.der()).deviations]


def test_the_raw_builder_makes_certificates_that_the_library_reads() -> None:
    for raw in (Raw(), raw_authority(), raw_authority("root")):
        der = raw.der()
        theirs, ours = load_certificate(der), Certificate.parse(der)
        assert (theirs.tbs_certificate_bytes, theirs.serial_number) == (ours.signed, ours.serial_number)
        assert (theirs.public_key(), theirs.signature) == (ours.key, ours.signature)
        assert int(theirs.not_valid_after_utc.timestamp()) == ours.not_after
        assert ours.oddities == ()


def test_names_for_people() -> None:
    certificate = read_stored(MAKER).certificate
    assert (subject_text(certificate), issuer_text(certificate)) == ("CN=maker", "CN=root")
    assert tpm_names(read_stored(LEAF).certificate) == (("2.23.133.2.1", "id:00001014"),)
    assert tpm_names(certificate) == ()
    special = Raw(subject=raw_name('a,b+"\\'))
    assert subject_text(read_stored(special.der()).certificate) == 'CN=a\\,b\\+\\"\\\\'


# --- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"version": b""}, "version 1"),
        ({"version": tlv(0xA0, integer(1))}, "not of version 3"),
        ({"version": tlv(0xA0, integer(2), integer(2))}, "trailing"),
        ({"serial": integer(-1)}, "serial"),
        ({"serial": integer(1 << 159)}, "serial"),
        ({"outer_algorithm": sequence(oid("1.2.840.10045.4.3.3"))}, "another one"),
        ({"outer_algorithm": sequence(oid("1.2.840.10045.4.3.2"), tlv(5))}, "another one"),
        ({"issuer": sequence(tlv(0x31))}, "empty part"),
        ({"issuer": sequence(*(tlv(0x31, sequence(oid("2.5.4.3"), tlv(12, b"x"))) for _ in range(65)))}, "too many"),
        ({"subject": sequence(tlv(0x31, sequence(oid("2.5.4.3"))))}, "cut short"),
        ({"subject": sequence(tlv(0x31, sequence(oid("2.5.4.3"), tlv(12), tlv(12))))}, "trailing"),
        ({"validity": sequence(moment("240101000000"))}, "cut short"),
        ({"validity": sequence(*[moment("240101000000")] * 3)}, "trailing"),
        ({"identifiers": tlv(0x81, b"\0\0")}, "0x81 is where 0xa3"),
        ({"after": tlv(0xA3, sequence())}, "trailing"),
        ({"extensions": (), "after": tlv(0xA3, sequence(EK_BASIC), sequence())}, "trailing"),
        ({"extensions": (sequence(oid("1.2.3"), tlv(4), tlv(5)),)}, "trailing"),
        ({"extensions": (EK_BASIC, EK_BASIC)}, "twice"),
        ({"extensions": tuple(extension(f"1.2.{number}", b"") for number in range(33))}, "more than 32"),
        ({"extensions": (extension("2.5.29.19", sequence(integer(0))),)}, "path length"),
        ({"extensions": (extension("2.5.29.19", sequence(tlv(1, b"\xff"), integer(-1))),)}, "path length"),
        ({"extensions": (extension("2.5.29.19", sequence(tlv(1, b"\xff"), integer(65))),)}, "path length"),
        ({"extensions": (extension("2.5.29.19", sequence() + b"\0"),)}, "trailing"),
        ({"extensions": (extension("2.5.29.19", sequence(tlv(5))),)}, "trailing"),
        ({"extensions": (extension("2.5.29.37", sequence(oid("1.2.3")) + b"\0"),)}, "trailing"),
        ({"extensions": (extension("2.5.29.17", sequence() + b"\0"),)}, "trailing"),
        ({"extensions": (extension("2.5.29.17", sequence(tlv(0xA4, sequence(), tlv(5)))),)}, "trailing"),
        ({"extensions": (extension("2.5.29.15", b"\x03\x01\x00\x00"),)}, "trailing"),
        ({"extensions": (extension("2.5.29.37", sequence()),)}, "without a purpose"),
        ({"extensions": (extension("2.5.29.37", sequence(*[oid("1.2.3")] * 33)),)}, "trailing"),
        ({"extensions": (extension("2.5.29.17", sequence(tlv(0xA4, sequence(tlv(0x31))))),)}, "empty part"),
        ({"key": sequence(sequence(oid("1.3.101.112")), tlv(3, b"\0" + bytes(32)))}, "not supported"),
        ({"key": spki(P256.public_key())[:-1] + b"\0"}, "curve"),
        ({"key": spki(ec.generate_private_key(ec.SECP256K1()).public_key())}, "curve 1.3.132.0.10 is not supported"),
    ],
)  # fmt: skip
def test_refused(changes: dict[str, object], why: str) -> None:
    malformed(replace(Raw(), **changes), why)


def test_a_certificate_with_a_fourth_part() -> None:
    raw = Raw()
    with pytest.raises(MalformedError, match="trailing"):
        Certificate.parse(sequence(raw.signed(), raw.algorithm, tlv(3, b"\0", raw.signature()), tlv(5)))


def test_a_certificate_that_is_too_long() -> None:
    long = Raw(extensions=(extension("1.2.3", bytes(9000)),)).der()
    for read in (Certificate.parse, read_stored):
        with pytest.raises(MalformedError, match="longer than 8192 bytes"):
            read(long)


@pytest.mark.parametrize(("tag", "inner"), [("100100", "1003"), ("100101", "1002"), ("200100", "1002")])
def test_a_header_of_something_else(tag: str, inner: str) -> None:
    framed = bytes.fromhex(tag) + (len(LEAF) + 2).to_bytes(2, "big") + bytes.fromhex(inner) + LEAF
    with pytest.raises(MalformedError):
        read_stored(framed)


def test_an_unsupported_key() -> None:
    malformed(Raw(key=spki(ed25519.Ed25519PrivateKey.generate().public_key())), "not supported")


def test_another_kind_of_key_that_looks_like_rsa() -> None:
    pss = oid("1.2.840.113549.1.1.10")
    body = sequence(integer(N), integer(65537))
    malformed(Raw(key=sequence(sequence(pss, tlv(5)), tlv(3, b"\0", body))), "not supported")


def _rsa_spki(
    modulus: int, exponent: int, tail: bytes = b"", parameters: bytes = b"\5\0", third: bytes = b"", after: bytes = b""
) -> bytes:
    body = sequence(integer(modulus), integer(exponent), third)
    return sequence(sequence(oid("1.2.840.113549.1.1.1"), parameters), tlv(3, b"\0", body, tail), after)


N = RSA.public_key().public_numbers().n


@pytest.mark.parametrize(
    "key",
    [
        _rsa_spki(N + 1, 65537),
        _rsa_spki(-N, 65537),
        _rsa_spki(N, 65536),
        _rsa_spki(N, -3),
        _rsa_spki(N, 1),
        _rsa_spki(N, (1 << 32) + 1),
        _rsa_spki((1 << 8192) + 1, 65537),
        _rsa_spki((1 << 510) + 1, 65537),
    ],
)
def test_impossible_rsa_keys(key: bytes) -> None:
    malformed(Raw(key=key), "impossible")


def test_an_rsa_key_with_something_behind_it() -> None:
    assert deviations(Raw(key=_rsa_spki(N, 65537))) == []
    malformed(Raw(key=_rsa_spki(N, 65537, b"\0")), "trailing")
    malformed(Raw(key=_rsa_spki(N, 65537, third=integer(1))), "trailing")
    malformed(Raw(key=_rsa_spki(N, 65537, after=b"\5\0")), "trailing")
    malformed(Raw(key=_rsa_spki(N, 65537, parameters=b"\5\0\5\0")), "trailing")
    malformed(Raw(key=_rsa_spki(N, 65537, parameters=b"")), "not supported")
    malformed(Raw(key=_rsa_spki(N, 65537, parameters=sequence())), "not supported")


def test_a_compressed_point() -> None:
    numbers = P256.public_key().public_numbers()
    point = b"\2" + numbers.x.to_bytes(32, "big")
    key = sequence(sequence(oid("1.2.840.10045.2.1"), oid("1.2.840.10045.3.1.7")), tlv(3, b"\0", point))
    malformed(Raw(key=key), "uncompressed")


# --- what is tolerated, by name -------------------------------------------------------------------------------------


def _two_part_name(first: str, second: str) -> bytes:
    parts = (sequence(oid(number), tlv(12, b"x")) for number in (first, second))
    return sequence(tlv(0x31, *parts))


def test_names_out_of_order() -> None:
    backwards, forwards = _two_part_name("2.5.4.10", "2.5.4.3"), _two_part_name("2.5.4.3", "2.5.4.10")
    assert deviations(Raw(subject=forwards)) == []
    stored = read_stored(Raw(subject=backwards).der())
    assert [(each.code, each.actual) for each in stored.deviations] == [("ek-name-order", "subject")]
    assert deviations(Raw(issuer=backwards, subject=backwards)) == ["ek-name-order"]
    with pytest.raises(MalformedError):
        load_certificate(Raw(subject=backwards).der())  # why there is a reader of our own


def test_a_key_labelled_oaep() -> None:
    raw = Raw(key=oaep_spki(RSA.public_key()))
    assert deviations(raw) == ["ek-key-type"]
    assert read_stored(raw.der()).certificate.key == RSA.public_key()
    with pytest.raises(MalformedError):
        load_certificate(raw.der())


def test_signature_parameters() -> None:
    algorithm = sequence(oid("1.2.840.10045.4.3.2"), tlv(5))
    assert deviations(Raw(algorithm=algorithm)) == ["ek-signature-parameters"]
    rsa_key = rsa.generate_private_key(65537, 2048)
    bare = sequence(oid("1.2.840.113549.1.1.11"))
    assert deviations(Raw(algorithm=bare, signer=rsa_key)) == ["ek-signature-parameters"]
    assert deviations(Raw(algorithm=sequence(oid("1.2.840.113549.1.1.11"), tlv(5)), signer=rsa_key)) == []


def test_a_certificate_without_extensions() -> None:
    certificate = read_stored(Raw(extensions=()).der()).certificate
    assert (certificate.extensions.is_ca, certificate.extensions.usage) == (None, None)


def test_oddities_of_another_certificate_bear_its_name() -> None:
    raw = raw_authority(algorithm=sequence(oid("1.2.840.10045.4.3.2"), tlv(5)))
    (finding,) = Certificate.parse(raw.der()).named_oddities()
    assert (finding.subject, finding.fatal) == ("CN=maker", False)


# --- chains in NV, PEM ----------------------------------------------------------------------------------------------


def test_a_chain_in_nv() -> None:
    assert parse_nv_chain(b"") == ()
    assert parse_nv_chain(MAKER + ROOT) == (MAKER, ROOT)
    assert parse_nv_chain(MAKER + ROOT + b"\xff" * 500) == (MAKER, ROOT)
    assert parse_nv_chain(MAKER + bytes(1)) == (MAKER,)
    assert parse_nv_chain(MAKER * 8) == (MAKER,) * 8


@pytest.mark.parametrize(
    "data",
    [
        MAKER * 9,
        MAKER + ROOT[:-1],
        MAKER + b"\0\xff",
        MAKER + b"\1",
        b"nonsense",
        MAKER + sequence(bytes(200)),
        b"\xff" * 32769,
    ],
)
def test_what_is_no_chain_in_nv(data: bytes) -> None:
    with pytest.raises(MalformedError) as caught:
        parse_nv_chain(data)
    assert caught.value.code == "ek-certificate-malformed"


def _pem(der: bytes) -> bytes:
    return b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(der) + b"-----END CERTIFICATE-----\n"


def test_pem() -> None:
    text = b"# of a maker\n" + _pem(MAKER) + b"\r\nsomething else\n" + _pem(ROOT)
    assert list(pem_certificates(text)) == [MAKER, ROOT]
    assert list(pem_certificates(b"no certificate")) == []
    with pytest.raises(MalformedError):
        list(pem_certificates(b"-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----"))


# --- any bytes ------------------------------------------------------------------------------------------------------

SEEDS = (
    LEAF,
    MAKER,
    Raw(key=oaep_spki(RSA.public_key())).der(),
    Raw(issuer=_two_part_name("2.5.4.10", "2.5.4.3"), extensions=(*EK_EXTENSIONS, CA_BASIC)[1:]).der(),
    raw_authority(algorithm=ECDSA_SHA256).der(),
)


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(SEEDS),
    st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=4),
    st.integers(0, 900),
    st.binary(max_size=30),
)
def test_any_bytes_are_a_certificate_or_malformed(seed: bytes, changes, cut: int, noise: bytes) -> None:
    data = bytearray(seed)
    for at, value in changes:
        data[at % len(data)] = value
    for candidate in (bytes(data), bytes(data[:cut]) + noise + bytes(data[cut:]), noise):
        for read in (read_stored, parse_nv_chain):
            with contextlib.suppress(MalformedError):
                read(candidate)
        with contextlib.suppress(MalformedError):
            certificate = Certificate.parse(candidate)
            assert (certificate.der, certificate.signed in candidate) == (candidate, True)
            subject_text(certificate), issuer_text(certificate), tpm_names(certificate)


def test_what_makers_really_write(corpus: Path) -> None:
    """One of each kind of deviation; the collection as a whole is judged in ``tests/corpus``."""
    expected = {
        "keylime+keylime/certs/test/test_certificate_modeltype-b64-0.der": ["ek-name-order"],
        "nsacyber+HIRS/ekcerts/nuc-1_ek_cert_untouched.cer": ["ek-certificate-header", "ek-key-type"],
        "nsacyber+HIRS/ekcerts/nuc-1_ek_cert_7_byte_header_removed.cer": ["ek-key-type"],
        "openeuler-mirror+kunpengsecl/ekcerts/RSA_EK_cert.bin": ["ek-certificate-padding"],
        "immune-gmbh+guard-oss/malformed-ca/Nuvoton_TPM_Root_CA_1013.cer": ["ek-name-order"],
    }
    found = {name: [each.code for each in read_stored((corpus / name).read_bytes()).deviations] for name in expected}
    assert found == expected
