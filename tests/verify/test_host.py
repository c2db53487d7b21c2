"""The numbered list as a whole: every step runs, in order, over exactly the arguments that it was given."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from watchword.errors import MalformedError, Rejected
from watchword.testing.recorded import RecordedHost
from watchword.testing.soft_tpm import SoftTpm
from watchword.verify import host as host_module
from watchword.verify.boot_log import verify_boot_log
from watchword.verify.host import VerifiedHost, verify_host
from watchword.verify.quote import LastSeen
from watchword.wire.ima_log import ImaLog
from watchword.wire.tcg_log import EventLog
from watchword.wire.tpm.algorithms import Alg
from watchword.wire.tpm.attest import ClockInfo
from watchword.wire.tpm.pcr import PcrSelection


@pytest.fixture(scope="module")
def tpm() -> SoftTpm:
    return SoftTpm.create()


@pytest.fixture(scope="module")
def good(boots: Path, tpm: SoftTpm) -> RecordedHost:
    return RecordedHost(boots / "good", tpm)


def fails(call: Callable[[], object]) -> str:
    with pytest.raises(Rejected) as caught:
        call()
    return f"{caught.value.clause} {caught.value.code}"


def test_a_good_host(good: RecordedHost, tpm: SoftTpm) -> None:
    host = good.verify()
    assert host.ak is tpm.ak
    assert host.pcrs.host_id == tpm.ak.host_id
    assert host.boot.bank is Alg.SHA256
    assert host.boot.pcrs == set(range(13)) - {10}
    assert host.runtime is not None
    assert host.runtime.boot_aggregate == "0-9"


@pytest.mark.parametrize("bank", ["sha256", "sha384", "sha512"])
def test_every_strong_bank(boots: Path, tpm: SoftTpm, bank: str) -> None:
    host = RecordedHost(boots / "good", tpm, bank=bank).verify()
    assert host.boot.bank == host.pcrs.selections[0].bank


def test_nobody_else_makes_a_verified_host(good: RecordedHost) -> None:
    host = good.verify()
    with pytest.raises(TypeError, match="verify_host"):
        VerifiedHost(object(), host.ak, host.pcrs, host.boot, host.runtime)
    with pytest.raises((TypeError, ValueError)):
        replace(host, runtime=None)


def test_a5_a_revoked_host(good: RecordedHost) -> None:
    assert fails(lambda: good.verify(revoked=True)) == "A5 host-revoked"


def test_a5_comes_before_everything_else(good: RecordedHost) -> None:
    junk = {"attest": b"", "signature": b"", "event_log": b"", "ima_log": b"junk"}
    assert fails(lambda: good.verify(revoked=True, **junk)) == "A5 host-revoked"


def test_b3_nothing_left_over(good: RecordedHost) -> None:
    attest = good.arguments()["attest"]
    assert fails(lambda: good.verify(attest=attest + b"\0")).startswith("B3 ")


def test_b4_other_hosts_quote(good: RecordedHost) -> None:
    assert fails(lambda: good.verify(ak=SoftTpm.create().ak)) == "B4 quote-signature"


def test_b5_replayed_evidence(good: RecordedHost) -> None:
    assert fails(lambda: good.verify(binding=bytes(32))) == "B5 quote-binding"


def test_b7_other_pcrs_than_asked_for(good: RecordedHost) -> None:
    asked = (PcrSelection(Alg.SHA256, (0, 4)),)
    assert fails(lambda: good.verify(selections=asked)) == "B7 quote-selection"


def test_b8_relabelled_values(good: RecordedHost) -> None:
    values = dict(good.values)
    values[4], values[9] = values[9], values[4]
    assert fails(lambda: good.verify(pcrs={Alg.SHA256: values})) == "B8 quote-pcr-digest"


def test_b9_cleared_tpm(good: RecordedHost) -> None:
    assert fails(lambda: good.verify(last=LastSeen(2, 0, 0, True))) == "B9 quote-reset-count"


def test_b10_firmware(good: RecordedHost) -> None:
    good.verify(firmware_allowed=frozenset({1}))
    assert fails(lambda: good.verify(firmware_allowed=frozenset({2}))) == "B10 quote-firmware"


def test_c1_a_log_that_does_not_parse(good: RecordedHost) -> None:
    with pytest.raises(MalformedError, match="event log"):
        good.verify(event_log=good.event_log[:-1])


def test_c2_another_hosts_log(good: RecordedHost, boots: Path) -> None:
    other = (boots / "kernel" / "eventlog.bin").read_bytes()
    assert fails(lambda: good.verify(event_log=other)) == "C2 boot-log-replay"


def test_d1_a_log_that_does_not_parse(good: RecordedHost) -> None:
    with pytest.raises(MalformedError, match="IMA log"):
        good.verify(ima_log=good.ima_log[:-1])
    with pytest.raises(MalformedError, match="IMA log"):
        good.verify(ima_log=b"")


def test_d1_a_log_with_too_many_entries_is_refused_before_it_is_hashed(good: RecordedHost) -> None:
    entries = ImaLog.parse(good.ima_log)
    count = len(entries.entries)
    good.verify(max_entries=count)
    assert fails(lambda: good.verify(max_entries=count - 1)) == "D1 runtime-log-size"
    junk = replace(entries, entries=(*entries.entries, entries.entries[-1]._replace(data=b"junk"))).encode()
    assert fails(lambda: good.verify(ima_log=junk, max_entries=count)) == "D1 runtime-log-size"


def test_d3_a_log_without_its_end(good: RecordedHost) -> None:
    entries = ImaLog.parse(good.ima_log)
    short = replace(entries, entries=entries.entries[:-1]).encode()
    assert fails(lambda: good.verify(ima_log=short)) == "D3 runtime-log-replay"


def test_d3_a_log_ahead_of_the_quote(good: RecordedHost) -> None:
    entries = ImaLog.parse(good.ima_log)
    ahead = replace(entries, entries=(*entries.entries, entries.entries[-1])).encode()
    good.verify(ima_log=ahead, max_ahead=1)
    assert fails(lambda: good.verify(ima_log=ahead)) == "D3 runtime-log-ahead"


def test_d4_the_runtime_log_of_another_boot(boots: Path, tpm: SoftTpm) -> None:
    other = (boots / "kernel" / "ima.bin").read_bytes()
    mixed = RecordedHost(boots / "good", tpm, ima_log=other)
    assert fails(mixed.verify) == "D4 runtime-log-aggregate"


def test_d6_a_log_that_forgot(good: RecordedHost) -> None:
    runtime = good.verify().runtime
    assert runtime is not None
    good.verify(seen=runtime.seen)
    longer = replace(runtime.seen, entries=runtime.seen.entries + 1)
    assert fails(lambda: good.verify(seen=longer)) == "D6 runtime-log-truncated"


def test_without_pcr_10_nothing_is_said_about_what_ran(boots: Path, tpm: SoftTpm) -> None:
    host = RecordedHost(boots / "good", tpm, pcrs=(0, 4, 9)).verify(ima_log=b"not even parsed")
    assert host.runtime is None


@pytest.mark.parametrize("banks", [(), (Alg.SHA256, Alg.SHA256)])
def test_each_bank_once(good: RecordedHost, banks: tuple[Alg, ...]) -> None:
    selections = tuple(PcrSelection(bank, (0,)) for bank in banks)
    with pytest.raises(MalformedError, match="at least one PCR bank"):
        good.verify(selections=selections)


def test_pcr_10_in_the_first_bank_only(good: RecordedHost) -> None:
    selections = (PcrSelection(Alg.SHA256, (0,)), PcrSelection(Alg.SHA384, (0, 10)))
    with pytest.raises(MalformedError, match="first bank only"):
        good.verify(selections=selections)


def test_policy_is_not_asked_here(boots: Path, tpm: SoftTpm) -> None:
    """A changed kernel is authentic evidence of a changed kernel."""
    arguments: dict[str, Any] = RecordedHost(boots / "kernel", tpm).arguments()
    assert RecordedHost(boots / "kernel", tpm).verify(**arguments).boot.events


# -- the verdict on a boot log is kept -----------------------------------------------------------------------------


@pytest.fixture
def verdicts(good: RecordedHost) -> Callable[[], tuple[int, int]]:
    """How many verdicts on boot logs were remembered, and how many reached, since the one on the good host's log."""
    host_module._remembered.cache_clear()
    good.verify()
    before = host_module._remembered.cache_info()

    def count() -> tuple[int, int]:
        now = host_module._remembered.cache_info()
        return now.hits - before.hits, now.misses - before.misses

    return count


