"""The two key derivation functions of a TPM (TPM 2.0 Part 1, 11.4.10)."""

from __future__ import annotations

import hmac
from collections.abc import Callable

from watchword.wire.tpm.algorithms import Alg, digest, digest_size, hash_name

__all__ = ["kdfa", "kdfe"]


def kdfa(alg: Alg, key: bytes, label: str, context_u: bytes, context_v: bytes, bits: int) -> bytes:
    """KDFa: SP 800-108 in counter mode with HMAC.

    ``label`` without its terminating NUL; ``bits`` is positive. Returns ``bits / 8`` bytes, rounded up.
    """
    fixed = label.encode() + b"\0" + context_u + context_v + bits.to_bytes(4, "big")
    name = hash_name(alg)
    return _blocks(alg, bits, lambda counter: hmac.digest(key, counter + fixed, name))


def kdfe(alg: Alg, z: bytes, use: str, party_u: bytes, party_v: bytes, bits: int) -> bytes:
    """KDFe: SP 800-56A concatenation over the x coordinate ``z`` of an ECDH result.

    ``use`` without its terminating NUL; ``party_u`` and ``party_v`` are x coordinates, all coordinates with the
    full size of the field; ``bits`` is positive. Returns ``bits / 8`` bytes, rounded up.
    """
    fixed = z + use.encode() + b"\0" + party_u + party_v
    return _blocks(alg, bits, lambda counter: digest(alg, counter + fixed))


def _blocks(alg: Alg, bits: int, block: Callable[[bytes], bytes]) -> bytes:
    if bits <= 0:
        raise ValueError(f"{bits} bits: a positive number is needed")
    size = (bits + 7) // 8
    count = -(-size // digest_size(alg))
    result = b"".join([block(number.to_bytes(4, "big")) for number in range(1, count + 1)])[:size]
    # A number of bits that is not a multiple of eight leaves the surplus bits of the first byte zero.
    return bytes([result[0] & (0xFF >> (-bits % 8))]) + result[1:]
