"""Client certificates: what a TLS connection proved, and the names in it that access rules may be about.

The server puts it where the ASGI TLS extension says: ``scope["extensions"]["tls"]["client_cert_chain"]``. OpenSSL has
checked the chain and the times in the handshake; times and purpose are looked at again with every request.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import ExtendedKeyUsageOID

__all__ = ["Identity", "check_client", "identities", "peer_certificate", "subject_identity", "tls_extension"]

Identity = tuple[str, object]  # its kind, and what is compared


def tls_extension(connection: ssl.SSLObject | ssl.SSLSocket | None) -> dict[str, Any]:
    """The ASGI TLS extension of a connection after its handshake; an empty chain without a client certificate."""
    der = connection.getpeercert(binary_form=True) if connection is not None else None
    chain, name, fault = [ssl.DER_cert_to_PEM_cert(der)] if der else [], None, None
    try:
        name = _load(chain[0]).subject.rfc4514_string() if chain else None
    except ValueError as error:  # OpenSSL takes more than we do: this one is as good as none
        chain, fault = [], str(error)
    # Python tells of the first certificate of the chain only, and hides the number of the suite.
    return {
        "server_cert": None,
        "client_cert_chain": chain,
        "client_cert_name": name,
        "client_cert_error": fault,
        "tls_version": 0x0304,
        "cipher_suite": None,
    }


def peer_certificate(scope: Mapping[str, Any]) -> x509.Certificate | None:
    """The certificate that the client of a request proved to have the key of."""
    chain = scope.get("extensions", {}).get("tls", {}).get("client_cert_chain", ())
    return _load(chain[0]) if chain else None


@lru_cache(maxsize=256)
def _load(pem: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pem.encode())


def check_client(certificate: x509.Certificate, now: int) -> str:
    """What is wrong with ``certificate`` as a person's at ``now`` (Unix seconds), or nothing."""
    moment = datetime.fromtimestamp(now, UTC)
    if not certificate.not_valid_before_utc <= moment <= certificate.not_valid_after_utc:
        return "it is not valid now"
    try:
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except (x509.ExtensionNotFound, ValueError):
        return "it does not say that it is for clients (extended key usage clientAuth)"
    if ExtendedKeyUsageOID.CLIENT_AUTH not in usage:
        return "it is not for clients (extended key usage clientAuth)"
    return ""


def identities(certificate: x509.Certificate) -> Iterator[Identity]:
    """Everything in a certificate that access rules may name."""
    yield "sha256", certificate.fingerprint(SHA256()).hex()
    if certificate.subject.rdns:
        yield "subject", certificate.subject
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return
    for kind, of in (("email", x509.RFC822Name), ("dns", x509.DNSName), ("uri", x509.UniformResourceIdentifier)):
        for value in names.get_values_for_type(of):
            yield kind, value


def subject_identity(text: str) -> Identity:
    """The subject that an RFC 4514 text writes. Raises ValueError."""
    return "subject", x509.Name.from_rfc4514_string(text)
