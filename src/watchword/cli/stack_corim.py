"""CoRIM documents for ``watchword stack import``, ``export`` and ``check --expect``. Needs the extra ``auditor``."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from watchword.cli.output import note, printable
from watchword.cli.private_key import read_private_key
from watchword.cli.profile import read_bounded
from watchword.cli.public_key import read_public_key
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
        "extra-missing",
        "CoRIM needs the package cbor2",
        hint="install the Debian package watchword-auditor, or: pip install 'watchword[auditor]'",
    ) from None

__all__ = ["Imported", "read_corim", "read_registers", "write_corim"]


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


def write_corim(
    stack: bytes, key: Path | None, passphrase_file: Path | None, signer: str | None
) -> tuple[bytes, list[str]]:
    """The stack document ``stack`` as a CoRIM, signed when there is a ``key``; and what is not in it, in words."""
    if (key is None) != (signer is None):
        raise UsageError("corim-signer", "--key and --signer go together", hint="--key key.pem --signer 'Example Ltd'")
    written = own.write_corim(stack)
    back = own.read_own(document.Corim.parse(written), written)
    lost = [] if back == stack else ["how the document is laid out: endorsements of its bytes do not fit the imported"]
    if key is not None and signer is not None:
        written = document.sign_corim(written, signer, read_private_key(key, passphrase_file))
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
    public = read_public_key(key)
    if not document.is_signed(data):
        raise Rejected(Finding("S2", "document-signers", "the document is not signed", "1", "0"))
    message = document.parse_signed(data)
    payload = cose.verify(message, public)
    signer = document.check_signer(message, int(time.time()))
    note(printable(f"signed by {signer!a}, in the signer's own words, with key {cose.key_id(public).hex()}"))
    return payload, signer
