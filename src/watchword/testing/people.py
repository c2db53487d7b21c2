"""People who administer an authority: a certificate authority of their own, and certificates as files."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

__all__ = ["ClientFiles", "PeopleCa", "access_file"]

_DAY = timedelta(days=1)
_CLIENT = (ExtendedKeyUsageOID.CLIENT_AUTH,)


@dataclass(frozen=True, slots=True)
class ClientFiles:
    """One person's ``certificate`` and ``key`` (PEM files), and the certificate's SHA-256 in hex."""

    certificate: Path
    key: Path
    fingerprint: str


@dataclass(frozen=True, slots=True)
class PeopleCa:
    """A certificate authority for people, in ``directory``; ``file`` is what the service is told to believe."""

    directory: Path
    key: EllipticCurvePrivateKey
    certificate: x509.Certificate

    @classmethod
    def make(cls, directory: Path, name: str = "people") -> Self:
        """A new one; its certificate is written into ``directory``."""
        key, subject = generate_private_key(SECP256R1()), _name(f"{name} CA")
        certificate = (
            _builder(subject, subject, key, timedelta(days=3650))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(key, SHA256())
        )
        made = cls(directory, key, certificate)
        made.file.write_bytes(certificate.public_bytes(Encoding.PEM))
        return made

    @property
    def file(self) -> Path:
        return self.directory / "people-ca.pem"

    def issue(
        self,
        name: str,
        *names: x509.GeneralName,
        usages: tuple[ObjectIdentifier, ...] = _CLIENT,
        lasts: timedelta = 730 * _DAY,
    ) -> ClientFiles:
        """A certificate for the common name ``name``, with ``names`` beside it, valid since yesterday."""
        key = generate_private_key(SECP256R1())
        builder = _builder(_name(name), self.certificate.subject, key, lasts)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        if usages:
            builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        certificate = builder.sign(self.key, SHA256())
        fingerprint = certificate.fingerprint(SHA256()).hex()
        stem = self.directory / f"{name}-{fingerprint[:8]}"
        files = ClientFiles(stem.with_suffix(".pem"), stem.with_suffix(".key"), fingerprint)
        files.certificate.write_bytes(certificate.public_bytes(Encoding.PEM))
        files.key.touch(0o600)
        files.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return files

    def revoke(
        self,
        *files: ClientFiles,
        lasts: timedelta = _DAY,
        since: timedelta = timedelta(),
        extension: x509.ExtensionType | None = None,
        key: EllipticCurvePrivateKey | None = None,
    ) -> bytes:
        """A revocation list (PEM) with their certificates, made a minute ago or ``since`` later, good for ``lasts``.

        ``extension`` is added as critical; ``key`` signs in place of this authority's own.
        """
        start = datetime.now(UTC) - timedelta(minutes=1) + since
        builder = x509.CertificateRevocationListBuilder(self.certificate.subject, start, start + lasts)
        for each in files:
            serial = x509.load_pem_x509_certificate(each.certificate.read_bytes()).serial_number
            entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(start)
            builder = builder.add_revoked_certificate(entry.build())
        if extension is not None:
            builder = builder.add_extension(extension, critical=True)
        return builder.sign(key or self.key, SHA256()).public_bytes(Encoding.PEM)


def access_file(path: Path, people: dict[str, tuple[str, ...]], more: str = "") -> None:
    """Write an ``access.toml``: everybody in ``people`` by the certificate subject CN=name, with these roles."""
    lines = ['format = "watchword-access/1"', more]
    for name, roles in people.items():
        lines += ["[[person]]", f'name = "{name}"', f"roles = {list(roles)!r}", f'certificates = ["subject:CN={name}"]']
    temporary = path.with_name(f".{path.name}.new")
    temporary.touch(0o600)
    temporary.write_text("\n".join(lines) + "\n")
    temporary.replace(path)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: EllipticCurvePrivateKey, lasts: timedelta
) -> x509.CertificateBuilder:
    start = datetime.now(UTC) - _DAY
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + _DAY + lasts)
    )


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])
