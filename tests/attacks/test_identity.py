"""Attacks on who a host is (clauses A1 to A5, and B9 where a TPM's past is denied)."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from watchword.agent.enrol import enrol, introduce
from watchword.agent.tpm.commands import Handle
from watchword.agent.tpm.errors import TpmError
from watchword.agent.tpm.keys import primary
from watchword.agent.tpm.sessions import Password
from watchword.errors import Rejected
from watchword.testing.ek_authority import EkAuthority
from watchword.testing.farm import SwTpm
from watchword.testing.world import TestHost, profile_document
from watchword.verify.ek import EkClass
from watchword.wire.evidence import enrol_proof
from watchword.wire.messages import EnrolBegin, EnrolChallenge, EnrolFinish, Refusal
from watchword.wire.tpm.public import Attributes, Public
from watchword.wire.tpm.templates import AK_TEMPLATE, EkKind

from .helpers import Bench, advance_clock, attempt, say, tamper


def refused_enrolment(bench: Bench, clause: str, code: str, action: Callable[[], object]) -> None:
    """``action`` must be refused for this reason and enrol nobody."""
    before = bench.world.store.hosts()
    with pytest.raises(Rejected) as caught:
        action()
    assert (caught.value.clause, caught.value.code) == (clause, code)
    assert bench.world.store.hosts() == before


def begin(host: TestHost, **changes: object) -> EnrolBegin:
    """How the host would introduce itself, with some of it changed."""
    honest = host.use(lambda view: introduce(view.tpm, EkKind.P256, host.world.makers.intermediates))
    return replace(honest, **changes)


# --- enrolment ------------------------------------------------------------------------------------------------------


def test_tpm_of_an_unknown_maker(bench: Bench) -> None:
    """untrusted-host launch: a TPM that nobody vouches for (A1)"""
    stranger = bench.world.host(makers=EkAuthority.create("Stranger"), enrolled=False)
    refused_enrolment(bench, "A1", "ek-chain", stranger.enrol)


def test_maker_with_a_borrowed_name(bench: Bench) -> None:
    """EK certificate of a CA that may not sign: one that merely has the name of a trusted one (A1)"""
    impostor = bench.world.host(makers=EkAuthority.create("Emulated TPM"), enrolled=False)
    refused_enrolment(bench, "A1", "ek-chain", impostor.enrol)


def test_ek_certificate_of_a_ca_that_may_not_sign(fresh: Bench) -> None:
    """EK certificate of a CA that may not sign (A1)"""
    makers = EkAuthority.create("No signer", may_sign=False)
    fresh.world.trust(makers.root, EkClass.HARDWARE)
    host = fresh.world.host(makers=makers, enrolled=False)
    message = begin(host, intermediates=makers.intermediates)
    reply = say(host, message)
    assert isinstance(reply, Refusal)
    assert (reply.clause, reply.code) == ("A1", "ek-chain")


def test_authority_certificate_as_ek(bench: Bench) -> None:
    """EK certificate of a CA that may not sign: a certificate authority posing as a TPM (A1)"""
    tpm = bench.world.tpm()
    with tpm.client() as client:
        certificate = bench.world.makers.issue(client.create_ek(EkKind.P256), is_ca=True)
    reply = say(bench.evil, begin(bench.evil, ek_certificate=certificate))
    assert isinstance(reply, Refusal)
    assert (reply.clause, reply.code) == ("A1", "ek-certificate-ca")


def test_expired_maker(fresh: Bench) -> None:
    """EK certificate of a CA that may not sign: not any more at this time (A1)"""
    fresh.world.now = 2_600_000_000  # 2052
    refused_enrolment(fresh, "A1", "ek-chain", fresh.evil.enrol)


def test_other_hosts_ek(bench: Bench) -> None:
    """other host's EK: the attacker shows an honest host's certificate, and its own AK (A4)"""
    theirs = begin(bench.honest)
    reply = say(bench.evil, begin(bench.evil, ek_certificate=theirs.ek_certificate))
    assert isinstance(reply, EnrolChallenge)
    with bench.evil.machine.tpm.client() as tpm, pytest.raises(TpmError) as caught:
        tpm.activate_credential(reply.id_object, reply.encrypted_secret)
    assert caught.value.code == "tpm-wrong-credential"
    before = bench.world.store.host(bench.honest.host_id)
    guess = say(bench.evil, EnrolFinish(reply.cookie, enrol_proof(bytes(32), reply.cookie)))
    assert isinstance(guess, Refusal)
    assert (guess.clause, guess.code) == ("A4", "ak-proof")
    assert bench.world.store.host(bench.honest.host_id) == before


def test_other_hosts_ak(bench: Bench) -> None:
    """other host's EK: the attacker's EK with an honest host's AK; its TPM does not hold that AK (A4)"""
    reply = say(bench.evil, begin(bench.evil, ak_public=begin(bench.honest).ak_public))
    assert isinstance(reply, EnrolChallenge)
    with bench.evil.machine.tpm.client() as tpm, pytest.raises(TpmError) as caught:
        tpm.activate_credential(reply.id_object, reply.encrypted_secret)
    assert caught.value.code == "tpm-wrong-credential"


