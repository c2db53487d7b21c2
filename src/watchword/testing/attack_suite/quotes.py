"""Attacks on the quote: clauses B1 to B5 and B7 to B10."""

from __future__ import annotations

import dataclasses
import hashlib

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from msgspec.structs import replace

from watchword.conformance.scenario import Evidence, Inputs, LastSeen, Request
from watchword.testing.attack_suite.bench import BOOT_PCRS, Bench, asked, changed, request
from watchword.testing.attack_suite.machine import AKS
from watchword.testing.logs import boot_event
from watchword.wire.tcg_log import EventType
from watchword.wire.tpm.algorithms import Alg
from watchword.wire.tpm.attest import Attest
from watchword.wire.tpm.pcr import PcrSelection
from watchword.wire.tpm.signature import Signature

__all__ = ["add_missing_bank", "add_quotes"]

_BANKS = (Alg.SHA1, Alg.SHA256, Alg.SHA384, Alg.SHA512)
_OF, _SOFT = "good-boot", "good-software"
_RELABELLED = "quote relabelled"
_OTHERS = "other host's quote"
_BYTES = "extra or trailing bytes in the quote"
_CERTIFY = 0x8017
_AK = AKS["p256"]


def add_quotes(bench: Bench) -> None:
    bench.machine.boot(bench.recorded("good").without_runtime())
    _structure(bench)
    _signatures(bench)
    _signed_by_software(bench)
    _binding(bench)
    _selections(bench)
    _other_requests(bench)
    _values(bench)
    _memory(bench)


def _of(bench: Bench, name: str = _OF) -> tuple[Inputs, Request, Evidence]:
    inputs = bench[name].inputs
    assert inputs.request is not None
    assert inputs.evidence is not None
    return inputs, inputs.request, inputs.evidence


def _structure(bench: Bench) -> None:
    """B1 to B3."""
    inputs, asked_for, sent = _of(bench)
    magic = dataclasses.replace(Attest.parse(sent.attest), magic=0x12345678).encode()
    lie = changed(inputs, attest=magic, signature=bench.machine.sign(_AK, magic))
    broken = ("quote", "it does not begin like a TPM's own structures, so TPM2_Sign signs it for anybody")
    bench.attack("quote-magic", "quote forged through TPM2_Sign", _OF, broken, lie, "B1 quote-magic !")
    attest, signature = bench.machine.get_time(_AK, asked_for.qualifying_data)
    lie = changed(inputs, attest=attest, signature=signature)
    broken = ("quote", "TPM2_GetTime by the same key, with the right extraData")
    bench.attack("quote-type", "attestation of another type", _OF, broken, lie, "B2 quote-type !")
    for name, text, attest in (
        ("trailing", "one byte follows the structure", sent.attest + b"\0"),
        ("cut", "the last byte is missing", sent.attest[:-1]),
        ("empty", "there is nothing", b""),
    ):
        lie = changed(inputs, attest=attest)
        bench.attack(f"quote-{name}", _BYTES, _OF, ("attest", text), lie, "B3 quote-malformed !")


def _signatures(bench: Bench) -> None:
    """B4."""
    inputs, asked_for, sent = _of(bench)

    def attack(name: str, what: str, text: str, mark: str = " !", **changes: bytes) -> None:
        thing = "quote" if len(changes) == 2 else next(iter(changes))
        lie = changed(inputs, **changes)
        bench.attack(f"quote-{name}", what, _OF, (thing, text), lie, f"B4 quote-signature{mark}")

    bench.other.boot(bench.recorded("good").without_runtime())
    theirs = bench.other.quote(_AK, asked(asked_for), asked_for.qualifying_data)
    attack("other-host", _OTHERS, "another host in the same state quoted", attest=theirs[0], signature=theirs[1])
    _, earlier = bench.machine.quote(_AK, asked(asked_for), bytes(32))
    attack("other-signature", "replayed evidence", "the signature is that of an earlier quote", signature=earlier)
    zero = Signature(Alg.ECDSA, Alg.SHA256, r=bytes(32), s=bytes(32)).encode()
    attack("zero-signature", _OTHERS, "both numbers of the ECDSA signature are zero", signature=zero)
    attack("signature-trailing", _BYTES, "a byte follows the signature", mark="", signature=sent.signature + b"\0")
    attack("signature-empty", _OTHERS, "there is no signature", signature=b"")
    data = Attest.parse(sent.attest)
    later = dataclasses.replace(data.clock_info, clock=data.clock_info.clock + 86_400_000)
    attest = dataclasses.replace(data, clock_info=later).encode()
    attack("altered", "clock rolled back", "the clock in it was set a day ahead after it was signed", attest=attest)


