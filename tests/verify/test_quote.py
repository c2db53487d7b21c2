"""Clauses B1 to B10: one thing broken in a good quote, signed all the same, and the one check that notices."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from hypothesis import given, settings
from hypothesis import strategies as st

from watchword.crypto.tpm_seal import make_credential
from watchword.errors import Rejected
from watchword.testing.tpm2_tools import Tpm2Tools, missing_programs, tpm2_tools
from watchword.testing.tpm_keys import TpmKeys
from watchword.verify.ak import prove_ak, restore_ak
from watchword.verify.ek import EkClass, host_id, verify_pinned_ek
from watchword.verify.quote import LastSeen, VerifiedPcrs, verify_quote
from watchword.wire.tpm.algorithms import Alg
from watchword.wire.tpm.attest import Attest, ClockInfo, QuoteInfo
from watchword.wire.tpm.pcr import PcrSelection, Selections
from watchword.wire.tpm.public import Public
from watchword.wire.tpm.signature import Signature
from watchword.wire.tpm.templates import EkKind

BINDING = b"b" * 32
SELECTIONS = (PcrSelection(Alg.SHA256, (0, 4, 7, 10)),)
VALUES = {
    Alg.SHA256: {pcr: bytes([pcr]) * 32 for pcr in range(24)},
    Alg.SHA1: {pcr: bytes([pcr]) * 20 for pcr in range(24)},
}
TPM = TpmKeys()
AK = TPM.verified_ak()
GOOD = TPM.attest(SELECTIONS, VALUES, BINDING)
LAST = LastSeen(GOOD.clock_info.reset_count, 0, GOOD.clock_info.clock, safe=True)


def _verify(quote: Attest | bytes = GOOD, **changes) -> VerifiedPcrs:
    data = quote if isinstance(quote, bytes) else quote.encode()
    arguments = {
        "attest": data,
        "signature": TPM.sign(data),
        "pcrs": VALUES,
        "ak": AK,
        "binding": BINDING,
        "selections": SELECTIONS,
        "last": LAST,
        "firmware_allowed": frozenset({TPM.firmware_version}),
    }
    return verify_quote(**(arguments | changes))


def _refused(clause: str, code: str, quote: Attest | bytes = GOOD, **changes) -> Rejected:
    with pytest.raises(Rejected) as caught:
        _verify(quote, **changes)
    assert (caught.value.clause, caught.value.code) == (clause, code)
    return caught.value


def _quoting(selections: Selections) -> Attest:
    return TPM.attest(selections, VALUES, BINDING)


def test_a_good_quote() -> None:
    verified = _verify()
    assert verified.host_id == AK.host_id
    assert verified.selections == SELECTIONS
    assert verified.clock_info == TPM.clock_info
    assert verified.firmware_version == TPM.firmware_version


def test_only_what_was_signed_is_returned() -> None:
    values = _verify().values
    assert {alg: set(bank) for alg, bank in values.items()} == {Alg.SHA256: {0, 4, 7, 10}}
    assert all(values[Alg.SHA256][pcr] == VALUES[Alg.SHA256][pcr] for pcr in (0, 4, 7, 10))
    with pytest.raises(TypeError):
        values[Alg.SHA256][0] = bytes(32)  # type: ignore[index]


@pytest.mark.parametrize("scheme", [Alg.RSASSA, Alg.RSAPSS])
def test_a_good_rsa_quote(scheme: Alg) -> None:
    tpm = TpmKeys(ak_scheme=scheme)
    attest, signature = tpm.quote(SELECTIONS, VALUES, BINDING)
    assert _verify(attest, signature=signature, ak=tpm.verified_ak()).selections == SELECTIONS
    other = Alg.RSAPSS if scheme is Alg.RSASSA else Alg.RSASSA
    relabelled = replace(Signature.parse(signature), scheme=other).encode()
    _refused("B4", "quote-signature", attest, signature=relabelled, ak=tpm.verified_ak())
    bent = signature[:-1] + bytes([signature[-1] ^ 1])
    _refused("B4", "quote-signature", attest, signature=bent, ak=tpm.verified_ak())


def test_several_banks_in_the_order_asked_for() -> None:
    both = (*SELECTIONS, PcrSelection(Alg.SHA1, (0,)))
    verified = _verify(_quoting(both), selections=both)
    assert verified.values[Alg.SHA1] == {0: bytes(20)}
    _refused("B7", "quote-selection", _quoting(both), selections=both[::-1])


def test_an_empty_selection_needs_no_values() -> None:
    both = (PcrSelection(Alg.SHA384, ()), *SELECTIONS)
    only = {Alg.SHA256: VALUES[Alg.SHA256]}
    assert _verify(_quoting(both), selections=both, pcrs=only).values[Alg.SHA384] == {}


# --- B1, B2, B3 -----------------------------------------------------------------------------------------------------


def test_b1_magic() -> None:
    _refused("B1", "quote-magic", replace(GOOD, magic=0xFF544348))


@pytest.mark.parametrize("kind", [0x8014, 0x8017, 0x801A, 0x8019])
def test_b2_type(kind: int) -> None:
    assert isinstance(GOOD.attested, QuoteInfo)
    _refused("B2", "quote-type", replace(GOOD, type=kind, attested=GOOD.attested.encode()))


@pytest.mark.parametrize("tail", [b"\0", b"\xff" * 40])
def test_b3_trailing_bytes(tail: bytes) -> None:
    _refused("B3", "quote-malformed", GOOD.encode() + tail)


def test_b3_cut_short() -> None:
    _refused("B3", "quote-malformed", GOOD.encode()[:-1])


# --- B4 -------------------------------------------------------------------------------------------------------------


def test_b4_another_hosts_quote() -> None:
    _refused("B4", "quote-signature", signature=TpmKeys().sign(GOOD.encode()))


def test_b4_altered_after_signing() -> None:
    _refused("B4", "quote-signature", signature=TPM.sign(replace(GOOD, extra_data=b"c" * 32).encode()))


def test_b4_another_hash_than_the_keys() -> None:
    # A correct ECDSA signature by the right key, over another hash.
    assert isinstance(TPM.ak_key, ec.EllipticCurvePrivateKey)
    r, s = decode_dss_signature(TPM.ak_key.sign(GOOD.encode(), ec.ECDSA(hashes.SHA384())))
    both = [value.to_bytes(32, "big") for value in (r, s)]
    other = Signature(Alg.ECDSA, Alg.SHA384, r=both[0], s=both[1])
    _refused("B4", "quote-signature", signature=other.encode())


@pytest.mark.parametrize("r", [b"", bytes(32), b"\xff" * 32, b"\xff" * 80])
def test_b4_numbers_out_of_range(r: bytes) -> None:
    bad = Signature(Alg.ECDSA, Alg.SHA256, r=r, s=b"\1" * 32)
    _refused("B4", "quote-signature", signature=bad.encode())


@pytest.mark.parametrize("signature", [b"", b"\x00\x18\x00\x0b", TPM.sign(b"")[:-1], TPM.sign(b"") + b"\0"])
def test_b4_signature_malformed(signature: bytes) -> None:
    _refused("B4", "quote-signature", signature=signature)


def test_b4_signature_of_another_kind_of_key() -> None:
    _refused("B4", "quote-signature", signature=TpmKeys(ak_scheme=Alg.RSASSA).sign(GOOD.encode()))


# --- B5 -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("extra", [b"", BINDING[:-1], BINDING + b"b", b"c" * 32])
def test_b5_binding(extra: bytes) -> None:
    _refused("B5", "quote-binding", replace(GOOD, extra_data=extra))


def test_b5_an_empty_binding_is_our_own_mistake() -> None:
    with pytest.raises(ValueError):
        _verify(replace(GOOD, extra_data=b""), binding=b"")


# --- B7 -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "signed",
    [
        (),
        (PcrSelection(Alg.SHA256, (0, 4, 7)),),
        (PcrSelection(Alg.SHA256, (0, 4, 7, 10, 11)),),
        (PcrSelection(Alg.SHA256, (1, 4, 7, 10)),),
        (PcrSelection(Alg.SHA1, (0, 4, 7, 10)),),
        (PcrSelection(Alg.SHA256, ()),),  # what a TPM without the bank signs
        (PcrSelection(Alg.SHA256, (0, 4)), PcrSelection(Alg.SHA256, (7, 10))),
    ],
)
def test_b7_another_selection(signed: Selections) -> None:
    _refused("B7", "quote-selection", _quoting(signed))


@pytest.mark.parametrize("pcr", [16, 23])
def test_b7_debug_pcrs(pcr: int) -> None:
    asked = (PcrSelection(Alg.SHA256, (0, pcr)),)
    _refused("B7", "quote-debug-pcr", _quoting(asked), selections=asked)


@pytest.mark.parametrize(
    "asked",
    [(), (PcrSelection(Alg.SHA1, (0, 7)),), (PcrSelection(Alg.SHA1, (0,)), PcrSelection(Alg.SHA256, ()))],
)
def test_b7_sha1_only(asked: Selections) -> None:
    _refused("B7", "quote-bank", _quoting(asked), selections=asked)


# --- B8 -------------------------------------------------------------------------------------------------------------


def _values(**changes) -> dict:
    return {Alg.SHA256: VALUES[Alg.SHA256] | {int(name[1:]): value for name, value in changes.items()}}


@pytest.mark.parametrize(
    "pcrs",
    [
        {},
        {Alg.SHA256: {0: bytes(32)}},
        _values(p7=b"\xee" * 32),
        _values(p0=bytes([4]) * 32, p4=bytes(32)),  # the right values under each other's label
        _values(p0=bytes(31), p4=b"\0" + bytes([4]) * 32),  # a byte moved over the border
        {Alg.SHA1: VALUES[Alg.SHA256]},
    ],
)
def test_b8_values(pcrs: dict) -> None:
    _refused("B8", "quote-pcr-digest", pcrs=pcrs)


# --- B9 -------------------------------------------------------------------------------------------------------------


def _clock(**changes) -> Attest:
    return replace(GOOD, clock_info=replace(ClockInfo(10**9, 7, 3, safe=True), **changes))


SEEN = LastSeen(reset_count=7, restart_count=3, clock=10**9, safe=True)
MINUTE = 60_000


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"clock": 10**9 - 4 * MINUTE},  # two launches under way
        {"restart_count": 4},
        {"reset_count": 8, "restart_count": 0},
        {"reset_count": 8, "clock": 10**9 - 60 * MINUTE, "safe": False},  # power loss
    ],
)
def test_b9_what_a_clock_may_do(changes: dict) -> None:
    assert _verify(_clock(**changes), last=SEEN).clock_info.reset_count >= 7


@pytest.mark.parametrize(
    ("code", "changes"),
    [
        ("quote-reset-count", {"reset_count": 6, "clock": 10**9 + 1}),
        ("quote-reset-count", {"reset_count": 0, "clock": 0}),
        ("quote-restart-count", {"restart_count": 2}),
        ("quote-clock", {"clock": 10**9 - 6 * MINUTE}),
        ("quote-clock", {"clock": 10**9 - 6 * MINUTE, "safe": False}),
        ("quote-clock", {"reset_count": 8, "clock": 10**9 - 1}),
        ("quote-clock", {"reset_count": 8, "clock": 10**9 - 71 * MINUTE, "safe": False}),
    ],
)
def test_b9_what_it_may_not(code: str, changes: dict) -> None:
    _refused("B9", code, _clock(**changes), last=SEEN)


def test_b9_a_host_never_seen_before() -> None:
    assert _verify(_clock(reset_count=0, clock=0), last=None)


def test_b9_what_is_remembered_never_goes_back_within_a_boot() -> None:
    assert LastSeen.after(None, ClockInfo(1, 1, 0, safe=False)) == LastSeen(1, 0, 1, safe=False)
    assert LastSeen.after(SEEN, ClockInfo(5, 7, 3, safe=True)) == SEEN
    assert LastSeen.after(SEEN, ClockInfo(5, 8, 0, safe=True)) == LastSeen(8, 0, 5, safe=True)
    assert LastSeen.after(SEEN, ClockInfo(10**9 + 1, 7, 3, safe=True)).clock == 10**9 + 1


# --- B10 and the type -----------------------------------------------------------------------------------------------


def test_b10_firmware() -> None:
    _refused("B10", "quote-firmware", firmware_allowed=frozenset({1, 2}))
    _refused("B10", "quote-firmware", firmware_allowed=frozenset())
    assert _verify(firmware_allowed=None)


def test_only_the_check_makes_verified_values() -> None:
    verified = _verify()
    with pytest.raises(TypeError):
        VerifiedPcrs(object(), b"", {}, (), TPM.clock_info, 0)
    with pytest.raises((TypeError, ValueError)):
        replace(verified, host_id=bytes(32))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, len(GOOD.encode()) - 1), st.integers(1, 255))
def test_no_byte_of_a_signed_quote_can_change(at: int, flip: int) -> None:
    data = bytearray(GOOD.encode())
    data[at] ^= flip
    with pytest.raises(Rejected):
        _verify(bytes(data), signature=SIGNATURE)


SIGNATURE = TPM.sign(GOOD.encode())


# --- a real TPM -----------------------------------------------------------------------------------------------------


@pytest.fixture
def tools() -> Iterator[Tpm2Tools]:
    if missing := missing_programs():
        pytest.skip(f"not installed: {', '.join(missing)}")
    with tpm2_tools() as tools:
        yield tools


def _real_quote(tools: Tpm2Tools, pcrs: str, *, bank: str = "sha256") -> tuple[bytes, bytes]:
    files = ["-m", "quote", "-s", "signature"]
    tools.run("tpm2_quote", "-c", "ak.ctx", "-l", f"{bank}:{pcrs}", "-q", BINDING.hex(), *files)
    return tools.read("quote"), tools.read("signature")


def test_a_real_tpm_from_enrolment_to_quote(tools: Tpm2Tools) -> None:
    public, ak_public = tools.make_ek(EkKind.P256), tools.make_ak()
    ek = verify_pinned_ek(public, {host_id(public): EkClass.VIRTUAL})
    secret = b"s" * 32
    credential = make_credential(ek.public, ak_public.name(), secret)
    ak = prove_ak(ek, ak_public, secret, tools.activate(ek.public, credential))
    tools.run("tpm2_pcrextend", "7:sha256=" + "22" * 32)
    attest, signature = _real_quote(tools, "0,4,7,10")
    values, clock = tools.pcrs((0, 4, 7, 10)), tools.clock()
    common = {"ak": ak, "firmware_allowed": None, "last": None}
    verified = _verify(attest, signature=signature, pcrs=values, **common)
    assert verified.values == values
    # Not obfuscated, because the key is in the endorsement hierarchy.
    assert verified.clock_info.reset_count == clock.reset_count
    later = LastSeen(clock.reset_count + 1, 0, 0, safe=True)
    wrong = {"signature": signature, "pcrs": values} | common
    _refused("B9", "quote-reset-count", attest, **(wrong | {"last": later}))
    _refused("B5", "quote-binding", attest, **(wrong | {"binding": b"c" * 32}))
    tools.run("tpm2_pcrextend", "7:sha256=" + "22" * 32)
    _refused("B8", "quote-pcr-digest", attest, **(wrong | {"pcrs": tools.pcrs((0, 4, 7, 10))}))
    debug, debug_signature = _real_quote(tools, "0,4,7,10,16")
    _refused("B7", "quote-selection", debug, **(wrong | {"signature": debug_signature}))


# --- other people's quotes ------------------------------------------------------------------------------------------


def _stranger(ak: Public):
    return restore_ak(host_id(TPM.ek), TPM.ek.encode(), ak.encode(), EkClass.HARDWARE)


def test_a_quote_of_a_hardware_tpm(corpus: Path) -> None:
    """The key of this machine was not kept with its quote, so the signature is the first thing that fails."""
    path = corpus / "immune-gmbh+guard-oss/evidence/ludmilla.evidence.slim.json"
    evidence = json.loads(path.read_text())
    quote, signature = (base64.b64decode(evidence[name]) for name in ("quote", "signature"))
    _refused("B4", "quote-signature", quote, signature=signature)


def test_a_real_sha1_quote_is_refused(corpus: Path) -> None:
    path = corpus / "google+go-attestation/evidence/windows_gcp_shielded_vm.json"
    evidence = json.loads(path.read_text())
    ak = Public.parse(base64.b64decode(evidence["AK"]["Public"]))
    with pytest.raises(Rejected) as caught:
        _stranger(ak)  # its scheme hashes with SHA-1
    assert caught.value.code == "ak-algorithm"
