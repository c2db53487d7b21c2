"""Reading certificates of TPM makers: as they lie in NV memory or in files, over the original bytes.

TCG EK Credential Profile for TPM 2.0; RFC 5280. The reader is strict, and knows the deviations by name that real
makers' certificates have: see ``docs/reference/ek-certificates.md``. Reading is not judging: :mod:`watchword.verify.ek`
and :mod:`watchword.verify.chain` do that.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from watchword.crypto.tpm_key import PublicKey
from watchword.errors import Finding, MalformedError
from watchword.verify.certificate_key import RSAES_OAEP, Algorithm, parameters_fault, read_algorithm, read_key
from watchword.verify.der import INTEGER, SEQUENCE, Der, explicit, whole_sequence
from watchword.verify.distinguished_name import Attribute, attributes, is_ordered, name_text
from watchword.verify.extensions import Extensions, read_extensions, read_tpm_names
from watchword.wire.der_chain import MAX_CERTIFICATE, MAX_CHAIN, split_der_chain

__all__ = [
    "MAX_CERTIFICATE",
    "MAX_CHAIN",
    "Certificate",
    "StoredCertificate",
    "fingerprint",
    "issuer_text",
    "load_certificate",
    "parse_nv_chain",
    "pem_certificates",
    "read_stored",
    "subject_text",
    "tpm_names",
]

_MAX_SERIAL: Final = 1 << 159  # RFC 5280, 4.1.2.2: 20 bytes

_WHAT, _CODE = "EK certificate", "ek-certificate-malformed"
_HEADER = bytes.fromhex("100100")  # stored certificate tag, type "full"
_FULL_CERTIFICATE = bytes.fromhex("1002")
_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----([^-]*)-----END CERTIFICATE-----")


@dataclass(frozen=True, slots=True)
class Certificate:
    """An X.509 certificate, version 3.

    ``der`` is the whole, ``signed`` the part under the signature; ``issuer`` and ``subject`` are encoded names;
    ``not_before`` and ``not_after`` Unix seconds. ``oddities`` name where the encoding differs from the norm.
    """

    der: bytes
    signed: bytes
    algorithm: Algorithm
    signature: bytes
    serial_number: int
    issuer: bytes
    subject: bytes
    not_before: int
    not_after: int
    key_type: str
    key: PublicKey
    extensions: Extensions
    oddities: tuple[Finding, ...]

    @classmethod
    def parse(cls, der: bytes) -> Certificate:
        """Read ``der`` (at most 8192 bytes) to its last byte. Raises MalformedError (ek-certificate-malformed)."""
        if len(der) > MAX_CERTIFICATE:
            raise _malformed(f"longer than {MAX_CERTIFICATE} bytes")
        outer = whole_sequence(der, _WHAT, _CODE)
        signed = outer.take_whole(SEQUENCE)
        algorithm = read_algorithm(outer)
        signature = outer.whole_bytes()
        outer.finish()
        return _read_signed(der, signed, algorithm, signature)

    def named_oddities(self) -> Iterator[Finding]:
        """The oddities, each with the subject's name: for a certificate that is not the one in question."""
        return (replace(each, subject=subject_text(self)) for each in self.oddities)


@dataclass(frozen=True, slots=True)
class StoredCertificate:
    """A certificate found in NV or in a file: the exact DER, and how it and what is around it differ from the norm."""

    der: bytes
    certificate: Certificate
    deviations: tuple[Finding, ...]


def read_stored(data: bytes) -> StoredCertificate:
    """Find and parse the one certificate in ``data`` (at most 8192 bytes): DER, DER with a header, DER with padding.

    Raises MalformedError when there is none, or when something other than zeros or ones follows it.
    """
    if len(data) > MAX_CERTIFICATE:
        raise _malformed(f"longer than {MAX_CERTIFICATE} bytes")
    body, deviations = _strip_header(data)
    der = _first_element(body)
    tail = body[len(der) :]
    if tail:
        if not _is_padding(tail):
            raise _malformed(f"{len(tail)} bytes that are not padding follow the certificate")
        deviations += (_deviation("ek-certificate-padding", "padding follows the certificate", f"{len(tail)} bytes"),)
    certificate = Certificate.parse(der)
    return StoredCertificate(der, certificate, deviations + certificate.oddities)


def parse_nv_chain(data: bytes) -> tuple[bytes, ...]:
    """The DER certificates that a maker left in the NV indices from 0x01c00100 on, one behind the other.

    ``data`` is the contents of those indices in ascending order, at most 32 KiB; at most 8 certificates, each of which
    parses. Only padding may follow. Raises MalformedError. TCG EK Credential Profile, 2.2.1.5.
    """
    return tuple(Certificate.parse(der).der for der in split_der_chain(data))


def pem_certificates(data: bytes) -> Iterator[bytes]:
    """The DER certificates of a PEM file, text between them left out. Raises MalformedError when one is no base64."""
    for match in _PEM.finditer(data):
        try:
            yield base64.b64decode(b"".join(match.group(1).split()), validate=True)
        except binascii.Error:
            raise _malformed("the PEM is not base64") from None


