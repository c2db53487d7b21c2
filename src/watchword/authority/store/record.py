"""The decision record as a Merkle log: how an entry joins it, and checking that nothing was altered, dropped or moved.

Each row keeps the public leaf that is hashed, the salt that ties it to the entry, and the frontier of the tree with it:
appending reads one row and writes one. The tree proves order and content to whoever kept an earlier checkpoint. It
cannot show that the *end* was cut off: that takes a checkpoint that somebody else kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import msgspec

from watchword.errors import Finding, MalformedError, Rejected
from watchword.wire.log_leaf import SALT_SIZE, TAG_SIZE, LogLeaf, commitment, index_key, tag
from watchword.wire.merkle import Frontier, leaf_hash

__all__ = ["Decision", "Place", "broken", "next_decision", "verify_record"]


@dataclass(frozen=True, slots=True)
class Decision:
    """One entry of the decision record: ``seq`` from 1, ``time`` in Unix seconds, ``salt`` of 32 bytes.

    ``launch_key`` is ``launch_key()`` of the launch that the entry is about and ``number`` counts its entries from 1;
    empty and 0 for an administrative act. ``leaf`` is what everybody sees, ``frontier`` the tree that ends with it.
    """

    seq: int
    time: int
    launch_key: bytes
    number: int
    salt: bytes
    entry: bytes
    leaf: bytes
    frontier: Frontier


class _Filed(msgspec.Struct):
    """The members of an entry that the store also keeps as columns, to find the entry by."""

    time: int
    launch: str = ""


@dataclass(frozen=True, slots=True)
class Place:
    """Where an entry goes: after ``frontier``, as ``number`` of its launch, with 64 fresh ``random`` bytes."""

    frontier: Frontier
    number: int
    random: bytes


def next_decision(
    place: Place, time: int, launch_key: bytes, entry: bytes, public: bytes
) -> tuple[Decision, list[tuple[int, int, bytes]]]:
    """The entry at ``place``, and the subtrees (level, index, hash) that it completes."""
    salt, spare = place.random[:SALT_SIZE], place.random[SALT_SIZE:]
    # The tag of an act is as random as that of a launch looks, so that nobody can tell them apart.
    marked = tag(index_key(launch_key), place.number) if launch_key else spare[:TAG_SIZE]
    leaf = LogLeaf(marked, commitment(salt, entry), public).encode()
    frontier, completed = place.frontier.append(leaf_hash(leaf))
    number = place.number if launch_key else 0
    return Decision(frontier.size, time, launch_key, number, salt, entry, leaf, frontier), completed


def verify_record(decisions: Iterable[Decision], after: Frontier | None = None) -> Iterator[Decision]:
    """Yield each decision once it is proven to be the next of the log, starting at number 1, or ``after`` a tree.

    After a tree, that the decisions of a launch are counted without a gap is not checked: the first may be before it.

    Raises :class:`Rejected` (``decision-log``) at the first entry that is not, and at the first that is filed
    under another launch or time than it says: it would be hidden from those who look for it.
    """
    tree, counts = after or Frontier(), dict[bytes, int]()
    for seq, decision in enumerate(decisions, start=tree.size + 1):
        if decision.seq != seq:
            raise broken(seq, "the number is out of order", str(seq), str(decision.seq))
        tree, _ = tree.append(leaf_hash(decision.leaf))
        if decision.frontier != tree:
            raise broken(seq, "it does not lead to its root", tree.root().hex(), decision.frontier.root().hex())
        _check_filing(decision)
        if after is not None:
            counts[decision.launch_key] = decision.number
        elif decision.launch_key:
            counts[decision.launch_key] = counts.get(decision.launch_key, 0) + 1
        _check_leaf(decision, counts.get(decision.launch_key, 0))
        yield decision


def _check_leaf(decision: Decision, number: int) -> None:
    if not all(isinstance(cell, bytes) for cell in (decision.salt, decision.entry, decision.leaf)):
        raise broken(decision.seq, "it is not made of bytes")  # SQLite keeps what whoever altered it gave
    try:
        leaf = LogLeaf.parse(decision.leaf)
    except MalformedError as error:
        raise broken(decision.seq, "its leaf is not one", "", error.message) from None
    expected = commitment(decision.salt, decision.entry)
    if leaf.commitment != expected:
        raise broken(decision.seq, "it is not what was logged", leaf.commitment.hex(), expected.hex())
    if decision.number != number:
        raise broken(decision.seq, "its launch has another number of entries", str(number), str(decision.number))
    if decision.launch_key and leaf.tag != tag(index_key(decision.launch_key), number):
        raise broken(decision.seq, "its launch cannot find it", "", leaf.tag.hex())


def _check_filing(decision: Decision) -> None:
    try:
        filed = msgspec.json.decode(decision.entry, type=_Filed)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise broken(decision.seq, "it is not a decision", "", str(error)) from None
    if (filed.time, filed.launch) != (decision.time, decision.launch_key.hex()):
        raise broken(
            decision.seq,
            "it is filed under another time or launch than it says",
            f"{filed.time} {filed.launch}",
            f"{decision.time} {decision.launch_key.hex()}",
        )


def broken(seq: int, why: str, expected: str = "", actual: str = "") -> Rejected:
    """The refusal (``decision-log``) of entry ``seq``, which is not what it should be."""
    text = f"the decision record is broken: {why}"
    return Rejected(
        Finding("F5", "decision-log", text, expected, actual, f"entry {seq}"),
        hint="Keep this store as evidence, and put a backup back: docs/howto/back-up-an-authority.md.",
    )
