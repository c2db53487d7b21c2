"""Signatures that come with files (``security.ima``): verified with the keys that the release names.

Three outcomes. A good one is by a named key, over what the artifact has. One by a key that was not named says nothing.
One that names a named key and does not verify means that file and signature do not belong together: refused.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from watchword.errors import MalformedError, UsageError
from watchword.policy.file_signature import Signers, compile_signers, is_signed
from watchword.policy.signature_header import SignatureHeader
from watchword.policy.stack import FileDigest, path_text
from watchword.wire.tpm.algorithms import Alg

__all__ = ["MAX_SIGNATURE", "judge_signature", "load_signers", "public_key", "signed_with"]

MAX_SIGNATURE = 2048  # bytes: RSA of 8192 bits needs 1033
_MAX_KEY_FILE = 64 * 1024
_DIGSIG = 3  # EVM_IMA_XATTR_DIGSIG


def load_signers(files: Sequence[Path]) -> tuple[tuple[str, ...], Signers]:
    """Keys as a stack lists them, and ready to verify with. Each file has one PEM public key or certificate."""
    texts = tuple(base64.b64encode(public_key(file)).decode() for file in files)
    try:
        return texts, compile_signers("runtime", "signers", texts)
    except MalformedError as error:
        raise UsageError("reference-source", error.message) from None


def public_key(file: Path) -> bytes:
    """The SubjectPublicKeyInfo (DER) of the one public key or certificate in ``file`` (PEM). Raises UsageError."""
    try:
        with file.open("rb") as stream:
            data = stream.read(_MAX_KEY_FILE)
    except OSError as error:
        raise UsageError("reference-source", f"{file}: {(error.strerror or str(error)).lower()}") from None
    try:
        if b"BEGIN CERTIFICATE" in data:
            certificate = x509.load_pem_x509_certificate(data)
            return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return load_pem_public_key(data).public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except (ValueError, UnsupportedAlgorithm):
        raise UsageError(
            "reference-source", f"{file}: is not a public key or certificate in PEM", hint="openssl x509 -inform der …"
        ) from None


def signed_with(attribute: bytes, signers: Signers) -> Alg | None:
    """The hash that a signature by one of ``signers`` is over, so that it is computed; None for all others."""
    header = SignatureHeader.parse(attribute)
    return header.alg if header is not None and header.kind == _DIGSIG and header.key_id in signers else None


def judge_signature(
    artifact: str, path: bytes, digests: Sequence[FileDigest], attribute: bytes, signers: Signers
) -> str:
    """``good``, ``other-key`` or ``not-verified`` (another kind of attribute, or a hash that nobody should sign).

    Raises MalformedError (reference-signature) for a signature of a named key that is not one of this file.
    """
    header = SignatureHeader.parse(attribute)
    if header is None or header.kind != _DIGSIG:
        return "not-verified"
    if header.key_id not in signers:
        return "other-key"
    if any(is_signed(alg, digest, attribute, signers) for alg, digest in digests if alg is header.alg):
        return "good"
    raise MalformedError(
        f"{artifact}: {path_text(path)}: its signature names a key of the release, but that key did not sign this "
        "content",
        code="reference-signature",
        hint="the file was changed after it was signed, or the signature belongs to another file",
    )
