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
from watchword.wire.evidence import enrol_proof
from watchword.wire.messages import EnrolBegin, EnrolChallenge, EnrolFinish
from watchword.wire.tpm.public import Attributes
from watchword.wire.tpm.templates import EkKind

NOW, KEY, SECRET, RANDOM = 1_800_000_000, b"k" * 32, b"s" * 32, b"r" * 12
MAKERS = EkAuthority.create()
ANCHORS = (TrustAnchor(MAKERS.root, EkClass.VIRTUAL, "test"),)
KEYS = TpmKeys()
MESSAGE = EnrolBegin(EkKind.P256, MAKERS.issue(KEYS.ek), b"", MAKERS.intermediates, KEYS.ak.encode())


def begin(message: EnrolBegin = MESSAGE, anchors: Any = ANCHORS, pins: Any = None) -> EnrolChallenge:
    return enrol.begin(message, anchors=anchors, pins=pins or {}, now=NOW, cookie_key=KEY, secret=SECRET, random=RANDOM)


def answer(challenge: EnrolChallenge) -> EnrolFinish:
    secret = KEYS.activate(Credential(challenge.id_object, challenge.encrypted_secret))
    assert secret == SECRET
    return EnrolFinish(challenge.cookie, enrol_proof(secret, challenge.cookie))


def finish(message: EnrolFinish, anchors: Any = ANCHORS, pins: Any = None, now: int = NOW, key: bytes = KEY) -> Any:
    return enrol.finish(message, anchors=anchors, pins=pins or {}, now=now, cookie_key=key)


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
    ek, _ = finish(answer(begin(pinned, (), pins)), anchors=(), pins=pins)
    assert ek.ek_class is EkClass.HARDWARE
    with pytest.raises(Rejected) as caught:
        begin(pinned)
    assert (caught.value.clause, caught.value.code) == ("A1", "ek-not-pinned")


def test_the_public_area_from_the_host_counts_for_nothing_beside_a_certificate() -> None:
    ek, _ = finish(answer(begin(replace(MESSAGE, ek_public=TpmKeys().ek.encode()))))
    assert ek.public == KEYS.ek


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