def test_one_boot_is_judged_once_for_every_quote(
    good: RecordedHost, boots: Path, verdicts: Callable[[], tuple[int, int]]
) -> None:
    """Clock, nonce, PCR 10 and even the TPM may differ: they say nothing about the boot log."""
    first = good.verify()
    later = verify_host(**good.arguments(clock=ClockInfo(10**6, 1, 0, True)))
    more = ImaLog.parse(good.ima_log)
    ran_more = RecordedHost(
        boots / "good", SoftTpm.create(), ima_log=replace(more, entries=(*more.entries, more.entries[-1])).encode()
    ).verify()
    assert verdicts() == (3, 0)
    assert first.boot is later.boot is ran_more.boot
    fresh = verify_boot_log(EventLog.parse(good.event_log), ran_more.pcrs, Alg.SHA256)
    assert ran_more.boot == fresh


def test_a_log_altered_by_one_bit_is_never_recognised(
    good: RecordedHost, verdicts: Callable[[], tuple[int, int]]
) -> None:
    places = range(0, len(good.event_log), 97)
    for place in places:
        altered = bytearray(good.event_log)
        altered[place] ^= 1
        with suppress(Rejected, MalformedError):  # what no clause is about may differ
            good.verify(event_log=bytes(altered))
    assert verdicts() == (0, len(places))


