"""Attacks on the quote (clauses B1 to B8)."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest

from watchword.agent.tpm.client import Tpm
from watchword.errors import MalformedError, Rejected
from watchword.policy.profile import Profile
from watchword.testing.world import QUOTED_PCRS, TestHost, profile_document
from watchword.verify.ak import restore_ak
from watchword.verify.quote import verify_quote
from watchword.wire.messages import Refusal
from watchword.wire.tpm.algorithms import Alg
from watchword.wire.tpm.attest import Attest, QuoteInfo
from watchword.wire.tpm.pcr import PcrSelection, Selections, pcr_digest

from .helpers import Bench, allocate, attempt, get_time, measure, sign_anything

BANK = Alg.SHA256


def test_quote_with_another_magic(bench: Bench) -> None:
    """Quote forged through TPM2_Sign: the AK really signs it, because it does not begin like a TPM's own (B1)."""
    token = bench.world.token()

    def forge(tpm: Tpm, selections: Selections, bound: bytes) -> tuple[bytes, bytes]:
        data = replace(Attest.parse(tpm.quote(selections, bound)[0]), magic=0x12345678).encode()
        return data, sign_anything(tpm, data)

    bench.refused(token, "B1", "quote-magic", attempt(bench.evil, token, quote=forge).send)


def test_another_attestation_posing_as_a_quote(bench: Bench) -> None:
    """Attestation of another type: TPM2_GetTime by the same AK with the same extraData (B2)."""
    token = bench.world.token()
    bench.refused(token, "B2", "quote-type", attempt(bench.evil, token, quote=get_time).send)


@pytest.mark.parametrize("tail", [b"\0", b"\0" * 40])
def test_extra_or_trailing_bytes_in_the_quote(bench: Bench, tail: bytes) -> None:
    """extra or trailing bytes in the quote (B3)"""
    token = bench.world.token()
    made = attempt(bench.evil, token)
    bench.refused(token, "B3", "quote-malformed", lambda: made.send(attest=made.evidence.attest + tail))


def test_every_byte_of_the_quote_counts(bench: Bench) -> None:
    """A quote with one bit changed anywhere (B1 to B5)."""
    token = bench.world.token(releases=2)
    for place in range(0, len(attempt(bench.evil, token).evidence.attest), 13):
        made = attempt(bench.evil, token)
        attest = bytearray(made.evidence.attest)
        attest[place] ^= 1
        reply = made.send(attest=bytes(attest))
        assert isinstance(reply, Refusal)
        assert reply.clause in {"B1", "B2", "B3", "B4"}
    assert bench.honest.obtain(token).secret == token.body.secret


def test_other_hosts_quote(bench: Bench) -> None:
    """other host's quote: an honest host's quote under the attacker's identity (B4)"""
    token = bench.world.token()
    made = attempt(bench.evil, token, quoted_by=bench.honest)
    bench.refused(token, "B4", "quote-signature", made.send)


def test_other_hosts_identity(bench: Bench) -> None:
    """other host's quote: the attacker's quote under an honest host's identity (B4)"""
    token = bench.world.token()
    made = attempt(bench.evil, token, host_id=bench.honest.host_id)
    bench.refused(token, "B4", "quote-signature", made.send, suspect=bench.honest)


def test_signature_of_another_quote(bench: Bench) -> None:
    """The signature of an earlier quote by the same AK (B4)."""
    token = bench.world.token()
    other, made = attempt(bench.evil, token), attempt(bench.evil, token)
    bench.refused(token, "B4", "quote-signature", lambda: made.send(signature=other.evidence.signature))


def test_quote_made_for_something_else(bench: Bench) -> None:
    """A good quote with extraData of the attacker's choice (B5)."""
    token = bench.world.token()
    made = attempt(bench.evil, token, quote=lambda tpm, selections, bound: tpm.quote(selections, bytes(32)))
    bench.refused(token, "B5", "quote-binding", made.send)


def test_quote_relabelled(fresh: Bench) -> None:
    """quote relabelled (values presented for PCRs that were not signed): a bad boot, the good PCR 4 built up in PCR 16
    (B7)"""
    world, token = fresh.world, fresh.world.token()
    bad = world.host("kernel")
    good_events = attempt(fresh.honest, world.token()).events
    with bad.machine.tpm.client() as tpm:
        for event in good_events.events:
            value = event.digest(BANK)
            if event.pcr == 4 and value is not None:
                tpm.extend(16, {BANK: value})
    signed = (PcrSelection(BANK, tuple(sorted({*QUOTED_PCRS, 16} - {4}))),)
    made = attempt(bad, token, selections=signed)
    values = dict(made.evidence.pcrs[BANK])
    values[4] = values.pop(16)
    good = measure(fresh.honest, (PcrSelection(BANK, (4,)),), b"")
    assert values[4] == good.pcrs[BANK][4]  # the attacker really has the value of a good boot under a signature
    lie = {BANK: values}
    event_log = good_events.encode()
    fresh.refused(token, "B7", "quote-selection", lambda: made.send(pcrs=lie, event_log=event_log), suspect=bad)


