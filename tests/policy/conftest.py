"""Verified hosts for the policy tests: real logs, quoted and verified by the real checks."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from watchword.policy.capture import capture_stack, captured_events, captured_files
from watchword.testing.recorded import RecordedHost
from watchword.testing.soft_tpm import SoftTpm
from watchword.verify.boot_log import VerifiedBootLog, verify_boot_log
from watchword.verify.ek import EkClass
from watchword.verify.host import VerifiedHost
from watchword.wire.ima_log import ImaLog
from watchword.wire.tcg_log import Event, EventLog, EventType, SpecId, replay
from watchword.wire.tpm.algorithms import Alg

BootLog = Callable[..., VerifiedBootLog]


@pytest.fixture(scope="session")
def tpm() -> SoftTpm:
    return SoftTpm.create()


@pytest.fixture
def boot_log(tpm: SoftTpm) -> BootLog:
    """A verified boot log with one EV_IPL event for each (PCR, text); ``quoted`` PCRs are 8, 9, 11 unless given."""

    def make(events: Sequence[tuple[int, str]], quoted: Sequence[int] = (8, 9, 11)) -> VerifiedBootLog:
        log = EventLog(
            SpecId(0, (0, 2, 0), 2, ((Alg.SHA256, 32),), b""),
            tuple(
                Event(i, pcr, EventType.IPL, ((Alg.SHA256, hashlib.sha256(text.encode()).digest()),), text.encode())
                for i, (pcr, text) in enumerate(events)
            ),
        )
        values = replay(log, Alg.SHA256)
        pcrs = tpm.verified_pcrs(Alg.SHA256, {pcr: values.get(pcr, bytes(32)) for pcr in quoted})
        return verify_boot_log(log, pcrs, Alg.SHA256)

    return make


@pytest.fixture(scope="session")
def boots_log(tpm: SoftTpm, boots: Path) -> VerifiedBootLog:
    """The boot log of the recording "good", all boot PCRs of its SHA-256 bank quoted."""
    values = json.loads((boots / "good/pcrs.json").read_text())["sha256"]
    quoted = {pcr: bytes.fromhex(values[str(pcr)]) for pcr in range(16) if pcr != 10}
    log = EventLog.parse((boots / "good/eventlog.bin").read_bytes())
    return verify_boot_log(log, tpm.verified_pcrs(Alg.SHA256, quoted), Alg.SHA256)


@pytest.fixture(scope="session")
def host(boots: Path) -> Callable[..., VerifiedHost]:
    """A verified host in the state of a recording; PCRs 0 to 12 of one bank are quoted."""

    @functools.cache
    def make(boot: str, ek_class: EkClass = EkClass.VIRTUAL, bank: str = "sha256") -> VerifiedHost:
        return RecordedHost(boots / boot, SoftTpm.create(ek_class), bank=bank).verify()

    return make


@pytest.fixture
def stack(boots: Path) -> Callable[[str], dict[str, Any]]:
    """The stack document of a recording; its version is the name of the recording, and the files are those that ran."""

    def make(boot: str) -> dict[str, Any]:
        folder = boots / boot
        document: dict[str, Any] = json.loads(
            capture_stack(
                name="compute",
                version=boot,
                serial=1,
                events=captured_events(EventLog.parse((folder / "eventlog.bin").read_bytes())),
                files=captured_files(ImaLog.parse((folder / "ima.bin").read_bytes())),
                components={"firmware": (0, 2, 3), "secure-boot": (7,), "image": (4, 8, 9, 11, 12)},
            )
        )
        return document

    return make
