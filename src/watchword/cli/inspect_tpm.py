"""What a quote file and an EK certificate say, for ``watchword inspect``. Nothing here was verified."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from watchword.cli.output import finding_document, printable
from watchword.errors import Finding, Rejected
from watchword.verify.certificate import (
    Certificate,
    fingerprint,
    issuer_text,
    pem_certificates,
    read_stored,
    subject_text,
    tpm_names,
)
from watchword.verify.certificate_key import describe_key
from watchword.verify.ek import check_certificate, host_id, rebuild_public
from watchword.wire.reader import parse_whole
from watchword.wire.tpm.algorithms import hash_name
from watchword.wire.tpm.attest import GENERATED_VALUE, ST_ATTEST_QUOTE, Attest, QuoteInfo
from watchword.wire.tpm.templates import EkKind

__all__ = ["describe_ek_certificate", "describe_quote"]

_MAX_ATTEST = 2048
_MAX_PEM = 16384  # bytes
_TPM_NAMES = {"2.23.133.2.1": "manufacturer", "2.23.133.2.2": "model", "2.23.133.2.3": "version"}


def describe_quote(data: bytes) -> dict[str, Any]:
    """The fields of a TPMS_ATTEST, or of a TPM2B_ATTEST around one, as JSON values.

    Raises MalformedError when ``data`` is neither.
    """
    quote = Attest.parse(_unframed(data))
    clock, attested = quote.clock_info, quote.attested
    document: dict[str, Any] = {
        "format": "TPMS_ATTEST",
        "verified": False,
        "magic": f"{quote.magic:08x}",
        "type": f"{quote.type:04x}",
        "is_quote": isinstance(attested, QuoteInfo),
        "qualified_signer": quote.qualified_signer.hex(),
        "extra_data": quote.extra_data.hex(),
        "clock_ms": clock.clock,
        "reset_count": clock.reset_count,
        "restart_count": clock.restart_count,
        "safe": clock.safe,
        "firmware_version": f"{quote.firmware_version:016x}",
    }
    if isinstance(attested, QuoteInfo):
        document["selections"] = [
            {"bank": hash_name(selection.bank), "pcrs": list(selection.pcrs)} for selection in attested.selections
        ]
        document["pcr_digest"] = attested.pcr_digest.hex()
    document["findings"] = [finding_document(finding) for finding in _quote_findings(quote)]
    return document


def _unframed(data: bytes) -> bytes:
    """Without the size of a TPM2B_ATTEST. The magic number tells: no structure is 65364 bytes long."""
    if data[:4] == GENERATED_VALUE.to_bytes(4, "big"):
        return data
    if data[2:6] == GENERATED_VALUE.to_bytes(4, "big"):
        return parse_whole(data, "TPM2B_ATTEST", lambda reader: reader.sized16(_MAX_ATTEST, "attest"))
    return data


def _quote_findings(quote: Attest) -> Iterator[Finding]:
    if quote.magic != GENERATED_VALUE:
        yield Finding("B1", "quote-magic", "what was signed was not made inside a TPM")
    if quote.type != ST_ATTEST_QUOTE:
        yield Finding("B2", "quote-type", "this attestation is not a quote")


def describe_ek_certificate(data: bytes) -> dict[str, Any]:
    """What an EK certificate (PEM, DER, or as NV memory holds it) says, as JSON values.

    ``host_ids`` maps every template that makes such a key to the host id that would follow. Raises MalformedError.
    """
    stored = read_stored(_der(data))
    certificate = stored.certificate
    host_ids, findings = _host_ids(certificate), [*stored.deviations, *_certificate_findings(certificate)]
    if not host_ids:
        findings.append(Finding("A2", "ek-key", "no template makes a key like this"))
    return {
        "format": "X.509",
        "verified": False,
        "subject": printable(subject_text(certificate)),
        "issuer": printable(issuer_text(certificate)),
        "serial": f"{certificate.serial_number:x}",
        "not_before": _moment(certificate.not_before),
        "not_after": _moment(certificate.not_after),
        "key": describe_key(certificate.key),
        "tpm": _tpm(certificate),
        "fingerprint": fingerprint(stored.der),
        "host_ids": host_ids,
        "findings": [finding_document(finding) for finding in findings],
    }


def _der(data: bytes) -> bytes:
    return next(pem_certificates(data[:_MAX_PEM]), data)


def _moment(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()


def _certificate_findings(certificate: Certificate) -> tuple[Finding, ...]:
    try:
        return check_certificate(certificate)
    except Rejected as refused:
        return refused.findings


def _host_ids(certificate: Certificate) -> dict[str, str]:
    found = {}
    for kind in EkKind:
        try:
            found[kind.name] = host_id(rebuild_public(certificate, kind)).hex()
        except Rejected:
            continue
    return found


def _tpm(certificate: Certificate) -> dict[str, str]:
    """Maker, model and firmware version, which the TCG profile puts into the subject alternative name."""
    return {_TPM_NAMES[oid]: printable(text) for oid, text in tpm_names(certificate) if oid in _TPM_NAMES}
