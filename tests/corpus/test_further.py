"""What else other people's evidence has for us: certified keys, Secure Boot, single events.

What no test reads, and why, is in docs/reference/evidence-of-others.md.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

from watchword.verify.certificate import read_stored
from watchword.wire.tpm.attest import GENERATED_VALUE, Attest, QuoteInfo
from watchword.wire.tpm.public import Public
from watchword.wire.uefi import GptEvent, ImageLoad, device_path_text, parse_signatures

_CERTIFY = 0x8017  # TPM_ST_ATTEST_CERTIFY


def cbor_bytes(data: bytes, name: str) -> bytes:
    """The byte string that follows the text ``name`` in a map: enough of CBOR for these."""
    start = data.index(bytes((0x60 | len(name),)) + name.encode()) + 1 + len(name)
    width = {0x58: 1, 0x59: 2}[data[start]]
    size = int.from_bytes(data[start + 1 : start + 1 + width], "big")
    return data[start + 1 + width : start + 1 + width + size]


def test_keys_that_were_certified_in_hardware(corpus: Path, show: Any) -> None:
    """Three makers' TPMs: what they sign of a key has the name of the key that comes with it, and is no quote."""
    rows = json.loads((corpus / "duo-labs+py_webauthn/certify/webauthn_tpm_registrations.json").read_text())
    for row in rows:
        whole = base64.urlsafe_b64decode(row["credential"]["response"]["attestationObject"] + "==")
        attest, public = (cbor_bytes(whole, name) for name in ("certInfo", "pubArea"))
        found, key = Attest.parse(attest), Public.parse(public)
        assert found.encode() == attest
        assert key.encode() == public
        assert (found.magic, found.type) == (GENERATED_VALUE, _CERTIFY)
        assert not isinstance(found.attested, QuoteInfo)
        name = key.name()
        assert found.attested[: 2 + len(name)] == len(name).to_bytes(2, "big") + name
    show("keys certified by hardware TPMs have their name", len(rows), len(rows))


def test_secure_boot_updates_and_certificates_are_read(corpus: Path, show: Any) -> None:
    """Revocation lists behind their signature (EFI_VARIABLE_AUTHENTICATION_2), and the certificates that matter."""
    folder, numbers = corpus / "google+go-tpm-tools/secureboot", {}
    for path in sorted(folder.glob("dbxupdate*.bin")):
        data = path.read_bytes()
        entries = parse_signatures(data[16 + int.from_bytes(data[16:20], "little") :])
        assert {entry.type for entry in entries} <= {"sha256", "x509"}
        numbers[path.stem] = len(entries)
        for entry in entries:
            if entry.type == "x509":
                assert (folder / "canonical-boothole.crt").read_bytes() == entry.data or read_stored(entry.data)
    assert numbers == {"dbxupdate-2014-08-11": 13, "dbxupdate_x64-2020-10-12": 186, "dbxupdate_x64-2021-04-29": 211}
    certificates = [read_stored(path.read_bytes()) for path in sorted(folder.glob("*.crt"))]
    assert [each.deviations for each in certificates] == [()] * 7
    show("Secure Boot updates and certificates read", len(numbers) + 7, len(numbers) + 7)


def test_single_events(corpus: Path, show: Any) -> None:
    folder = corpus / "nsacyber+HIRS/events"
    gpt = GptEvent.parse(bytes.fromhex((folder / "EvEfiGptPartition.txt").read_text()))
    assert len(gpt.partitions) == 5
    image = ImageLoad.parse(bytes.fromhex((folder / "EvBootServicesApplication.txt").read_text()))
    assert device_path_text(image.device_path)
    show("single events of partitions and programs read", 2, 2)
