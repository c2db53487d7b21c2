"""The hashes of an append-only Merkle tree, its proofs, and how to recompute a root from one. Decides nothing.

SHA-256; a leaf is hashed after the byte 0, a node after the byte 1 (RFC 9162, section 2.1). ``Subtree(level, index)``
names the complete subtree over the leaves ``index << level`` to ``(index + 1) << level``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from watchword.errors import MalformedError

__all__ = [
    "EMPTY_ROOT",
    "HASH_SIZE",
    "MAX_SIZE",
    "Frontier",
    "consistency_proof",
    "consistency_roots",
    "inclusion_proof",
    "inclusion_root",
    "leaf_hash",
    "node_hash",
    "range_hash",
]

HASH_SIZE: Final = 32
MAX_SIZE: Final = 1 << 62  # leaves; SQL integers and everybody's counters end at 2^63
EMPTY_ROOT: Final = hashlib.sha256(b"").digest()

Subtree = Callable[[int, int], bytes]


def leaf_hash(entry: bytes) -> bytes:
    """The hash of a leaf."""
    return hashlib.sha256(b"\0" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of the node above two hashes."""
    return hashlib.sha256(b"\1" + left + right).digest()


@dataclass(frozen=True, slots=True)
class Frontier:
    """The right edge of a tree of ``size`` leaves: its complete subtrees, largest first, one for each bit of ``size``.

    It is all that appending needs. Raises :class:`MalformedError` when the numbers do not fit.
    """

    size: int = 0
    hashes: tuple[bytes, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.size <= MAX_SIZE or len(self.hashes) != self.size.bit_count():
            raise MalformedError(f"log frontier: {len(self.hashes)} hashes do not make a tree of {self.size}")

    @classmethod
    def parse(cls, size: int, data: bytes) -> Frontier:
        """The frontier of ``size`` leaves from its hashes, one after the other."""
        if len(data) % HASH_SIZE:
            raise MalformedError("log frontier: not a whole number of hashes")
        return cls(size, tuple(data[at : at + HASH_SIZE] for at in range(0, len(data), HASH_SIZE)))

    def encode(self) -> bytes:
        return b"".join(self.hashes)

    def append(self, leaf: bytes) -> tuple[Frontier, list[tuple[int, int, bytes]]]:
        """The frontier with one more leaf hash, and the subtrees (level from 1, index, hash) that it completed."""
        edge, completed, index, level = list(self.hashes), [], self.size, 0
        while index & 1:
            leaf, index, level = node_hash(edge.pop(), leaf), index >> 1, level + 1
            completed.append((level, index, leaf))
        edge.append(leaf)
        return Frontier(self.size + 1, tuple(edge)), completed

    def subtrees(self) -> Iterator[tuple[int, bytes]]:
        """Level and hash of each of its complete subtrees, the largest first."""
        levels = [level for level in range(self.size.bit_length()) if self.size >> level & 1]
        yield from zip(reversed(levels), self.hashes, strict=True)

    def root(self) -> bytes:
        """The root of the tree."""
        if not self.hashes:
            return EMPTY_ROOT
        *rest, root = self.hashes
        for left in reversed(rest):
            root = node_hash(left, root)
        return root


# -- making proofs -------------------------------------------------------------------------------------------------


def range_hash(start: int, end: int, subtree: Subtree) -> bytes:
    """The hash over the leaves from ``start`` up to ``end``, a range that the tree has a node for."""
    count = end - start
    if count & (count - 1) == 0:
        level = count.bit_length() - 1
        return subtree(level, start >> level)
    middle = start + _split(count)
    return node_hash(range_hash(start, middle, subtree), range_hash(middle, end, subtree))


def inclusion_proof(index: int, size: int, subtree: Subtree) -> list[bytes]:
    """The audit path of leaf ``index`` in a tree of ``size`` (RFC 9162, section 2.1.3.1)."""
    start, end, path = 0, size, []
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            path.append(range_hash(middle, end, subtree))
            end = middle
        else:
            path.append(range_hash(start, middle, subtree))
            start = middle
    return path[::-1]


def consistency_proof(old: int, size: int, subtree: Subtree) -> list[bytes]:
    """That the first ``old`` leaves of a tree of ``size`` are an older tree (RFC 9162, section 2.1.4.1)."""
    if old in (0, size):
        return []
    start, end, path = 0, size, []
    while end != old:
        middle = start + _split(end - start)
        if old <= middle:
            path.append(range_hash(middle, end, subtree))
            end = middle
        else:
            path.append(range_hash(start, middle, subtree))
            start = middle
    if start:
        path.append(range_hash(start, end, subtree))
    return path[::-1]


def _split(count: int) -> int:
    return 1 << ((count - 1).bit_length() - 1)


# -- what a proof leads to -----------------------------------------------------------------------------------------


def inclusion_root(index: int, size: int, leaf: bytes, proof: Sequence[bytes]) -> bytes:
    """The root that ``proof`` leads to from a leaf hash at ``index`` (RFC 9162, section 2.1.3.2).

    Raises :class:`MalformedError` for a place that is not in the tree, or a proof of another length.
    """
    _check_hashes((leaf, *proof))
    if not 0 <= index < size <= MAX_SIZE:
        raise MalformedError(f"inclusion proof: there is no leaf {index} in a tree of {size}")
    root, last, hashes = leaf, size - 1, iter(proof)
    while last:
        if index & 1 or index != last:
            sibling = _next(hashes)
            root = node_hash(sibling, root) if index & 1 else node_hash(root, sibling)
        index, last = index >> 1, last >> 1
    _finish(hashes)
    return root


def consistency_roots(old: int, size: int, old_root: bytes, proof: Sequence[bytes]) -> tuple[bytes, bytes]:
    """The roots that ``proof`` leads to, of the tree of ``old`` leaves and of that of ``size`` (section 2.1.4.2).

    ``old_root`` is where a proof begins when the older tree is complete. Raises :class:`MalformedError`.
    """
    _check_hashes((old_root, *proof))
    if not 0 < old <= size <= MAX_SIZE:
        raise MalformedError(f"consistency proof: a tree of {size} does not grow out of one of {old}")
    hashes = iter(proof)
    index, last = old - 1, size - 1
    while index & 1 and last:
        index, last = index >> 1, last >> 1
    older = newer = _next(hashes) if index and old != size else old_root
    while old != size and last:
        if index & 1:
            sibling = _next(hashes)
            older, newer = node_hash(sibling, older), node_hash(sibling, newer)
        elif index < last:
            newer = node_hash(newer, _next(hashes))
        index, last = index >> 1, last >> 1
    _finish(hashes)
    return older, newer


def _check_hashes(hashes: Sequence[bytes]) -> None:
    if any(len(each) != HASH_SIZE for each in hashes):
        raise MalformedError("log proof: a hash does not have 32 bytes")


def _next(hashes: Iterator[bytes]) -> bytes:
    found = next(hashes, None)
    if found is None:
        raise MalformedError("log proof: too short")
    return found


def _finish(hashes: Iterator[bytes]) -> None:
    if next(hashes, None) is not None:
        raise MalformedError("log proof: too long")
