"""Certificates for tests: ordinary ones by the library, and raw ones in which every byte can be wrong."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID, ObjectIdentifier

from watchword.verify.ek import EkClass, TrustAnchor

NOW = int(datetime(2026, 6, 1, tzinfo=UTC).timestamp())
DAY = 86_400
EK_USAGE = ObjectIdentifier("2.23.133.8.1")
FOREVER = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
KEYS = {"root": ec.generate_private_key(ec.SECP256R1()), "maker": ec.generate_private_key(ec.SECP256R1())}
P256 = ec.generate_private_key(ec.SECP256R1())
P384 = ec.generate_private_key(ec.SECP384R1())
RSA = rsa.generate_private_key(65537, 2048)

Extension = tuple[x509.ExtensionType, bool]


def common_name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)] if text else [])


def usage(*bits: str) -> x509.KeyUsage:
    names = "digital_signature content_commitment key_encipherment data_encipherment key_agreement key_cert_sign"
    return x509.KeyUsage(**{name: name in bits for name in f"{names} crl_sign encipher_only decipher_only".split()})


def tpm_name() -> x509.SubjectAlternativeName:
    number = ObjectIdentifier("2.23.133.2.1")
    return x509.SubjectAlternativeName([x509.DirectoryName(x509.Name([x509.NameAttribute(number, "id:00001014")]))])


@dataclass
class Spec:
    """One certificate: who, by whom, with what; a test changes one field."""

    subject: str = ""
    issuer: str = "maker"
    key: object = field(default_factory=P256.public_key)
    until: datetime = FOREVER
    since: datetime = datetime(2024, 1, 1, tzinfo=UTC)
    digest: hashes.HashAlgorithm = field(default_factory=hashes.SHA256)
    signer: object = None
    extensions: tuple[Extension, ...] = ()

    def der(self) -> bytes:
        number = 1000 + len(self.subject)
        builder = x509.CertificateBuilder(common_name(self.issuer), common_name(self.subject), self.key, number)
        builder = builder.not_valid_before(self.since).not_valid_after(self.until)
        for extension, critical in self.extensions:
            builder = builder.add_extension(extension, critical)
        signer = self.signer or KEYS[self.issuer]
        return builder.sign(signer, self.digest).public_bytes(Encoding.DER)


def authority(subject: str, issuer: str, **changes) -> Spec:
    extensions = (
        (x509.BasicConstraints(True, None), True),
        (usage("key_cert_sign", "crl_sign"), True),
    )
    until = datetime(2040, 1, 1, tzinfo=UTC)
    return replace(Spec(subject, issuer, KEYS[subject].public_key(), until, extensions=extensions), **changes)


def ek_leaf(**changes) -> Spec:
    extensions = (
        (tpm_name(), True),
        (x509.BasicConstraints(False, None), True),
        (usage("key_agreement"), True),
        (x509.ExtendedKeyUsage([EK_USAGE]), False),
    )
    return replace(Spec(extensions=extensions), **changes)


ROOT = authority("root", "root").der()
MAKER = authority("maker", "root").der()
ANCHOR = TrustAnchor(ROOT, EkClass.HARDWARE, "Test root")
LEAF = ek_leaf().der()


def without(kind: type, extensions: tuple[Extension, ...] = ek_leaf().extensions) -> tuple[Extension, ...]:
    return tuple(each for each in extensions if not isinstance(each[0], kind))


# --- raw certificates -----------------------------------------------------------------------------------------------


def tlv(tag: int, *parts: bytes) -> bytes:
    """One DER element."""
    body = b"".join(parts)
    if len(body) < 0x80:
        return bytes((tag, len(body))) + body
    size = len(body).to_bytes((len(body).bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(size))) + size + body


def sequence(*parts: bytes) -> bytes:
    return tlv(0x30, *parts)


def integer(value: int) -> bytes:
    size = (value if value >= 0 else ~value).bit_length() // 8 + 1
    return tlv(0x02, value.to_bytes(size, "big", signed=True))


def oid(text: str) -> bytes:
    first, second, *rest = map(int, text.split("."))
    body = bytearray()
    for arc in (first * 40 + second, *rest):
        digits = [arc & 0x7F]
        while arc := arc >> 7:
            digits.append(arc & 0x7F | 0x80)
        body += bytes(digits[::-1])
    return tlv(0x06, bytes(body))


def moment(text: str) -> bytes:
    """A UTCTime of twelve digits, or a GeneralizedTime of fourteen."""
    return tlv(0x17 if len(text) == 12 else 0x18, text.encode() + b"Z")


def raw_name(text: str, tag: int = 0x0C) -> bytes:
    return sequence(tlv(0x31, sequence(oid("2.5.4.3"), tlv(tag, text.encode()))))


def extension(number: str, value: bytes, critical: bool = False) -> bytes:
    flag = tlv(0x01, b"\xff") if critical else b""
    return sequence(oid(number), flag, tlv(0x04, value))


ECDSA_SHA256 = sequence(oid("1.2.840.10045.4.3.2"))
CA_BASIC = extension("2.5.29.19", sequence(tlv(0x01, b"\xff")), True)
CA_USAGE = extension("2.5.29.15", bytes.fromhex("03020106"), True)
EK_PURPOSE = extension("2.5.29.37", sequence(oid("2.23.133.8.1")))
EK_BASIC = extension("2.5.29.19", sequence(), True)
EK_KEY_USAGE = extension("2.5.29.15", bytes.fromhex("03020308"), True)  # keyAgreement
EK_EXTENSIONS = (EK_BASIC, EK_KEY_USAGE, EK_PURPOSE)


def spki(key: object) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def oaep_spki(key: rsa.RSAPublicKey) -> bytes:
    """The key labelled as some makers did: RSAES-OAEP, here with parameters that say SHA-256."""
    numbers = key.public_numbers()
    sha256 = sequence(oid("2.16.840.1.101.3.4.2.1"), tlv(0x05))
    parameters = sequence(tlv(0xA0, sha256))
    body = sequence(integer(numbers.n), integer(numbers.e))
    return sequence(sequence(oid("1.2.840.113549.1.1.7"), parameters), tlv(0x03, b"\0", body))


@dataclass
class Raw:
    """A certificate of encoded parts, signed by ``signer`` (by "maker" unless told); a test changes one."""

    version: bytes = tlv(0xA0, integer(2))
    serial: bytes = integer(77)
    algorithm: bytes = ECDSA_SHA256
    outer_algorithm: bytes | None = None
    issuer: bytes = raw_name("maker")
    validity: bytes = sequence(moment("240101000000"), moment("99991231235959"))
    subject: bytes = sequence()
    key: bytes = field(default_factory=lambda: spki(P256.public_key()))
    identifiers: bytes = b""
    extensions: tuple[bytes, ...] = EK_EXTENSIONS
    after: bytes = b""
    signer: object = None
    digest: hashes.HashAlgorithm = field(default_factory=hashes.SHA256)

    def signed(self) -> bytes:
        listed = tlv(0xA3, sequence(*self.extensions)) if self.extensions else b""
        return sequence(
            self.version, self.serial, self.algorithm, self.issuer, self.validity, self.subject, self.key,
            self.identifiers, listed, self.after,
        )  # fmt: skip

    def der(self) -> bytes:
        return sequence(self.signed(), self.outer_algorithm or self.algorithm, tlv(0x03, b"\0", self.signature()))

    def signature(self) -> bytes:
        signer = self.signer or KEYS["maker"]
        if isinstance(signer, rsa.RSAPrivateKey):
            return signer.sign(self.signed(), padding.PKCS1v15(), self.digest)
        return signer.sign(self.signed(), ec.ECDSA(self.digest))


def raw_authority(subject: str = "maker", issuer: str = "root", **changes) -> Raw:
    """An authority as :class:`Raw`; "root" is its own issuer."""
    key = spki(KEYS[subject].public_key())
    base = Raw(
        issuer=raw_name(issuer), subject=raw_name(subject), key=key, extensions=(CA_BASIC, CA_USAGE),
        validity=sequence(moment("200101000000"), moment("400101000000")), signer=KEYS[issuer],
    )  # fmt: skip
    return replace(base, **changes)
