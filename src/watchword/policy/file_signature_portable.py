"""Portable signatures of a file's attributes (``security.evm``) in evm-sig entries (clause D5).

What is signed is a hash over the values of the file's security attributes, in the order in which the kernel lists them,
and 24 bytes: inode number and generation, which are zero in a portable signature, owner, group and mode.

    value … | 8 zeros | 4 zeros | le32 uid | le32 gid | le16 mode | 2 zeros

That is the layout of 64-bit, little-endian kernels; signatures for others are not believed. The content is among what
is signed only as the digest in ``security.ima``, so that one must be the digest that was measured.
Source: Linux, security/integrity/evm/evm_crypto.c (hmac_add_misc), evm_main.c (evm_read_protected_xattrs).
"""

from __future__ import annotations

import hashlib
import struct

from watchword.policy.signature_header import KERNEL_NUMBERS, SignatureHeader
from watchword.policy.signer import HASHES, Signers, Work
from watchword.wire.ima_entry import PortableSignature
from watchword.wire.tpm.algorithms import Alg

__all__ = ["vouches"]

_PORTABLE_DIGSIG, _VERSION = 5, 2  # EVM_XATTR_PORTABLE_DIGSIG; the kernel knows no other version of it
_IMA_DIGEST = 4  # IMA_XATTR_DIGEST_NG: a hash algorithm and a digest follow
_MISC = struct.Struct("<12x4s4s2s2x")
_MAX_ATTRIBUTES = 64
_PREFIX = b"security."  # what the kernel demands of attributes that are to be protected


def vouches(alg: Alg, digest: bytes, signature: PortableSignature, signers: Signers, work: Work) -> bool:
    """Whether one of ``signers`` signed a file with this ``digest`` and the owner and attributes that were logged."""
    header = SignatureHeader.parse(signature.attribute)
    if header is None or (header.kind, header.version) != (_PORTABLE_DIGSIG, _VERSION):
        return False
    if _attributes(signature).get(b"security.ima") != bytes((_IMA_DIGEST, KERNEL_NUMBERS[alg])) + digest:
        return False
    if (len(signature.uid), len(signature.gid), len(signature.mode)) != (4, 4, 2):
        return False
    signed = signature.values + _MISC.pack(signature.uid, signature.gid, signature.mode)
    return header.verifies(hashlib.new(HASHES[header.alg].name, signed).digest(), signers, work)


def _attributes(signature: PortableSignature) -> dict[bytes, bytes]:
    """The attributes by name; none at all when names, lengths and values do not fit together.

    What is signed does not say where one value ends and the next begins: for that there is the kernel's word.
    """
    names = signature.names.removesuffix(b"\0").split(b"|")
    count = len(names)
    if count > _MAX_ATTRIBUTES or len(signature.lengths) != 4 * count or len(set(names)) != count:
        return {}
    if not all(name.startswith(_PREFIX) and b"\0" not in name for name in names):
        return {}
    lengths = struct.unpack(f"<{count}I", signature.lengths)
    if sum(lengths) != len(signature.values):
        return {}
    found, pos = {}, 0
    for name, size in zip(names, lengths, strict=True):
        found[name] = signature.values[pos : pos + size]
        pos += size
    return found