@pytest.mark.parametrize("pcrs", [(), (0,), (*range(12), 14)])
def test_quote_over_other_pcrs(bench: Bench, pcrs: tuple[int, ...]) -> None:
    """A quote over fewer or more PCRs than were asked for (B7)."""
    token = bench.world.token()
    made = attempt(bench.evil, token, selections=(PcrSelection(BANK, pcrs),))
    bench.refused(token, "B7", "quote-selection", made.send)


def test_quote_with_values_of_another_boot(bench: Bench) -> None:
    """quote relabelled: good PCR values beside a quote of other ones (B8)"""
    token = bench.world.token()
    made = attempt(bench.evil, token)
    pcrs = {BANK: {**made.evidence.pcrs[BANK], 4: bytes(32)}}
    bench.refused(token, "B8", "quote-pcr-digest", lambda: made.send(pcrs=pcrs))


def test_quote_over_debug_pcrs(bench: Bench) -> None:
    """quote over debug PCRs: nobody can ask for them, and an answer with them is not what was asked (B7)"""
    token = bench.world.token()
    with_debug = (PcrSelection(BANK, (*QUOTED_PCRS, 16, 23)),)
    bench.refused(token, "B7", "quote-selection", attempt(bench.evil, token, selections=with_debug).send)
    for pcr in (16, 23):
        document = profile_document().replace(b'"pcrs": [\n  0,', b'"pcrs": [\n  0,\n  %d,' % pcr)
        with pytest.raises(MalformedError):
            Profile.parse(document)
        assert _judge(bench.evil, (PcrSelection(BANK, (0, 4, pcr)),)) == ("B7", "quote-debug-pcr")


def test_sha1_only_quote(bench: Bench) -> None:
    """SHA-1-only quote (B7)"""
    token = bench.world.token()
    sha1 = (PcrSelection(Alg.SHA1, QUOTED_PCRS),)
    bench.refused(token, "B7", "quote-selection", attempt(bench.evil, token, selections=sha1).send)
    with pytest.raises(MalformedError):
        Profile.parse(profile_document().replace(b'"sha256"', b'"sha1"'))
    assert _judge(bench.evil, sha1) == ("B7", "quote-bank")


def test_quote_over_a_missing_bank(fresh: Bench) -> None:
    """quote over a missing bank: the TPM signs an empty selection without complaint (B7)"""
    world = fresh.world
    world.add_profile(profile_document().replace(b'"sha256"', b'"sha384"'))
    token = world.token()
    banks = tuple(PcrSelection(alg, () if alg is Alg.SHA384 else tuple(range(24))) for alg in (Alg.SHA256, Alg.SHA384))
    with fresh.evil.machine.tpm.client() as tpm:
        allocate(tpm, banks)
    fresh.evil.machine.tpm.reset()
    made = attempt(fresh.evil, token)
    signed = Attest.parse(made.evidence.attest).attested
    assert isinstance(signed, QuoteInfo)
    assert not any(selection.pcrs for selection in signed.selections)
    good = measure(fresh.honest, (PcrSelection(Alg.SHA384, QUOTED_PCRS),), b"").pcrs
    good_log = attempt(fresh.honest, token).evidence.event_log
    attack = partial(made.send, pcrs=good, event_log=good_log)
    fresh.refused(token, "B7", "quote-selection", attack, still_good=False)


def _judge(host: TestHost, selections: Selections) -> tuple[str, str]:
    """Why the authority's own check refuses a real quote that was asked for exactly like this."""
    on_file = host.world.store.host(host.host_id)
    assert on_file is not None
    ak = restore_ak(on_file.host_id, on_file.ek_public, on_file.ak_public, on_file.ek_class)
    found = measure(host, selections, bytes(32))
    assert pcr_digest(Alg.SHA256, selections, found.pcrs)
    with pytest.raises(Rejected) as caught:
        verify_quote(
            attest=found.attest,
            signature=found.signature,
            pcrs=found.pcrs,
            ak=ak,
            binding=bytes(32),
            selections=selections,
            last=None,
        )
    return caught.value.clause, caught.value.code