def _signed_by_software(bench: Bench) -> None:
    """B2 to B4, signed by keys that a maker certified and that sign what no TPM would."""
    inputs, _, sent = _of(bench, _SOFT)
    keys = bench.software[_SOFT]
    longer = sent.attest + b"\0"
    lie = changed(inputs, attest=longer, signature=keys.sign(longer))
    broken = ("quote", "one byte follows the structure, and is signed with it")
    bench.attack("quote-trailing-signed", _BYTES, _SOFT, broken, lie, "B3 quote-malformed")
    certify = sent.attest[:4] + _CERTIFY.to_bytes(2, "big") + sent.attest[6:]
    lie = changed(inputs, attest=certify, signature=keys.sign(certify))
    broken = ("quote", "the body of a quote, signed as the certificate of a key (TPM_ST_ATTEST_CERTIFY)")
    what = "attestation of another type"
    bench.attack("quote-type-rewritten", what, _SOFT, broken, lie, "B2 quote-type !")
    assert isinstance(keys.ak_key, ec.EllipticCurvePrivateKey)
    r, s = decode_dss_signature(keys.ak_key.sign(sent.attest, ec.ECDSA(hashes.SHA384())))
    other = Signature(Alg.ECDSA, Alg.SHA384, r=r.to_bytes(32, "big"), s=s.to_bytes(32, "big")).encode()
    broken = ("signature", "the key signed with another hash than it is made for")
    lie = changed(inputs, signature=other)
    bench.attack("quote-other-hash", _OTHERS, _SOFT, broken, lie, "B4 quote-signature")
    of = f"{_SOFT}-rsa"
    inputs, _, sent = _of(bench, of)
    key = bench.software[of].ak_key
    assert isinstance(key, rsa.RSAPrivateKey)
    pss = key.sign(sent.attest, padding.PSS(padding.MGF1(hashes.SHA256()), 32), hashes.SHA256())
    lie = changed(inputs, signature=Signature(Alg.RSAPSS, Alg.SHA256, rsa=pss).encode())
    broken = ("signature", "the key signed with RSAPSS and is made for RSASSA")
    bench.attack("quote-other-scheme", _OTHERS, of, broken, lie, "B4 quote-signature")


def _binding(bench: Bench) -> None:
    """B5."""
    inputs, asked_for, _ = _of(bench)
    for name, text, data in (
        ("replayed", "the verifier asked anew, the quote is the old one", hashlib.sha256(b"a new question").digest()),
        ("nonce-zero", "the verifier's question is all zeros, which extraData is not", bytes(32)),
    ):
        lie = changed(inputs, qualifying_data=data)
        broken = ("qualifying-data", text)
        bench.attack(f"quote-{name}", "replayed evidence", _OF, broken, lie, "B5 quote-binding !")
    for name, text, data in (
        ("nonce-empty", "extraData is empty", b""),
        ("nonce-cut", "extraData is the beginning of what was asked for", asked_for.qualifying_data[:16]),
        ("nonce-longer", "extraData is what was asked for and a zero byte", asked_for.qualifying_data + b"\0"),
    ):
        attest, signature = bench.machine.quote(_AK, asked(asked_for), data)
        lie = changed(inputs, attest=attest, signature=signature)
        bench.attack(f"quote-{name}", "replayed evidence", _OF, ("quote", text), lie, "B5 quote-binding !")


def _selections(bench: Bench) -> None:
    """B7: what was signed is not what was asked for, while everything shown is that of a good host."""
    _, asked_for, _ = _of(bench)
    stop = "B7 quote-selection"

    def attack(name: str, what: str, text: str, *signed: PcrSelection, of: str = _OF, mark: str = " !") -> None:
        attest, signature = bench.machine.quote(_AK, signed, asked_for.qualifying_data)
        lie = changed(bench[of].inputs, attest=attest, signature=signature)
        bench.attack(f"quote-{name}", what, of, ("quote", text), lie, stop + mark)

    attack("fewer-pcrs", _RELABELLED, "it covers PCR 0 alone", PcrSelection(Alg.SHA256, (0,)))
    attack("no-pcrs", _RELABELLED, "it covers no PCR", PcrSelection(Alg.SHA256, ()))
    attack("nothing-selected", _RELABELLED, "it has no selection at all")
    attack("more-pcrs", _RELABELLED, "it covers one PCR more", PcrSelection(Alg.SHA256, (*BOOT_PCRS, 14)))
    attack("sha1-instead", "SHA-1-only quote", "it covers the SHA-1 bank", PcrSelection(Alg.SHA1, BOOT_PCRS))
    both = [PcrSelection(alg, BOOT_PCRS) for alg in (Alg.SHA256, Alg.SHA1)]
    text = "the banks stand in another order than was asked for"
    attack("banks-swapped", _RELABELLED, text, *both, of="good-two-banks", mark="")
    good = bench.recorded("good").without_runtime()
    extra = boot_event(11, EventType.IPL, b"a bad thing", banks=_BANKS)
    bench.machine.boot(good.with_events([*good.events.events, extra]))
    for event in good.events.events:
        if event.pcr == 11:
            bench.machine.extend(16, event)
    text = "a bad machine built the good PCR 11 in PCR 16 and had that signed; place and value are the same"
    attack("relabelled", _RELABELLED, text, PcrSelection(Alg.SHA256, (*range(10), 16)))
    bench.machine.boot(good)


