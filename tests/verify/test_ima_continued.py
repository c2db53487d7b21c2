"""Entries of the runtime log in other PCRs than 10: a boot log that the kernel goes on with."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from watchword.errors import Rejected
from watchword.policy.runtime import judge_runtime
from watchword.policy.stack import CompiledStack
from watchword.testing.documents import STACK, encode
from watchword.testing.logs import boot_aggregate, ima_log, measured, violation
from watchword.testing.recorded import BINDING, RecordedHost
from watchword.testing.soft_tpm import SoftTpm
from watchword.verify.host import VerifiedHost, verify_host
from watchword.verify.known_files import KnownFiles
from watchword.wire.ima_log import ImaEntry, encode_entry, template_digest
from watchword.wire.tcg_log import EventLog
from watchword.wire.tpm.algorithms import Alg, digest
from watchword.wire.tpm.pcr import PcrSelection

BANK = Alg.SHA256
Verify = Callable[..., VerifiedHost]


def file(name: bytes, pcr: int = 10) -> ImaEntry:
    return measured(b"/bin/" + name, name)._replace(pcr=pcr)


A, B, C = file(b"a"), file(b"b", 11), file(b"c")
LISTED = {f"/bin/{name}": [f"sha256:{hashlib.sha256(name.encode()).hexdigest()}"] for name in "abcd"}
STACK_OF_ALL = CompiledStack.parse(encode({**STACK, "runtime": {"files": LISTED}}))


@pytest.fixture(scope="module")
def tpm() -> SoftTpm:
    return SoftTpm.create()


@pytest.fixture
def verify(boots: Path, tpm: SoftTpm) -> Verify:
    """Verifies the recording "good" on which ``ran`` ran in this order; the log that is shown may be another one."""

    def make(ran: Sequence[ImaEntry], shown: Sequence[ImaEntry] | None = None, **changes: object) -> VerifiedHost:
        good = RecordedHost(boots / "good", tpm)
        first = boot_aggregate(good.values)
        values = {**good.values, 10: bytes(32)}
        for entry in (first, *ran):
            values[entry.pcr] = digest(BANK, values[entry.pcr], template_digest(entry, BANK))
        log = ima_log([first, *(ran if shown is None else shown)]).encode()
        host = RecordedHost(boots / "good", tpm, ima_log=log)
        host.values = {pcr: values[pcr] for pcr in changes.pop("quoted", values)}
        return host.verify(**changes)

    return make


def fails(call: Callable[[], object]) -> str:
    with pytest.raises(Rejected) as caught:
        call()
    return f"{caught.value.clause} {caught.value.code}"


@pytest.mark.parametrize("ran", [[A, B, C], [B], [A, B], [B, file(b"d", 11), A], [A, C, file(b"d", 12), B]])
def test_files_in_another_quoted_pcr_are_verified_content(verify: Verify, ran: list[ImaEntry]) -> None:
    runtime = verify(ran).runtime
    assert runtime is not None
    assert [f.path for f in runtime.measured] == [entry.file().path for entry in ran]
    assert (runtime.findings, runtime.ahead) == ((), 0)
    assert judge_runtime(runtime, STACK_OF_ALL).findings == ()


def test_they_are_judged_like_the_others(verify: Verify) -> None:
    runtime = verify([A, file(b"evil", 11)]).runtime
    (finding,) = judge_runtime(runtime, STACK_OF_ALL).findings
    assert (finding.code, finding.subject) == ("runtime-file", "file /bin/evil")
    gone = verify([A, violation(b"/log")._replace(pcr=11)]).runtime
    assert gone is not None
    assert gone.violations == (b"/log",)


@pytest.mark.parametrize(
    "shown",
    [
        [A, C],
        [A, B, file(b"d", 11), C],
        [A, file(b"d", 11), C],
        [A, B, B, C],
        [A, file(b"b", 12), C],
    ],
    ids=["dropped", "one more", "another", "twice", "in another PCR"],
)
def test_a_log_that_does_not_lead_to_both(verify: Verify, shown: list[ImaEntry]) -> None:
    code = fails(lambda: verify([A, B, C], shown))
    assert code == ("C2 boot-log-replay" if shown == [A, C] or shown[1].pcr == 12 else "D3 runtime-log-replay")


def test_which_pcr_an_entry_at_the_end_was_first_in_is_not_proven(verify: Verify) -> None:
    """Both are in the quote, and their order decides nothing."""
    assert verify([A, B, C], [A, C, B]).runtime is not None


def test_an_entry_that_is_not_of_the_quote_is_nobodys_word(verify: Verify) -> None:
    runtime = verify([A, C], [A, C, B], max_ahead=1).runtime
    assert runtime is not None
    assert [f.path for f in runtime.measured] == [b"/bin/a", b"/bin/c"]
    assert fails(lambda: verify([A, C], [A, C, B])) == "D3 runtime-log-ahead"


def test_what_follows_the_next_entry_of_pcr_10_does_not_count(verify: Verify) -> None:
    """PCR 10 was quoted before C, so B behind it cannot have been in the other PCR."""
    assert fails(lambda: verify([A, B], [A, C, B], max_ahead=9)) == "D3 runtime-log-replay"


def test_without_a_quote_of_that_pcr_the_content_is_a_finding(verify: Verify) -> None:
    runtime = verify([A, B, C], quoted=(*range(11), 12)).runtime
    assert runtime is not None
    assert [f.code for f in runtime.findings] == ["runtime-log-pcr"]
    result = judge_runtime(runtime, STACK_OF_ALL)
    assert [f.code for f in result.findings] == ["runtime-log-pcr"]
    assert result.state is None  # under a profile that quotes it, that entry would be missing


def test_such_a_log_is_sent_whole_each_time(verify: Verify) -> None:
    assert judge_runtime(verify([A]).runtime, STACK_OF_ALL).state is not None
    assert judge_runtime(verify([A, B]).runtime, STACK_OF_ALL).state is None


def test_the_same_boot_log_without_the_entries_is_judged_anew(verify: Verify) -> None:
    """The verdict on a boot log is remembered, with the PCRs that were left to the runtime log."""
    verify([A, B])
    assert fails(lambda: verify([A, B], [A])) == "C2 boot-log-replay"


def test_they_are_not_taken_for_entries_of_pcr_10(verify: Verify) -> None:
    known = KnownFiles(BANK)
    for _ in range(2):
        verify([A, B, C], known=known)
    assert encode_entry(B) not in [entry[0] for entry in known.entries.values()]


def test_the_boot_aggregate_is_of_the_boot(verify: Verify) -> None:
    """It was made before the kernel went on with PCR 9, and the quote cannot show that value any more."""
    assert fails(lambda: verify([A, file(b"b", 9)])) == "D4 runtime-log-aggregate"


def test_every_bank_that_was_quoted(boots: Path, tpm: SoftTpm) -> None:
    good = {bank: RecordedHost(boots / "good", tpm, bank=bank) for bank in ("sha256", "sha384")}
    first = boot_aggregate(good["sha256"].values)
    values = {Alg.SHA256: {**good["sha256"].values, 10: bytes(32)}, Alg.SHA384: {11: good["sha384"].values[11]}}
    for entry in (first, A, B):
        for bank, pcrs in values.items():
            if entry.pcr in pcrs:
                pcrs[entry.pcr] = digest(bank, pcrs[entry.pcr], template_digest(entry, bank))

    def run(second: bytes) -> VerifiedHost:
        quoted = {**values, Alg.SHA384: {11: second}}
        selections = tuple(PcrSelection(bank, tuple(pcrs)) for bank, pcrs in quoted.items())
        attest, signature = tpm.quote(selections, quoted, BINDING)
        arguments = good["sha256"].arguments()
        log = ima_log([first, A, B]).encode()
        changes = {"attest": attest, "signature": signature, "pcrs": quoted, "selections": selections, "ima_log": log}
        return verify_host(**{**arguments, **changes})

    assert run(values[Alg.SHA384][11]).runtime is not None
    assert fails(lambda: run(bytes(48))) == "D3 runtime-log-replay"


def test_boot_events_among_the_entries_are_refused(boots: Path, verify: Verify) -> None:
    """Firmware and loader first, then IMA: no other order is tried."""
    log = EventLog.parse((boots / "good/eventlog.bin").read_bytes())
    last = max(i for i, event in enumerate(log.events) if event.pcr == 11 and event.type != 3)
    cut = replace(log, events=tuple(e for i, e in enumerate(log.events) if i != last)).encode()
    assert fails(lambda: verify([A, B], event_log=cut)) == "D3 runtime-log-replay"
