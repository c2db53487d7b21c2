"""Is it in the log, and is it one log? Proofs and checkpoints against what they must lead to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote

from watchword.crypto.keylist import KeyList
from watchword.crypto.note import Cosigned, cosigned_by, note_key, verify
from watchword.errors import Finding, Rejected
from watchword.wire import merkle
from watchword.wire.note import Checkpoint, Note, NoteKey

__all__ = [
    "VerifiedCheckpoint",
    "check_consistency",
    "check_growth",
    "check_inclusion",
    "check_witnesses",
    "forked",
    "log_keys",
    "log_origin",
    "verify_checkpoint",
]


@dataclass(frozen=True, slots=True)
class VerifiedCheckpoint:
    """A checkpoint that the authority's log signed; ``note`` is its exact text, with all signatures."""

    checkpoint: Checkpoint
    note: Note

    @property
    def size(self) -> int:
        return self.checkpoint.size

    @property
    def root(self) -> bytes:
        return self.checkpoint.root


def log_origin(authority: str) -> str:
    """The origin of an authority's log, which also names its key."""
    return f"{quote(authority, safe='')[:200]}/watchword-log"


def log_keys(keys: KeyList) -> tuple[NoteKey, ...]:
    """The keys that may have signed a checkpoint, the newest first."""
    return tuple(note_key(log_origin(keys.authority), key) for key in keys.log)


def verify_checkpoint(data: bytes, keys: KeyList) -> VerifiedCheckpoint:
    """Check that ``data`` is a checkpoint of the log of the authority with these ``keys`` (T1).

    Raises MalformedError, :class:`Rejected` (``checkpoint-signature``, ``checkpoint-origin``).
    """
    note = Note.parse(data)
    verify(note, log_keys(keys))
    checkpoint = Checkpoint.parse(note.text)
    if checkpoint.origin != log_origin(keys.authority):
        raise Rejected(
            Finding(
                "T1",
                "checkpoint-origin",
                "the checkpoint is of another log",
                log_origin(keys.authority),
                checkpoint.origin,
            )
        )
    return VerifiedCheckpoint(checkpoint, note)


def check_witnesses(note: Note, witnesses: Sequence[NoteKey], quorum: int) -> list[Cosigned]:
    """T5: at least ``quorum`` of ``witnesses`` cosigned. Raises :class:`Rejected` (``log-witnesses``)."""
    found = cosigned_by(note, witnesses)
    if len(found) < quorum:
        raise Rejected(
            Finding(
                "T5",
                "log-witnesses",
                "too few of your witnesses have seen this checkpoint",
                f"{quorum} of {len(witnesses)}",
                str(len(found)),
            ),
            hint="the authority may not have asked them yet: try again, or ask a witness what it saw",
        )
    return found


def check_inclusion(index: int, leaf: bytes, proof: Sequence[bytes], checkpoint: Checkpoint) -> None:
    """T2: the leaf ``leaf`` (its bytes) is number ``index`` (from 0) of the log. Raises :class:`Rejected`."""
    root = merkle.inclusion_root(index, checkpoint.size, merkle.leaf_hash(leaf), proof)
    if root != checkpoint.root:
        raise Rejected(
            Finding(
                "T2", "log-inclusion", "the entry is not at this place in the log", checkpoint.root.hex(), root.hex()
            )
        )


def check_growth(old: Checkpoint, new: Checkpoint) -> None:
    """T3, T4: ``new`` is not smaller than ``old``, and not another log of the same size. Raises :class:`Rejected`."""
    if new.size < old.size:
        raise Rejected(
            Finding("T4", "log-rollback", "the log is shorter than it was", f"{old.size} or more", str(new.size)),
            hint="an old copy of the authority was put back, or it hides what it decided since",
        )
    if new.size == old.size and new.root != old.root:
        raise forked(old, new)


def check_consistency(old: Checkpoint, new: Checkpoint, proof: Sequence[bytes]) -> None:
    """T3, T4: the log of ``new`` grew out of the log of ``old``. Raises :class:`Rejected`, MalformedError."""
    check_growth(old, new)
    if old.size and merkle.consistency_roots(old.size, new.size, old.root, proof) != (old.root, new.root):
        raise forked(old, new)


def forked(old: Checkpoint, new: Checkpoint) -> Rejected:
    """T3: what to say when one of two checkpoints is not of the log of the other."""
    return Rejected(
        Finding(
            "T3",
            "log-fork",
            "the log is not a continuation of the one that was seen before",
            f"{old.size} entries under {old.root.hex()}",
            f"{new.size} entries under {new.root.hex()}",
        ),
        hint="two signed checkpoints contradict each other: keep both, they prove it to anybody",
    )
