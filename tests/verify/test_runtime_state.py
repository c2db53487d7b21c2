"""A log that is not sent whole: clause D6 and what must not get lost by it."""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import Any

import pytest

from watchword.errors import Finding, MalformedError, Rejected
from watchword.policy.runtime import RuntimeResult, judge_runtime
from watchword.policy.stack import CompiledStack
from watchword.testing.documents import STACK, encode
from watchword.testing.logs import boot_aggregate, ima_entry, ima_log, measured, violation
from watchword.testing.soft_tpm import SoftTpm
from watchword.verify.ima_log import VerifiedRuntimeLog, verify_ima_log
from watchword.verify.known_files import KnownFiles
from watchword.verify.quote import VerifiedPcrs, verify_quote
from watchword.verify.runtime_state import MAX_KEPT, RuntimeSeen, RuntimeState
from watchword.wire.ima_log import ImaEntry, ImaLog, encode_entry, replay
from watchword.wire.tpm.algorithms import Alg, digest
from watchword.wire.tpm.attest import ClockInfo
from watchword.wire.tpm.pcr import PcrSelection

TPM = SoftTpm.create()
BANK = Alg.SHA256
BOOT = {pcr: bytes([pcr]) * 32 for pcr in range(10)}
FIRST = boot_aggregate(BOOT)
GOOD = [measured(b"/bin/%d" % number, b"%d" % number) for number in range(6)]
BAD = measured(b"/bad", b"bad")
ENTRIES = [FIRST, *GOOD]


def stack(**changes: Any) -> CompiledStack:
    files = {f"/bin/{number}": ["sha256:" + digest(BANK, b"%d" % number).hex()] for number in range(6)}
    return CompiledStack.parse(encode({**STACK, "runtime": {"files": files}, **changes}))


LISTED = stack()
OTHER = stack(serial=2)


def quoted(entries: list[ImaEntry], boot: dict[int, bytes] = BOOT, reset_count: int = 1, **log: Any) -> VerifiedPcrs:
    values = {BANK: {**boot, 10: replay(ima_log(entries), BANK, **log)[10]}}
    selections = (PcrSelection(BANK, tuple(sorted(values[BANK]))),)
    clock = ClockInfo(clock=1, reset_count=reset_count, restart_count=0, safe=True)
    attest, signature = TPM.quote(selections, values, bytes(32), clock)
    return verify_quote(
        attest=attest,
        signature=signature,
        pcrs=values,
        ak=TPM.ak,
        binding=bytes(32),
        selections=selections,
        last=None,
    )


def whole(entries: list[ImaEntry], proof: VerifiedPcrs | None = None) -> VerifiedRuntimeLog:
    log = ImaLog.parse(ima_log(entries).encode())
    return verify_ima_log(log, proof or quoted(entries), BANK, max_ahead=0, seen=None)


def state_after(entries: list[ImaEntry]) -> RuntimeState:
    """What is on file after this log, having been stored and read again."""
    state = judge_runtime(whole(entries), LISTED).state
    assert state is not None
    return RuntimeState.parse(state.encode())


def part(
    entries: list[ImaEntry],
    state: RuntimeState | None,
    proof: VerifiedPcrs | None = None,
    *,
    start: int = 3,
    ahead: int = 0,
    known: KnownFiles | None = None,
    seen: RuntimeSeen | None = None,
) -> VerifiedRuntimeLog:
    """The log from entry ``start`` on."""
    log = ImaLog.parse_part(b"".join(encode_entry(entry) for entry in entries[start:]), 20, known)
    return verify_ima_log(
        log,
        proof or quoted(entries),
        BANK,
        max_ahead=ahead,
        seen=seen or (state.seen if state else None),
        start=start,
        state=state,
        known=known,
    )


def reason(*arguments: Any, **options: Any) -> tuple[str, str]:
    with pytest.raises(Rejected) as caught:
        part(*arguments, **options)
    return caught.value.clause, caught.value.code


def codes(findings: tuple[Finding, ...]) -> list[tuple[str, str, str]]:
    return [(finding.clause, finding.code, finding.subject) for finding in findings]


def judged(entries: list[ImaEntry], state: RuntimeState | None, **options: Any) -> RuntimeResult:
    return judge_runtime(part(entries, state, **options), LISTED)


@pytest.mark.parametrize("start", [1, 3, 7])
def test_a_part_says_what_the_whole_log_says(start: int) -> None:
    found = part(ENTRIES, state_after(ENTRIES[:start]), start=start)
    log = whole(ENTRIES)
    assert (found.seen, found.boot_aggregate, found.findings) == (log.seen, log.boot_aggregate, log.findings)
    assert found.measured == log.measured[start - 1 :]
    assert judge_runtime(found, LISTED) == judge_runtime(log, LISTED)


