"""Reading the files that an operator hands in: certificates, revocation lists, TPM public areas."""

from __future__ import annotations

import base64
import binascii
import re

from watchword.errors import MalformedError, UsageError
from watchword.verify.certificate import Certificate
from watchword.wire.tpm.public import Public

__all__ = ["read_certificate", "read_crl", "read_public"]

_PEM = b"-----BEGIN "


def read_certificate(data: bytes) -> Certificate:
    """The one certificate in a PEM or DER file. Raises :class:`MalformedError`, :class:`UsageError`."""
    # Not through a library: the anchor is the bytes that the maker signed, oddities included.
    return Certificate.parse(_only_pem(data, "CERTIFICATE", "certificate-file"))


def read_crl(data: bytes) -> bytes:
    """The DER bytes of the one revocation list in a PEM or DER file. Raises :class:`MalformedError`, UsageError."""
    return _only_pem(data, "X509 CRL", "crl-file")


def _only_pem(data: bytes, label: str, code: str) -> bytes:
    if _PEM not in data:
        return data
    found = re.findall(rb"-----BEGIN %b-----([^-]*)-----END %b-----" % ((label.encode(),) * 2), data)
    if len(found) != 1:
        raise UsageError(code, f"the file holds {len(found)} PEM texts of the kind {label}, give one")
    try:
        return base64.b64decode(b"".join(found[0].split()), validate=True)
    except binascii.Error:
        raise MalformedError(f"{label}: the PEM text is not base64") from None


def read_public(data: bytes) -> Public:
    """A TPM public area: TPM2B_PUBLIC, as tools write it, or TPMT_PUBLIC. Raises :class:`MalformedError`."""
    if len(data) >= 2 and int.from_bytes(data[:2], "big") == len(data) - 2:
        return Public.parse_2b(data)
    return Public.parse(data)
