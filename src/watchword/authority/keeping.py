"""The newest evidence of each host: kept so that a change can be tried before it is made, and no log is sent twice."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from watchword.authority.store import HostFile, PackedLog, Store, Transaction
from watchword.launch.attest import Answered, outdated
from watchword.launch.on_file import Record
from watchword.verify.host import VerifiedHost
from watchword.wire.evidence import Evidence

__all__ = ["Keeping", "Kept"]

_KEPT_SECONDS: Final = 3600  # evidence on file is replaced by newer evidence of the same state after so long


@dataclass(frozen=True, slots=True)
class Kept:
    """Evidence ready to be kept, made before the transaction that keeps it."""

    record: Record
    event_log: PackedLog
    ima_from: int
    ima_log: PackedLog | None

    def put(self, tx: Transaction, host_id: bytes, now: int) -> None:
        """Keep it, as the evidence of ``now`` (Unix seconds)."""
        tx.keep_evidence(host_id, now, self.record, self.event_log, self.ima_from, self.ima_log)


class Keeping:
    """Evidence on file in ``store``; with ``keep`` false there is none, and none is kept."""

    def __init__(self, store: Store, *, keep: bool) -> None:
        self._store, self._keep = store, keep

    def ready(self, evidence: Evidence, host: VerifiedHost, bound: bytes, challenged_at: int) -> Kept | None:
        """Make authentic ``evidence`` ready to be kept; None when this authority keeps none."""
        if not self._keep:
            return None
        runtime = host.runtime
        entries = runtime.seen.entries if runtime else 0
        quoted = runtime.sent.raws[: runtime.end - runtime.start] if runtime else []
        return Kept(
            Record.of(evidence, host, bound, challenged_at, entries),
            self._store.packed(evidence.event_log),
            evidence.ima_from,
            self._store.packed(b"".join(quoted)) if quoted else None,
        )

    def is_recent(self, file: HostFile, now: int) -> bool:
        """Whether there is no need to look for newer evidence of the same state at ``now`` (Unix seconds)."""
        return not self._keep or (file.kept_time is not None and now < file.kept_time + _KEPT_SECONDS)

    def has(self, file: HostFile, evidence: Evidence, host: VerifiedHost, now: int) -> bool:
        """Whether evidence of the same state is on file, and not old: it serves as well as this.

        The PCR values of one boot say which boot log it is; PCR 10 says where its runtime log ends.
        """
        if not self._keep or not self.is_recent(file, now):
            return not self._keep
        record = file.kept()
        entries = host.runtime.seen.entries if host.runtime else 0
        shown = (host.pcrs.clock_info.reset_count, entries, host.pcrs.selections, evidence.pcrs)
        return record is not None and shown == (record.reset_count, record.entries, record.selections, record.pcrs)

    def completed(self, evidence: Evidence, answer: Answered, file: HostFile) -> Evidence:
        """With the boot log that is on file, when it was not sent again. Raises Rejected (W6)."""
        if evidence.event_log:
            return evidence
        log, record = b"", file.kept() if self._keep else None
        if record is not None and record.reset_count == answer.quote.clock_info.reset_count:
            log = self._store.boot_log(evidence.host_id)
        if not log:
            raise outdated("this authority does not have the boot log of this boot")
        return replace(evidence, event_log=log)
