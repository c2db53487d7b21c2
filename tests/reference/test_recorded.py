"""Recorded boots: the image that was booted is built again from packages, and a stack is computed from its files."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
from tests.reference import machines

from watchword.policy.command_line import known_command_line
from watchword.policy.match import Mismatch, StackMatch, match
from watchword.policy.stack import CompiledStack
from watchword.reference.boot.sheet import Sheet, capture_sheet
from watchword.testing.soft_tpm import SoftTpm
from watchword.verify.boot_log import VerifiedBootLog, verify_boot_log
from watchword.wire.tcg_log import EventLog
from watchword.wire.tpm.algorithms import Alg

SCENARIOS = {scenario.name: scenario for scenario in machines.scenarios.SCENARIOS}
# Scenarios with the same firmware, image and machine shape: only files that run later differ.
SAME = {"good": {"good-again", "altered-binary", "violation"}}


def log_of(folder: Path) -> VerifiedBootLog:
    values = json.loads((folder / "pcrs.json").read_text())["sha384"]
    quoted = {int(pcr): bytes.fromhex(value) for pcr, value in values.items() if int(pcr) <= 14 and int(pcr) != 10}
    log = EventLog.parse((folder / "eventlog.bin").read_bytes())
    return verify_boot_log(log, SoftTpm.create().verified_pcrs(Alg.SHA384, quoted), Alg.SHA384)


def stack_of(boots: Path, name: str, folder: Path) -> CompiledStack:
    return CompiledStack.parse(machines.recorded(boots, name, folder))


@pytest.mark.parametrize("name", ["good", "kernel", "initrd", "release-2", "cmdline", "secure-boot-on", "machine"])
def test_the_stack_of_an_image_matches_its_own_boot_and_no_other(boots: Path, name: str, tmp_path: Path) -> None:
    stack = stack_of(boots, name, tmp_path)
    assert stack.origin == "computed"
    for folder in sorted(path.parent for path in boots.glob("*/about.json")):
        found = match(stack, log_of(folder))
        expected = StackMatch if folder.name in {name} | SAME.get(name, set()) else Mismatch
        assert isinstance(found, expected), (folder.name, found)


def test_the_command_line_of_a_computed_stack_is_known(boots: Path, tmp_path: Path) -> None:
    for name in ("good", "cmdline"):
        log = log_of(boots / name)
        found = match(stack_of(boots, name, tmp_path), log)
        assert isinstance(found, StackMatch)
        line = known_command_line(log, found)
        assert line is not None
        assert line.text == SCENARIOS[name].cmdline
        assert line.values("mitigations") == (("off",) if name == "cmdline" else ())


def test_kernel_and_initrd_of_two_releases_match_neither(boots: Path, tmp_path: Path) -> None:
    stack = stack_of(boots, "release-2", tmp_path)
    for name in ("kernel", "initrd"):
        found = match(stack, log_of(boots / name))
        assert isinstance(found, Mismatch)
        assert found.findings[0].code == "stack-none"


def test_a_sheet_of_one_boot_is_that_of_the_next(boots: Path) -> None:
    first, second = (
        Sheet.parse(capture_sheet((boots / name / "eventlog.bin").read_bytes(), model="ovmf", version="1"))
        for name in ("good", "good-again")
    )
    assert replace(first, log=b"") == replace(second, log=b"")
    assert {event.pcr for event in first.events} == {0, 2, 3}
    assert first.log == hashlib.sha256((boots / "good/eventlog.bin").read_bytes()).digest()
