"""The numbered list: from raw evidence to a host that is what it says it is (clauses A5, B, C and D).

Everything here is about authenticity and stops at the first failure. Whether the host is good enough is asked by
``policy.appraise``, which takes nothing but a :class:`VerifiedHost`.
"""

from __future__ import annotations

from dataclasses import InitVar, dataclass, field
from functools import lru_cache

from watchword.errors import Finding, MalformedError, Rejected
from watchword.verify.ak import VerifiedAk
from watchword.verify.boot_log import VerifiedBootLog, verify_boot_log
from watchword.verify.ima_continued import continued_pcrs
from watchword.verify.ima_log import RuntimeSeen, VerifiedRuntimeLog, verify_ima_log
from watchword.verify.known_files import KnownFiles
from watchword.verify.quote import LastSeen, VerifiedPcrs, verify_quote
from watchword.verify.runtime_state import RuntimeState
from watchword.wire.evidence import MAX_IMA_ENTRIES
from watchword.wire.ima_log import ImaLog
from watchword.wire.tcg_log import EventLog
from watchword.wire.tpm.algorithms import Alg
from watchword.wire.tpm.pcr import PcrValues, Selections

__all__ = ["VerifiedHost", "verify_host", "verify_quoted"]

_RUNTIME_PCR = 10
_PROOF = object()  # module-private: whoever has it went through verify_host
_REMEMBERED = 64  # boot logs whose verdict is kept: of the hosts that are launching machines just now
_MAX_REMEMBERED = 128 * 1024  # bytes of each; a longer log is verified anew every time


@dataclass(frozen=True, slots=True)
class VerifiedHost:
    """A host whose identity, quote and logs belong together. ``runtime`` is None when PCR 10 was not quoted."""

    _proof: InitVar[object]
    ak: VerifiedAk
    pcrs: VerifiedPcrs
    boot: VerifiedBootLog
    runtime: VerifiedRuntimeLog | None

    def __post_init__(self, _proof: object) -> None:
        if _proof is not _PROOF:
            raise TypeError("a VerifiedHost is made by verify_host and nowhere else")


def verify_host(
    *,
    ak: VerifiedAk,
    revoked: bool,
    attest: bytes,
    signature: bytes,
    pcrs: PcrValues,
    event_log: bytes,
    ima_log: bytes,
    binding: bytes,
    selections: Selections,
    last: LastSeen | None,
    seen: RuntimeSeen | None,
    max_ahead: int,
    firmware_allowed: frozenset[int] | None = None,
    known: KnownFiles | None = None,
    ima_from: int = 0,
    state: RuntimeState | None = None,
    max_entries: int = MAX_IMA_ENTRIES,
) -> VerifiedHost:
    """Run the whole list over one piece of evidence.

    ``ak`` was proven at enrolment (A1 to A4) and ``revoked`` is what the authority has on file for its host (A5).
    ``attest`` is a TPMS_ATTEST and ``signature`` a TPMT_SIGNATURE as they arrived; ``pcrs`` are the values the host
    claims; ``binding`` (32 bytes) is the extraData that the caller recomputed, over a nonce whose freshness and single
    use the caller answers for (B6); ``selections`` is what was asked for, the bank to judge by first: the logs must
    lead to the quoted values of every bank; ``last`` and ``seen`` are what this host showed before, if anything; at
    most ``max_ahead`` runtime entries may follow the quote; ``known`` saves work that was done for other hosts.
    ``ima_log`` begins at entry ``ima_from``; what comes before is in ``state``, if this host showed it in this boot.
    At most ``max_entries`` entries are looked at.
    Raises MalformedError or Rejected with the clause of the first check that fails.
    """
    verified = verify_quoted(
        ak=ak,
        revoked=revoked,
        attest=attest,
        signature=signature,
        pcrs=pcrs,
        binding=binding,
        selections=selections,
        last=last,
        firmware_allowed=firmware_allowed,
    )
    entries = None
    if _RUNTIME_PCR in selections[0].pcrs:
        entries = _runtime_log(ima_log, ima_from, state, known)  # D1
        _check_size(entries, max_entries)
    moved = continued_pcrs(entries) if entries is not None else frozenset()
    # C1 the log parses, C2 replay, C3 data, C4 types, C5 separators, C6 Secure Boot; in every bank
    boot = [_boot_log(_BootQuestion.of(event_log, verified, selection.bank, moved)) for selection in selections]
    runtime = None
    if entries is not None:
        # D2 template digests, D3 a prefix replays, D4 boot_aggregate, D6 continues what was seen
        runtime = verify_ima_log(
            entries,
            verified,
            selections[0].bank,
            max_ahead=max_ahead,
            seen=seen,
            start=ima_from,
            state=state,
            known=known,
            continued={log.bank: log.left for log in boot if log.left},
        )
    return VerifiedHost(_PROOF, ak, verified, boot[0], runtime)


