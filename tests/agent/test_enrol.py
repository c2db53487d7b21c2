"""Enrolment against a real TPM."""

from __future__ import annotations

import pytest

from watchword.agent.enrol import choose_ek, enrol, introduce
from watchword.agent.tpm import capabilities
from watchword.agent.tpm.commands import Code, Entity, Handle
from watchword.agent.tpm.errors import TpmError
from watchword.agent.tpm.sessions import Password
from watchword.errors import MalformedError, Rejected, Unavailable
from watchword.testing.farm import EkAuthority, SwTpm, write_nv
from watchword.verify.ek import EkClass, TrustAnchor, verify_ek
from watchword.wire.messages import (
    EnrolBegin,
    EnrolChallenge,
    EnrolFinish,
    Enrolled,
    Request,
    encode_request,
    parse_request,
)
from watchword.wire.reader import Writer
from watchword.wire.tpm.algorithms import Alg
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


def _with_nv_chain(tpm: SwTpm, *parts: bytes, first: int = 0x01C00100) -> None:
    with tpm.client() as client:
        for index, part in enumerate(parts, first):
            write_nv(client, index, part)


def test_the_makers_intermediates_come_from_nv(new_tpm: SwTpm) -> None:
    """The chain goes over two indices, as where one is too small, and the authority is convinced by it."""
    makers, above = EkAuthority.create(), EkAuthority.create("Other")
    certificate = new_tpm.manufacture(makers)[EkKind.P256]
    chain = makers.intermediates[0] + above.intermediates[0]
    _with_nv_chain(new_tpm, chain[:300], chain[300:] + b"\xff" * 20)
    with new_tpm.client() as tpm:
        assert tpm.read_intermediates() == (*makers.intermediates, *above.intermediates)
        begin = introduce(tpm, EkKind.P256, [b"given", makers.intermediates[0]])
        ek = tpm.create_ek()
    assert begin.intermediates == (b"given", *makers.intermediates, *above.intermediates)
    anchors = [TrustAnchor(makers.root, EkClass.VIRTUAL, "maker")]
    assert verify_ek(certificate, begin.intermediates[1:], anchors, EkKind.P256, 1_800_000_000).public == ek


def test_other_indices_hold_no_intermediates(new_tpm: SwTpm) -> None:
    der = EkAuthority.create().intermediates[0]
    with new_tpm.client() as tpm:
        write_nv(tpm, 0x01C000FF, der)
        write_nv(tpm, 0x01C00200, der)
        assert tpm.read_intermediates() == ()
        write_nv(tpm, 0x01C001FF, der)
        assert tpm.read_intermediates() == (der,)


def test_a_chain_that_is_none_does_not_stop_the_enrolment(new_tpm: SwTpm) -> None:
    _with_nv_chain(new_tpm, b"nonsense")
    with new_tpm.client() as tpm:
        with pytest.raises(MalformedError):
            tpm.read_intermediates()
        assert introduce(tpm, EkKind.P256, [b"given"]).intermediates == (b"given",)


def test_an_index_that_was_never_written_does_not_stop_the_enrolment(new_tpm: SwTpm) -> None:
    public = Writer().u32(0x01C00100).u16(Alg.SHA256).u32(0x42070001).sized16(b"").u16(100).done()
    parameters = Writer().sized16(b"").sized16(public).done()
    with new_tpm.client() as tpm:
        tpm.channel.run(Code.NV_DEFINE_SPACE, (Entity.of(Handle.PLATFORM),), parameters, (Password(),))
        with pytest.raises(TpmError):
            tpm.read_intermediates()
        assert introduce(tpm, EkKind.P256).intermediates == ()


def test_a_chain_that_is_too_long_is_left(new_tpm: SwTpm) -> None:
    with new_tpm.client() as tpm:
        for index in range(3):
            write_nv(tpm, 0x01C00100 + index, bytes(1000))
        with pytest.raises(TpmError) as failed:
            capabilities.read_nv_range(tpm.channel, 0x01C00100, 0x01C001FF, 2999)
        assert failed.value.code == "tpm-nv-size"
        assert len(capabilities.read_nv_range(tpm.channel, 0x01C00100, 0x01C001FF, 3000)) == 3000


def test_a_tpm_that_went_away_is_told(new_tpm: SwTpm) -> None:
    with new_tpm.client() as tpm:
        new_tpm.power_off()
        with pytest.raises(Unavailable):
            introduce(tpm, EkKind.P256)


def test_no_more_intermediates_than_a_message_may_carry(new_tpm: SwTpm) -> None:
    with new_tpm.client() as tpm:
        many = [bytes([number]) * 10 for number in range(12)]
        assert introduce(tpm, EkKind.P256, many).intermediates == tuple(many[:8])
        large = [bytes([number]) * 8192 for number in range(6)]
        begin = introduce(tpm, EkKind.P256, large)
    assert begin.intermediates == tuple(large[:4])
    assert parse_request(encode_request(begin)) == begin