def _other_requests(bench: Bench) -> None:
    """B7: a verifier that asks for what proves nothing must notice all the same."""
    good = bench.recorded("good").without_runtime()
    for name, what, text, question, code in (
        ("debug-pcr", "quote over debug PCRs", "PCR 16 is asked for", request((*BOOT_PCRS, 16)), "quote-debug-pcr"),
        ("sha1-only", "SHA-1-only quote", "only the SHA-1 bank is asked for", request(banks=["sha1"]), "quote-bank"),
    ):
        lie = replace(bench[_OF].inputs, request=question, evidence=bench.quoted(good, question))
        bench.attack(f"quote-{name}", what, _OF, ("selection", text), lie, f"B7 {code}")


def _values(bench: Bench) -> None:
    """B8: values beside the quote that are not those under it."""
    inputs, asked_for, sent = _of(bench)
    good = sent.pcrs["sha256"]
    at = good["4"] + good["5"]
    for name, text, values in (
        ("pcrs-swapped", "the values of PCR 4 and 5 have changed places", {"4": good["5"], "5": good["4"]}),
        ("pcr-altered", "the value of PCR 7 is another", {"7": "00" * 32}),
        ("pcr-missing", "the value of PCR 7 is missing", {"7": None}),
        (
            "pcr-boundary",
            "one byte moved from PCR 5 to PCR 4; in a row they look the same",
            {"4": at[:66], "5": at[66:]},
        ),
    ):
        claimed = {pcr: value for pcr, value in {**good, **values}.items() if value is not None}
        lie = changed(inputs, pcrs={"sha256": claimed})
        bench.attack(f"quote-{name}", _RELABELLED, _OF, ("pcrs", text), lie, "B8 quote-pcr-digest !")
    bench.machine.boot(bench.recorded("kernel").without_runtime())
    attest, signature = bench.machine.quote(_AK, asked(asked_for), asked_for.qualifying_data)
    lie = changed(inputs, attest=attest, signature=signature)
    broken = ("quote", "a machine with another kernel quoted, and shows the values and the log of a good one")
    bench.attack("quote-other-boot", _RELABELLED, _OF, broken, lie, "B8 quote-pcr-digest !")


def _memory(bench: Bench) -> None:
    """B9 and B10."""
    of = "good-memory"
    inputs, asked_for, _ = _of(bench, of)
    seen = asked_for.last_seen
    assert seen is not None

    def attack(name: str, what: str, text: str, last: LastSeen, code: str) -> None:
        lie = changed(inputs, last_seen=last)
        bench.attack(f"quote-{name}", what, of, ("last-seen", text), lie, f"B9 quote-{code}")

    day = 86_400_000
    text = "the TPM counts fewer resets than when it was last seen"
    attack("reset-count", "TPM cleared", text, replace(seen, reset_count=seen.reset_count + 3), "reset-count")
    text = "the TPM counts fewer restarts than before in this boot"
    attack("restart-count", "clock rolled back", text, replace(seen, restart_count=9), "restart-count")
    text = "the clock of the TPM was a day ahead in this boot"
    attack("clock", "clock rolled back", text, replace(seen, clock=seen.clock + day), "clock")
    lie = changed(inputs, firmware_allowed=("0000000000000001",))
    broken = ("firmware-allowed", "the firmware of the TPM is not one that is allowed")
    bench.attack("quote-firmware", "untrusted-host launch", of, broken, lie, "B10 quote-firmware")


def add_missing_bank(bench: Bench) -> None:
    """B7, and the last of all, for it switches banks off: the TPM signs an empty selection without complaint."""
    of = "good-sha384"
    inputs, asked_for, _ = _of(bench, of)
    bench.machine.allocate([Alg.SHA256])
    bench.machine.tpm.reset(orderly=True)
    attest, signature = bench.machine.quote(_AK, asked(asked_for), asked_for.qualifying_data)
    lie = changed(inputs, attest=attest, signature=signature)
    broken = ("quote", "the TPM has no SHA-384 bank; the values and the log shown are those of a good one")
    bench.attack("quote-missing-bank", "quote over a missing bank", of, broken, lie, "B7 quote-selection !")
