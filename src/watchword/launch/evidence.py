"""One piece of evidence against what is on file of its host, for a launch and for an attestation alike."""

from __future__ import annotations

from typing import Protocol

from watchword.errors import Finding, MalformedError, Rejected
from watchword.verify.ak import VerifiedAk
from watchword.verify.host import VerifiedHost, verify_host
from watchword.verify.ima_log import RuntimeSeen
from watchword.verify.known_files import KnownFiles
from watchword.verify.quote import LastSeen
from watchword.verify.runtime_state import RuntimeState
from watchword.wire.evidence import Evidence
from watchword.wire.tpm.pcr import Selections

__all__ = ["HostOnFile", "verify_evidence"]


class HostOnFile(Protocol):
    """What the authority knows of a host before its evidence: what it showed last, and what saves work."""

    @property
    def revoked(self) -> bool: ...

    @property
    def last(self) -> LastSeen | None: ...

    @property
    def seen(self) -> RuntimeSeen | None: ...

    @property
    def files(self) -> KnownFiles | None: ...

    @property
    def runtime(self) -> RuntimeState | None: ...


def verify_evidence(
    evidence: Evidence, known: HostOnFile, *, ak: VerifiedAk, bound: bytes, selections: Selections, max_ahead: int
) -> VerifiedHost:
    """A5 to D6 over ``evidence``, whose quote must be over ``selections`` and carry ``bound`` (32 bytes).

    At most ``max_ahead`` entries of the runtime log may follow the quote. Raises Rejected with the clause of the first
    check that fails; what does not parse is refused under C1.
    """
    try:
        return verify_host(
            ak=ak,
            revoked=known.revoked,
            attest=evidence.attest,
            signature=evidence.signature,
            pcrs=evidence.pcrs,
            event_log=evidence.event_log,
            ima_log=evidence.ima_log,
            binding=bound,
            selections=selections,
            last=known.last,
            seen=known.seen,
            max_ahead=max_ahead,
            known=known.files,
            ima_from=evidence.ima_from,
            state=known.runtime,
        )
    except MalformedError as error:
        raise Rejected(Finding("C1", "evidence-malformed", error.message)) from None