def test_proof_for_another_enrolment(bench: Bench) -> None:
    """other host's EK: the answer to one challenge under the cookie of another (A4)"""
    first = say(bench.evil, begin(bench.evil))
    second = say(bench.evil, begin(bench.evil, ek_certificate=begin(bench.honest).ek_certificate))
    assert isinstance(first, EnrolChallenge)
    assert isinstance(second, EnrolChallenge)
    with bench.evil.machine.tpm.client() as tpm:
        secret = tpm.activate_credential(first.id_object, first.encrypted_secret)
    reply = say(bench.evil, EnrolFinish(second.cookie, enrol_proof(secret, second.cookie)))
    assert isinstance(reply, Refusal)
    assert (reply.clause, reply.code) == ("A4", "ak-proof")


@pytest.mark.parametrize("change", ["flip", "own"])
def test_forged_enrolment_state(bench: Bench, change: str) -> None:
    """other host's EK: a cookie that this authority did not make (A4)"""
    reply = say(bench.evil, begin(bench.evil))
    assert isinstance(reply, EnrolChallenge)
    cookie = bytes(200) if change == "own" else reply.cookie[:-1] + bytes([reply.cookie[-1] ^ 1])
    forged = say(bench.evil, EnrolFinish(cookie, enrol_proof(bytes(32), cookie)))
    assert isinstance(forged, Refusal)
    assert (forged.clause, forged.code) == ("A4", "enrol-cookie")


def test_ak_without_restricted(bench: Bench) -> None:
    """AK without restricted: a real key of a real TPM that would sign anything (A3)"""
    template = replace(AK_TEMPLATE, attributes=AK_TEMPLATE.attributes & ~Attributes.RESTRICTED)
    reply = say(bench.evil, begin(bench.evil, ak_public=made_by(bench.evil, template).encode()))
    assert isinstance(reply, Refusal)
    assert (reply.clause, reply.code) == ("A3", "ak-attributes")


@pytest.mark.parametrize(
    "flag", [Attributes.SIGN, Attributes.FIXED_TPM, Attributes.FIXED_PARENT, Attributes.SENSITIVE_DATA_ORIGIN]
)
def test_ak_without_another_attribute(bench: Bench, flag: Attributes) -> None:
    """AK without restricted: nor without any of the others (A3)"""
    ak = replace(AK_TEMPLATE, attributes=AK_TEMPLATE.attributes & ~flag)
    reply = say(bench.evil, begin(bench.evil, ak_public=ak.encode()))
    assert isinstance(reply, Refusal)
    assert (reply.clause, reply.code) == ("A3", "ak-attributes")


def made_by(host: TestHost, template: Public) -> Public:
    """The public area of a key that the host's TPM really makes."""
    with host.machine.tpm.client() as tpm, primary(tpm.channel, template, Password()) as key:
        return key.public


# --- launches -------------------------------------------------------------------------------------------------------


def test_host_that_never_enrolled(bench: Bench) -> None:
    """untrusted-host launch: a host that the authority does not know (A4)"""
    stranger = bench.world.host(enrolled=False)
    stranger.host_id = bytes(32)
    token = bench.world.token()
    bench.refused(token, "A4", "host-unknown", attempt(stranger, token).send, suspect=stranger)