def verify_quoted(
    *,
    ak: VerifiedAk,
    revoked: bool,
    attest: bytes,
    signature: bytes,
    pcrs: PcrValues,
    binding: bytes,
    selections: Selections,
    last: LastSeen | None,
    firmware_allowed: frozenset[int] | None = None,
) -> VerifiedPcrs:
    """The beginning of the list, A5 and B: what the host's TPM says, before any log is looked at.

    Arguments and exceptions are those of :func:`verify_host`.
    """
    _check_banks(selections)
    if revoked:  # A5
        raise Rejected(
            Finding("A5", "host-revoked", "this host was revoked or merged with another", actual=ak.host_id.hex())
        )
    # B1 magic, B2 type, B3 nothing left over, B4 signature, B5 binding (and with it B6 the nonce),
    # B7 selection, B8 values, B9 clock and reboots, B10 firmware
    return verify_quote(
        attest=attest,
        signature=signature,
        pcrs=pcrs,
        ak=ak,
        binding=binding,
        selections=selections,
        last=last,
        firmware_allowed=firmware_allowed,
    )


@dataclass(frozen=True, slots=True)
class _BootQuestion:
    """A boot log, and everything that the verdict on it depends on; equal to another that has all of it in common."""

    event_log: bytes
    bank: Alg
    quoted: tuple[tuple[int, bytes], ...]
    moved: frozenset[int]
    pcrs: VerifiedPcrs = field(compare=False)

    @classmethod
    def of(cls, event_log: bytes, pcrs: VerifiedPcrs, bank: Alg, moved: frozenset[int]) -> _BootQuestion:
        quoted = tuple((pcr, value) for pcr, value in pcrs.values[bank].items() if pcr != _RUNTIME_PCR)
        return cls(event_log, bank, quoted, moved, pcrs)


def _boot_log(question: _BootQuestion) -> VerifiedBootLog:
    """C1 to C6. A host shows the same boot log in every request of one boot, so the newest verdicts are kept.

    That is sound because the verdict is a function of the log's bytes, the bank, the PCRs that the runtime log goes on
    with, and the quoted values of the boot PCRs, which the quote of *this* request has just vouched for: another
    request that has all of them in common gets the same verdict, whoever sent it. Refusals raise, and are never kept.
    """
    return _remembered(question) if len(question.event_log) <= _MAX_REMEMBERED else _verify_boot_log(question)


def _verify_boot_log(question: _BootQuestion) -> VerifiedBootLog:
    return verify_boot_log(EventLog.parse(question.event_log), question.pcrs, question.bank, question.moved)


_remembered = lru_cache(_REMEMBERED)(_verify_boot_log)


def _runtime_log(data: bytes, ima_from: int, state: RuntimeState | None, known: KnownFiles | None) -> ImaLog:
    if ima_from == 0:
        return ImaLog.parse(data, known)
    # Without a state any size will do: the log is refused because it continues nothing.
    return ImaLog.parse_part(data, state.digest_size if state is not None else 20, known)


def _check_size(log: ImaLog, most: int) -> None:
    """D1: what one host may cost. Before anything is hashed."""
    if len(log.entries) > most:
        text = "the host sends more entries of its runtime log than are looked at"
        raise Rejected(Finding("D1", "runtime-log-size", text, f"at most {most}", str(len(log.entries))))


def _check_banks(selections: Selections) -> None:
    banks = [selection.bank for selection in selections]
    if not banks or len(set(banks)) != len(banks):
        raise MalformedError("selection: at least one PCR bank is quoted, and each once")
    if any(_RUNTIME_PCR in selection.pcrs for selection in selections[1:]):
        raise MalformedError(f"selection: PCR {_RUNTIME_PCR} is judged in the first bank only")
