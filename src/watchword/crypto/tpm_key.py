"""Between a TPM's public area and a usable public key."""

from __future__ import annotations

from functools import lru_cache
from typing import TypeAlias

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from watchword.errors import MalformedError
from watchword.wire.tpm.algorithms import Alg, Curve, hash_name
from watchword.wire.tpm.public import Public
from watchword.wire.tpm.schemes import EccParameters, EccPoint, RsaParameters

__all__ = ["PublicKey", "curve_of", "hash_of", "point", "public_key"]

PublicKey: TypeAlias = rsa.RSAPublicKey | ec.EllipticCurvePublicKey

_DEFAULT_EXPONENT = 65537
_CURVES: dict[Curve, ec.EllipticCurve] = {
    Curve.P256: ec.SECP256R1(),
    Curve.P384: ec.SECP384R1(),
    Curve.P521: ec.SECP521R1(),
}
_HASHES: dict[Alg, hashes.HashAlgorithm] = {
    Alg.SHA256: hashes.SHA256(),
    Alg.SHA384: hashes.SHA384(),
    Alg.SHA512: hashes.SHA512(),
}


def hash_of(alg: Alg) -> hashes.HashAlgorithm:
    """The hash object for ``alg``: SHA-2 only, because nothing we sign, check or wrap may use less.

    Raises MalformedError.
    """
    found = _HASHES.get(alg)
    if found is None:
        raise MalformedError(f"hash {hash_name(alg)} is not accepted for keys")
    return found


def curve_of(curve: Curve) -> ec.EllipticCurve:
    """The curve object for ``curve``: P-256, P-384 or P-521. Raises MalformedError."""
    found = _CURVES.get(curve)
    if found is None:
        raise MalformedError(f"curve 0x{curve:04x} is not accepted")
    return found


@lru_cache(maxsize=1024)
def public_key(public: Public) -> PublicKey:
    """The key in ``public``; the point is checked to be on its curve. Raises MalformedError.

    Loading one costs as much as using it, and a host comes back with the same two: the newest 1024 are kept.
    """
    parameters, unique = public.parameters, public.unique
    if isinstance(parameters, EccParameters) and isinstance(unique, EccPoint):
        return _ecc(curve_of(parameters.curve), unique)
    if isinstance(parameters, RsaParameters) and isinstance(unique, bytes):
        return _rsa(parameters, unique)
    raise MalformedError("the public area is not that of an RSA or ECC key")


def _ecc(curve: ec.EllipticCurve, unique: EccPoint) -> ec.EllipticCurvePublicKey:
    x, y = int.from_bytes(unique.x, "big"), int.from_bytes(unique.y, "big")
    try:
        return ec.EllipticCurvePublicNumbers(x, y, curve).public_key()
    except (ValueError, UnsupportedAlgorithm):
        raise MalformedError("the point of the public area is not on its curve") from None


def _rsa(parameters: RsaParameters, modulus: bytes) -> rsa.RSAPublicKey:
    number = int.from_bytes(modulus, "big")
    if number.bit_length() != parameters.key_bits:
        raise MalformedError(f"the modulus has {number.bit_length()} bits, not {parameters.key_bits}")
    if number % 2 == 0:
        raise MalformedError("the modulus is even")
    try:
        return rsa.RSAPublicNumbers(parameters.exponent or _DEFAULT_EXPONENT, number).public_key()
    except (ValueError, UnsupportedAlgorithm):
        raise MalformedError("the modulus and exponent of the public area are not an RSA key") from None


def point(key: ec.EllipticCurvePublicKey) -> EccPoint:
    """The coordinates of ``key``, padded to the size of the field."""
    numbers, size = key.public_numbers(), (key.curve.key_size + 7) // 8
    return EccPoint(numbers.x.to_bytes(size, "big"), numbers.y.to_bytes(size, "big"))