def test_part_after_part() -> None:
    state: RuntimeState | None = state_after(ENTRIES[:1])
    for count in range(1, len(ENTRIES)):
        state = judged(ENTRIES[: count + 1], state, start=count).state
    assert state == judge_runtime(whole(ENTRIES), LISTED).state


def test_known_entries_in_a_part() -> None:
    known = KnownFiles(BANK)
    for _ in range(2):
        found = part(ENTRIES, state_after(ENTRIES[:3]), known=known)
        assert judge_runtime(found, LISTED) == judge_runtime(whole(ENTRIES), LISTED)
    assert len(known.entries) == 4
    assert found.fresh == {}


@pytest.mark.parametrize(
    "change",
    [
        None,
        {"bank": Alg.SHA384},
        {"digest_size": 32},
        {"seen": RuntimeSeen(2, 3, b"")},
        {"seen": RuntimeSeen(1, 4, b"")},
        {"seen": RuntimeSeen(1, 2, b"")},
    ],
)
def test_d6_a_part_continues_what_is_on_file_and_nothing_else(change: dict[str, Any] | None) -> None:
    state = None if change is None else replace(state_after(ENTRIES[:3]), **change)
    assert reason(ENTRIES, state) == ("D6", "runtime-log-part")


def test_d6_a_reboot_needs_the_whole_log() -> None:
    assert reason(ENTRIES, state_after(ENTRIES[:3]), quoted(ENTRIES, reset_count=2)) == ("D6", "runtime-log-part")


def test_a_whole_log_needs_no_state() -> None:
    state = replace(state_after(ENTRIES[:3]), bank=Alg.SHA384)
    log = ImaLog.parse(ima_log(ENTRIES).encode())
    found = verify_ima_log(log, quoted(ENTRIES), BANK, max_ahead=0, seen=None, start=0, state=state)
    assert found.part is None
    assert len(found.measured) == 6


def test_d3_a_part_with_another_past() -> None:
    state = state_after([FIRST, GOOD[1], GOOD[0]])
    assert reason(ENTRIES, state) == ("D3", "runtime-log-replay")


@pytest.mark.parametrize("sent", [[FIRST, *GOOD[:5]], [*ENTRIES[:3], *ENTRIES[4:]], [*ENTRIES[:4], BAD, *ENTRIES[4:]]])
def test_d3_a_part_that_does_not_lead_to_the_quote(sent: list[ImaEntry]) -> None:
    assert reason(sent, state_after(ENTRIES[:3]), quoted(ENTRIES), ahead=9) == ("D3", "runtime-log-replay")


def test_d3_a_part_may_run_ahead_as_far_as_a_log() -> None:
    state, proof = state_after(ENTRIES[:3]), quoted(ENTRIES[:5])
    found = part(ENTRIES, state, proof, ahead=2)
    assert (found.seen.entries, [file.number for file in found.measured]) == (5, [3, 4])
    assert reason(ENTRIES, state, proof, ahead=1) == ("D3", "runtime-log-ahead")


def test_d2_in_a_part() -> None:
    altered = ENTRIES[4]._replace(data=ENTRIES[4].data.replace(b"/bin/3", b"/bin/4"))
    with pytest.raises(Rejected) as caught:
        part([*ENTRIES[:4], altered, *ENTRIES[5:]], state_after(ENTRIES[:3]), quoted(ENTRIES))
    assert codes(caught.value.findings) == [("D2", "runtime-log-digest", "entry 4")]


def test_d4_the_boot_pcrs_of_this_quote_count() -> None:
    moved = {**BOOT, 9: bytes(32)}
    assert reason(ENTRIES, state_after(ENTRIES[:3]), quoted(ENTRIES, moved)) == ("D4", "runtime-log-aggregate")


def test_nothing_new() -> None:
    state = state_after(ENTRIES)
    found = part(ENTRIES, state, start=7)
    assert (found.seen, found.measured) == (state.seen, ())
    assert judge_runtime(found, LISTED).state == state
    ahead = part([*ENTRIES, BAD], state, quoted(ENTRIES), start=7, ahead=1)
    assert (ahead.seen, ahead.measured) == (state.seen, ())
    assert reason([*ENTRIES, BAD], state, quoted(ENTRIES), start=7) == ("D3", "runtime-log-ahead")


def test_d6_a_part_does_not_go_behind_what_was_seen() -> None:
    state, later = state_after(ENTRIES[:3]), whole(ENTRIES).seen
    assert part(ENTRIES, state, seen=later).seen == later
    assert reason(ENTRIES[:5], state, seen=later) == ("D6", "runtime-log-truncated")
    assert reason(ENTRIES[:3], state, seen=later) == ("D6", "runtime-log-truncated")


