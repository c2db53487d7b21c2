"""What was computed for the same entries before: hosts of a fleet run the same files.

An entry of a runtime log is known when an entry with exactly its bytes was hashed and read before, in a log that a
quote stood behind or because a stack lists it. Nothing is assumed of an entry that differs in any byte, so this saves
time and decides nothing: without it, every verdict is the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from watchword.wire.ima_log import Run, record_key
from watchword.wire.tpm.algorithms import Alg

__all__ = ["KnownFiles"]

_MAX_ENTRY = 1024  # bytes of an entry that is worth to be kept: a path and a signature of 4096 bits
_RUN = 32  # entries that are looked for together
_MAX_MARKS = 1024  # combinations of stacks that allow the same file
_NOBODY: frozenset[bytes] = frozenset()
_Known: TypeAlias = tuple[bytes, bytes, frozenset[bytes]]


class KnownFiles:
    """Entries with SHA-1 digests, by the first bytes of each; what they extend PCR 10 of ``bank`` by; who allows them.

    Every one extends PCR 10, has the template digest of its data (D2) and is a file or buffer that was understood (D1).
    The mark of each is the set of stacks, by their digests, that were found to allow the file (D5).
    At most ``limit`` entries of 1 KiB, 0.6 to 2.4 KB of memory each. A full table stays as it is: a host that fills it
    costs others time and nothing else. Make a new one when the stacks on file change.
    """

    __slots__ = ("_entries", "_marks", "_runs", "bank", "entries", "limit", "runs")

    def __init__(self, bank: Alg, limit: int = 1 << 18) -> None:
        self.bank = bank
        self.limit = limit
        self._entries: dict[bytes, _Known] = {}
        self._runs: dict[bytes, Run] = {}
        self.entries: Mapping[bytes, _Known] = self._entries  # to be read only; a proxy would take longer to ask
        self.runs: Mapping[bytes, Run] = self._runs
        self._marks = {_NOBODY: _NOBODY}  # equal marks are one object, which makes telling them apart cheap

    def add(self, raw: bytes, extend: bytes) -> None:
        """Keep an entry, which has all the properties above, when there is room for it."""
        if len(raw) <= _MAX_ENTRY and len(self._entries) < self.limit:
            self._entries.setdefault(record_key(raw), (raw, extend, _NOBODY))

    def clear(self, stack: bytes, raw: bytes) -> None:
        """Remember that the stack with this digest (32 bytes) allows this entry, if the entry is kept at all."""
        key = record_key(raw)
        record = self._entries.get(key)
        if record is None or record[0] != raw or stack in record[2]:
            return
        mark = record[2] | {stack}
        if mark in self._marks or len(self._marks) < _MAX_MARKS:
            self._entries[key] = (record[0], record[1], self._marks.setdefault(mark, mark))

    def join(self, raws: Sequence[bytes]) -> None:
        """Remember that these entries followed each other: hosts of a fleet start the same things in the same order."""
        if len(self._runs) > self.limit // _RUN:
            self._runs.clear()
        for start in range(0, len(raws) - _RUN + 1, _RUN):
            found = [self._entries.get(record_key(raw)) for raw in raws[start : start + _RUN]]
            run = [
                entry for entry, raw in zip(found, raws[start:], strict=False) if entry is not None and entry[0] == raw
            ]
            if len(run) == _RUN:
                together = b"".join(entry[0] for entry in run)
                columns = [entry[0] for entry in run], [entry[1] for entry in run], [entry[2] for entry in run]
                self._runs[record_key(together)] = (together, *columns)
