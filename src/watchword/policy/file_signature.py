"""File signatures in the runtime log: "or signed by an allowed key" (clause D5).

Three kinds are believed: the ``security.ima`` attribute (here), a signature that is appended to the file
(``file_signature_appended``) and the portable ``security.evm`` attribute (``file_signature_portable``).

The attribute in an ima-sig entry is a header (``signature_header``) and a signature. Version 2 signs the file's digest;
version 3 signs a hash over a type, the algorithm and the digest, so that the digest of one kind (a file's, an fs-verity
tree's) is never taken for another.
Source: Linux, security/integrity/integrity.h (ima_file_id), ima_appraise.c, digsig_asymmetric.c.
"""

from __future__ import annotations

import hashlib

from watchword.policy import file_signature_appended, file_signature_portable
from watchword.policy.signature_header import KERNEL_NUMBERS, SignatureHeader
from watchword.policy.signer import HASHES, Signers, Work, WorkDone, compile_signers
from watchword.verify.runtime_file import FileSignature
from watchword.wire.ima_entry import AppendedSignature, PortableSignature
from watchword.wire.tpm.algorithms import Alg

__all__ = ["Signers", "Work", "WorkDone", "compile_signers", "is_signed"]

_DIGSIG = 3  # EVM_IMA_XATTR_DIGSIG; 6 signs an fs-verity digest, which is not that of the content


def is_signed(
    alg: Alg,
    digest: bytes,
    signature: FileSignature | tuple[FileSignature, ...],
    signers: Signers,
    work: Work | None = None,
) -> bool:
    """Whether one of ``signers`` vouches for the file with this ``digest``, by any of the signatures logged with it.

    Raises :class:`WorkDone` when that would take more than ``work`` is left.
    """
    if alg not in HASHES:
        return False
    signatures = signature if isinstance(signature, tuple) else (signature,)
    left = work or Work()
    return any(_vouches(alg, digest, one, signers, left) for one in signatures)


def _vouches(alg: Alg, digest: bytes, signature: FileSignature, signers: Signers, work: Work) -> bool:
    if isinstance(signature, AppendedSignature):
        return file_signature_appended.vouches(signature, signers, work)
    if isinstance(signature, PortableSignature):
        return file_signature_portable.vouches(alg, digest, signature, signers, work)
    return _attribute_vouches(alg, digest, signature, signers, work)


def _attribute_vouches(alg: Alg, digest: bytes, attribute: bytes, signers: Signers, work: Work) -> bool:
    header = SignatureHeader.parse(attribute)
    if header is None or header.kind != _DIGSIG or header.alg is not alg or header.version not in (2, 3):
        return False
    if header.version == 3:
        digest = hashlib.new(HASHES[alg].name, bytes((_DIGSIG, KERNEL_NUMBERS[alg])) + digest).digest()
    return header.verifies(digest, signers, work)
