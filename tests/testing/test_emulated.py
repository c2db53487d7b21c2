"""Emulated hosts come up in exactly the recorded state, and what is done to them shows."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from watchword.errors import UsageError
from watchword.testing.emulated import EmulatedHost
from watchword.testing.farm import SwTpm, have_swtpm
from watchword.wire import ima_log, tcg_log
from watchword.wire.tpm.algorithms import Alg
from watchword.wire.tpm.pcr import PcrSelection

pytestmark = pytest.mark.skipif(not have_swtpm(), reason="swtpm is not installed")
ALL = (PcrSelection(Alg.SHA256, tuple(range(24))),)
RECORDINGS = sorted(
    path.parent.name for path in Path(__file__).parents[2].joinpath("vectors", "boots").glob("*/pcrs.json")
)


@pytest.fixture(scope="module")
def swtpm() -> Iterator[SwTpm]:
    tpm = SwTpm().start()
    yield tpm
    tpm.stop()


def pcr_values(host: EmulatedHost) -> dict[int, bytes]:
    with host.tpm.client() as tpm:
        return dict(tpm.read_pcrs(ALL)[Alg.SHA256])


@pytest.mark.parametrize("name", RECORDINGS)
def test_every_recording_comes_up_as_it_was(swtpm: SwTpm, boots: Path, name: str) -> None:
    host = EmulatedHost(swtpm, boots / name)
    recorded = json.loads((boots / name / "pcrs.json").read_text())["sha256"]
    assert {str(pcr): value.hex() for pcr, value in pcr_values(host).items()} == recorded
    assert host.event_log_path.read_bytes() == (boots / name / "eventlog.bin").read_bytes()
    assert host.ima_log_path.read_bytes() == (boots / name / "ima.bin").read_bytes()


def test_a_reboot_changes_the_system_and_the_count(swtpm: SwTpm, boots: Path) -> None:
    host = EmulatedHost(swtpm, boots / "good")
    good = pcr_values(host)
    with swtpm.client() as tpm:
        count = tpm.read_clock().reset_count
    host.reboot(boots / "kernel")
    assert pcr_values(host)[4] != good[4]
    host.reboot(boots / "good", orderly=True)
    assert pcr_values(host) == good
    with swtpm.client() as tpm:
        assert tpm.read_clock().reset_count == count + 2


def test_a_program_that_runs_is_in_the_log_and_in_the_pcr(swtpm: SwTpm, boots: Path) -> None:
    host = EmulatedHost(swtpm, boots / "good")
    host.run_file(b"/usr/bin/new\nline", b"content")
    log = ima_log.ImaLog.parse(host.ima_log_path.read_bytes())
    assert log.entries[-1].file().path == b"/usr/bin/new\nline"
    assert ima_log.replay(log, Alg.SHA256)[10] == pcr_values(host)[10]
    host.reboot()
    assert len(ima_log.ImaLog.parse(host.ima_log_path.read_bytes()).entries) == len(log.entries) - 1


def test_an_extend_is_in_no_log(swtpm: SwTpm, boots: Path) -> None:
    host = EmulatedHost(swtpm, boots / "good")
    replayed = tcg_log.replay(tcg_log.EventLog.parse(host.event_log_path.read_bytes()), Alg.SHA256)
    assert replayed[4] == pcr_values(host)[4]
    host.extend(4, b"something else")
    assert replayed[4] != pcr_values(host)[4]


def test_a_recording_that_does_not_lead_to_its_pcrs_is_refused(swtpm: SwTpm, boots: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(boots / "good", copy)
    values = json.loads((copy / "pcrs.json").read_text())
    values["sha256"]["7"] = "00" * 32
    (copy / "pcrs.json").write_text(json.dumps(values))
    with pytest.raises(UsageError, match="PCR 7"):
        EmulatedHost(swtpm, copy)
