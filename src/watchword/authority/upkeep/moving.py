"""Moving the store of an authority from its file to a PostgreSQL database.

Two stores that count releases would be a token released twice, so at no moment are two in force:

1. nobody else has the file open, from here to the end;
2. the copy is made, compared and committed in the database, where it is *arriving*: no program opens it;
3. the file becomes *moved*: no program opens it any more. From here on it is this database or none;
4. the copy is put in force, with an entry in its log that says so, and the mark beside the keys gets that entry: the
   log of the file, and of every copy of it, does not continue the mark then.

Killed before 3, the file is the store as before, and a second move begins anew. Killed after it, a second move goes on.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sqlalchemy import Connection

from watchword.authority.data import ELSEWHERE, STORE_FILE, note_elsewhere
from watchword.authority.keys.high_water import HighWater
from watchword.authority.keys.keyring import Keyring
from watchword.authority.store import DatabaseUrl, Head, Store, Transaction
from watchword.authority.store.engine import open_backend
from watchword.authority.store.force import OutOfForce, put_out_of_force, standing
from watchword.authority.store.move import Progress, Within, check_whole, fill, row_counts, take_over
from watchword.authority.store.postgresql import check_unused
from watchword.authority.store.sqlite import alone
from watchword.errors import UsageError

__all__ = ["MOVED_FILE", "Move", "Moved"]

MOVED_FILE: Final = f"{STORE_FILE}.moved"
_ACT: Final = "store-move"


@dataclass(frozen=True, slots=True)
class Moved:
    """``rows`` of each table, a log that ended with ``head``; ``file`` is what is left of the old store."""

    rows: dict[str, int]
    head: Head
    releases: int
    file: Path


@dataclass(frozen=True, slots=True)
class Move:
    """From the directory ``path`` with the keys ``ring`` to ``database``, by ``actor`` at ``now`` (Unix seconds)."""

    path: Path
    ring: Keyring
    database: DatabaseUrl
    now: int
    actor: str

    def run(self, begin: Callable[[int], Progress]) -> Moved:
        """Move it, or finish a move that was interrupted; ``begin`` is told how many rows will be looked at.

        Raises :class:`UsageError` (``store-in-use``, ``store-elsewhere``, ``store-…``, ``move-target``,
        ``move-other``), :class:`Unavailable` (``move-differs``, ``store-…``, ``releases-held``, ``high-water-…``) and
        Rejected (``decision-log``).
        """
        file = self._file()
        with alone(file) as source:
            why = standing(source)
            move = why.move if why else secrets.token_hex(8)
            if why is None:
                self._copy(source, str(file), move, begin)
                _retire(source, move)
            self._take_over(source, move)
            head, counts = Within(source).head(), Within(source).counts()
            moved = Moved(row_counts(source), head, counts.releases, self.path / MOVED_FILE)
        note_elsewhere(self.path)
        os.rename(file, moved.file)
        return moved

    def _file(self) -> Path:
        file = self.path / STORE_FILE
        if file.is_file() and not file.is_symlink():
            return file
        if (self.path / ELSEWHERE).exists():
            text = f"the store of the authority in {self.path} is on a server already"
            raise UsageError("store-elsewhere", text, hint="it was moved there, or began there: nothing is left to do")
        raise UsageError("store-missing", f"there is no store {file}", hint="--data names another directory")

    def _copy(self, source: Connection, name: str, move: str, begin: Callable[[int], Progress]) -> None:
        check_whole(source, name)
        HighWater(Within(source)).check_held(self.ring)
        progress = begin(2 * sum(row_counts(source).values()))

        def prepare(target: Connection, name: str) -> bool:
            check_unused(target)
            fill(source, target, name, move, progress)
            HighWater(Within(target)).check_mark(self.ring)
            return True

        open_backend(self.database, prepare, patient=True).engine.dispose()

    def _take_over(self, source: Connection, move: str) -> None:
        def prepare(target: Connection, name: str) -> bool:
            if take_over(source, target, name, move):
                head = Within(source).head()
                details = {"move": move, "entries": head.seq, "root": head.root.hex()}
                act = Transaction(target).append_act(self.now, _ACT, self.ring.fingerprint, by=self.actor, **details)
                numbers.append(act.seq)
            return True

        numbers = [Within(source).head().seq + 1]
        with Store(open_backend(self.database, prepare, patient=True)) as store:
            HighWater(store).advance(self.ring, numbers[-1])


def _retire(source: Connection, move: str) -> None:
    source.exec_driver_sql("BEGIN IMMEDIATE")
    put_out_of_force(source, OutOfForce("moved", move))
    source.commit()
