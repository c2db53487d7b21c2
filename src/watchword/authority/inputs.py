"""Reading the files that an operator hands in: certificates, TPM public areas, public keys."""

from __future__ import annotations

import base64
import binascii

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key, load_ssh_public_key

from watchword.errors import MalformedError, UsageError
from watchword.verify.certificate import load_certificate
from watchword.wire.tpm.public import Public

__all__ = ["read_certificate", "read_endorser_key", "read_public"]

_PEM = b"-----BEGIN "


def read_certificate(data: bytes) -> tuple[x509.Certificate, bytes]:
    """The one certificate in a PEM or DER file, and its DER bytes. Raises :class:`MalformedError`."""
    der = data
    if data.lstrip().startswith(_PEM):
        der = _only_pem(data)
    return load_certificate(der), der


def _only_pem(data: bytes) -> bytes:

    parts = data.split(b"-----BEGIN CERTIFICATE-----")
    if len(parts) != 2:
        raise UsageError("certificate-file", f"the file holds {len(parts) - 1} certificates, give one")
    body, end, _ = parts[1].partition(b"-----END CERTIFICATE-----")
    try:
        # Not through a certificate parser: the anchor is the bytes that the maker signed, oddities included.
        return base64.b64decode(b"".join(body.split()), validate=True) if end else b""
    except binascii.Error:
        raise MalformedError("certificate: the PEM text is not base64") from None


def read_public(data: bytes) -> Public:
    """A TPM public area: TPM2B_PUBLIC, as tools write it, or TPMT_PUBLIC. Raises :class:`MalformedError`."""
    if len(data) >= 2 and int.from_bytes(data[:2], "big") == len(data) - 2:
        return Public.parse_2b(data)
    return Public.parse(data)


def read_endorser_key(data: bytes) -> Ed25519PublicKey:
    """An Ed25519 public key: PEM, or one line as OpenSSH writes it. Raises :class:`UsageError` (``endorser-key``)."""
    try:
        key = load_pem_public_key(data) if data.lstrip().startswith(_PEM) else load_ssh_public_key(data)
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PublicKey):
        raise UsageError("endorser-key", "the file does not hold an Ed25519 public key")
    return key
