"""Checking the decision record: an entry that was altered, dropped or moved breaks every entry after it.

The hash is that of receipts (:func:`watchword.launch.receipt.chain_hash`). The chain proves order and content to
whoever kept an earlier head. It cannot show that the *end* was cut off: compare the head in ``/v1/status`` with one
that you noted before.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import msgspec

from watchword.errors import Finding, Rejected
from watchword.launch.receipt import FIRST_PREVIOUS, chain_hash

__all__ = ["Decision", "verify_chain"]


@dataclass(frozen=True, slots=True)
class Decision:
    """One entry of the decision record: ``seq`` from 1, ``time`` in Unix seconds, hashes of 32 bytes.

    ``launch_key`` is ``launch_key()`` of the launch that the entry is about, empty for an administrative act.
    """

    seq: int
    time: int
    launch_key: bytes
    prev_hash: bytes
    entry: bytes
    entry_hash: bytes


class _Filed(msgspec.Struct):
    """The members of an entry that the store also keeps as columns, to find the entry by."""

    time: int
    launch: str = ""


def verify_chain(decisions: Iterable[Decision]) -> Iterator[Decision]:
    """Yield each decision once it is proven to follow the one before it, starting at number 1.

    Raises :class:`Rejected` (``decision-chain``) at the first entry that does not, and at the first that is filed
    under another launch or time than it says: it would be hidden from those who look for it.
    """
    head = FIRST_PREVIOUS
    for seq, decision in enumerate(decisions, start=1):
        if decision.seq != seq:
            raise _broken(seq, "the number is out of order", str(seq), str(decision.seq))
        if decision.prev_hash != head:
            raise _broken(seq, "it does not follow the one before it", head.hex(), decision.prev_hash.hex())
        head = chain_hash(seq, head, decision.entry)
        if decision.entry_hash != head:
            raise _broken(seq, "it does not have its hash", head.hex(), decision.entry_hash.hex())
        _check_filing(decision)
        yield decision


def _check_filing(decision: Decision) -> None:
    try:
        filed = msgspec.json.decode(decision.entry, type=_Filed)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _broken(decision.seq, "it is not a decision", "", str(error)) from None
    if (filed.time, filed.launch) != (decision.time, decision.launch_key.hex()):
        raise _broken(
            decision.seq,
            "it is filed under another time or launch than it says",
            f"{filed.time} {filed.launch}",
            f"{decision.time} {decision.launch_key.hex()}",
        )


def _broken(seq: int, why: str, expected: str, actual: str) -> Rejected:
    text = f"the decision record is broken: {why}"
    return Rejected(Finding("F5", "decision-chain", text, expected, actual, f"entry {seq}"))
