"""Signing and verifying notes: the log's own Ed25519 signature, and cosignatures of witnesses.

Sources: C2SP signed-note (key type 1) and tlog-cosignature (cosignature/v1, key type 4).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from watchword.crypto.ed25519 import Ed25519Signer
from watchword.errors import Finding, MalformedError, Rejected
from watchword.wire.note import Note, NoteKey, NoteSignature

__all__ = ["COSIGNS", "SIGNS", "Cosigned", "cosign", "cosigned_by", "note_key", "parse_key", "sign", "verify"]

SIGNS: Final = 1
COSIGNS: Final = 4
_ED25519: Final = 64  # bytes of a signature
_TIME: Final = 8  # bytes before it in a cosignature


@dataclass(frozen=True, slots=True)
class Cosigned:
    """A witness's verified word: it saw this checkpoint at ``time`` (Unix seconds), and nothing that contradicts it."""

    witness: NoteKey
    time: int


def note_key(name: str, key: Ed25519PublicKey, kind: int = SIGNS) -> NoteKey:
    """The verifier key of ``key`` under ``name``."""
    raw = key.public_bytes_raw()
    return NoteKey(name, hashlib.sha256(name.encode() + b"\n" + bytes([kind]) + raw).digest()[:4], kind, raw)


def parse_key(text: str, kind: int) -> NoteKey:
    """Read a verifier key of this kind. Raises :class:`MalformedError`, also when its id is not that of its key."""
    key = NoteKey.parse(text)
    if key.kind != kind or len(key.key) != 32:
        raise MalformedError(f"note key: not an Ed25519 key of type {kind}")
    if key != note_key(key.name, Ed25519PublicKey.from_public_bytes(key.key), kind):
        raise MalformedError("note key: the id is not that of the key")
    return key


def sign(text: str, name: str, key: Ed25519Signer) -> Note:
    """A note of ``text``, which ends in a newline, signed under ``name``."""
    signer = note_key(name, key.public_key())
    return Note(text, (NoteSignature(name, signer.key_id, key.sign(text.encode())),))


def verify(note: Note, keys: Iterable[NoteKey]) -> NoteKey:
    """The first of ``keys`` that signed; signatures of other keys are passed over, a wrong one of these is not.

    Raises :class:`Rejected` (``checkpoint-signature``).
    """
    for key in keys:
        for signature in _of(note, key):
            _check(key, signature.signature, note.text.encode())
            return key
    raise Rejected(Finding("T1", "checkpoint-signature", "the checkpoint is not signed by the authority's log"))


def _check(key: NoteKey, signature: bytes, message: bytes) -> None:
    try:
        Ed25519PublicKey.from_public_bytes(key.key).verify(signature, message)
    except InvalidSignature:
        finding = Finding("T1", "checkpoint-signature", "a signature does not fit the checkpoint", actual=key.name)
        raise Rejected(finding) from None


def _of(note: Note, key: NoteKey) -> list[NoteSignature]:
    return [each for each in note.signatures if (each.name, each.key_id) == (key.name, key.key_id)]


def cosign(text: str, name: str, key: Ed25519Signer, time: int) -> NoteSignature:
    """A witness's cosignature at ``time`` (Unix seconds)."""
    signer = note_key(name, key.public_key(), COSIGNS)
    return NoteSignature(name, signer.key_id, time.to_bytes(_TIME, "big") + key.sign(_cosigned_text(text, time)))


def cosigned_by(note: Note, witnesses: Iterable[NoteKey]) -> list[Cosigned]:
    """Which of ``witnesses`` cosigned ``note``, each key once. Raises :class:`Rejected` (``checkpoint-signature``)."""
    found = {}
    for witness in witnesses:
        for signature in _of(note, witness):
            if len(signature.signature) != _TIME + _ED25519:
                raise MalformedError("checkpoint: a cosignature does not have 72 bytes")
            time = int.from_bytes(signature.signature[:_TIME], "big")
            _check(witness, signature.signature[_TIME:], _cosigned_text(note.text, time))
            found[witness.key] = Cosigned(witness, time)
    return list(found.values())


def _cosigned_text(text: str, time: int) -> bytes:
    return f"cosignature/v1\ntime {time}\n{text}".encode()
