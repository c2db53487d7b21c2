"""The public key in a certificate, and the signature that another certificate's key made (RFC 3279, 4055, 5480, 5758).

Keys are built from their numbers, so that a key type the library does not know (RSAES-OAEP, as some makers label the
endorsement keys they certify) needs nothing but its numbers. Signatures are checked by the library.
"""

from __future__ import annotations

from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from watchword.crypto.tpm_key import PublicKey
from watchword.verify.der import NULL, OBJECT_IDENTIFIER, SEQUENCE, Der

__all__ = [
    "RSAES_OAEP",
    "Algorithm",
    "describe_key",
    "key_weakness",
    "parameters_fault",
    "read_algorithm",
    "read_key",
    "signature_fault",
]

Algorithm = tuple[str, bytes]  # object identifier, and its parameters as encoded

RSAES_OAEP: Final = "1.2.840.113549.1.1.7"
_RSA: Final = "1.2.840.113549.1.1.1"
_EC: Final = "1.2.840.10045.2.1"
_CURVES: Final[dict[str, ec.EllipticCurve]] = {
    "1.2.840.10045.3.1.7": ec.SECP256R1(),
    "1.3.132.0.34": ec.SECP384R1(),
    "1.3.132.0.35": ec.SECP521R1(),
}
_RSA_SIGNATURES: Final[dict[str, hashes.HashAlgorithm]] = {
    "1.2.840.113549.1.1.11": hashes.SHA256(),
    "1.2.840.113549.1.1.12": hashes.SHA384(),
    "1.2.840.113549.1.1.13": hashes.SHA512(),
}
_ECDSA_SIGNATURES: Final[dict[str, hashes.HashAlgorithm]] = {
    "1.2.840.10045.4.3.2": hashes.SHA256(),
    "1.2.840.10045.4.3.3": hashes.SHA384(),
    "1.2.840.10045.4.3.4": hashes.SHA512(),
}
_BROKEN: Final = {
    "1.2.840.113549.1.1.4": "MD5",
    "1.2.840.113549.1.1.5": "SHA-1",
    "1.2.840.10045.4.1": "SHA-1",
}
_NULL_PARAMETERS: Final = bytes((NULL, 0))
_MIN_RSA_BITS: Final = 2048
_MAX_RSA_BITS: Final = 8192
_MIN_EXPONENT: Final = 65537
_MAX_EXPONENT: Final = 1 << 32


def read_algorithm(reader: Der) -> Algorithm:
    """An AlgorithmIdentifier with its parameters (empty when absent)."""
    inner = reader.inside(SEQUENCE)
    oid, parameters = inner.identifier(), b""
    if inner.more:
        tag = NULL if inner.next_is(NULL) else OBJECT_IDENTIFIER if inner.next_is(OBJECT_IDENTIFIER) else SEQUENCE
        parameters = inner.take_whole(tag)
    inner.finish()
    return oid, parameters


def read_key(reader: Der) -> tuple[str, PublicKey]:
    """A SubjectPublicKeyInfo: the key type's identifier and the key (RSA, or a point of P-256, P-384 or P-521).

    RSAES-OAEP parameters are not looked at: the TPM's own template says how the key is used.
    """
    inner = reader.inside(SEQUENCE)
    oid, parameters = read_algorithm(inner)
    bits = inner.whole_bytes()
    inner.finish()
    if oid == _EC:
        return oid, _read_point(reader, parameters, bits)
    if oid == RSAES_OAEP or (oid == _RSA and parameters == _NULL_PARAMETERS):
        return oid, _read_rsa(reader, bits)
    raise reader.fail(f"a key of type {oid} is not supported")


def _read_rsa(reader: Der, bits: bytes) -> rsa.RSAPublicKey:
    outer = reader.of(bits)
    numbers = outer.inside(SEQUENCE)
    modulus, exponent = numbers.integer(), numbers.integer()
    numbers.finish()
    outer.finish()
    possible = 512 <= modulus.bit_length() <= _MAX_RSA_BITS and modulus > 0 and modulus % 2
    if not possible or not 0 < exponent <= _MAX_EXPONENT:
        raise reader.fail("an RSA key has impossible numbers")
    try:
        return rsa.RSAPublicNumbers(exponent, modulus).public_key()
    except (ValueError, UnsupportedAlgorithm):
        raise reader.fail("an RSA key has impossible numbers") from None


def _read_point(reader: Der, parameters: bytes, bits: bytes) -> ec.EllipticCurvePublicKey:
    oid = reader.of(parameters).identifier()
    curve = _CURVES.get(oid)
    if curve is None:
        raise reader.fail(f"a key on curve {oid} is not supported")
    if bits[:1] != b"\x04":
        raise reader.fail("a point is not in its uncompressed form")
    try:
        return ec.EllipticCurvePublicKey.from_encoded_point(curve, bits)
    except (ValueError, UnsupportedAlgorithm):
        raise reader.fail("a point is not on its curve") from None


def key_weakness(key: PublicKey) -> str:
    """Why ``key`` may not vouch for anything, or an empty string: RSA needs 2048 bits and an exponent of 65537."""
    if isinstance(key, rsa.RSAPublicKey) and (key.key_size < _MIN_RSA_BITS or key.public_numbers().e < _MIN_EXPONENT):
        return f"its key is weak ({describe_key(key)})"
    return ""


def describe_key(key: PublicKey) -> str:
    """The kind of ``key`` for people."""
    if isinstance(key, rsa.RSAPublicKey):
        exponent = key.public_numbers().e
        return f"RSA {key.key_size}" + (f", exponent {exponent}" if exponent != _MIN_EXPONENT else "")
    return key.curve.name


def signature_fault(algorithm: Algorithm, signed: bytes, signature: bytes, key: PublicKey) -> str:
    """Why ``signature`` is not one by ``key`` over ``signed``, or an empty string when it is.

    Accepted are RSASSA-PKCS1-v1_5 and ECDSA, each with SHA-256, SHA-384 or SHA-512.
    """
    oid, parameters = algorithm
    if oid in _BROKEN:
        return f"its signature uses {_BROKEN[oid]}"
    if parameters not in (b"", _NULL_PARAMETERS):
        return f"its signature algorithm {oid} has parameters"
    try:
        if oid in _RSA_SIGNATURES and isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, signed, padding.PKCS1v15(), _RSA_SIGNATURES[oid])
            return ""
        if oid in _ECDSA_SIGNATURES and isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature, signed, ec.ECDSA(_ECDSA_SIGNATURES[oid]))
            return ""
    except InvalidSignature:
        return "its signature is not by that issuer"
    known = oid in _RSA_SIGNATURES or oid in _ECDSA_SIGNATURES
    return "its signature is not by that issuer" if known else f"its signature algorithm {oid} is not accepted"


def parameters_fault(algorithm: Algorithm) -> str:
    """How the parameters of a signature algorithm differ from RFC 4055 and 5758, or an empty string."""
    oid, parameters = algorithm
    if oid in _ECDSA_SIGNATURES and parameters:
        return "ECDSA parameters are there, and should be absent"
    if oid in _RSA_SIGNATURES and parameters != _NULL_PARAMETERS:
        return "RSA parameters should be NULL"
    return ""
