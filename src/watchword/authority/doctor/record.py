"""The store and the log in it: undamaged, one whole log, not from the future, and known to its witnesses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from watchword.authority.doctor.machine import RESTORE
from watchword.authority.doctor.report import Report, Subject
from watchword.authority.keys.keyring import Keyring
from watchword.authority.publishing.log import PublicLog, TreeReader
from watchword.authority.store import Decision, Store
from watchword.authority.store.record import broken, verify_record
from watchword.authority.store.retention import Kind
from watchword.authority.store.survey import Survey
from watchword.crypto.note import COSIGNS, cosigned_by, parse_key
from watchword.wire.merkle import Frontier

__all__ = [
    "TAIL",
    "check_clock",
    "check_evidence",
    "check_log",
    "check_nonces",
    "check_store",
    "check_witness_clocks",
    "check_witnesses",
]

TAIL: Final = 1000  # entries that are checked unless somebody wants all of them
_PATIENCE: Final = 600  # seconds that a witness may take
_DAY: Final = 86400
_CLOCK_SECONDS: Final = 300


def check_store(store: Store, report: Report) -> None:
    """The database itself finds nothing wrong with its file."""
    for fault in store.faults():
        hint = f"Stop the service, and put the newest backup back: {RESTORE}"
        report.problem("store-damaged", f"the store is damaged: {fault}", hint)


def check_log(subject: Subject, store: Store, progress: Callable[[int, int], None]) -> None:
    """Each entry leads to the root with it, and the tiles to the newest root. Raises Rejected (``decision-log``)."""
    head = store.head()
    before = None
    if not subject.whole_log and head.seq > TAIL:
        before = next(store.decisions(after=head.seq - TAIL - 1)).frontier
    start = before.size if before is not None else 0
    for decision in verify_record(_shown(store.decisions(after=start), head.seq, progress), before):
        if decision.seq == head.seq:
            break
    newest = store.frontier()
    if newest.size:
        _check_tiles(store, newest)


def _shown(decisions: Iterator[Decision], size: int, progress: Callable[[int, int], None]) -> Iterator[Decision]:
    for decision in decisions:
        progress(decision.seq, size)
        yield decision


def _check_tiles(store: Store, newest: Frontier) -> None:
    """What auditors are given, in tiles, is what checkpoints are made of. Raises Rejected (``decision-log``)."""
    reader, at = TreeReader(store), 0
    for level, hashed in newest.subtrees():
        if reader.subtree(level, at >> level) != hashed:
            raise broken(newest.size, "its tiles do not lead to its root")
        at += 1 << level


def check_clock(subject: Subject, found: Survey, report: Report) -> None:
    """Time goes on: nothing in the log was made later than now."""
    ahead = found.log[1] - subject.now
    if ahead > 0:
        text = f"the newest entry of the log is {ahead} seconds from the future: the clock is or was wrong"
        report.problem("clock-behind", text, "Set the clock: timedatectl. Nonces and leases depend on it.")


def check_nonces(subject: Subject, found: Survey, report: Report) -> None:
    """A nonce that is given out now is good."""
    if found.nonces.blocks(subject.now):
        text = f"every launch is refused (nonce-used) until {found.nonces.forgotten} (Unix time): the clock is behind, "
        text += "or was ahead while nonces were used and forgotten"
        hint = "Compare the clock with another, and right it if it is behind (timedatectl). If it is right: "
        hint += "watchword authority recovery void-challenges."
        report.problem("launches-blocked", text, hint)


def check_witness_clocks(ring: Keyring, store: Store, found: Survey, report: Report) -> None:
    """Nobody cosigned a checkpoint before its newest entry was made: theirs are the clocks that are not ours."""
    keys = [parse_key(row.key, COSIGNS) for row in store.witnesses()]
    _, newest = found.witnessed
    for each in cosigned_by(PublicLog(store).published(ring), keys):
        ahead = newest - each.time
        if ahead > _CLOCK_SECONDS:
            text = f"the clock is {ahead} seconds or more ahead of that of the witness {each.witness.name}"
            report.warning("clock-ahead", text, "Compare both with a third: timedatectl.")


def check_witnesses(subject: Subject, found: Survey, report: Report) -> None:
    """Witnesses have seen what was decided ten minutes ago."""
    size, newest = found.log
    for name, seen in found.witnesses.items():
        if seen < size and subject.now - newest > _PATIENCE:
            text = f"the witness {name} has not cosigned the newest {size - seen} entries"
            report.warning("witness-behind", text, "Lines 'witness' of the service's log say why.")


def check_evidence(subject: Subject, found: Survey, report: Report) -> None:
    """Nothing is kept for longer than it should be, by a day."""
    before = subject.retention.before(Kind.EVIDENCE, subject.now)
    if before is not None and found.oldest_evidence and found.oldest_evidence < before - _DAY:
        days = (subject.now - found.oldest_evidence) // _DAY
        text = f"evidence from {days} days ago is on file"
        report.warning("retention-late", text, "The service forgets it; or: watchword authority prune.")
