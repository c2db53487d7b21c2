"""A signature in an extended attribute of a file, as the kernel keeps it in ``security.ima`` and ``security.evm``.

    type | version | hash algorithm | key id (4 bytes) | big-endian size (2 bytes) | signature

Source: Linux, security/integrity/integrity.h (signature_v2_hdr); hash numbers from include/uapi/linux/hash_info.h.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from watchword.policy.signer import Signers, Work, verifies
from watchword.wire.tpm.algorithms import Alg

__all__ = ["KERNEL_NUMBERS", "SignatureHeader"]

_HEADER = struct.Struct(">BBB4sH")
#: What the kernel calls the hashes that may be signed.
KERNEL_NUMBERS: Mapping[Alg, int] = MappingProxyType({Alg.SHA256: 4, Alg.SHA384: 5, Alg.SHA512: 6})
_BY_NUMBER = {number: alg for alg, number in KERNEL_NUMBERS.items()}


class SignatureHeader(NamedTuple):
    """One such attribute. ``alg`` is the hash that was signed, ``key_id`` a hint which of the keys it was."""

    kind: int
    version: int
    alg: Alg
    key_id: bytes
    signature: bytes

    @classmethod
    def parse(cls, attribute: bytes) -> SignatureHeader | None:
        """Take an attribute apart; None for a wrong size and for a hash that may not be signed."""
        if len(attribute) < _HEADER.size:
            return None
        kind, version, number, key_id, size = _HEADER.unpack_from(attribute)
        signature, alg = attribute[_HEADER.size :], _BY_NUMBER.get(number)
        return cls(kind, version, alg, key_id, signature) if alg is not None and size == len(signature) else None

    def verifies(self, digest: bytes, signers: Signers, work: Work) -> bool:
        """Whether one of ``signers`` made this signature over ``digest``."""
        return any(verifies(key, self.signature, self.alg, digest, work) for key in signers.get(self.key_id, ()))