@pytest.mark.parametrize(("start", "entries"), [(3, 2), (7, 6), (7, 8)])
def test_d6_a_state_that_disagrees_with_what_was_seen(start: int, entries: int) -> None:
    state = state_after(ENTRIES[:start])
    seen = RuntimeSeen(1, entries, state.seen.aggregate)
    assert reason(ENTRIES, state, start=start, seen=seen) == ("D6", "runtime-log-truncated")


def test_d5_a_file_that_was_not_allowed_stays_so() -> None:
    entries = [FIRST, BAD, *GOOD]
    state = state_after(entries[:3])
    assert state.kept == ((1, encode_entry(BAD)),)
    result = judged(entries, state)
    assert codes(result.findings) == [("D5", "runtime-file", "file /bad")]
    assert result == judge_runtime(whole(entries), LISTED)


@pytest.mark.parametrize(
    "odd",
    [
        ima_entry("private", b"x"),
        ima_entry("ima-buf", b"sha256:\0" + bytes(32), b"kexec-cmdline\0", b"not this"),
    ],
)
def test_what_was_not_understood_stays_so(odd: ImaEntry) -> None:
    entries = [FIRST, odd, *GOOD]
    state = state_after(entries[:4])
    found = part(entries, state, start=4)
    assert [finding.fatal for finding in found.findings] == [True]
    assert found.findings == whole(entries).findings


def test_violations_stay() -> None:
    entries = [FIRST, violation(b"/log"), *GOOD]
    found = part(entries, state_after(entries[:3]))
    assert found.violations == (b"/log",)
    assert judge_runtime(found, LISTED) == judge_runtime(whole(entries), LISTED)


def test_d5_under_another_stack_the_whole_log_is_needed() -> None:
    found = part(ENTRIES, state_after(ENTRIES[:3]))
    result = judge_runtime(found, OTHER)
    assert codes(result.findings) == [("D5", "runtime-log-part", "")]
    assert result.state is None


def test_a_padded_log_is_always_sent_whole() -> None:
    log = whole(ENTRIES, quoted(ENTRIES, padded=True))
    assert judge_runtime(log, LISTED).state is None
    state = state_after(ENTRIES[:3])
    padded = replay(ima_log(ENTRIES), BANK, padded=True)[10]
    proof = TPM.verified_pcrs(BANK, {**BOOT, 10: padded})
    assert reason(
        ENTRIES, replace(state, seen=replace(state.seen, reset_count=proof.clock_info.reset_count)), proof
    ) == (
        "D3",
        "runtime-log-replay",
    )


def test_too_much_to_keep() -> None:
    log = [FIRST, *(measured(b"/x/%d" % number + bytes([120]) * 900, b"x") for number in range(MAX_KEPT // 900))]
    state = judge_runtime(whole(log[:30]), LISTED).state
    assert state is not None
    assert RuntimeState.parse(state.encode()) == state
    assert len(state.encode()) < 64 << 10
    assert judge_runtime(whole(log), LISTED).state is None


def test_a_stored_state_is_read_strictly() -> None:
    data = state_after([FIRST, BAD, *GOOD]).encode()
    for bad in (data[:-1], data + b"\0", b"\2" + data[1:], b"", data[:1] + b"\0\x01" + data[3:]):
        with pytest.raises(MalformedError):
            RuntimeState.parse(bad)
    numbers = struct.pack(">HI", 1, 1)
    assert data.count(numbers) == 1
    for bad in (data.replace(numbers, bytes(2)), data[:43] + b"\x15" + data[44:]):
        with pytest.raises(MalformedError):
            RuntimeState.parse(bad)


def test_a_state_with_digests_of_no_known_size() -> None:
    verified = whole(ENTRIES)
    state = judge_runtime(verified, LISTED).state
    assert state is not None
    encoded = state.encode()
    assert RuntimeState.parse(encoded) == state
    at = 1 + 2 + 4 + 4 + len(state.seen.aggregate)
    assert encoded[at] == state.digest_size
    with pytest.raises(MalformedError, match="digests of 21 bytes"):
        RuntimeState.parse(encoded[:at] + b"\x15" + encoded[at + 1 :])


def test_d5_a_stack_without_files_judges_no_runtime_log() -> None:
    """Even a log in which nothing ran: the stack says nothing about what may."""
    silent = CompiledStack.parse(encode({name: value for name, value in STACK.items() if name != "runtime"}))
    findings = judge_runtime(whole([FIRST]), silent).findings
    assert [finding.code for finding in findings] == ["runtime-file"]
