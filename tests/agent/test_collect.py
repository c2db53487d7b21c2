"""Evidence is consistent, bounded, and in the right order."""

from __future__ import annotations

from pathlib import Path

import pytest

from watchword.agent.collect import Measurements, OnFile, measure, read_log
from watchword.errors import Unavailable
from watchword.testing.farm import SwTpm
from watchword.testing.logs import measured
from watchword.wire.evidence import MAX_IMA_LOG
from watchword.wire.ima_log import encode_entry
from watchword.wire.tpm.algorithms import Alg, digest
from watchword.wire.tpm.attest import Attest, QuoteInfo
from watchword.wire.tpm.pcr import PcrSelection, pcr_digest

PCRS = (PcrSelection(Alg.SHA256, (0, 7, 10)),)


def test_the_values_are_the_quoted_ones(bench) -> None:
    with bench.tpm.client() as tpm:
        found = measure(tpm, PCRS, b"nonce", event_log=bench.event_log, runtime_log=bench.runtime_log)
    attest = Attest.parse(found.attest)
    assert attest.extra_data == b"nonce"
    assert isinstance(attest.attested, QuoteInfo)
    assert attest.attested.selections == PCRS
    assert attest.attested.pcr_digest == pcr_digest(Alg.SHA256, PCRS, found.pcrs)
    assert (found.event_log, found.ima_log) == (b"the firmware's log", b"the kernel's log")


def test_the_runtime_log_is_read_after_the_quote(bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that runs during the quote is in the log that is sent, so the log never lags behind the quote."""
    with bench.tpm.client() as tpm:
        quote = type(tpm).quote

        def quote_and_run(self, selections, extra_data):
            found = quote(self, selections, extra_data)
            bench.runtime_log.write_bytes(b"the kernel's longer log")
            return found

        monkeypatch.setattr(type(tpm), "quote", quote_and_run)
        found = measure(tpm, PCRS, b"", event_log=bench.event_log, runtime_log=bench.runtime_log)
    assert found.ima_log == b"the kernel's longer log"


def test_pcrs_that_move_are_quoted_again(bench, monkeypatch: pytest.MonkeyPatch) -> None:
    with bench.tpm.client() as tpm:
        quote, moves = type(tpm).quote, [b"one", b"two"]

        def quote_and_move(self, selections, extra_data):
            found = quote(self, selections, extra_data)
            if moves:
                self.extend(10, {Alg.SHA256: digest(Alg.SHA256, moves.pop())})
            return found

        monkeypatch.setattr(type(tpm), "quote", quote_and_move)
        found = measure(tpm, PCRS, b"", event_log=bench.event_log, runtime_log=bench.runtime_log)
    attested = Attest.parse(found.attest).attested
    assert isinstance(attested, QuoteInfo)
    assert attested.pcr_digest == pcr_digest(Alg.SHA256, PCRS, found.pcrs)
    assert not moves


def test_the_runtime_log_is_not_needed_without_pcr_10(bench, tmp_path: Path) -> None:
    selections = (PcrSelection(Alg.SHA256, (0, 7)),)
    with bench.tpm.client() as tpm:
        found = measure(tpm, selections, b"", event_log=bench.event_log, runtime_log=tmp_path / "none")
    assert found.ima_log == b""


@pytest.mark.parametrize("selection", [PcrSelection(Alg.SM3_256, (0,)), PcrSelection(Alg.SHA256, (0, 25), size=4)])
def test_a_pcr_that_the_tpm_does_not_have_is_said_so(bench, swtpm: SwTpm, selection: PcrSelection) -> None:
    with bench.tpm.client() as tpm, pytest.raises(Unavailable) as failed:
        measure(tpm, (selection,), b"", event_log=bench.event_log, runtime_log=bench.runtime_log)
    assert failed.value.code == "tpm-bank"


def test_a_log_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(bytes(300_000))
    assert len(read_log(path, "the log", 300_000)) == 300_000
    path.write_bytes(bytes(300_001))
    with pytest.raises(Unavailable) as failed:
        read_log(path, "the log", 300_000)
    assert failed.value.code == "log-size"


def test_a_log_without_an_end_is_refused() -> None:
    with pytest.raises(Unavailable, match="larger than"):
        read_log(Path("/dev/zero"), "the log", 1 << 20)


def test_a_missing_log_comes_with_a_hint(tmp_path: Path) -> None:
    with pytest.raises(Unavailable) as failed:
        read_log(tmp_path / "none", "the log", 1 << 20)
    assert failed.value.code == "log-unreadable"
    assert "securityfs" in failed.value.hint


def test_a_large_log_is_sent_when_its_new_part_is_small(bench) -> None:
    """What the authority has on file does not count: the bound is on what has to be sent."""
    old, new = (encode_entry(measured(name, b"x")) for name in (b"/usr/lib/" + b"n" * 3000, b"/usr/bin/new"))
    number = MAX_IMA_LOG // len(old) + 1
    bench.runtime_log.write_bytes(old * number + new * 3)

    def found(*on_file: int) -> Measurements:
        with bench.tpm.client() as tpm:
            boot = tpm.read_clock().reset_count + on_file[1]
            known = OnFile(on_file[0], boot)
            return measure(tpm, PCRS, b"", event_log=bench.event_log, runtime_log=bench.runtime_log, on_file=known)

    assert (found(number, 0).ima_from, found(number, 0).ima_log) == (number, new * 3)
    assert found(number + 3, 0).ima_log == b""
    # Another boot, more entries than there are, or nothing on file: it would be sent whole, and cannot be.
    for on_file in ((number, 1), (number + 4, 0), (0, 0)):
        with pytest.raises(Unavailable) as failed:
            found(*on_file)
        assert failed.value.code == "log-size"


def test_the_firmware_log_is_left_out_of_the_boot_that_the_authority_has_it_of(bench) -> None:
    with bench.tpm.client() as tpm:
        boot = tpm.read_clock().reset_count

        def sent(known: OnFile) -> bytes:
            logs = {"event_log": bench.event_log, "runtime_log": bench.runtime_log}
            return measure(tpm, PCRS, b"", **logs, on_file=known).event_log

        whole = bench.event_log.read_bytes()
        assert sent(OnFile(0, boot, True)) == b""
        assert sent(OnFile(0, boot + 1, True)) == sent(OnFile(0, boot, False)) == whole != b""
