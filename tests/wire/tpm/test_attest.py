"""TPMS_ATTEST: round trips, refusals, other people's quotes."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from watchword.errors import MalformedError
from watchword.wire.tpm.algorithms import Alg
from watchword.wire.tpm.attest import GENERATED_VALUE, ST_ATTEST_QUOTE, Attest, ClockInfo, QuoteInfo
from watchword.wire.tpm.pcr import PcrSelection, pcr_digest

QUOTE = Attest(
    GENERATED_VALUE,
    ST_ATTEST_QUOTE,
    b"\x00\x0b" + bytes(32),
    b"e" * 32,
    ClockInfo(1 << 40, 7, 2, safe=True),
    0x20191023_00163636,
    QuoteInfo((PcrSelection(Alg.SHA256, (0, 1, 10)), PcrSelection(Alg.SHA1, ())), b"d" * 32),
)


def test_round_trip() -> None:
    assert Attest.parse(QUOTE.encode()) == QUOTE


def test_another_type_keeps_its_bytes() -> None:
    other = Attest(1, 0x8014, b"", b"", QUOTE.clock_info, 0, b"whatever")
    assert Attest.parse(other.encode()) == other


def test_the_largest_that_is_taken() -> None:
    named = Attest(1, 0x8014, b"n" * 66, b"e" * 66, QUOTE.clock_info, 0, b"")
    largest = replace(named, attested=b"x" * (2048 - len(named.encode())))
    assert Attest.parse(largest.encode()) == largest
    with pytest.raises(MalformedError, match="longer"):
        Attest.parse(largest.encode() + b"x")


def test_every_shorter_and_longer_form_is_malformed() -> None:
    data = QUOTE.encode()
    for size in range(len(data)):
        with pytest.raises(MalformedError):
            Attest.parse(data[:size])
    with pytest.raises(MalformedError, match="qualifiedSigner of 34 bytes; 66 allowed, 33 left"):
        Attest.parse(data[: 8 + 33])
    with pytest.raises(MalformedError, match="trailing"):
        Attest.parse(data + b"\0")
    with pytest.raises(MalformedError, match="longer"):
        Attest.parse(data + bytes(3000))


@pytest.mark.parametrize(
    ("at", "value", "why"),
    [
        (6, b"\x00\x43", "qualifiedSigner"),
        (42, b"\x00\x43", "extraData"),
        (92, b"\x02", "safe"),
        (101, b"\x00\x00\x00\x11", "selections"),
    ],
)
def test_bounds(at: int, value: bytes, why: str) -> None:
    data = bytearray(QUOTE.encode())
    data[at : at + len(value)] = value
    with pytest.raises(MalformedError, match=why):
        Attest.parse(bytes(data) + bytes(100))


def _quotes(corpus: Path) -> dict[str, bytes]:
    folder = corpus / "keylime+keylime/quotes"
    snp = corpus / "confidential-containers+trustee/az-snp-vtpm"
    windows = json.loads((corpus / "google+go-attestation/evidence/windows_gcp_shielded_vm.json").read_text())
    cmc = json.loads((corpus / "Fraunhofer-AISEC+cmc/quotes/cmc_tpm_quote.json").read_text())
    rust = (folder / "rust-keylime_test-quote.txt").read_text()[1:].split(":")[0]
    return {
        "simulator": (folder / "keylime_test-data_files/quote.out").read_bytes(),
        "rust": base64.b64decode(rust),
        "azure": (snp / "tpm-quote.msg").read_bytes(),
        "windows": base64.b64decode(windows["Quote"]["Quote"]),
        "cmc": bytes.fromhex(cmc["quote_tpms_attest"]),
    }


def test_other_peoples_quotes(corpus: Path) -> None:
    for name, data in _quotes(corpus).items():
        quote = Attest.parse(data)
        assert quote.encode() == data, name
        assert (quote.magic, quote.type) == (GENERATED_VALUE, ST_ATTEST_QUOTE), name
    windows = json.loads((corpus / "google+go-attestation/evidence/windows_gcp_shielded_vm.json").read_text())
    creation = base64.b64decode(windows["AK"]["CreateAttestation"])
    assert Attest.parse(creation).encode() == creation


def test_other_peoples_pcr_digest(corpus: Path) -> None:
    path = corpus / "immune-gmbh+guard-oss/evidence/ludmilla.evidence.slim.json"
    evidence = json.loads(path.read_text())
    quote = Attest.parse(base64.b64decode(evidence["quote"]))
    values = {
        Alg(int(bank)): {int(pcr): base64.b64decode(value) for pcr, value in pcrs.items()}
        for bank, pcrs in evidence["allpcrs"].items()
    }
    assert isinstance(quote.attested, QuoteInfo)
    assert pcr_digest(Alg.SHA256, quote.attested.selections, values) == quote.attested.pcr_digest


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 160), st.binary(max_size=12), st.binary(max_size=200))
def test_any_bytes_parse_to_the_same_bytes_or_are_malformed(at: int, junk: bytes, noise: bytes) -> None:
    data = QUOTE.encode()
    for candidate in (noise, data[:at] + junk + data[at + len(junk) :], data[:at] + noise):
        try:
            parsed = Attest.parse(candidate)
        except MalformedError:
            continue
        assert parsed.encode() == candidate
