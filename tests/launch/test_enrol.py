"""Enrolment without I/O: cookies, and everything judged twice."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from watchword.crypto.tpm_seal import Credential
from watchword.errors import MalformedError, Rejected
from watchword.launch import enrol
from watchword.testing.ek_authority import EkAuthority
from watchword.testing.tpm_keys import TpmKeys
from watchword.verify.ek import EkClass, TrustAnchor, host_id
from watchword.verify.roots import IntermediatePool
from watchword.wire.evidence import enrol_proof
from watchword.wire.messages import EnrolBegin, EnrolChallenge, EnrolFinish, encode_request, parse_request
from watchword.wire.tpm.public import Attributes
from watchword.wire.tpm.templates import EkKind

NOW, KEY, SECRET, RANDOM = 1_800_000_000, b"k" * 32, b"s" * 32, b"r" * 12
MAKERS = EkAuthority.create()
ANCHORS = (TrustAnchor(MAKERS.root, EkClass.VIRTUAL, "test"),)
KEYS = TpmKeys()
MESSAGE = EnrolBegin(EkKind.P256, MAKERS.issue(KEYS.ek), b"", MAKERS.intermediates, KEYS.ak.encode())


def trusted(anchors: Any = ANCHORS, pins: Any = None, pool: Any = (), crls: Any = ()) -> enrol.Trusted:
    return enrol.Trusted(anchors, pins or {}, IntermediatePool.of(pool), crls)


def begin(message: EnrolBegin = MESSAGE, *, now: int = NOW, **changes: Any) -> EnrolChallenge:
    return enrol.begin(message, trusted=trusted(**changes), now=now, cookie_key=KEY, secret=SECRET, random=RANDOM)


def answer(challenge: EnrolChallenge) -> EnrolFinish:
    secret = KEYS.activate(Credential(challenge.id_object, challenge.encrypted_secret))
    assert secret == SECRET
    return EnrolFinish(challenge.cookie, enrol_proof(secret, challenge.cookie))


def finish(message: EnrolFinish, *, now: int = NOW, key: bytes = KEY, **changes: Any) -> Any:
    return enrol.finish(message, trusted=trusted(**changes), now=now, cookie_key=key)


def reason(message: EnrolFinish, **changes: Any) -> tuple[str, str]:
    with pytest.raises(Rejected) as caught:
        finish(message, **changes)
    return caught.value.clause, caught.value.code


def test_a_good_enrolment() -> None:
    ek, ak = finish(answer(begin()), now=NOW + enrol.LIFETIME)
    assert ek.host_id == ak.host_id == host_id(KEYS.ek)
    assert ek.ek_class is EkClass.VIRTUAL
    assert ak.ak == KEYS.ak


def test_a_pinned_ek() -> None:
    pinned = replace(MESSAGE, ek_certificate=b"", ek_public=KEYS.ek.encode())
    pins = {host_id(KEYS.ek): EkClass.HARDWARE}
    ek, _ = finish(answer(begin(pinned, anchors=(), pins=pins)), anchors=(), pins=pins)
    assert ek.ek_class is EkClass.HARDWARE
    with pytest.raises(Rejected) as caught:
        begin(pinned)
    assert (caught.value.clause, caught.value.code) == ("A1", "ek-not-pinned")


def test_the_public_area_from_the_host_counts_for_nothing_beside_a_certificate() -> None:
    ek, _ = finish(answer(begin(replace(MESSAGE, ek_public=TpmKeys().ek.encode()))))
    assert ek.public == KEYS.ek


def test_a_pinned_ek_enrols_by_its_pin_beside_a_certificate_that_leads_nowhere() -> None:
    both = replace(MESSAGE, ek_public=KEYS.ek.encode())
    pins = {host_id(KEYS.ek): EkClass.FIRMWARE}
    ek, _ = finish(answer(begin(both, anchors=(), pins=pins)), anchors=(), pins=pins)
    assert (ek.host_id, ek.ek_class, ek.anchor) == (host_id(KEYS.ek), EkClass.FIRMWARE, "pinned")
    assert reason(answer(begin(both, anchors=(), pins=pins)), anchors=()) == ("A1", "ek-chain")
    ek, _ = finish(answer(begin(both)))
    assert (ek.ek_class, ek.anchor) == (EkClass.VIRTUAL, "test")


def test_a_pinned_id_cannot_be_claimed_with_another_certificate() -> None:
    """The credential is for the pinned key, so the TPM with the certificate cannot open it."""
    theirs = TpmKeys().ek
    pins = {host_id(theirs): EkClass.HARDWARE}
    challenge = begin(replace(MESSAGE, ek_public=theirs.encode()), pins=pins)
    with pytest.raises(ValueError):
        KEYS.activate(Credential(challenge.id_object, challenge.encrypted_secret))
    guess = EnrolFinish(challenge.cookie, enrol_proof(bytes(32), challenge.cookie))
    assert reason(guess, pins=pins) == ("A4", "ak-proof")


def test_a_certificate_is_not_believed_for_the_sake_of_somebody_elses_pin() -> None:
    other = replace(MESSAGE, ek_public=TpmKeys().ek.encode())
    with pytest.raises(Rejected) as caught:
        begin(other, anchors=(), pins={host_id(KEYS.ek): EkClass.HARDWARE})
    assert (caught.value.clause, caught.value.code) == ("A1", "ek-chain")


def test_a_public_area_that_does_not_parse_is_no_introduction() -> None:
    for certificate in (b"", MESSAGE.ek_certificate):
        with pytest.raises(MalformedError):
            begin(replace(MESSAGE, ek_certificate=certificate, ek_public=b"\1"))


def test_a_bundle_fills_the_gap_that_a_host_leaves() -> None:
    bare = replace(MESSAGE, intermediates=())
    ek, _ = finish(answer(begin(bare, pool=MAKERS.intermediates)), pool=MAKERS.intermediates)
    assert ek.host_id == host_id(KEYS.ek)
    with pytest.raises(Rejected) as caught:
        begin(bare)
    assert (caught.value.clause, caught.value.code) == ("A1", "ek-chain")


def test_revocation_lists_decide_at_both_requests() -> None:
    crls = [MAKERS.revocation_list(MESSAGE.ek_certificate, now=NOW)]
    with pytest.raises(Rejected) as caught:
        begin(crls=crls)
    assert (caught.value.clause, caught.value.code) == ("A1", "ek-revoked")
    assert reason(answer(begin()), crls=crls) == ("A1", "ek-revoked")
    ek, _ = finish(answer(begin(crls=[MAKERS.revocation_list(now=NOW)])), crls=[MAKERS.revocation_list(now=NOW)])
    assert [each.code for each in ek.deviations] == ["ek-crl-absent"]


def test_trust_that_ended_between_the_two_requests() -> None:
    good = answer(begin())
    assert reason(good, anchors=()) == ("A1", "ek-chain")


def test_a_weak_ak_gets_no_challenge() -> None:
    ak = replace(KEYS.ak, attributes=KEYS.ak.attributes & ~Attributes.RESTRICTED)
    with pytest.raises(Rejected) as caught:
        begin(replace(MESSAGE, ak_public=ak.encode()))
    assert (caught.value.clause, caught.value.code) == ("A3", "ak-attributes")


@pytest.mark.parametrize("now", [NOW - 1, NOW + enrol.LIFETIME + 1])
def test_a_cookie_outside_of_its_time(now: int) -> None:
    assert reason(answer(begin()), now=now) == ("A4", "enrol-expired")


def test_a_cookie_of_another_key() -> None:
    assert reason(answer(begin()), key=b"l" * 32) == ("A4", "enrol-cookie")


@pytest.mark.parametrize("cookie", [b"", bytes(5), bytes(40), bytes(2000)])
def test_a_cookie_that_is_none(cookie: bytes) -> None:
    assert reason(EnrolFinish(cookie, bytes(32))) == ("A4", "enrol-cookie")


def test_a_cookie_hides_and_protects_its_content() -> None:
    cookie = begin().cookie
    assert SECRET not in cookie
    for place in range(0, len(cookie), 37):
        bent = cookie[:place] + bytes([cookie[place] ^ 1]) + cookie[place + 1 :]
        assert reason(EnrolFinish(bent, enrol_proof(SECRET, bent))) == ("A4", "enrol-cookie")


@pytest.mark.parametrize("proof", [bytes(32), SECRET])
def test_a_wrong_proof(proof: bytes) -> None:
    assert reason(EnrolFinish(begin().cookie, proof)) == ("A4", "ak-proof")


def test_a_kind_of_ek_that_nobody_knows() -> None:
    with pytest.raises(MalformedError):
        begin(replace(MESSAGE, ek_kind=250))


def test_the_largest_introduction_fits_into_the_cookie() -> None:
    large = EnrolBegin(EkKind.P256, bytes(8192), KEYS.ek.encode(), (bytes(8192),) * 4, KEYS.ak.encode())
    pins = {host_id(KEYS.ek): EkClass.HARDWARE}
    message = answer(begin(large, pins=pins))
    assert parse_request(encode_request(large)) == large
    assert parse_request(encode_request(message)) == message
    assert finish(message, pins=pins)[0].host_id == host_id(KEYS.ek)
    with pytest.raises(MalformedError, match="32768 bytes together"):
        parse_request(encode_request(replace(large, intermediates=((*large.intermediates, b"x")))))
