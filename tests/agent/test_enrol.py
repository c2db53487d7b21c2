"""Enrolment against a real TPM."""

from __future__ import annotations

import pytest

from watchword.agent.enrol import choose_ek, enrol, introduce
from watchword.errors import MalformedError, Rejected
from watchword.testing.farm import EkAuthority, SwTpm
from watchword.wire.messages import EnrolBegin, EnrolChallenge, EnrolFinish, Enrolled, Request
from watchword.wire.tpm.public import Public
from watchword.wire.tpm.templates import AK_ATTRIBUTES, EkKind


def test_a_tpm_that_holds_both_keys_is_enrolled(bench) -> None:
    bench.authority.host_id = bytes(range(32))
    with bench.tpm.client() as tpm:
        assert enrol(bench.host(tpm), [b"intermediate"]) == bytes(range(32))
    begin, finish = bench.authority.requests
    assert isinstance(begin, EnrolBegin)
    assert isinstance(finish, EnrolFinish)
    assert begin.intermediates == (b"intermediate",)


def test_the_introduction_is_what_the_tpm_has(new_tpm: SwTpm) -> None:
    certificates = new_tpm.manufacture(EkAuthority.create(), (EkKind.P256,))
    with new_tpm.client() as tpm:
        begin = introduce(tpm, EkKind.P256)
        assert Public.parse(begin.ek_public) == tpm.create_ek(EkKind.P256)
    assert begin.ek_certificate == certificates[EkKind.P256]
    assert Public.parse(begin.ak_public).attributes == AK_ATTRIBUTES


def test_a_tpm_without_a_certificate_shows_its_key_only(new_tpm: SwTpm) -> None:
    with new_tpm.client() as tpm:
        assert choose_ek(tpm) is EkKind.P256
        begin = introduce(tpm, EkKind.P256)
    assert begin.ek_certificate == b""
    assert begin.ek_public


def test_the_key_with_a_certificate_is_chosen(new_tpm: SwTpm) -> None:
    new_tpm.manufacture(EkAuthority.create(), (EkKind.RSA2048,))
    with new_tpm.client() as tpm:
        assert choose_ek(tpm) is EkKind.RSA2048


def test_a_credential_for_another_tpm_does_not_enrol(bench, new_tpm: SwTpm) -> None:
    """The challenge is made for the keys of one TPM and answered by another."""
    with new_tpm.client() as other:
        foreign = introduce(other, EkKind.P256)
    honest = bench.authority.answer

    def swap(request: Request, reply_key: bytes):
        return honest(foreign if isinstance(request, EnrolBegin) else request, reply_key)

    bench.authority.answer = swap
    with bench.tpm.client() as tpm, pytest.raises(Exception, match="TPM2_ActivateCredential") as failed:
        enrol(bench.host(tpm))
    assert failed.value.code.startswith("tpm-")  # type: ignore[attr-defined]
    assert len(bench.authority.requests) == 1


def test_an_answer_out_of_turn_is_refused(bench) -> None:
    bench.authority.answer = lambda *_: Enrolled(bytes(32))
    with bench.tpm.client() as tpm, pytest.raises(MalformedError) as failed:
        enrol(bench.host(tpm))
    assert failed.value.code == "reply-order"


def test_a_refusal_has_the_authoritys_reason(bench) -> None:
    honest = bench.authority.answer

    def other_secret(request: Request, reply_key: bytes):
        reply = honest(request, reply_key)
        return (
            EnrolChallenge(b"x", reply.id_object, reply.encrypted_secret)
            if isinstance(reply, EnrolChallenge)
            else reply
        )

    bench.authority.answer = other_secret
    with bench.tpm.client() as tpm, pytest.raises(Rejected) as refused:
        enrol(bench.host(tpm))
    assert (refused.value.clause, refused.value.code) == ("A4", "credential-proof")
