"""CoRIM documents for ``watchword stack import``, ``export`` and ``check --expect``. Needs the extra ``auditor``."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import click
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

from watchword.cli.output import note, printable
from watchword.cli.profile import read_bounded
from watchword.errors import Finding, Rejected, UsageError
from watchword.reference.interop.draft import Draft
from watchword.reference.interop.expect import Expectation

try:
    from watchword.crypto import cose
    from watchword.reference.interop.corim import document, foreign, own
    from watchword.reference.interop.corim.shape import MAX_CORIM
except ModuleNotFoundError as missing:  # pragma: no cover - an installation without the extra
    if missing.name != "cbor2":
        raise
    raise UsageError(
        "extra-missing", "CoRIM needs the package cbor2", hint="pip install 'watchword[auditor]'"
    ) from None

__all__ = ["Imported", "read_corim", "read_registers", "write_corim"]

_MAX_KEY_FILE = 16 * 1024


@dataclass(frozen=True, slots=True)
class Imported:
    """A CoRIM as it was read: the whole stack document of our own profile, or a draft. ``signer`` is None when nothing
    was verified.
    """

    stack: bytes | None
    draft: Draft
    signer: str | None


def read_corim(source: Path, key: Path | None, demanded: bool) -> Imported:
    """The CoRIM in ``source``, its signature verified with the public ``key`` when there is one or it is demanded."""
    data = read_bounded(source, MAX_CORIM)
    payload, signer = _open(data, key, demanded)
    corim = document.Corim.parse(payload)
    if corim.profile == own.PROFILE:
        return Imported(own.read_own(corim, payload), Draft(), signer)
    return Imported(None, foreign.read_corim(corim), signer)


def read_registers(data: bytes) -> tuple[Expectation, ...]:
    """PCR values in a CoRIM, nothing verified."""
    payload = document.parse_signed(data).payload if document.is_signed(data) else data
    if document.is_signed(data):
        note("the signature of the CoRIM was not verified: these are values to compare with, not to trust")
    return foreign.read_registers(document.Corim.parse(payload))


def write_corim(stack: bytes, key: Path | None, signer: str | None) -> tuple[bytes, list[str]]:
    """The stack document ``stack`` as a CoRIM, signed when there is a ``key``; and what is not in it, in words."""
    if (key is None) != (signer is None):
        raise UsageError("corim-signer", "--key and --signer go together", hint="--key key.pem --signer 'Example Ltd'")
    written = own.write_corim(stack)
    back = own.read_own(document.Corim.parse(written), written)
    lost = [] if back == stack else ["how the document is laid out: endorsements of its bytes do not fit the imported"]
    if key is not None and signer is not None:
        written = document.sign_corim(written, signer, _private_key(key))
    return written, lost


def _open(data: bytes, key: Path | None, demanded: bool) -> tuple[bytes, str | None]:
    if key is None:
        if demanded:
            raise UsageError("corim-key", "a verified signature is demanded, and no key is given", hint="--key FILE")
        if not document.is_signed(data):
            return data, None
        message = document.parse_signed(data)
        note("the document is signed, and its signature was not verified: give the signer's public key with --key")
        return message.payload, None
    public = _public_key(key)
    if not document.is_signed(data):
        raise Rejected(Finding("S2", "document-signers", "the document is not signed", "1", "0"))
    message = document.parse_signed(data)
    payload = cose.verify(message, public)
    signer = document.check_signer(message, int(time.time()))
    note(printable(f"signed by {signer!a}, in the signer's own words, with key {cose.key_id(public).hex()}"))
    return payload, signer


def _public_key(file: Path) -> cose.PublicKey:
    try:
        key = load_pem_public_key(read_bounded(file, _MAX_KEY_FILE))
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, EllipticCurvePublicKey | Ed25519PublicKey):
        raise UsageError(
            "key-file",
            f"{file.name} is not a public key in PEM on P-256, P-384 or Ed25519",
            hint="openssl x509 -in CERTIFICATE -noout -pubkey",
        )
    return key


def _private_key(file: Path) -> cose.PrivateKey:
    """The key in ``file``; the passphrase of an encrypted one is asked for on the terminal."""
    pem = read_bounded(file, _MAX_KEY_FILE)
    key: object = None
    with suppress(ValueError, UnsupportedAlgorithm):
        try:
            key = load_pem_private_key(pem, password=None)
        except TypeError:  # the key is encrypted
            passphrase = click.prompt(f"Passphrase of {file.name}", hide_input=True, err=True)
            key = load_pem_private_key(pem, password=passphrase.encode())
    if not isinstance(key, EllipticCurvePrivateKey | Ed25519PrivateKey):
        raise UsageError(
            "key-file",
            f"{file.name} is not a private key in PEM on P-256, P-384 or Ed25519, or the passphrase is wrong",
            hint="openssl genpkey -algorithm ed25519",
        )
    return key
