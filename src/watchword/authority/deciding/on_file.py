"""The newest evidence of each host: kept so that a change can be tried before it is made, and no log is sent twice.

And looking at it once more.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from watchword.authority.store import Host, HostFile, KeptEvidence, PackedLog, Store, Transaction
from watchword.errors import Finding, MalformedError, Rejected
from watchword.launch.attest import Answered, outdated
from watchword.launch.on_file import Record, verify_record
from watchword.verify.ak import restore_ak
from watchword.verify.host import VerifiedHost
from watchword.verify.known_files import KnownFiles
from watchword.wire.evidence import Evidence

__all__ = ["Keeping", "Kept", "verify_kept"]

_KEPT_SECONDS: Final = 3600  # evidence on file is replaced by newer evidence of the same state after so long
_RUNTIME_PCR: Final = 10


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


def verify_kept(host: Host, kept: KeptEvidence, known: KnownFiles | None = None) -> VerifiedHost:
    """What the evidence on file of ``host`` shows, verified anew. Raises :class:`Rejected`, whatever is wrong with it.

    Whether the host was revoked since, and how old the evidence is, is not asked here.
    """
    quoted = {pcr for selection in kept.record.selections[:1] for pcr in selection.pcrs}
    if _RUNTIME_PCR in quoted and not kept.record.entries:
        raise Rejected(Finding("D6", "runtime-log-part", "the runtime log of this host is not on file as a whole"))
    try:
        ak = restore_ak(host.host_id, host.ek_public, host.ak_public, host.ek_class)
        return verify_record(kept.record, ak, kept.event_log, kept.ima_log, known)
    except MalformedError as error:
        raise Rejected(Finding("C1", "evidence-malformed", error.message)) from None
