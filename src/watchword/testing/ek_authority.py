"""A certificate authority for endorsement keys, as a TPM maker runs one: TCG EK Credential Profile, clause 3.2."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID, ObjectIdentifier

from watchword.crypto.tpm_key import PublicKey, public_key
from watchword.wire.tpm.public import Public

__all__ = ["EkAuthority"]

CaKey: TypeAlias = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

_EK_USAGE = ObjectIdentifier("2.23.133.8.1")  # tcg-kp-EKCertificate
_MANUFACTURER, _MODEL, _VERSION = (ObjectIdentifier(f"2.23.133.2.{number}") for number in (1, 2, 3))
_FROM = datetime(2020, 1, 1, tzinfo=UTC)
_CA_UNTIL = datetime(2050, 1, 1, tzinfo=UTC)
_FOREVER = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)  # a TPM does not expire


@dataclass(frozen=True, slots=True)
class EkAuthority:
    """A root, and perhaps an intermediate authority below it, that certify endorsement keys.

    ``root`` and ``intermediates`` are DER; the latter go from the issuer of EK certificates upwards.
    """

    root: bytes
    intermediates: tuple[bytes, ...]
    _key: CaKey
    _name: x509.Name

    @classmethod
    def create(
        cls,
        name: str = "Emulated TPM",
        *,
        intermediate: bool = True,
        key_type: str = "p256",
        may_sign: bool = True,
    ) -> EkAuthority:
        """A new authority. ``key_type`` is "p256" or "rsa"; with ``may_sign`` False the issuer lacks keyCertSign."""
        root_key, root_name = _new_key(key_type), _ca_name(f"{name} EK Root")
        root = _ca(root_name, root_key, root_name, root_key, may_sign or intermediate, 1 if intermediate else 0)
        if not intermediate:
            return cls(root, (), root_key, root_name)
        key, ca_name = _new_key(key_type), _ca_name(f"{name} EK Intermediate")
        certificate = _ca(ca_name, key, root_name, root_key, may_sign, 0)
        return cls(root, (certificate,), key, ca_name)

    def issue(
        self,
        ek: Public,
        *,
        not_before: datetime = _FROM,
        not_after: datetime = _FOREVER,
        usage: bool = True,
        alternative_name: bool = True,
        is_ca: bool = False,
    ) -> bytes:
        """An EK certificate (DER) for ``ek``; each keyword makes one thing wrong with it."""
        key = public_key(ek)
        builder = _builder(x509.Name([]), key, self._name, self._key, not_before, not_after)
        builder = builder.add_extension(x509.BasicConstraints(is_ca, None), critical=True)
        builder = builder.add_extension(_leaf_usage(key, is_ca), critical=True)
        if usage:
            builder = builder.add_extension(x509.ExtendedKeyUsage([_EK_USAGE]), critical=False)
        if alternative_name:
            # Critical, because the subject is empty (RFC 5280, 4.2.1.6).
            builder = builder.add_extension(
                x509.SubjectAlternativeName([x509.DirectoryName(_tpm_name())]), critical=True
            )
        return _signed(builder, self._key)

    def revocation_list(self, *revoked: bytes, now: int, lifetime: int = 30 * 86400) -> bytes:
        """The issuer's list (DER), made at ``now`` (Unix seconds), of ``revoked``, certificates that it issued."""
        start = datetime.fromtimestamp(now, UTC)
        builder = x509.CertificateRevocationListBuilder(self._name, start, start + timedelta(seconds=lifetime))
        for der in revoked:
            serial = x509.load_der_x509_certificate(der).serial_number
            builder = builder.add_revoked_certificate(
                x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(start).build()
            )
        return builder.sign(self._key, hashes.SHA256()).public_bytes(Encoding.DER)


def _new_key(key_type: str) -> CaKey:
    if key_type == "rsa":
        return rsa.generate_private_key(65537, 2048)
    return ec.generate_private_key(ec.SECP256R1())


def _ca_name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _tpm_name() -> x509.Name:
    """Manufacturer, model and version of the emulated TPM, one relative distinguished name each."""
    values = ((_MANUFACTURER, "id:49424D00"), (_MODEL, "swtpm-libtpms"), (_VERSION, "id:20191023"))
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in values])


def _builder(
    subject: x509.Name, key: PublicKey, issuer: x509.Name, issuer_key: CaKey, not_before: datetime, not_after: datetime
) -> x509.CertificateBuilder:
    builder = x509.CertificateBuilder(issuer, subject, key, x509.random_serial_number(), not_before, not_after)
    return builder.add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False
    )


def _ca(
    subject: x509.Name, key: CaKey, issuer: x509.Name, issuer_key: CaKey, may_sign: bool, path_length: int
) -> bytes:
    builder = _builder(subject, key.public_key(), issuer, issuer_key, _FROM, _CA_UNTIL)
    builder = builder.add_extension(x509.BasicConstraints(True, path_length), critical=True)
    builder = builder.add_extension(_key_usage(sign=may_sign, digital=not may_sign), critical=True)
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    return _signed(builder.add_extension(identifier, critical=False), issuer_key)


def _leaf_usage(key: PublicKey, is_ca: bool) -> x509.KeyUsage:
    is_rsa = isinstance(key, rsa.RSAPublicKey)
    return _key_usage(sign=is_ca, encipher=is_rsa, agree=not is_rsa)


def _key_usage(
    *, sign: bool = False, digital: bool = False, encipher: bool = False, agree: bool = False
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital,
        content_commitment=False,
        key_encipherment=encipher,
        data_encipherment=False,
        key_agreement=agree,
        key_cert_sign=sign,
        crl_sign=sign,
        encipher_only=False,
        decipher_only=False,
    )


def _signed(builder: x509.CertificateBuilder, key: CaKey) -> bytes:
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)
