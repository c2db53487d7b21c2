"""Is the log that an authority shows now the log that it showed before, whole and unaltered?

The root is recomputed from the tiles, beginning at the frontier of the last audit: that is the consistency proof.
Every entry that was not seen yet is fetched too and must have the hash that its tile says.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from watchword.crypto.keylist import KeyList
from watchword.crypto.note import Cosigned
from watchword.errors import Finding, Rejected, Unavailable
from watchword.tenant.log_state import Seen
from watchword.verify.log import VerifiedCheckpoint, check_growth, check_witnesses, forked, verify_checkpoint
from watchword.wire.merkle import Frontier, leaf_hash
from watchword.wire.note import NoteKey
from watchword.wire.tile import ENTRIES, HEIGHT, WIDTH, Tile, parse_entries, parse_tile

__all__ = ["Audited", "LogSource", "Visit", "audit"]

Visit = Callable[[int, bytes, Frontier], None]


class LogSource(Protocol):
    """Where a log is read: :class:`~watchword.tenant.client.AuthorityClient`, or a mirror."""

    def checkpoint(self) -> bytes:
        """The signed checkpoint."""

    def tile(self, tile: Tile) -> bytes:
        """The bytes of a tile. Raises :class:`Unavailable` (``tile-unknown``) when the log has no such."""


@dataclass(frozen=True, slots=True)
class Audited:
    """A log that was checked from entry ``start`` up to its ``checkpoint``; ``cosigned`` are your witnesses' words."""

    start: int
    checkpoint: VerifiedCheckpoint
    frontier: Frontier
    cosigned: Sequence[Cosigned]

    @property
    def seen(self) -> Seen:
        """What to remember."""
        return Seen(self.checkpoint.note, self.frontier)


def audit(
    source: LogSource,
    keys: KeyList,
    seen: Seen | None,
    *,
    witnesses: Sequence[NoteKey] = (),
    quorum: int = 0,
    full: bool = False,
    visit: Visit = lambda index, entry, tree: None,
) -> Audited:
    """Check the log from what was ``seen`` on, or all of it with ``full``; ``visit`` gets every entry that is read.

    ``visit`` is called with the index of an entry, its bytes and the tree that ends with it, before the root is
    known to be right: keep what it tells, and use it after this returned.
    Raises MalformedError, :class:`Unavailable`, :class:`Rejected`: ``checkpoint-…``, ``log-witnesses``,
    ``log-rollback``, ``log-fork``, ``log-entry``, ``log-tile``.
    """
    checkpoint = verify_checkpoint(source.checkpoint(), keys)
    cosigned = check_witnesses(checkpoint.note, witnesses, quorum)
    if seen is not None:
        check_growth(seen.checkpoint, checkpoint.checkpoint)
    start = Frontier() if full or seen is None else seen.frontier
    walk = _Walk(source, visit, seen.frontier.size if seen else 0)
    tree = walk.run(start, checkpoint.size)
    if tree.root() != checkpoint.root:
        raise _explain(source, seen, start, checkpoint)
    if seen is not None and walk.passed not in (None, seen.frontier):
        raise forked(seen.checkpoint, checkpoint.checkpoint)
    walk.check_upper_tiles(checkpoint.size)
    return Audited(start.size, checkpoint, tree, cosigned)


def _explain(source: LogSource, seen: Seen | None, start: Frontier, new: VerifiedCheckpoint) -> Rejected:
    """The new root does not follow: is it another log, or do the tiles not belong to it?"""
    if seen is not None and start.size:
        whole = _Walk(source, lambda index, entry, tree: None, seen.frontier.size).run(Frontier(), new.size)
        if whole.root() == new.root:
            return forked(seen.checkpoint, new.checkpoint)
    return _tile("the tiles do not lead to the root that was signed", new.root.hex(), "another", f"size {new.size}")


def _tile(why: str, expected: str = "", actual: str = "", subject: str = "") -> Rejected:
    hint = "the authority's database or a cache on the way was altered; the checkpoint proves what was promised"
    return Rejected(Finding("T6", "log-tile", why, expected, actual, subject), hint=hint)


@dataclass(slots=True)
class _Walk:
    """Reads tiles from left to right. ``passed`` is the tree as it was at ``watch`` leaves, once it went by."""

    source: LogSource
    visit: Visit
    watch: int
    passed: Frontier | None = None
    nodes: dict[int, list[tuple[int, bytes]]] = field(default_factory=dict)

    def run(self, tree: Frontier, size: int) -> Frontier:
        while tree.size < size:
            index = tree.size // WIDTH
            tree = self._leaves(tree, index, min(WIDTH, size - index * WIDTH))
        return tree

    def _leaves(self, tree: Frontier, index: int, width: int) -> Frontier:
        hashes = self._hashes(Tile(0, index, width))
        bundle = Tile(ENTRIES, index, width)
        entries = parse_entries(bundle, self._fetch(bundle))
        for offset in range(tree.size % WIDTH, width):
            number, entry = tree.size, entries[offset]
            if leaf_hash(entry) != hashes[offset]:
                raise Rejected(
                    Finding(
                        "T6", "log-entry", "an entry is not the one in the log",
                        hashes[offset].hex(), leaf_hash(entry).hex(), f"entry {number + 1}",
                    )
                )  # fmt: skip
            tree, completed = tree.append(hashes[offset])
            for level, node, hashed in completed:
                if level % HEIGHT == 0:
                    self.nodes.setdefault(level // HEIGHT, []).append((node, hashed))
            if tree.size == self.watch:
                self.passed = tree
            self.visit(number, entry, tree)
        return tree

    def check_upper_tiles(self, size: int) -> None:
        """Tiles above the leaves must have the hashes that the leaves gave."""
        for level, nodes in self.nodes.items():
            total, read = size >> (level * HEIGHT), dict[int, list[bytes]]()
            for node, expected in nodes:
                index = node // WIDTH
                tile = Tile(level, index, min(WIDTH, total - index * WIDTH))
                if index not in read:
                    read = {index: self._hashes(tile)}
                if read[index][node % WIDTH] != expected:
                    raise _tile("a tile does not follow from those below it", expected.hex(), subject=tile.path)

    def _hashes(self, tile: Tile) -> list[bytes]:
        return parse_tile(tile, self._fetch(tile))

    def _fetch(self, tile: Tile) -> bytes:
        try:
            return self.source.tile(tile)
        except Unavailable as error:
            if error.code != "tile-unknown":
                raise
            raise _tile("the log does not show all that its checkpoint promises", subject=tile.path) from None
