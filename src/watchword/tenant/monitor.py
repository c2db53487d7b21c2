"""Finding, in everybody's log, what is about you: decisions about your launches, uses of your name as an endorser.

Only who knows a launch can tell its entries from others (``wire.log_leaf.tag``). What the authority then shows about
the launch must be exactly what is in the log, so it cannot keep a decision back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from watchword.errors import Finding, MalformedError, Rejected
from watchword.launch.receipt import Receipt, launch_key
from watchword.tenant.launches import LaunchRecord
from watchword.wire.log_leaf import LogLeaf, index_key, tag
from watchword.wire.merkle import Frontier

__all__ = ["Monitor", "PublicAct"]

_WINDOW: Final = 64  # tags looked for beyond the newest one found: a gap does not hide what follows it


class PublicAct(msgspec.Struct, frozen=True):
    """An administrative act that the log shows in clear; ``seq`` counts entries from 1."""

    format: str
    time: int
    act: str
    subject: str
    details: Mapping[str, Any] = {}
    seq: int = 0

    def document(self) -> dict[str, Any]:
        return {"seq": self.seq, "time": self.time, "act": self.act, "subject": self.subject, **self.details}


@dataclass(slots=True)
class _Watched:
    record: LaunchRecord
    key: bytes
    looked_for: int = 0
    found: dict[int, int] = field(default_factory=dict)  # number of the decision: index in the log


class Monitor:
    """Give every entry of a log to :meth:`visit`, in order; then ask what was found."""

    def __init__(self, records: Iterable[LaunchRecord], endorser: str = "") -> None:
        self._watched = [_Watched(each, _index_key(each)) for each in records]
        self._tags: dict[bytes, tuple[_Watched, int]] = {}
        self._endorser = endorser
        self._logged_stacks: set[str] = set()
        self._acts: list[PublicAct] = []
        self._leaves: dict[int, bytes] = {}
        self.size = 0
        for watched in self._watched:
            self._look_for(watched, _WINDOW)

    def _look_for(self, watched: _Watched, upto: int) -> None:
        for number in range(watched.looked_for + 1, upto + 1):
            self._tags[tag(watched.key, number)] = watched, number
        watched.looked_for = max(watched.looked_for, upto)

    def visit(self, index: int, entry: bytes, tree: Frontier) -> None:
        """Look at the entry ``index`` (from 0). Raises :class:`MalformedError`."""
        leaf, self.size = LogLeaf.parse(entry), tree.size
        hit = self._tags.get(leaf.tag)
        if hit is not None:
            watched, number = hit
            watched.found[number] = index
            self._leaves[index] = entry
            self._look_for(watched, number + _WINDOW)
        if leaf.public and self._endorser:
            self._act(index, leaf.public)

    def _act(self, index: int, public: bytes) -> None:
        try:
            act = msgspec.json.decode(public, type=PublicAct)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise MalformedError(f"public act: {error}") from None
        if act.act == "stack-add":
            self._logged_stacks.add(act.subject)
        if act.subject == self._endorser or act.act.startswith("stack-"):
            self._acts.append(msgspec.structs.replace(act, seq=index + 1))

    def acts(self, listed: Iterable[tuple[str, Sequence[str]]]) -> list[PublicAct]:
        """What was done with the endorser's key, and with stacks in its name: as logged, or as ``listed`` now.

        A stack that was there before the key was counted is in the log without that name.
        """
        named = {digest for digest, endorsers in listed if self._endorser in endorsers}
        named |= {act.subject for act in self._acts if _is_endorsed(act, self._endorser)}
        return [act for act in self._acts if act.subject == self._endorser or act.subject in named]

    def launches(self) -> list[tuple[LaunchRecord, Mapping[int, int]]]:
        """Each launch, with the log index of each of its decisions by their number."""
        return [(watched.record, dict(sorted(watched.found.items()))) for watched in self._watched]

    def check_shown(self, found: Mapping[int, int], receipts: Sequence[Receipt]) -> None:
        """T7: the receipts shown about a launch are those that the log has. Raises :class:`Rejected`.

        ``found`` is what :meth:`launches` gave for it, ``receipts`` are verified. Decisions younger than the log that
        was read may be shown; none that is in it may be missing (``log-withheld``), or stand elsewhere (``log-fork``).
        """
        shown = {receipt.log.number: receipt for receipt in receipts}
        missing = sorted(found.keys() - shown.keys())
        gaps = sorted(set(range(1, max(found, default=0) + 1)) - found.keys())
        if missing or gaps:
            numbers = ", ".join(map(str, missing or gaps))
            raise Rejected(
                Finding(
                    "T7",
                    "log-withheld",
                    "the log has a decision about this launch that you were not shown",
                    subject=f"decision {numbers}"[:200],
                ),
                hint="somebody may have received the secret without your knowledge: replace the machine and its keys",
            )
        for number, receipt in shown.items():
            at = receipt.log.index
            if at < self.size and (found.get(number) != at or self._leaves[at].hex() != receipt.log.leaf):
                raise Rejected(
                    Finding(
                        "T3", "log-fork", "a receipt is about another log than the one that everybody sees",
                        str(found.get(number)), str(at), f"decision {number}",
                    ),
                    hint="the receipt and the checkpoint contradict each other: keep both",
                )  # fmt: skip

    def check_stacks(self, listed: Iterable[tuple[str, Sequence[str]]]) -> None:
        """T7: each stack (digest, endorsers) that the authority lists under your name is in the log."""
        for digest, endorsers in listed:
            if self._endorser in endorsers and digest not in self._logged_stacks:
                raise Rejected(
                    Finding("T7", "log-unlisted", "a stack is used under your name and not in the log", subject=digest),
                    hint="ask the authority when it added this stack, and tell those who rely on your name",
                )


def _is_endorsed(act: PublicAct, key_id: str) -> bool:
    endorsers = act.details.get("endorsed_by")
    return isinstance(endorsers, list) and key_id in endorsers


def _index_key(record: LaunchRecord) -> bytes:
    return index_key(launch_key(bytes.fromhex(record.launch_id)))
