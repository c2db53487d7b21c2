"""Digests as CoRIM writes them: algorithm and value.

Source: draft-ietf-rats-corim, 7.7; algorithms by the Named Information Hash Algorithm Registry (RFC 6920).
"""

from __future__ import annotations

from typing import Any

from watchword.policy.document import DIGEST_NAMES, digest_name
from watchword.reference.interop.corim.shape import array, fail, octets, text
from watchword.wire.tpm.algorithms import Alg, digest_size

__all__ = ["read_digests", "write_digest"]

_NUMBERS = {1: Alg.SHA256, 7: Alg.SHA384, 8: Alg.SHA512}
_TEXTS = {"sha-256": Alg.SHA256, "sha-384": Alg.SHA384, "sha-512": Alg.SHA512} | DIGEST_NAMES
_NUMBER_OF = {alg: number for number, alg in _NUMBERS.items()}
_MAX_DIGESTS = 64


def read_digests(value: Any, place: str) -> dict[Alg, bytes]:
    """The strong digests among those of one thing; there may be none. Each algorithm may be there once."""
    found: dict[Alg, bytes] = {}
    seen = set()
    pairs = array(value, place)
    if len(pairs) > _MAX_DIGESTS:
        fail(place, f"has more than {_MAX_DIGESTS} digests")
    for i, pair in enumerate(pairs):
        where = f"{place}[{i}]"
        if not isinstance(pair, tuple) or len(pair) != 2:
            fail(where, "is not an algorithm and a value")
        name, digest = pair[0], octets(pair[1], where)
        if type(name) is not int:
            name = text(name, where)
        alg = _NUMBERS.get(name) if isinstance(name, int) else _TEXTS.get(name)
        if (alg or name) in seen:
            fail(where, "is a second digest of one algorithm")
        seen.add(alg or name)
        if alg is None:
            continue
        if len(digest) != digest_size(alg):
            fail(where, f"is {len(digest)} bytes long, {digest_name(alg)} has {digest_size(alg)}")
        found[alg] = digest
    return found


def write_digest(alg: Alg, digest: bytes) -> list[Any]:
    """One digest. SM3 has no number in the registry and is written by name."""
    return [_NUMBER_OF.get(alg, digest_name(alg)), digest]
