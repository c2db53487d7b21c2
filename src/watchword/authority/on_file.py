"""Looking at evidence on file once more."""

from __future__ import annotations

from watchword.authority.store import Host, KeptEvidence
from watchword.errors import Finding, MalformedError, Rejected
from watchword.launch.on_file import verify_record
from watchword.verify.ak import restore_ak
from watchword.verify.host import VerifiedHost
from watchword.verify.known_files import KnownFiles

__all__ = ["verify_kept"]

_RUNTIME_PCR = 10


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
