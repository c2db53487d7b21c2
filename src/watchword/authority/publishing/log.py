"""The log as the authority shows it: checkpoints signed as they are asked for, tiles, and proofs for receipts.

A checkpoint follows from the store alone: the same tree always gives the same text and signature. An entry that is
durable is therefore in every later checkpoint, and nothing has to be written when one is signed.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass

from watchword.authority.keys.keyring import Keyring
from watchword.authority.store import Decision, Head, Store
from watchword.crypto.note import sign
from watchword.launch.receipt import LogPosition
from watchword.verify.log import log_origin
from watchword.wire import merkle
from watchword.wire.note import Checkpoint, Note, NoteSignature
from watchword.wire.tile import ENTRIES, HEIGHT, WIDTH, Tile, encode_entries

__all__ = ["PublicLog", "TreeReader"]


class TreeReader:
    """Hashes of complete subtrees, from the store; each tile is read once. For one answer, and no longer."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._tiles: dict[tuple[int, int], list[bytes]] = {}

    def subtree(self, level: int, index: int) -> bytes:
        """The hash over the leaves ``index << level`` to ``(index + 1) << level``, all of which exist."""
        tile_level, above = divmod(level, HEIGHT)
        first = index << above
        tile = self._tile(tile_level, first // WIDTH)
        hashes = tile[first % WIDTH : first % WIDTH + (1 << above)]
        while len(hashes) > 1:
            hashes = [merkle.node_hash(*hashes[at : at + 2]) for at in range(0, len(hashes), 2)]
        return hashes[0]

    def _tile(self, level: int, index: int) -> list[bytes]:
        key = level, index
        if key not in self._tiles:
            self._tiles[key] = self._store.tile(level, index)
        return self._tiles[key]


@dataclass(frozen=True, slots=True)
class _Signed:
    key: bytes
    head: Head
    note: Note


class PublicLog:
    """What anybody may read of the log; for any number of threads."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._last: _Signed | None = None

    def newest(self, ring: Keyring) -> Note:
        """The checkpoint of the whole log as it is now, with the cosignatures it has already."""
        return self._cosigned(self._sign(ring, self._store.head()))

    def published(self, ring: Keyring) -> Note:
        """The newest checkpoint that a majority of the authority's witnesses cosigned; the newest when none did."""
        size = self._store.witnessed_size()
        head = self._store.head_at(size) if size else None
        return self.newest(ring) if head is None else self._cosigned(self._sign(ring, head))

    def _sign(self, ring: Keyring, head: Head) -> Note:
        key = ring.log_key.public_key().public_bytes_raw()
        last = self._last
        if last is None or (last.key, last.head) != (key, head):
            origin = log_origin(ring.key_list.authority)
            note = sign(Checkpoint(origin, head.seq, head.root).encode(), origin, ring.log_key)
            with self._lock:
                self._last = last = _Signed(key, head, note)
        return last.note

    def _cosigned(self, note: Note) -> Note:
        lines = self._store.cosignatures(Checkpoint.parse(note.text).size)
        return Note(note.text, (*note.signatures, *(NoteSignature.parse(line) for line in lines)))

    def tile(self, tile: Tile) -> bytes | None:
        """The bytes of a tile or entry bundle; None when the log does not have all of it."""
        if tile.level == ENTRIES:
            leaves = self._store.leaves(tile.start, tile.width)
            return encode_entries(leaves) if len(leaves) == tile.width else None
        hashes = self._store.tile(tile.level, tile.index)[: tile.width]
        return b"".join(hashes) if len(hashes) == tile.width else None

    def positions(self, ring: Keyring, entries: Iterable[Decision]) -> list[LogPosition]:
        """Where each of ``entries`` stands, proven under one checkpoint: a witnessed one when all are in it."""
        entries = list(entries)
        note = self.published(ring)
        if any(entry.seq > Checkpoint.parse(note.text).size for entry in entries):
            note = self.newest(ring)
        size, reader, text = Checkpoint.parse(note.text).size, TreeReader(self._store), note.encode().decode()
        return [self._position(entry, size, reader, text) for entry in entries]

    @staticmethod
    def _position(entry: Decision, size: int, reader: TreeReader, checkpoint: str) -> LogPosition:
        proof = merkle.inclusion_proof(entry.seq - 1, size, reader.subtree)
        return LogPosition(
            index=entry.seq - 1,
            number=entry.number,
            salt=entry.salt.hex(),
            leaf=entry.leaf.hex(),
            proof=tuple(each.hex() for each in proof),
            checkpoint=checkpoint,
        )

    def consistency(self, old: int, size: int) -> list[bytes]:
        """The proof that the log of ``size`` entries grew out of that of ``old``."""
        return merkle.consistency_proof(old, size, TreeReader(self._store).subtree)
