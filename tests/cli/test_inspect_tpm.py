"""Descriptions of quotes and EK certificates."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from watchword.cli.inspect_tpm import describe_ek_certificate, describe_quote
from watchword.errors import MalformedError
from watchword.testing.tpm_keys import TpmKeys
from watchword.wire.tpm.algorithms import Alg
from watchword.wire.tpm.pcr import PcrSelection

SELECTIONS = (PcrSelection(Alg.SHA256, (0, 7)),)
QUOTE = TpmKeys().attest(SELECTIONS, {Alg.SHA256: {0: bytes(32), 7: bytes(32)}}, b"e" * 32)


def _codes(document) -> list[str]:
    return [finding["code"] for finding in document["findings"]]


def test_a_quote_with_and_without_its_size() -> None:
    data = QUOTE.encode()
    document = describe_quote(data)
    assert describe_quote(len(data).to_bytes(2, "big") + data) == document
    assert document["selections"] == [{"bank": "sha256", "pcrs": [0, 7]}]
    assert (document["reset_count"], document["extra_data"]) == (7, "65" * 32)
    assert document["verified"] is False
    assert _codes(document) == []
    json.dumps(document)


def test_what_is_no_quote_is_named() -> None:
    assert _codes(describe_quote(replace(QUOTE, magic=1).encode())) == ["quote-magic"]
    other = replace(QUOTE, type=0x8017, attested=b"")
    document = describe_quote(other.encode())
    assert (_codes(document), document["is_quote"]) == (["quote-type"], False)


@pytest.mark.parametrize("data", [b"", b"hello", QUOTE.encode()[:-1], b"\0\1" + QUOTE.encode()])
def test_no_quote(data: bytes) -> None:
    with pytest.raises(MalformedError):
        describe_quote(data)


def test_a_real_certificate(corpus: Path) -> None:
    data = (corpus / "immune-gmbh+guard-oss/ekcerts/philippEK_0.pem").read_bytes()
    document = describe_ek_certificate(data)
    assert document["tpm"]["manufacturer"] == "id:53544D20"
    assert document["key"] == "RSA 2048"
    assert set(document["host_ids"]) == {"RSA2048", "RSA2048_H"}
    assert _codes(document) == []
    json.dumps(document)


def test_a_padded_certificate(corpus: Path) -> None:
    data = (corpus / "openeuler-mirror+kunpengsecl/ekcerts/RSA_EK_cert.bin").read_bytes()
    assert _codes(describe_ek_certificate(data)) == ["ek-certificate-padding"]


def test_certificates_with_long_names_do_not_complain(corpus: Path) -> None:
    for path in sorted((corpus / "google+go-tpm-tools/certs").glob("uca_tpm_*.pem")):
        json.dumps(describe_ek_certificate(path.read_bytes()))


def test_an_authority_is_named(corpus: Path) -> None:
    data = (corpus / "keylime+keylime/certs/tpm_cert_store/STM_RSA_06I.pem").read_bytes()
    assert "ek-certificate-ca" in _codes(describe_ek_certificate(data))


@pytest.mark.parametrize("data", [b"", b"-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n", b"0" * 100])
def test_no_certificate(data: bytes) -> None:
    with pytest.raises(MalformedError):
        describe_ek_certificate(data)
