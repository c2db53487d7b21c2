"""From an EK certificate to an anchor: every check has a chain in which it alone says no."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from time import perf_counter

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from watchword.errors import MalformedError, Rejected
from watchword.verify.certificate import Certificate
from watchword.verify.chain import find_chain, issuer_fault
from watchword.verify.ek import EkClass, TrustAnchor, VerifiedEk, verify_ek
from watchword.wire.tpm.templates import EkKind

from .certificates import (
    CA_BASIC,
    CA_USAGE,
    EK_BASIC,
    EK_EXTENSIONS,
    EK_KEY_USAGE,
    EK_PURPOSE,
    KEYS,
    NOW,
    P256,
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

SHA1_RSA = sequence(oid("1.2.840.113549.1.1.5"), tlv(5))
SHA256_RSA = sequence(oid("1.2.840.113549.1.1.11"), tlv(5))
UNKNOWN = extension("1.3.6.1.4.1.99999.1", b"\5\0", True)


def chain(leaf: Raw, makers: list[Raw], roots: list[Raw], now: int = NOW) -> int:
    """How many certificates lead from ``leaf`` to a root."""
    parsed = [[Certificate.parse(each.der()) for each in group] for group in (makers, roots)]
    return len(find_chain(Certificate.parse(leaf.der()), *parsed, now))


def refused(
    why: str, leaf: Raw | None = None, maker: Raw | None = None, root: Raw | None = None, now: int = NOW
) -> None:
    with pytest.raises(Rejected) as caught:
        chain(leaf or Raw(), [maker or raw_authority()], [root or raw_authority("root")], now)
    assert (caught.value.clause, caught.value.code) == ("A1", "ek-chain")
    assert why in caught.value.findings[0].actual


def test_a_good_chain() -> None:
    assert chain(Raw(), [raw_authority()], [raw_authority("root")]) == 3
    assert chain(Raw(), [], [raw_authority()]) == 2


def test_nobody_known() -> None:
    refused("nobody of that name", Raw(issuer=raw_name("Maker")))
    refused("nobody of that name", Raw(issuer=raw_name("maker ")))
    with pytest.raises(Rejected, match="no trust anchors"):
        chain(Raw(), [], [])


def test_a_signature_by_somebody_else() -> None:
    other = ec.generate_private_key(ec.SECP256R1())
    refused("its signature is not by that issuer", Raw(signer=other))
    refused("its signature is not by that issuer", maker=raw_authority(signer=other))


def test_a_signature_by_a_key_of_another_kind() -> None:
    refused("its signature is not by that issuer", Raw(algorithm=SHA256_RSA, signer=RSA))
    maker = raw_authority(key=spki(RSA.public_key()))
    refused("its signature is not by that issuer", Raw(), maker)


def test_a_signature_with_sha1() -> None:
    maker = raw_authority(key=spki(RSA.public_key()))
    good = Raw(algorithm=SHA256_RSA, signer=RSA)
    assert chain(good, [maker], [raw_authority("root")]) == 3
    refused("its signature uses SHA-1", Raw(algorithm=SHA1_RSA, signer=RSA, digest=hashes.SHA1()), maker)
    refused("its signature uses SHA-1", Raw(algorithm=sequence(oid("1.2.840.10045.4.1")), digest=hashes.SHA1()))


def test_an_anchor_is_trusted_for_its_bytes_and_not_for_its_signature() -> None:
    anchor = raw_authority("root", algorithm=SHA1_RSA, signer=RSA, digest=hashes.SHA1())
    assert chain(Raw(), [raw_authority()], [anchor]) == 3


def test_signature_algorithms_that_are_not_accepted() -> None:
    refused("1.2.840.113549.1.1.10 has parameters", Raw(algorithm=sequence(oid("1.2.840.113549.1.1.10"), sequence())))
    refused("1.2.3 is not accepted", Raw(algorithm=sequence(oid("1.2.3"))))
    refused("1.2.840.10045.4.3.2 has parameters", Raw(algorithm=sequence(oid("1.2.840.10045.4.3.2"), sequence())))


@pytest.mark.parametrize(("number", "digest"), [(3, hashes.SHA384()), (4, hashes.SHA512())])
def test_other_signatures(number: int, digest: hashes.HashAlgorithm) -> None:
    algorithm = sequence(oid(f"1.2.840.10045.4.3.{number}"))
    assert chain(Raw(algorithm=algorithm, digest=digest), [raw_authority()], [raw_authority("root")]) == 3
    refused("not by that issuer", Raw(algorithm=algorithm, digest=hashes.SHA256()))


@pytest.mark.parametrize(("number", "digest"), [(11, hashes.SHA256()), (12, hashes.SHA384()), (13, hashes.SHA512())])
def test_an_rsa_signature_by_another_key(number: int, digest: hashes.HashAlgorithm) -> None:
    algorithm = sequence(oid(f"1.2.840.113549.1.1.{number}"), tlv(5))
    maker = raw_authority(key=spki(RSA.public_key()))
    assert chain(Raw(algorithm=algorithm, signer=RSA, digest=digest), [maker], [raw_authority("root")]) == 3
    other = rsa.generate_private_key(65537, 2048)
    refused("not by that issuer", Raw(algorithm=algorithm, signer=other, digest=digest), maker)
    wrong_hash = hashes.SHA512() if number == 11 else hashes.SHA256()
    refused("not by that issuer", Raw(algorithm=algorithm, signer=RSA, digest=wrong_hash), maker)


def _at(text: str) -> int:
    return int(datetime.strptime(text, "%Y%m%d%H%M%S").replace(tzinfo=UTC).timestamp())


@pytest.mark.parametrize("who", ["leaf", "maker", "root"])
def test_time(who: str) -> None:
    span = sequence(moment("250101000000"), moment("350101000000"))
    parts = {"leaf": Raw(), "maker": raw_authority(), "root": raw_authority("root")}
    parts[who] = replace(parts[who], validity=span)
    first, last = _at("20250101000000"), _at("20350101000000")
    for now in (first, last):
        assert chain(parts["leaf"], [parts["maker"]], [parts["root"]], now) == 3
    refused("it is not valid yet", **parts, now=first - 1)
    refused("it has expired", **parts, now=last + 1)


def test_an_issuer_that_is_no_authority() -> None:
    for basic in ((), (EK_BASIC,)):
        refused("it is no certificate authority", maker=raw_authority(extensions=(*basic, CA_USAGE)))
        refused("it is no certificate authority", root=raw_authority("root", extensions=(*basic, CA_USAGE)))


def test_an_issuer_that_may_not_sign() -> None:
    crl_only = extension("2.5.29.15", bytes.fromhex("03020102"), True)
    for usage in ((), (crl_only,)):
        refused("it may not sign certificates", maker=raw_authority(extensions=(CA_BASIC, *usage)))
        refused("it may not sign certificates", root=raw_authority("root", extensions=(CA_BASIC, *usage)))


def _limited(subject: str, limit: int) -> Raw:
    basic = extension("2.5.29.19", sequence(tlv(1, b"\xff"), integer(limit)), True)
    return raw_authority(subject, extensions=(basic, CA_USAGE))


def test_path_length() -> None:
    assert chain(Raw(), [_limited("maker", 0)], [_limited("root", 1)]) == 3
    refused("it allows 0 authorities below it", root=_limited("root", 0))


def test_depth() -> None:
    names = ["root", "maker", *(f"m{number}" for number in range(4))]
    keys = KEYS | {name: ec.generate_private_key(ec.SECP256R1()) for name in names[2:]}

    def link(at: int) -> Raw:
        changes = {"subject": raw_name(names[at]), "key": spki(keys[names[at]].public_key())}
        return replace(raw_authority(), **changes, issuer=raw_name(names[at - 1]), signer=keys[names[at - 1]])

    links = [link(at) for at in range(1, 6)]
    last = Raw(issuer=raw_name("m2"), signer=keys["m2"])
    assert chain(last, links, [raw_authority("root")]) == 6
    too_far = Raw(issuer=raw_name("m3"), signer=keys["m3"])
    with pytest.raises(Rejected):
        chain(too_far, links, [raw_authority("root")])


def test_purposes_of_an_issuer() -> None:
    def maker(*purposes: str) -> Raw:
        listed = extension("2.5.29.37", sequence(*map(oid, purposes)))
        return raw_authority(extensions=(CA_BASIC, CA_USAGE, listed))

    for good in (("2.23.133.8.1",), ("1.2.3", "2.23.133.8.1"), ("2.5.29.37.0",)):
        assert chain(Raw(), [maker(*good)], [raw_authority("root")]) == 3
    refused("it is not for certificates of endorsement keys", maker=maker("2.23.133.8.3"))


@pytest.mark.parametrize("who", ["leaf", "maker", "root"])
@pytest.mark.parametrize(
    ("added", "why"),
    [
        (UNKNOWN, "critical extension that is not understood: 1.3.6.1.4.1.99999.1"),
        (extension("2.5.29.30", sequence(), True), "constrains"),
        (extension("2.5.29.30", sequence(), False), "constrains"),
        (extension("2.5.29.36", sequence(), True), "constrains"),
        (extension("2.5.29.33", sequence(), True), "constrains"),
        (extension("2.5.29.54", integer(0), True), "constrains"),
    ],
)
def test_extensions_that_are_not_understood(who: str, added: bytes, why: str) -> None:
    parts = {"leaf": Raw(), "maker": raw_authority(), "root": raw_authority("root")}
    parts[who] = replace(parts[who], extensions=(*parts[who].extensions, added))
    refused(why, **parts)


def test_harmless_extensions() -> None:
    added = (extension("2.5.29.32", sequence(), True), extension("1.3.6.1.4.1.99999.1", b"", False))
    leaf, maker = Raw(extensions=(*EK_EXTENSIONS, *added)), raw_authority(extensions=(CA_BASIC, CA_USAGE, *added))
    assert chain(leaf, [maker], [raw_authority("root")]) == 3


@pytest.mark.parametrize(("bits", "exponent"), [(1024, 65537), (2048, 3)])
def test_a_weak_issuer(bits: int, exponent: int) -> None:
    weak = rsa.generate_private_key(exponent, bits)
    maker = raw_authority(key=spki(weak.public_key()))
    refused("its key is weak (RSA", Raw(algorithm=SHA256_RSA, signer=weak), maker)


def test_an_issuer_whose_key_is_labelled_for_encryption() -> None:
    maker = raw_authority(key=oaep_spki(RSA.public_key()))
    refused("its key is not for signatures", Raw(algorithm=SHA256_RSA, signer=RSA), maker)


def test_a_dead_end_does_not_hide_the_way() -> None:
    """Several certificates of one name: a renewed one, one of another key, and the good one."""
    other = ec.generate_private_key(ec.SECP256R1())
    ended = raw_authority(validity=sequence(moment("200101000000"), moment("210101000000")))
    foreign = raw_authority(key=spki(other.public_key()))
    orphan = replace(raw_authority(), issuer=raw_name("nobody"))
    assert chain(Raw(), [ended, foreign, orphan, raw_authority()], [raw_authority("root")]) == 3


def test_authorities_that_vouch_for_each_other() -> None:
    circle = [raw_authority("maker", "maker"), raw_authority("maker", "root"), raw_authority("root", "maker")]
    stranger = replace(raw_authority("root"), subject=raw_name("other"))
    with pytest.raises(Rejected):
        chain(Raw(), circle, [stranger])


def test_the_deepest_reason_is_told() -> None:
    """A maker that leads nowhere hides neither the reason of the next one nor the one at the root."""
    foreign = raw_authority("root", key=spki(P256.public_key()))
    refused("its signature is not by that issuer", root=foreign)
    weak = rsa.generate_private_key(65537, 1024)
    refused("CN=root: its key is weak", root=raw_authority("root", key=spki(weak.public_key())))


def test_a_host_cannot_make_the_search_long() -> None:
    """Eight certificates of one name and key, each of which issues each other: as many steps as there are pairs."""
    key = KEYS["maker"]
    clones = [replace(raw_authority("maker", "maker", signer=key), serial=integer(number)) for number in range(8)]
    started = perf_counter()
    with pytest.raises(Rejected):
        chain(Raw(), clones, [replace(raw_authority("root"), subject=raw_name("maker"))] * 50)
    assert perf_counter() - started < 5


def test_too_many_intermediates() -> None:
    assert chain(Raw(), [raw_authority()] * 8, [raw_authority("root")]) == 3
    with pytest.raises(MalformedError):
        chain(Raw(), [raw_authority()] * 9, [raw_authority("root")])


def test_a_fault_without_a_time() -> None:
    ended = raw_authority(validity=sequence(moment("200101000000"), moment("210101000000")))
    assert issuer_fault(Certificate.parse(ended.der()), None) == ""
    assert issuer_fault(Certificate.parse(ended.der()), NOW) == "it has expired"


# --- the same through the front door --------------------------------------------------------------------------------


def _verify(leaf: Raw, maker: Raw | None = None, kind: EkKind = EkKind.P256) -> VerifiedEk:
    anchor = TrustAnchor(raw_authority("root").der(), EkClass.FIRMWARE, "raw")
    return verify_ek(leaf.der(), [(maker or raw_authority()).der()], [anchor], kind, NOW)


def test_deviations_of_the_chain_are_named() -> None:
    assert _verify(Raw()).deviations == ()
    odd = raw_authority(algorithm=sequence(oid("1.2.840.10045.4.3.2"), tlv(5)))
    (finding,) = _verify(Raw(), odd).deviations
    assert (finding.code, finding.subject, finding.fatal) == ("ek-signature-parameters", "CN=maker", False)


def test_a_name_in_another_string_type() -> None:
    printable = Raw(issuer=raw_name("maker", 0x13))
    (finding,) = _verify(printable).deviations
    assert (finding.code, finding.subject) == ("ek-name-encoding", "CN=maker")
    for tag, text in ((0x16, "maker"), (0x13, "Maker"), (0x1E, "\0m\0a\0k\0e\0r")):
        with pytest.raises(Rejected):
            _verify(Raw(issuer=raw_name(text, tag)))


def test_a_key_labelled_oaep_is_an_endorsement_key() -> None:
    usage = extension("2.5.29.15", bytes.fromhex("03020520"), True)
    leaf = Raw(key=oaep_spki(RSA.public_key()), extensions=(EK_BASIC, usage, EK_PURPOSE))
    ek = _verify(leaf, kind=EkKind.RSA2048)
    assert [each.code for each in ek.deviations] == ["ek-key-type"]
    assert ek.public.unique == RSA.public_key().public_numbers().n.to_bytes(256, "big")


def test_an_endorsement_key_that_may_sign_certificates() -> None:
    usage = extension("2.5.29.15", bytes.fromhex("0302010c"), True)  # keyAgreement, keyCertSign
    with pytest.raises(Rejected) as caught:
        _verify(Raw(extensions=(EK_BASIC, usage, EK_PURPOSE)))
    assert (caught.value.code, "may sign" in str(caught.value)) == ("ek-usage", True)
    assert _verify(Raw(extensions=(EK_BASIC, EK_KEY_USAGE, EK_PURPOSE)))