def test_a_remembered_log_does_not_speak_for_other_values(
    good: RecordedHost, boots: Path, tpm: SoftTpm, verdicts: Callable[[], tuple[int, int]]
) -> None:
    for pcr in good.values:
        other = RecordedHost(boots / "good", tpm)
        other.values = {**good.values, pcr: bytes(31) + b"\1"}
        clause = "D3 runtime-log-replay" if pcr == 10 else "C2 boot-log-replay"
        assert fails(other.verify) == clause
    assert verdicts() == (1, len(good.values) - 1)  # PCR 10 belongs to the other log


def test_a_remembered_log_does_not_speak_for_another_selection_or_bank(
    boots: Path, tpm: SoftTpm, verdicts: Callable[[], tuple[int, int]]
) -> None:
    assert RecordedHost(boots / "good", tpm, pcrs=(0, 4)).verify().boot.pcrs == {0, 4}
    assert RecordedHost(boots / "good", tpm, bank="sha384").verify().boot.bank is Alg.SHA384
    assert verdicts() == (0, 2)


def test_a_refusal_is_not_remembered(good: RecordedHost, boots: Path, verdicts: Callable[[], tuple[int, int]]) -> None:
    other = (boots / "kernel" / "eventlog.bin").read_bytes()
    for _ in range(3):
        assert fails(lambda: good.verify(event_log=other)) == "C2 boot-log-replay"
    assert verdicts() == (0, 3)
    assert host_module._remembered.cache_info().currsize == 1


def test_a_long_log_is_not_remembered(
    good: RecordedHost, verdicts: Callable[[], tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host_module, "_MAX_REMEMBERED", len(good.event_log) - 1)
    assert good.verify().boot.events
    assert verdicts() == (0, 0)