def test_revoked_host(fresh: Bench) -> None:
    """untrusted-host launch: a host that was revoked, before and after it enrols again (A5)"""
    world, token = fresh.world, fresh.world.token()
    with world.store.transaction() as tx:
        tx.revoke_host(fresh.evil.host_id, "stolen", world.now)
    fresh.refused(token, "A5", "host-revoked", attempt(fresh.evil, token).send, still_good=False)
    refused_enrolment(fresh, "A5", "host-revoked", fresh.evil.enrol)
    fresh.refused(token, "A5", "host-revoked", attempt(fresh.evil, token).send)


def test_emulated_tpm_posing_as_hardware(fresh: Bench) -> None:
    """emulated TPM posing as hardware (E5): the class comes from the anchor, never from the host"""
    world = fresh.world
    makers = EkAuthority.create("Real silicon")
    world.trust(makers.root, EkClass.HARDWARE)
    world.add_profile(profile_document(identity=["hardware"]))
    token = world.token()
    fresh.refused(token, "E5", "identity-class", attempt(fresh.evil, token).send, learns=True, still_good=False)
    honest = world.host(makers=makers, enrolled=False)
    honest.host_id = honest.use(lambda view: enrol(view, makers.intermediates))
    assert honest.obtain(token).secret == token.body.secret


def test_stored_key_of_another_host(lone: Bench) -> None:
    """other host's EK: the record of a host was given another key behind the authority's back (A4)"""
    store, token = lone.world.store, lone.world.token()
    honest, evil = store.host(lone.honest.host_id), store.host(lone.evil.host_id)
    assert honest is not None
    assert evil is not None
    tamper(lone.world, "update hosts set ek_public = ? where host_id = ?", honest.ek_public, evil.host_id)
    lone.refused(token, "A4", "ak-record", attempt(lone.evil, token).send)


# --- a TPM's past ---------------------------------------------------------------------------------------------------


def test_tpm_cleared(fresh: Bench) -> None:
    """TPM cleared: counters start again, so the host must enrol again (B9)"""
    evil, world = fresh.evil, fresh.world
    evil.obtain(world.token())  # the authority has seen this boot
    with evil.machine.tpm.client() as tpm:
        tpm.clear(Handle.PLATFORM)
    token = world.token()
    fresh.refused(token, "B9", "quote-reset-count", attempt(evil, token).send, still_good=False)
    evil.enrol()
    assert evil.obtain(token).secret == token.body.secret


def test_clock_rolled_back(fresh: Bench) -> None:
    """clock rolled back: the state of an emulated TPM is put back within one boot number (B9)"""
    evil, tpm = fresh.evil, fresh.evil.machine.tpm
    saved = tpm.folder / "saved"
    with _powered_off(tpm):
        saved.mkdir()
        for file in _state_of(tpm):
            shutil.copy(file, saved)
    evil.machine.reboot()
    with tpm.client() as client:
        advance_clock(client, 3_600_000)
    evil.obtain(fresh.world.token())
    with _powered_off(tpm):
        for file in saved.iterdir():
            shutil.copy(file, tpm.folder)
    evil.machine.reboot()
    token = fresh.world.token()
    fresh.refused(token, "B9", "quote-clock", attempt(evil, token).send)


def test_reset_count_rolled_back(fresh: Bench) -> None:
    """clock rolled back: the state of an emulated TPM is put back to an earlier boot (B9)"""
    evil, tpm = fresh.evil, fresh.evil.machine.tpm
    with _powered_off(tpm):
        saved = {file: file.read_bytes() for file in _state_of(tpm)}
    for _ in range(3):
        evil.machine.reboot()
    evil.obtain(fresh.world.token())
    with _powered_off(tpm):
        for file, content in saved.items():
            file.write_bytes(content)
    evil.machine.reboot()
    token = fresh.world.token()
    fresh.refused(token, "B9", "quote-reset-count", attempt(evil, token).send)


@contextlib.contextmanager
def _powered_off(tpm: SwTpm) -> Iterator[None]:
    tpm.power_off()
    yield
    tpm.start()


def _state_of(tpm: SwTpm) -> list[Path]:
    return sorted(tpm.folder.glob("tpm2-*.permall"))
