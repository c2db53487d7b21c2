"""Which certificate is directly below which other (RFC 5280, section 6.1.3: name and signature)."""

from __future__ import annotations

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

__all__ = ["is_issued_by"]


def is_issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether ``issuer`` has the issuer's name and its key signed ``certificate``; nothing about dates or constraints.

    A search for the next certificate of a path, not a verification of one.
    """
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True
