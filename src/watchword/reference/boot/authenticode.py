"""Which certificate vouches for an EFI program: its PKCS#7 signatures, checked as firmware and shim check them.

Source: Microsoft, "Windows Authenticode Portable Executable Signature Format" 1.0; RFC 2315 (PKCS#7). A path may end
at any certificate that the checker trusts, a root or not, and dates are not looked at: so does EDK2.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.serialization import Encoding

from watchword.crypto.issued import is_issued_by
from watchword.errors import MalformedError
from watchword.policy.signer import HASHES
from watchword.verify.der import INTEGER, NULL, SEQUENCE, SET, Der, explicit, whole_sequence
from watchword.wire.pe import PeImage
from watchword.wire.tpm.algorithms import Alg, digest

__all__ = ["Signed", "read_signatures", "tbs_digest", "vouching_path"]

_WHAT, _CODE = "signature", "malformed"
_SIGNED_DATA, _INDIRECT = "1.2.840.113549.1.7.2", "1.3.6.1.4.1.311.2.1.4"
_MESSAGE_DIGEST = "1.2.840.113549.1.9.4"
_HASHES = {
    "2.16.840.1.101.3.4.2.1": Alg.SHA256,
    "2.16.840.1.101.3.4.2.2": Alg.SHA384,
    "2.16.840.1.101.3.4.2.3": Alg.SHA512,
}
_MAX_PATH = 8


@dataclass(frozen=True, slots=True)
class Signed:
    """A good signature over a program: who made it, and the certificates that came with it."""

    signer: x509.Certificate
    others: tuple[x509.Certificate, ...]


def read_signatures(image: PeImage) -> tuple[Signed, ...]:
    """The signatures of ``image`` in their order. Raises MalformedError for one that is not over this image."""
    return tuple(_read(message, image) for message in image.signatures)


def vouching_path(signed: Signed, anchor: bytes) -> tuple[x509.Certificate, ...] | None:
    """The certificates from the signer to ``anchor`` (DER) at the end, or None when there is no way."""
    try:
        trusted = x509.load_der_x509_certificate(anchor)
    except ValueError:
        return None  # a db may hold what no library reads; it vouches for nothing then
    path = [signed.signer]
    while len(path) <= _MAX_PATH:
        if path[-1].public_bytes(Encoding.DER) == anchor:
            return tuple(path)
        if is_issued_by(path[-1], trusted):
            return (*path, trusted)
        above = next((c for c in signed.others if c not in path and is_issued_by(path[-1], c)), None)
        if above is None:
            return None
        path.append(above)
    return None


def _read(message: bytes, image: PeImage) -> Signed:
    """ContentInfo, SignedData and its one signer; a few zero bytes may follow that pad the table's entry."""
    outer = Der(message, _WHAT, _CODE)
    whole = outer.take_whole(SEQUENCE)
    if any(message[len(whole) :]):
        raise MalformedError(f"{_WHAT}: bytes after the message")
    outer = whole_sequence(whole, _WHAT, _CODE)
    if outer.identifier() != _SIGNED_DATA:
        raise MalformedError(f"{_WHAT}: not PKCS#7 signed data")
    data = outer.inside(explicit(0)).inside(SEQUENCE)
    data.integer()
    data.take(SET)
    content = _content(data.inside(SEQUENCE), image)
    certificates = _certificates(data.inside(explicit(0)))
    if data.next_is(explicit(1)):
        data.take(explicit(1))
    infos = data.inside(SET)
    info = infos.inside(SEQUENCE)
    infos.finish()
    return _signer(info, content, certificates)


def _content(info: Der, image: PeImage) -> bytes:
    """The signed statement about the image: that it has this Authenticode digest. Its contents, without the header."""
    if info.identifier() != _INDIRECT:
        raise info.fail("it is not about an EFI program")
    content = info.inside(explicit(0)).take(SEQUENCE)
    statement = info.of(content)
    statement.take(SEQUENCE)
    value = statement.inside(SEQUENCE)
    alg = _hash(value.inside(SEQUENCE))
    if value.octets() != image.digest(alg):
        raise MalformedError(f"{_WHAT}: it is over another program than this one")
    return content


def _hash(reader: Der) -> Alg:
    name = reader.identifier()
    if reader.next_is(NULL):
        reader.take(NULL)
    alg = _HASHES.get(name)
    if alg is None:
        raise reader.fail(f"a hash algorithm that proves nothing or is unknown ({name})")
    return alg


def _certificates(reader: Der) -> tuple[x509.Certificate, ...]:
    found: list[x509.Certificate] = []
    while reader.more:
        try:
            found.append(x509.load_der_x509_certificate(reader.take_whole(SEQUENCE)))
        except ValueError as error:
            raise reader.fail(f"a certificate cannot be read: {error}") from error
    return tuple(found)


def _signer(info: Der, content: bytes, certificates: tuple[x509.Certificate, ...]) -> Signed:
    info.integer()
    name = info.inside(SEQUENCE)
    issuer, serial = name.take_whole(SEQUENCE), int.from_bytes(name.take(INTEGER), "big", signed=True)
    alg = _hash(info.inside(SEQUENCE))
    attributes = b"\x31" + info.take_whole(explicit(0))[1:]
    info.take(SEQUENCE)
    signature = info.octets()
    if _message_digest(info.of(attributes).inside(SET)) != digest(alg, content):
        raise MalformedError(f"{_WHAT}: its signed attributes are about another statement")
    for certificate in certificates:
        if certificate.serial_number == serial and certificate.issuer.public_bytes() == issuer:
            key = certificate.public_key()
            if isinstance(key, rsa.RSAPublicKey) and _made_by(key, signature, alg, attributes):
                return Signed(certificate, certificates)
    raise MalformedError(f"{_WHAT}: no certificate in it made it")


def _made_by(key: rsa.RSAPublicKey, signature: bytes, alg: Alg, attributes: bytes) -> bool:
    try:
        key.verify(signature, attributes, PKCS1v15(), HASHES[alg])
    except InvalidSignature:
        return False
    return True


def _message_digest(attributes: Der) -> bytes:
    found = b""
    while attributes.more:
        attribute = attributes.inside(SEQUENCE)
        if attribute.identifier() == _MESSAGE_DIGEST:
            if found:
                raise attribute.fail("it has two message digests")
            found = attribute.inside(SET).octets()
    return found


def tbs_digest(certificate: x509.Certificate) -> bytes:
    """SHA-256 of the part of ``certificate`` that is signed, by which dbx may revoke it (UEFI 32.4.1)."""
    return hashlib.sha256(certificate.tbs_certificate_bytes).digest()
