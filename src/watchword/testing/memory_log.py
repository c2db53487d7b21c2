"""A log in memory with real hashes and signatures, for tests that say themselves what is in it, and what is wrong."""

from __future__ import annotations

import os
from collections import Counter

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from watchword.crypto.note import cosign, sign
from watchword.errors import Unavailable
from watchword.launch.receipt import LogPosition, make_receipt
from watchword.verify.log import log_origin
from watchword.wire import merkle
from watchword.wire.log_leaf import LogLeaf, commitment, index_key, tag
from watchword.wire.note import Checkpoint, Note
from watchword.wire.tile import ENTRIES, HEIGHT, Tile, encode_entries

__all__ = ["MemoryLog"]


class MemoryLog:
    """The log of ``authority``, which ``key`` signs. Change ``leaves`` to rewrite history; ``size`` to hide the end."""

    def __init__(self, authority: str, key: Ed25519PrivateKey | None = None) -> None:
        self.authority = authority
        self.key = key or Ed25519PrivateKey.generate()
        self.leaves: list[bytes] = []
        self.witnesses: dict[str, Ed25519PrivateKey] = {}
        self._counts: Counter[bytes] = Counter()

    def append(self, entry: bytes, launch_key: bytes = b"", public: bytes = b"") -> tuple[int, bytes]:
        """Add an entry, and return the number of the decision and the salt."""
        salt = os.urandom(32)
        self._counts[launch_key] += 1
        number = self._counts[launch_key]
        marked = tag(index_key(launch_key), number) if launch_key else os.urandom(32)
        self.leaves.append(LogLeaf(marked, commitment(salt, entry), public).encode())
        return number, salt

    def receipt(self, entry: bytes, launch_key: bytes, signing: Ed25519PrivateKey) -> bytes:
        """Add an entry and return its signed receipt."""
        return make_receipt(self.authority, entry, self.position(*self.append(entry, launch_key)), signing)

    def position(self, number: int, salt: bytes) -> LogPosition:
        """The place of the newest entry, proven under a checkpoint of the log as it is."""
        size = len(self.leaves)
        return LogPosition(
            index=size - 1,
            number=number,
            salt=salt.hex(),
            leaf=self.leaves[-1].hex(),
            proof=tuple(each.hex() for each in merkle.inclusion_proof(size - 1, size, self.subtree)),
            checkpoint=self.checkpoint().decode(),
        )

    def subtree(self, level: int, index: int) -> bytes:
        """The hash of a complete subtree."""
        if level == 0:
            return merkle.leaf_hash(self.leaves[index])
        return merkle.node_hash(self.subtree(level - 1, 2 * index), self.subtree(level - 1, 2 * index + 1))

    def root(self) -> bytes:
        """The root of the log as it is."""
        return merkle.range_hash(0, len(self.leaves), self.subtree) if self.leaves else merkle.EMPTY_ROOT

    def checkpoint(self) -> bytes:
        """The signed checkpoint, with a cosignature of each of ``witnesses``."""
        origin = log_origin(self.authority)
        note = sign(Checkpoint(origin, len(self.leaves), self.root()).encode(), origin, self.key)
        more = [cosign(note.text, name, key, 1_800_000_000) for name, key in self.witnesses.items()]
        return Note(note.text, (*note.signatures, *more)).encode()

    def tile(self, tile: Tile) -> bytes:
        """A tile or entry bundle."""
        if not tile.complete(len(self.leaves)):
            raise Unavailable("tile-unknown", "there is no such tile")
        numbers = range(tile.start, tile.start + tile.width)
        if tile.level == ENTRIES:
            return encode_entries([self.leaves[number] for number in numbers])
        return b"".join(self.subtree(tile.level * HEIGHT, number) for number in numbers)
