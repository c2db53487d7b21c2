"""Fixtures for tests of the agent: TPMs, a recorded host, an authority that gives, a guest to boot."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from watchword.agent.host import Host
from watchword.agent.tpm.client import Tpm
from watchword.crypto.envelope import LaunchSecret
from watchword.crypto.ssh_key import SshHostKey, derive
from watchword.testing.farm import SwTpm, have_swtpm
from watchword.testing.scripted import GenerousAuthority
from watchword.wire.tpm.algorithms import Alg
from watchword.wire.tpm.pcr import PcrSelection
from watchword.wire.tpm.templates import EkKind

ROOT = Path(__file__).resolve().parents[2]
SECRET = LaunchSecret(bytes(range(32)), bytes(range(16)), bytes(32), 0)
SELECTIONS = (PcrSelection(Alg.SHA256, (0, 4, 7, 10)),)


@dataclass
class Bench:
    """A host with a TPM and logs of its own, and an authority that refuses nothing."""

    tpm: SwTpm
    authority: GenerousAuthority
    event_log: Path
    runtime_log: Path

    def host(self, tpm: Tpm) -> Host:
        return Host(tpm, self.authority, self.authority.keys, EkKind.P256, self.event_log, self.runtime_log)


@pytest.fixture(scope="session")
def swtpm() -> Iterator[SwTpm]:
    if not have_swtpm():
        pytest.skip("swtpm is not installed: tests with a TPM are left out")
    tpm = SwTpm().start()
    yield tpm
    tpm.stop()


@pytest.fixture
def new_tpm(swtpm: SwTpm) -> Iterator[SwTpm]:
    """A second TPM, fresh from the factory and without certificates."""
    tpm = SwTpm().start()
    yield tpm
    tpm.stop()


@pytest.fixture
def bench(swtpm: SwTpm, tmp_path: Path) -> Bench:
    event_log, runtime_log = tmp_path / "event.log", tmp_path / "ima.log"
    event_log.write_bytes(b"the firmware's log")
    runtime_log.write_bytes(b"the kernel's log")
    return Bench(swtpm, GenerousAuthority(SECRET, SELECTIONS), event_log, runtime_log)


@pytest.fixture(scope="session")
def host_key() -> SshHostKey:
    return derive(SECRET.secret, SECRET.launch_id)


@pytest.fixture(scope="session")
def guest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The guest's disk image, built once."""
    if shutil.which("qemu-system-x86_64") is None:
        pytest.skip("qemu-system-x86_64 is not installed: tests with a machine are left out")
    output = tmp_path_factory.mktemp("guest")
    built = subprocess.run(
        ["/usr/bin/python3", str(ROOT / "images/guest/build"), str(output)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    if built.returncode:
        pytest.skip(f"the guest cannot be built here: {built.stderr[-300:]}")
    return output / "guest.img"