def load_certificate(der: bytes) -> x509.Certificate:
    """Parse ``der`` with the library, all extensions and the key included. Raises MalformedError.

    It refuses some makers' certificates: what is decided here goes through :meth:`Certificate.parse`.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the library comments on harmless habits of some makers
            certificate = x509.load_der_x509_certificate(der)
            # These are parsed lazily: ask for them here, so that later steps cannot stumble.
            _ = certificate.extensions, certificate.public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.DuplicateExtension, x509.InvalidVersion) as error:
        raise _malformed(f"it does not parse: {str(error)[:120]}") from None
    except x509.UnsupportedGeneralNameType as error:
        raise _malformed(f"it has a name that does not parse: {str(error)[:120]}") from None
    return certificate


def issuer_text(certificate: Certificate) -> str:
    """The issuer's name for people; never a reason for a decision."""
    return _name_text(certificate.issuer)


def subject_text(certificate: Certificate) -> str:
    """The subject's name for people; never a reason for a decision."""
    return _name_text(certificate.subject)


def tpm_names(certificate: Certificate) -> tuple[Attribute, ...]:
    """The attributes that tell the TPM's maker, model and version, as object identifier and text; for people."""
    value = certificate.extensions.alternative_name
    return () if value is None else read_tpm_names(Der(value, _WHAT, _CODE))


def fingerprint(der: bytes) -> str:
    """The SHA-256 of a DER certificate, in hexadecimal."""
    return hashlib.sha256(der).hexdigest()


# --- the certificate ------------------------------------------------------------------------------------------------


def _read_signed(der: bytes, signed: bytes, algorithm: Algorithm, signature: bytes) -> Certificate:
    body = whole_sequence(signed, _WHAT, _CODE)
    _read_version(body)
    serial = body.integer()
    if not 0 <= serial < _MAX_SERIAL:
        raise body.fail("its serial number is negative or longer than 20 bytes")
    if read_algorithm(body) != algorithm:
        raise body.fail("the signature algorithm inside the signed part is another one")
    issuer = body.take_whole(SEQUENCE)
    validity = body.inside(SEQUENCE)
    not_before, not_after = validity.time(), validity.time()
    validity.finish()
    subject = body.take_whole(SEQUENCE)
    key_type, key = read_key(body)
    extensions = read_extensions(body.inside(explicit(3))) if body.more else Extensions()
    body.finish()
    return Certificate(
        der, signed, algorithm, signature, serial, issuer, subject, not_before, not_after, key_type, key, extensions,
        tuple(_oddities(issuer, subject, algorithm, key_type)),
    )  # fmt: skip


def _read_version(body: Der) -> None:
    if body.next_is(INTEGER):
        raise body.fail("it is an attribute certificate or one of version 1, not the certificate of a key")
    version = body.inside(explicit(0))
    number = version.integer()
    version.finish()
    if number != 2:
        raise body.fail("it is not of version 3")


def _oddities(issuer: bytes, subject: bytes, algorithm: Algorithm, key_type: str) -> Iterator[Finding]:
    for name, what in ((issuer, "issuer"), (subject, "subject")):
        # Both names must parse, whether or not anybody ever reads them.
        attributes(_name(name))
        if not is_ordered(_name(name)) and not (what == "subject" and subject == issuer):
            yield _deviation("ek-name-order", "a name's parts are not in the order of DER", what)
    fault = parameters_fault(algorithm)
    if fault:
        yield _deviation("ek-signature-parameters", "the signature algorithm is not encoded as it should be", fault)
    if key_type == RSAES_OAEP:
        yield _deviation("ek-key-type", "the key is labelled RSAES-OAEP instead of RSA", key_type)


def _name(encoded: bytes) -> Der:
    return whole_sequence(encoded, _WHAT, _CODE)


def _name_text(encoded: bytes) -> str:
    return name_text(attributes(_name(encoded)))


# --- the bytes around it --------------------------------------------------------------------------------------------


def _strip_header(data: bytes) -> tuple[bytes, tuple[Finding, ...]]:
    if data[:3] != _HEADER or data[5:7] != _FULL_CERTIFICATE:
        return data, ()
    size = int.from_bytes(data[3:5], "big")  # counts the two bytes of the inner tag
    if not 2 <= size <= len(data) - 5:
        raise _malformed(f"its header announces {size} bytes, {len(data) - 5} follow")
    return data[7:], (_deviation("ek-certificate-header", "a header precedes the certificate", "7 bytes"),)


def _is_padding(tail: bytes) -> bool:
    return tail[0] in (0x00, 0xFF) and not tail.strip(tail[:1])


def _first_element(data: bytes) -> bytes:
    return Der(data, _WHAT, _CODE).take_whole(SEQUENCE)


def _deviation(code: str, message: str, actual: str) -> Finding:
    return Finding("A1", code, message, actual=actual, fatal=False)


def _malformed(why: str) -> MalformedError:
    return MalformedError(f"{_WHAT}: {why}", code=_CODE)
