"""A host that shows what it showed last time is worth what it was worth then.

A verdict is a function of what the quote covers, the logs, the rules and the time. An authority that came to a verdict
remembers, for a while, all that it followed from as one hash. When the next quote of that host is as authentic, and
everything that the hash covers is the same, the logs need not be read again to know what they would say.

    W8  nothing that the verdict followed from has changed       renew
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace

from watchword.launch.attest import LEASE, Answered, HostState, OnFile, Standing, check_new, may_ask_ahead
from watchword.policy.release import settled_until
from watchword.verify.host import verify_quoted
from watchword.verify.quote import VerifiedPcrs
from watchword.wire.evidence import Evidence
from watchword.wire.reader import Writer
from watchword.wire.tpm.pcr import encode_selections

__all__ = ["Renewed", "Verdict", "remember", "renew"]

_RUNTIME_PCR = 10
States = Mapping[bytes, HostState]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to remember of one: ``basis`` is the hash of what it followed from, but for the boot log and the time.

    ``profiles`` are the ids of those that the host was judged by, ``boot_log`` is the SHA-256 of that log. Times in
    Unix seconds: nothing about the rules changes by itself before ``settled_until`` (None: ever).
    """

    basis: bytes
    profiles: tuple[bytes, ...]
    boot_log: bytes
    judged_at: int
    settled_until: int | None


@dataclass(frozen=True, slots=True)
class Renewed:
    """An authentic quote that changes nothing but times: what it covers, and the ``states`` that go on, by profile."""

    pcrs: VerifiedPcrs
    states: States


def remember(
    evidence: Evidence, answer: Answered, known: OnFile, generation: int, states: States, now: int
) -> Verdict | None:
    """What to remember of a verdict that led to ``states`` (by profile id) at ``now`` (Unix seconds).

    ``known`` is what is on file after it; ``generation`` numbers everything that is believed and allowed. None when the
    verdict depends on more than can be compared: on the age of the evidence.
    """
    if not may_ask_ahead(known.profiles):
        return None
    return Verdict(
        _basis(answer, known.runtime.seen.entries if known.runtime is not None else 0, known, generation, states),
        tuple(states),
        hashlib.sha256(evidence.event_log).digest(),
        now,
        settled_until(known.releases, now),
    )


def renew(
    evidence: Evidence,
    answer: Answered,
    known: OnFile,
    generation: int,
    on_file: States,
    verdict: Verdict,
    now: int,
) -> Renewed | None:
    """W8: the same states for longer, if ``evidence`` shows nothing that ``verdict`` did not follow from.

    A boot log that was not sent is the one that the verdict was about, if the quoted PCRs are.

    ``on_file`` are all states of the host, by profile id. None when everything has to be looked at. Raises Rejected
    with the clause of the first check of authenticity that fails (A5, B, W2).
    """
    if not _still(verdict, now) or evidence.ima_log or not may_ask_ahead(known.profiles):
        return None
    before = {profile_id: on_file[profile_id] for profile_id in verdict.profiles if profile_id in on_file}
    if any(state.at(now) is Standing.STALE for state in before.values()):
        return None  # that it comes back is news
    if evidence.event_log and hashlib.sha256(evidence.event_log).digest() != verdict.boot_log:
        return None
    if _basis(answer, evidence.ima_from, known, generation, before) != verdict.basis:
        return None
    pcrs = verify_quoted(
        ak=answer.ak,
        revoked=known.revoked,
        attest=evidence.attest,
        signature=evidence.signature,
        pcrs=evidence.pcrs,
        binding=answer.bound,
        selections=answer.info.selections,
        last=known.last,
    )
    check_new(pcrs.clock_info, known.last)
    at = answer.challenged_at
    return Renewed(pcrs, {pid: replace(state, checked=at, until=at + LEASE) for pid, state in before.items()})


def _still(verdict: Verdict, now: int) -> bool:
    return verdict.judged_at <= now and (verdict.settled_until is None or now < verdict.settled_until)


def _basis(answer: Answered, ima_from: int, known: OnFile, generation: int, states: States) -> bytes:
    """Everything that decides, in one hash of 32 bytes.

    The PCR values are in it by the digest that the TPM signs, whose hash is a strong one (A3). The host is not: a
    verdict is looked up by its id, and the quote is checked with its key.
    """
    quote, info = answer.quote, answer.info
    if not any(_RUNTIME_PCR in selection.pcrs for selection in info.selections):
        ima_from = 0  # nobody looks at that log
    writer = Writer().raw(b"watchword/verdict/1\0").u64(generation)
    writer.u32(len(known.profiles))
    for profile in known.profiles:
        writer.raw(profile.id)
    writer.sized16(encode_selections(info.selections)).sized16(info.pcr_digest)
    writer.u32(quote.clock_info.reset_count).u64(quote.firmware_version).u32(ima_from)
    writer.sized32(known.runtime.encode() if known.runtime is not None else b"")
    if known.seen is not None:
        writer.u32(known.seen.reset_count).u32(known.seen.entries).raw(known.seen.aggregate)
    for profile_id in sorted(states):
        writer.raw(profile_id).sized32(_lasting(states[profile_id]).encode())
    return hashlib.sha256(writer.done()).digest()


def _lasting(state: HostState) -> str:
    """What a state says, without its times."""
    numbers = (state.rank, state.best, state.reset_count)
    return repr((str(state.standing), state.level, *numbers, state.stack, state.code, state.reason))
