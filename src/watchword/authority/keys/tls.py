"""The service's own short certificate chain: one certificate authority, which the signed key list names, one server.

No public certificate authority takes part: whoever pinned the authority knows this one, whoever did not must not
believe any other. Certificates follow RFC 5280; P-256 because every TLS library has it.
"""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from watchword.errors import UsageError

__all__ = ["covers", "issue_ca", "issue_server", "new_key", "server_context"]

CA_DAYS: Final = 3650
SERVER_DAYS: Final = 365
RENEW_DAYS: Final = 60
_EARLY: Final = timedelta(days=1)  # clocks of hosts and tenants may be behind


def new_key() -> EllipticCurvePrivateKey:
    """A fresh P-256 key."""
    return generate_private_key(SECP256R1())


def issue_ca(key: EllipticCurvePrivateKey, authority: str, now: int) -> str:
    """The self-signed certificate (PEM) of the service's certificate authority; ``now`` in Unix seconds."""
    name = _name(f"{authority} TLS CA")
    builder = (
        _certificate(name, name, key, now, CA_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(ca=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    return _pem(builder.sign(key, SHA256()))


def issue_server(
    key: EllipticCurvePrivateKey, names: Sequence[str], ca_pem: str, ca_key: EllipticCurvePrivateKey, now: int
) -> str:
    """The server's certificate for host ``names`` and IP addresses, followed by the authority's (PEM)."""
    ca = x509.load_pem_x509_certificate(ca_pem.encode())
    builder = (
        _certificate(_name(names[0]), ca.subject, key, now, SERVER_DAYS)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(ca=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([_alternative(name) for name in names]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
    )
    return _pem(builder.sign(ca_key, SHA256())) + ca_pem


def covers(chain_pem: str, names: Sequence[str], now: int) -> bool:
    """Whether the server certificate at the head of ``chain_pem`` is good for ``names`` for some time to come."""
    certificate = x509.load_pem_x509_certificates(chain_pem.encode())[0]
    held = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    late = datetime.fromtimestamp(now, UTC) + timedelta(days=RENEW_DAYS)
    return certificate.not_valid_after_utc > late and all(_alternative(name) in held for name in names)


def server_context(chain: Path, key: Path, passphrase: bytes | None, client_ca: Path | None = None) -> ssl.SSLContext:
    """TLS 1.3 settings of the service from its certificate chain and key files.

    With ``client_ca``, a PEM file, clients may show a certificate below one of these; one that does not verify ends
    the handshake. Raises :class:`UsageError` (``client-ca``).
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.num_tickets = 0  # no client of ours resumes a session, and two tickets are an eighth of a handshake
    # Always a password: without one OpenSSL would ask on the terminal for the passphrase of an encrypted key.
    context.load_cert_chain(chain, key, password=passphrase or b"")
    if client_ca is not None:
        _trust_clients(context, client_ca)
    return context


def _trust_clients(context: ssl.SSLContext, client_ca: Path) -> None:
    try:
        context.load_verify_locations(client_ca)
    except (OSError, ssl.SSLError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise UsageError("client-ca", f"{client_ca} has no certificates that clients could be below: {why}") from None
    context.verify_mode = ssl.CERT_OPTIONAL


def _certificate(
    subject: x509.Name, issuer: x509.Name, key: EllipticCurvePrivateKey, now: int, days: int
) -> x509.CertificateBuilder:
    start = datetime.fromtimestamp(now, UTC) - _EARLY
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + _EARLY + timedelta(days=days))
    )


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common[:64])])


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca,
        key_cert_sign=ca,
        crl_sign=ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode()
