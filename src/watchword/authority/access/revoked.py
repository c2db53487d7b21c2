"""Which client certificates their issuer took back: revocation lists (RFC 5280, section 5) in a file.

OpenSSL could look in the handshake; then an open or resumed connection would outlive its certificate. Here it is looked
up with every request, and a changed file counts from the next one on. Where lists are used, no certificate counts that
no list in force is about.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from watchword.crypto.issued import is_issued_by
from watchword.errors import UsageError

__all__ = ["MAX_LISTS", "RevokedClients", "read_revoked"]

MAX_LISTS: Final = 16 << 20  # bytes
_PEM: Final = re.compile(rb"-----BEGIN X509 CRL-----.+?-----END X509 CRL-----", re.DOTALL)


@dataclass(frozen=True, slots=True)
class _List:
    issuer: x509.Certificate
    since: datetime
    until: datetime
    serials: frozenset[int]


@dataclass(frozen=True, slots=True)
class RevokedClients:
    """The lists, each verified with the certificate of its issuer."""

    lists: tuple[_List, ...]

    def fault(self, certificate: x509.Certificate, now: int) -> str:
        """Why ``certificate`` does not count at ``now`` (Unix seconds), or nothing."""
        moment = datetime.fromtimestamp(now, UTC)
        about = [each for each in self.lists if is_issued_by(certificate, each.issuer)]
        current = [each for each in about if each.since <= moment <= each.until]
        if not current:
            return "there is no revocation list in force of its issuer"
        newest = max(current, key=lambda each: each.since)
        return "its issuer revoked it" if certificate.serial_number in newest.serials else ""


def read_revoked(file: Path, authorities: Path) -> RevokedClients:
    """The lists in ``file`` (PEM, at most 16 MiB), issued by certificates in ``authorities`` (PEM).

    Raises :class:`UsageError` (``client-crl``) when a list is damaged, by somebody else, or not about all that its
    issuer issued.
    """
    try:
        issuers = x509.load_pem_x509_certificates(_bounded(authorities))
        lists = tuple(_read(pem, issuers) for pem in _PEM.findall(_bounded(file)))
    except (OSError, ValueError, UnsupportedAlgorithm) as error:
        raise _wrong(file, getattr(error, "strerror", None) or str(error)) from None
    if not lists:
        raise _wrong(file, "it has no list (-----BEGIN X509 CRL-----)")
    return RevokedClients(lists)


def _bounded(path: Path) -> bytes:
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_size > MAX_LISTS:
            raise ValueError(f"{path} has more than {MAX_LISTS} bytes")
        return file.read(MAX_LISTS)


def _read(pem: bytes, issuers: list[x509.Certificate]) -> _List:
    found = x509.load_pem_x509_crl(pem)
    issuer = next((each for each in issuers if _signed(found, each)), None)
    if issuer is None:
        raise ValueError(f"a list by {found.issuer.rfc4514_string()} is signed by no certificate of --client-ca")
    # Deltas, and lists of some certificates or of several issuers, say so in extensions that are critical.
    critical = [each.oid.dotted_string for each in found.extensions if each.critical]
    if critical:
        raise ValueError(f"a list is not a complete one of its issuer (critical extension {critical[0]})")
    if found.next_update_utc is None:
        raise ValueError("a list does not say when the next one comes")
    return _List(issuer, found.last_update_utc, found.next_update_utc, frozenset(_serials(found)))


def _serials(found: x509.CertificateRevocationList) -> Iterator[int]:
    for entry in found:
        yield entry.serial_number


def _signed(found: x509.CertificateRevocationList, issuer: x509.Certificate) -> bool:
    if found.issuer != issuer.subject:
        return False
    try:
        usage = issuer.extensions.get_extension_for_class(x509.KeyUsage).value
        if not usage.crl_sign:
            return False
    except x509.ExtensionNotFound:
        pass
    return found.is_signature_valid(issuer.public_key())  # type: ignore[arg-type] # a key that signs nothing raises


def _wrong(file: Path, why: str) -> UsageError:
    return UsageError("client-crl", f"{file} cannot be used as lists of revoked client certificates: {why}")
