"""Evidence that an authority keeps, so that a change of stacks or profiles can be tried before it is made.

What is kept is what arrived, and it is verified anew each time it is looked at: whoever changed it in the store could
do no more than make it worthless. The nonce was fresh when it came; here it only has to be the one in the quote.
"""

from __future__ import annotations

from dataclasses import dataclass

from watchword.errors import MalformedError
from watchword.verify.ak import VerifiedAk
from watchword.verify.host import VerifiedHost, verify_host
from watchword.verify.known_files import KnownFiles
from watchword.wire.evidence import Evidence, read_pcrs, write_pcrs
from watchword.wire.reader import Reader, Writer, parse_whole
from watchword.wire.tpm.pcr import PcrValues, Selections, encode_selections, parse_selections

__all__ = ["Record", "verify_record"]

_VERSION = 1
_BINDING_SIZE = 32


@dataclass(frozen=True, slots=True)
class Record:
    """One piece of evidence without its logs.

    ``attest`` TPMS_ATTEST and ``signature`` TPMT_SIGNATURE as they arrived, ``pcrs`` what they cover, ``bound`` the
    32-byte binding in the quote, ``selections`` what was asked for, ``challenged_at`` when (Unix seconds), ``entries``
    how many entries of the runtime log are kept with it (0: not all of it is, so there is none).
    """

    attest: bytes
    signature: bytes
    pcrs: PcrValues
    bound: bytes
    selections: Selections
    challenged_at: int
    reset_count: int
    entries: int

    @classmethod
    def of(cls, evidence: Evidence, host: VerifiedHost, bound: bytes, challenged_at: int, entries: int) -> Record:
        """What to keep of ``evidence`` that was just verified."""
        return cls(
            evidence.attest,
            evidence.signature,
            evidence.pcrs,
            bound,
            host.pcrs.selections,
            challenged_at,
            host.pcrs.clock_info.reset_count,
            entries,
        )

    @classmethod
    def parse(cls, data: bytes) -> Record:
        """Read what :meth:`encode` wrote. Raises MalformedError."""
        return parse_whole(data, "evidence on file", cls._read)

    @classmethod
    def _read(cls, r: Reader) -> Record:
        if r.u8() != _VERSION:
            raise r.fail("is of another version")
        attest, signature = r.sized16(1024, "attest"), r.sized16(1024, "signature")
        pcrs = read_pcrs(r)
        bound = r.take(_BINDING_SIZE)
        selections = parse_whole(r.sized16(256, "PCR selection"), "PCR selection", parse_selections)
        return cls(attest, signature, pcrs, bound, selections, r.u64(), r.u32(), r.u32())

    def encode(self) -> bytes:
        writer = Writer().u8(_VERSION).sized16(self.attest).sized16(self.signature)
        write_pcrs(writer, self.pcrs)
        writer.raw(self.bound).sized16(encode_selections(self.selections))
        return writer.u64(self.challenged_at).u32(self.reset_count).u32(self.entries).done()


def verify_record(
    record: Record, ak: VerifiedAk, event_log: bytes, ima_log: bytes, known: KnownFiles | None = None
) -> VerifiedHost:
    """The host that ``record`` and its logs show. Raises MalformedError or Rejected when they do not fit together.

    Whether the host was revoked since, and how old the evidence is, is not asked here.
    """
    if not record.entries and ima_log:
        raise MalformedError("evidence on file: a runtime log of no entries")
    host = verify_host(
        ak=ak,
        revoked=False,
        attest=record.attest,
        signature=record.signature,
        pcrs=record.pcrs,
        event_log=event_log,
        ima_log=ima_log,
        binding=record.bound,
        selections=record.selections,
        last=None,
        seen=None,
        max_ahead=0,  # what was not quoted was not kept
        known=known,
    )
    if host.runtime is not None and host.runtime.seen.entries != record.entries:
        raise MalformedError("evidence on file: another number of entries than it says")
    return host
