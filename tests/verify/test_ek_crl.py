"""Revocation lists: a usable one decides, an unusable one of an issuer in the chain is a refusal."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from watchword.errors import MalformedError, Rejected, UsageError
from watchword.verify.certificate import Certificate
from watchword.verify.crl import RevocationList, check_revocation
from watchword.verify.ek import EkClass, TrustAnchor, VerifiedEk, verify_ek
from watchword.wire.tpm.templates import EkKind

from .certificates import (
    CA_BASIC,
    ECDSA_SHA256,
    KEYS,
    NOW,
    P256,
    Raw,
    extension,
    integer,
    moment,
    oid,
    raw_authority,
    raw_name,
    sequence,
    spki,
    tlv,
)

SIGN_BOTH = extension("2.5.29.15", bytes.fromhex("03020106"), True)
LEAF, MAKER, ROOT = Raw().der(), raw_authority().der(), raw_authority("root").der()
NUMBER = extension("2.5.29.20", integer(5))


def entry(serial: int, *extensions: bytes) -> bytes:
    return sequence(integer(serial), moment("260101000000"), *([sequence(*extensions)] if extensions else []))


@dataclass
class RawList:
    """A revocation list of encoded parts, by "maker"."""

    version: bytes = integer(1)
    algorithm: bytes = ECDSA_SHA256
    outer_algorithm: bytes = ECDSA_SHA256
    issuer: bytes = raw_name("maker")
    times: bytes = moment("260501000000") + moment("260701000000")
    entries: tuple[bytes, ...] = ()
    extensions: tuple[bytes, ...] = (NUMBER,)
    after: bytes = b""
    signer: object = KEYS["maker"]

    def der(self) -> bytes:
        listed = tlv(0xA0, sequence(*self.extensions)) if self.extensions else b""
        revoked = sequence(*self.entries) if self.entries else b""
        signed = sequence(self.version, self.algorithm, self.issuer, self.times, revoked, listed, self.after)
        signature = Raw(signer=self.signer)
        signature.signed = lambda: signed
        return sequence(signed, self.outer_algorithm, tlv(3, b"\0", signature.signature()))


GOOD = RawList(entries=(entry(5), entry(1 << 100, extension("2.5.29.21", b"\x0a\1\1"))))


def verify(*lists: RawList, maker: bytes = MAKER, now: int = NOW) -> VerifiedEk:
    anchor = TrustAnchor(ROOT, EkClass.HARDWARE, "root")
    return verify_ek(LEAF, [maker], [anchor], EkKind.P256, now, [each.der() for each in lists])


def codes(ek: VerifiedEk) -> list[tuple[str, str]]:
    return [(each.code, each.actual) for each in ek.deviations]


ROOT_LIST = RawList(issuer=raw_name("root"), signer=KEYS["root"])


def test_nothing_is_revoked() -> None:
    assert verify().deviations == ()
    assert verify(GOOD, ROOT_LIST).deviations == ()
    assert verify(GOOD, replace(ROOT_LIST, extensions=())).deviations == ()


def test_the_raw_builder_makes_lists_that_the_library_reads() -> None:
    theirs = x509.load_der_x509_crl(GOOD.der())
    assert theirs.is_signature_valid(KEYS["maker"].public_key())
    assert {each.serial_number for each in theirs} == RevocationList.parse(GOOD.der()).revoked == {5, 1 << 100}


def revoked(*lists: RawList) -> None:
    with pytest.raises(Rejected) as caught:
        verify(*lists)
    assert (caught.value.clause, caught.value.code) == ("A1", "ek-revoked")


def test_a_revoked_endorsement_key() -> None:
    listed = replace(GOOD, entries=(entry(5), entry(77)))
    revoked(listed, ROOT_LIST)
    revoked(listed)
    revoked(GOOD, listed)


def test_a_revoked_maker() -> None:
    revoked(replace(ROOT_LIST, entries=(entry(77),)))
    revoked(replace(ROOT_LIST, entries=(entry(77),)), GOOD)


def test_an_issuer_without_a_list_is_named() -> None:
    assert codes(verify(GOOD)) == [("ek-crl-absent", "CN=root")]
    assert codes(verify(ROOT_LIST)) == [("ek-crl-absent", "CN=maker")]
    other = RawList(issuer=raw_name("other"), entries=(entry(77),))
    assert codes(verify(other)) == [("ek-crl-absent", "CN=maker"), ("ek-crl-absent", "CN=root")]


def unusable(why: str, *lists: RawList, **changes) -> None:
    with pytest.raises(Rejected) as caught:
        verify(*lists, **changes)
    assert (caught.value.clause, caught.value.code) == ("A1", "ek-crl")
    assert why in caught.value.findings[0].actual


def test_a_list_by_another_key_of_that_name() -> None:
    foreign = replace(GOOD, signer=ec.generate_private_key(ec.SECP256R1()))
    unusable("not by that issuer", foreign)
    assert verify(foreign, GOOD, ROOT_LIST).deviations == ()
    assert verify(GOOD, replace(foreign, entries=(entry(77),)), ROOT_LIST).deviations == ()


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"times": moment("260501000000") + moment("260531235959")}, "not of this time"),
        ({"times": moment("260601000001") + moment("260701000000")}, "not of this time"),
        ({"times": moment("260501000000")}, "how long it holds"),
        ({"extensions": (extension("2.5.29.27", integer(1), True),)}, "complete list"),
        ({"extensions": (extension("2.5.29.27", integer(1), False),)}, "complete list"),
        ({"extensions": (extension("2.5.29.28", sequence(), True),)}, "complete list"),
        ({"extensions": (extension("1.2.3", b"", True),)}, "not understood: 1.2.3"),
        ({"entries": (entry(5, extension("2.5.29.29", sequence(), True)), entry(6))}, "an entry has a critical"),
    ],
)
def test_a_list_that_cannot_be_used(changes: dict[str, object], why: str) -> None:
    unusable(why, replace(GOOD, **changes))
    revoked(replace(GOOD, **changes), replace(GOOD, entries=(entry(77),)))


@pytest.mark.parametrize("now", [NOW, NOW + 30 * 86_400])
def test_the_edges_of_time(now: int) -> None:
    times = moment("260601000000") + tlv(0x18, b"20260701000000Z")
    assert codes(verify(replace(GOOD, times=times), now=now)) == [("ek-crl-absent", "CN=root")]


def test_harmless_extensions_of_a_list() -> None:
    added = (NUMBER, extension("2.5.29.35", sequence(), True), extension("1.2.3", b"", False))
    listed = replace(GOOD, extensions=added, entries=(entry(5, extension("2.5.29.21", b"\x0a\1\1", True)),))
    assert codes(verify(listed)) == [("ek-crl-absent", "CN=root")]


@pytest.mark.parametrize("usage", [extension("2.5.29.15", bytes.fromhex("03020204"), True)])
def test_an_issuer_that_may_not_sign_lists(usage: bytes) -> None:
    unusable("may not sign CRLs", GOOD, maker=raw_authority(extensions=(CA_BASIC, usage)).der())


def test_an_issuer_without_a_key_usage_signs_no_lists() -> None:
    chain = [Certificate.parse(each) for each in (LEAF, raw_authority(extensions=(CA_BASIC,)).der())]
    with pytest.raises(Rejected, match="may not sign CRLs"):
        check_revocation(chain, [RevocationList.parse(GOOD.der())], NOW)


def test_a_list_with_a_weak_signature_algorithm() -> None:
    sha1 = sequence(oid("1.2.840.10045.4.1"))
    unusable("SHA-1", replace(GOOD, algorithm=sha1, outer_algorithm=sha1))


@pytest.mark.parametrize(
    "changes",
    [
        {"version": b""},
        {"version": integer(0)},
        {"outer_algorithm": sequence(oid("1.2.3"))},
        {"issuer": sequence(tlv(0x31))},
        {"times": b""},
        {"after": tlv(5)},
        {"entries": (integer(77),)},
        {"entries": (sequence(integer(77)),)},
        {"entries": (entry(77) + integer(1),)},
        {"entries": (sequence(integer(77), moment("260101000000"), sequence(), integer(1)),)},
        {"extensions": (NUMBER,) * 33},
        {"extensions": (sequence(oid("1.2.3"), tlv(4), tlv(5)),)},
        {"extensions": (), "after": tlv(0xA0, sequence(NUMBER), sequence())},
    ],
)
def test_malformed_lists_are_the_operators_problem(changes: dict[str, object]) -> None:
    bad = replace(GOOD, **changes)
    with pytest.raises(MalformedError) as malformed:
        RevocationList.parse(bad.der())
    assert malformed.value.code == "crl-malformed"
    with pytest.raises(UsageError) as caught:
        verify(GOOD, bad)
    assert caught.value.code == "crl-unreadable"


def test_a_list_with_a_fourth_part() -> None:
    assert RevocationList.parse(GOOD.der()).revoked == {5, 1 << 100}
    whole = GOOD.der()
    with pytest.raises(MalformedError, match="trailing"):
        RevocationList.parse(sequence(whole[2 + whole[1] - 0x80 :], tlv(5)))


@pytest.mark.parametrize("data", [b"", GOOD.der() + b"\0", GOOD.der()[:-1], b"\x30\x84\x7f\xff\xff\xff", LEAF])
def test_what_is_no_list(data: bytes) -> None:
    with pytest.raises(MalformedError):
        RevocationList.parse(data)


def test_a_list_that_is_too_long() -> None:
    long = replace(GOOD, entries=(entry(5),) * 60_000)
    with pytest.raises(MalformedError, match="longer than"):
        RevocationList.parse(long.der())


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), min_size=1, max_size=3), st.binary(max_size=20))
def test_any_bytes_are_a_list_or_malformed(changes: list[tuple[int, int]], noise: bytes) -> None:
    data = bytearray(GOOD.der())
    for at, value in changes:
        data[at % len(data)] = value
    for candidate in (bytes(data), noise, bytes(data) + noise):
        with contextlib.suppress(MalformedError):
            assert RevocationList.parse(candidate).signed in candidate


def test_another_key_of_the_same_name_in_the_chain() -> None:
    """The list is checked with the key of the very issuer in the chain."""
    other = raw_authority(key=spki(P256.public_key())).der()
    leaf = Raw(signer=P256).der()
    anchor = TrustAnchor(ROOT, EkClass.HARDWARE, "root")
    with pytest.raises(Rejected) as caught:
        verify_ek(leaf, [MAKER, other], [anchor], EkKind.P256, NOW, [GOOD.der()])
    assert caught.value.code == "ek-crl"
