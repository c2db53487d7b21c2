"""Signatures that are appended to a file (ima-modsig entries), as kernel modules and kexec images have them (D5).

The signature is a PKCS#7 message with one signer and without the content. The kernel logs two digests: that of the
whole file, and that of what stands before the signature, which alone is signed. That both are of one file is the
kernel's word, as is every digest in the log; what is proven is that an allowed key signed the file but for its appended
signature. So a message with anything that is neither signed nor needed (certificates, unsigned attributes) is not
believed.

With signed attributes the signature is over these, and one of them is the file's digest. Linux compares that one itself
and logs the digest of the attributes instead; either is taken.
Source: RFC 5652, 5 (SignedData); RFC 5754, 2 and 3; Linux, scripts/sign-file.c, crypto/asymmetric_keys/pkcs7_verify.c
(pkcs7_digest, pkcs7_get_digest), security/integrity/ima/ima_modsig.c.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from cryptography.hazmat.primitives.asymmetric import ec, rsa

from watchword.errors import MalformedError
from watchword.policy.signer import HASHES, Key, Signers, Work, verifies
from watchword.verify.der import NULL, SEQUENCE, SET, Der, explicit, implicit, whole_sequence
from watchword.verify.runtime_file import ALGORITHMS
from watchword.wire.ima_entry import AppendedSignature
from watchword.wire.tpm.algorithms import Alg

__all__ = ["MAX_MESSAGE", "vouches"]

MAX_MESSAGE = 8192  # bytes; one signer with a key of 8192 bits and a long name takes 3,000
_MAX_ATTRIBUTES = 16
_SIGNED_DATA, _DATA = "1.2.840.113549.1.7.2", "1.2.840.113549.1.7.1"
_CONTENT_TYPE, _MESSAGE_DIGEST = "1.2.840.113549.1.9.3", "1.2.840.113549.1.9.4"
_DIGESTS: Mapping[str, Alg] = MappingProxyType(
    {
        "2.16.840.1.101.3.4.2.1": Alg.SHA256,
        "2.16.840.1.101.3.4.2.2": Alg.SHA384,
        "2.16.840.1.101.3.4.2.3": Alg.SHA512,
    }
)
_RSA = "1.2.840.113549.1.1.1"  # says nothing about the hash, the names below do
_SIGNATURES: Mapping[tuple[str, Alg], type[Key]] = MappingProxyType(
    {(_RSA, alg): rsa.RSAPublicKey for alg in _DIGESTS.values()}
    | {
        ("1.2.840.113549.1.1.11", Alg.SHA256): rsa.RSAPublicKey,
        ("1.2.840.113549.1.1.12", Alg.SHA384): rsa.RSAPublicKey,
        ("1.2.840.113549.1.1.13", Alg.SHA512): rsa.RSAPublicKey,
        ("1.2.840.10045.4.3.2", Alg.SHA256): ec.EllipticCurvePublicKey,
        ("1.2.840.10045.4.3.3", Alg.SHA384): ec.EllipticCurvePublicKey,
        ("1.2.840.10045.4.3.4", Alg.SHA512): ec.EllipticCurvePublicKey,
    }
)


class _Signer(NamedTuple):
    alg: Alg
    key_type: type[Key]
    attributes: bytes | None  # as they are hashed: as a SET
    message_digest: bytes
    signature: bytes


def vouches(appended: AppendedSignature, signers: Signers, work: Work) -> bool:
    """Whether the message is a signature by one of ``signers`` over the digest that was logged with it."""
    try:
        signer = _read(appended.message)
    except MalformedError:
        return False
    if ALGORITHMS.get(appended.algorithm) is not signer.alg:
        return False
    signed = appended.digest
    if signer.attributes is not None:
        signed = hashlib.new(HASHES[signer.alg].name, signer.attributes).digest()
        if appended.digest not in (signer.message_digest, signed):
            return False
    # The message names its key by a certificate or an identifier of the signer's choice: all keys are tried.
    keys = [key for same in signers.values() for key in same if isinstance(key, signer.key_type)]
    return any(verifies(key, signer.signature, signer.alg, signed, work) for key in keys)


def _read(message: bytes) -> _Signer:
    """ContentInfo, SignedData and its one SignerInfo."""
    if len(message) > MAX_MESSAGE:
        raise MalformedError(f"appended signature: {len(message)} bytes, {MAX_MESSAGE} allowed")
    outer = whole_sequence(message, "appended signature", "malformed")
    _expect(outer, _SIGNED_DATA)
    content = outer.inside(explicit(0))
    outer.finish()
    data = content.inside(SEQUENCE)
    content.finish()
    version = _version(data)
    digests = data.inside(SET)
    alg = _digest_algorithm(digests)
    digests.finish()
    info = data.inside(SEQUENCE)
    _expect(info, _DATA)
    info.finish()
    infos = data.inside(SET)
    data.finish()
    signer = infos.inside(SEQUENCE)
    infos.finish()
    return _signer(signer, version, alg)


def _signer(info: Der, version: int, alg: Alg) -> _Signer:
    if _version(info) != version:
        raise info.fail("a signer of another version")
    info.take(SEQUENCE if version == 1 else implicit(0))  # issuer and serial number, or key identifier
    if _digest_algorithm(info) is not alg:
        raise info.fail("a signer with another hash algorithm")
    attributes, message_digest = None, b""
    if info.next_is(explicit(0)):
        whole = info.take_whole(explicit(0))
        attributes = bytes((SET,)) + whole[1:]
        message_digest = _message_digest(info.of(attributes).inside(SET))
    name = _algorithm(info)
    key_type = _SIGNATURES.get((name, alg))
    if key_type is None:
        raise info.fail(f"a signature algorithm {name} with {alg.name}")
    signature = info.octets()
    info.finish()
    return _Signer(alg, key_type, attributes, message_digest, signature)


def _message_digest(attributes: Der) -> bytes:
    """The file's digest out of signed attributes, which must name the type of the content too (RFC 5652, 11)."""
    found: dict[str, bytes] = {}
    while attributes.more:
        attribute = attributes.inside(SEQUENCE)
        name, values = attribute.identifier(), attribute.take(SET)
        attribute.finish()
        if name in found or len(found) == _MAX_ATTRIBUTES:
            raise attributes.fail("a signed attribute is there twice, or too many are")
        found[name] = values
    content_type = attributes.of(found.get(_CONTENT_TYPE, b""))
    _expect(content_type, _DATA)
    content_type.finish()
    digest = attributes.of(found.get(_MESSAGE_DIGEST, b""))
    value = digest.octets()
    digest.finish()
    return value


def _version(reader: Der) -> int:
    """1 where a signer is named by issuer and serial number, 3 where by a key identifier (RFC 5652, 5.1 and 5.3)."""
    version = reader.integer()
    if version not in (1, 3):
        raise reader.fail(f"a version {version}")
    return version


def _digest_algorithm(reader: Der) -> Alg:
    name = _algorithm(reader)
    if name not in _DIGESTS:
        raise reader.fail(f"a hash algorithm {name}")
    return _DIGESTS[name]


def _algorithm(reader: Der) -> str:
    """The name in an AlgorithmIdentifier without parameters, or with the NULL that RFC 5754 allows."""
    identifier = reader.inside(SEQUENCE)
    name = identifier.identifier()
    if identifier.next_is(NULL) and identifier.take(NULL):
        raise identifier.fail("a NULL with contents")
    identifier.finish()
    return name


def _expect(reader: Der, name: str) -> None:
    found = reader.identifier()
    if found != name:
        raise reader.fail(f"{found} is where {name} belongs")
