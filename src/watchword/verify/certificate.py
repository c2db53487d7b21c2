"""Reading an endorsement key certificate as it lies in a TPM: framing, padding, extensions.

TCG EK Credential Profile for TPM 2.0; the header is TCG_PCCLIENT_STORED_CERT of the TPM 1.2 era, which some makers
still write in front of the certificate.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from watchword.errors import Finding, MalformedError

__all__ = [
    "EKU_EK_CERTIFICATE",
    "StoredCertificate",
    "find_extension",
    "fingerprint",
    "load_certificate",
    "read_stored",
]

EKU_EK_CERTIFICATE = x509.ObjectIdentifier("2.23.133.8.1")  # tcg-kp-EKCertificate
MAX_CERTIFICATE = 8192  # bytes; the largest we have seen has 2100

_HEADER = bytes.fromhex("100100")  # stored certificate tag, type "full"
_FULL_CERTIFICATE = bytes.fromhex("1002")
_SEQUENCE = 0x30


_ExtensionT = TypeVar("_ExtensionT", bound=x509.ExtensionType)


@dataclass(frozen=True, slots=True)
class StoredCertificate:
    """A certificate found in NV or in a file: the exact DER, and how the bytes around it differed from the norm."""

    der: bytes
    certificate: x509.Certificate
    deviations: tuple[Finding, ...]


def read_stored(data: bytes) -> StoredCertificate:
    """Find and parse the one certificate in ``data`` (at most 8192 bytes): DER, DER with a header, DER with padding.

    Raises MalformedError when there is none, or when something other than zeros or ones follows it.
    """
    if len(data) > MAX_CERTIFICATE:
        raise _malformed(f"longer than {MAX_CERTIFICATE} bytes")
    body, deviations = _strip_header(data)
    size = _der_size(body)
    der, tail = body[:size], body[size:]
    if tail:
        if tail.strip(tail[:1]) or tail[0] not in (0x00, 0xFF):
            raise _malformed(f"{len(tail)} bytes that are not padding follow the certificate")
        deviations += (_deviation("ek-certificate-padding", "padding follows the certificate", len(tail)),)
    return StoredCertificate(der, load_certificate(der), deviations)


def load_certificate(der: bytes) -> x509.Certificate:
    """Parse ``der`` with all its extensions and its key. Raises MalformedError."""
    try:
        certificate = _load_quietly(der)
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.DuplicateExtension, x509.InvalidVersion) as error:
        raise _malformed(f"it does not parse: {str(error)[:120]}") from None
    except x509.UnsupportedGeneralNameType as error:
        raise _malformed(f"it has a name that does not parse: {str(error)[:120]}") from None
    return certificate


def _load_quietly(der: bytes) -> x509.Certificate:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the library comments on harmless habits of some makers
        certificate = x509.load_der_x509_certificate(der)
        # These are parsed lazily: ask for them here, so that later steps cannot stumble. Not the names: nothing is
        # decided by them here.
        _ = certificate.extensions, certificate.public_key()
    return certificate


def find_extension(extensions: x509.Extensions, kind: type[_ExtensionT]) -> _ExtensionT | None:
    """The extension of type ``kind``, or None."""
    for extension in extensions:
        if isinstance(extension.value, kind):
            return extension.value
    return None


def issuer_text(certificate: x509.Certificate) -> str:
    """The issuer's name for people; never a reason for a decision."""
    return _name_text(lambda: certificate.issuer)


def subject_text(certificate: x509.Certificate) -> str:
    """The subject's name for people; never a reason for a decision."""
    return _name_text(lambda: certificate.subject)


def _name_text(get: Callable[[], x509.Name]) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # over-long attributes are common and harm nobody
        try:
            return get().rfc4514_string()
        except (ValueError, TypeError):
            return "(a name that does not parse)"


def fingerprint(der: bytes) -> str:
    """The SHA-256 of a DER certificate, in hexadecimal."""
    return hashlib.sha256(der).hexdigest()


def _strip_header(data: bytes) -> tuple[bytes, tuple[Finding, ...]]:
    if data[:3] != _HEADER or data[5:7] != _FULL_CERTIFICATE:
        return data, ()
    size = int.from_bytes(data[3:5], "big")  # counts the two bytes of the inner tag
    if not 2 <= size <= len(data) - 5:
        raise _malformed(f"its header announces {size} bytes, {len(data) - 5} follow")
    return data[7:], (_deviation("ek-certificate-header", "a header precedes the certificate", 7),)


def _der_size(data: bytes) -> int:
    """Size of the DER SEQUENCE at the start of ``data``: definite, minimal length, whole."""
    if len(data) < 4 or data[0] != _SEQUENCE or not 0x81 <= data[1] <= 0x82:
        raise _malformed("no DER certificate at its start")
    count = data[1] - 0x80
    size = 2 + count + int.from_bytes(data[2 : 2 + count], "big")
    if size > len(data):
        raise _malformed(f"cut short: {size} bytes announced, {len(data)} present")
    return size


def _deviation(code: str, message: str, size: int) -> Finding:
    return Finding("A1", code, message, actual=f"{size} bytes", fatal=False)


def _malformed(why: str) -> MalformedError:
    return MalformedError(f"EK certificate: {why}", code="ek-certificate-malformed")
