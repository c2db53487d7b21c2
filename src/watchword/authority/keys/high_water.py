"""Has the store gone back? The newest checkpoint under which a release left is kept with the keys, not in the store.

A store that was put back from a copy has lower release counts, and a token could have its secret released again. Its
log does not have that checkpoint any more. The comparison needs nothing of the store but its log, so it is the same
for every database. A file beside it holds everything until an operator has decided: see ``recovery``.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from watchword.authority.keys.keyfiles import write_file
from watchword.authority.keys.manifest import changing
from watchword.crypto.ed25519 import Ed25519Signer
from watchword.crypto.note import sign
from watchword.errors import MalformedError, Rejected, Unavailable
from watchword.verify.log import VerifiedCheckpoint, log_origin, verify_checkpoint
from watchword.wire.merkle import Frontier
from watchword.wire.note import MAX_NOTE, Checkpoint

if TYPE_CHECKING:
    from watchword.authority.keys.keyring import Keyring
    from watchword.authority.store import Head, Store

__all__ = ["HIGH_WATER", "HOLD", "Hold", "HighWater", "checkpoint_note", "first_mark", "put_hold", "read_hold"]

HIGH_WATER: Final = "high-water"
HOLD: Final = "hold.json"
_MAX_HOLD: Final = 4096
_HINT: Final = "see what is known: watchword authority recovery show; then docs/howto/back-up-an-authority.md"


class Hold(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Why nothing is decided: ``why`` is "restored" or "witness", ``since`` in Unix seconds."""

    why: str
    since: int
    detail: str


def checkpoint_note(authority: str, key: Ed25519Signer, size: int, root: bytes) -> bytes:
    """A signed checkpoint of the log of ``authority``."""
    origin = log_origin(authority)
    return sign(Checkpoint(origin, size, root).encode(), origin, key).encode()


def first_mark(authority: str, key: Ed25519Signer) -> bytes:
    """The mark of an authority that has decided nothing yet."""
    return checkpoint_note(authority, key, 0, Frontier().root())


def read_hold(directory: Path) -> Hold | None:
    """What holds the authority with its keys in ``directory``; a file that cannot be read holds it as well."""
    try:
        with open(directory / HOLD, "rb") as file:
            return msgspec.json.decode(file.read(_MAX_HOLD), type=Hold)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return Hold("unreadable", 0, f"{HOLD} cannot be read")


def put_hold(directory: Path, hold: Hold) -> None:
    """Decide nothing from now on; what holds already is not replaced."""
    with changing(directory):
        if not (directory / HOLD).exists():
            write_file(directory / HOLD, msgspec.json.encode(hold))


class HighWater:
    """Compares ``store`` with the mark; for any number of threads, and of processes on one directory of keys."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._read: tuple[object, VerifiedCheckpoint] | None = None

    def check_held(self, ring: Keyring) -> None:
        """Raise :class:`Unavailable` (``releases-held``) while an operator has to decide; one look at a directory."""
        if os.path.lexists(f"{ring.directory}/{HOLD}"):
            hold = read_hold(ring.directory)
            why = hold.detail if hold else "it was a moment ago"
            raise Unavailable("releases-held", f"nothing is decided until an operator has: {why}", hint=_HINT)

    def check(self, ring: Keyring) -> VerifiedCheckpoint:
        """The mark, which the log continues.

        Raises :class:`Unavailable`: ``releases-held``, ``high-water-missing``, ``store-rolled-back``.
        """
        self.check_held(ring)
        return self.check_mark(ring)

    def check_mark(self, ring: Keyring) -> VerifiedCheckpoint:
        """The same, whatever holds the authority."""
        mark = self.mark(ring)
        self._compare(mark, self._store.head_at(mark.size))
        return mark

    def advance(self, ring: Keyring, size: int) -> None:
        """Before what entry number ``size`` records leaves: the log continues the mark, and the mark has that entry.

        Raises as :meth:`check` does, and ``high-water-unwritable``: nothing may leave then.
        """
        with self._lock:
            if self.check(ring).size >= size:
                return
            try:
                with changing(ring.directory):
                    mark, head = self.check(ring), self._store.head()
                    if head.seq > mark.size:
                        self._write(ring, head)
            except OSError as error:
                raise Unavailable("high-water-unwritable", f"cannot write the high-water mark: {error}") from None

    def reset(self, ring: Keyring) -> None:
        """Begin at the log as it is. The old mark, if it says more, is kept: it proves what was lost."""
        with self._lock, changing(ring.directory):
            path = ring.directory / HIGH_WATER
            if path.exists():
                os.replace(path, ring.directory / f"{HIGH_WATER}.{ring.key_list.version}.lost")
            self._write(ring, self._store.head())

    def mark(self, ring: Keyring) -> VerifiedCheckpoint:
        """The newest checkpoint under which a release left. Raises :class:`Unavailable` (``high-water-missing``)."""
        path = ring.directory / HIGH_WATER
        try:
            status = os.stat(path)
            stamp = status.st_ino, status.st_mtime_ns, ring.key_list.version
            if self._read is None or self._read[0] != stamp:
                with open(path, "rb") as file:
                    self._read = stamp, verify_checkpoint(file.read(MAX_NOTE + 1), ring.key_list)
            return self._read[1]
        except (OSError, MalformedError, Rejected):
            raise Unavailable(
                "high-water-missing",
                f"{path} is missing or damaged: nobody can tell whether the store went back",
                hint=_HINT,
            ) from None

    def _compare(self, mark: VerifiedCheckpoint, then: Head | None) -> None:
        if then is None or then.root != mark.root:
            raise Unavailable(
                "store-rolled-back",
                f"the store is not the one that was used last: its log lacks entry {mark.size} as it was, "
                f"it ends with {self._store.head().seq}",
                hint=_HINT,
            )

    def _write(self, ring: Keyring, head: Head) -> None:
        note = checkpoint_note(ring.key_list.authority, ring.log_key, head.seq, head.root)
        write_file(ring.directory / HIGH_WATER, note)
