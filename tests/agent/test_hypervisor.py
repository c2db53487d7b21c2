"""QEMU gets what was checked, shows no secret, and ends when it should."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from watchword.agent.hypervisor import Machine, free_port, start, stop_process
from watchword.agent.inject.configdrive import config_drive_file
from watchword.agent.inject.fwcfg import credential_file
from watchword.agent.inputs import HeldDisk
from watchword.agent.memory import sealed_file
from watchword.crypto.ssh_key import SshHostKey
from watchword.errors import Unavailable, UsageError

BOOT_SECONDS = 90.0  # about ten times the idle figure


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    """A machine with an empty disk: QEMU runs, nothing boots."""
    if shutil.which("qemu-system-x86_64") is None or not Path("/usr/share/OVMF/OVMF_CODE_4M.fd").exists():
        pytest.skip("QEMU and OVMF are not installed")
    disk = sealed_file("disk", [bytes(1 << 20)])
    yield Machine("vm-1", tmp_path / "vm", disk, free_port("127.0.0.1"))
    os.close(disk)


def secrets_of(key: SshHostKey) -> list[bytes]:
    """Every line of the private key, which is what would show."""
    return [line for line in key.private_openssh.splitlines() if not line.startswith(b"-----")]


def assert_nowhere(key: SshHostKey, pid: int, folder: Path) -> None:
    """The key is in no argument, no environment variable and no file below ``folder``."""
    places = {f"/proc/{pid}/{name}": Path(f"/proc/{pid}/{name}").read_bytes() for name in ("cmdline", "environ")}
    places |= {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    for line in secrets_of(key):
        for place, content in places.items():
            assert line not in content, place


def test_it_starts_and_stops(machine: Machine) -> None:
    with start(machine) as running:
        command = Path(f"/proc/{running.pid}/cmdline").read_bytes().split(b"\0")
        assert command[0] == b"qemu-system-x86_64"
        assert running.wait(0.05) is None
        assert running.ssh_port == machine.ssh_port
    assert not Path(f"/proc/{running.pid}").exists()
    running.stop()


def test_a_file_that_qemu_cannot_use_is_reported_in_its_words(machine: Machine) -> None:
    with pytest.raises(Unavailable) as failed:
        start(replace(machine, accelerator="none-such"))
    assert failed.value.code == "qemu-failed"
    assert "none-such" in failed.value.message


def test_a_port_in_use_is_reported(machine: Machine) -> None:
    with start(machine), pytest.raises(Unavailable, match="forward"):
        start(replace(machine, folder=machine.folder / "second"))


def test_without_qemu_there_is_a_hint(machine: Machine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError) as refused:
        start(machine)
    assert refused.value.code == "qemu-missing"
    assert "apt install" in refused.value.hint


def test_a_folder_that_cannot_be_made_is_refused(machine: Machine) -> None:
    with pytest.raises(UsageError) as refused:
        start(replace(machine, folder=Path("/proc/no-such-folder")))
    assert refused.value.code == "vm-folder"


@pytest.mark.parametrize("name", ["", "a,b", "a b", "x\n"])
def test_a_name_that_qemu_would_read_as_options_is_refused(machine: Machine, name: str) -> None:
    with pytest.raises(UsageError) as refused:
        start(replace(machine, name=name))
    assert refused.value.code == "vm-name"


def test_a_folder_that_qemu_would_read_as_options_is_refused(machine: Machine, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as refused:
        start(replace(machine, folder=tmp_path / "a,file=b"))
    assert refused.value.code == "vm-folder"


def test_the_folder_is_private(machine: Machine) -> None:
    with start(machine):
        assert machine.folder.stat().st_mode & 0o077 == 0


def test_a_detached_machine_is_ended_by_who_knows_its_name(machine: Machine) -> None:
    running = start(machine)
    running.detach()
    assert stop_process(running.pid, "another") is False
    assert Path(f"/proc/{running.pid}").exists()
    assert stop_process(running.pid, machine.name) is True
    os.waitpid(running.pid, 0)
    assert stop_process(running.pid, machine.name) is False


def test_another_process_is_never_ended() -> None:
    with subprocess.Popen(["sleep", "60"]) as other:
        assert stop_process(other.pid, "vm-1") is False
        assert other.poll() is None
        other.kill()


def test_waiting_for_a_machine_that_says_nothing_ends(machine: Machine) -> None:
    with start(machine) as running:
        with pytest.raises(Unavailable) as failed:
            running.wait_for("never", 0.1)
        assert failed.value.code == "vm-silent"
        running.stop()
        with pytest.raises(Unavailable) as failed:
            running.wait_for("never", 10)
        assert failed.value.code == "vm-ended"


def scan(port: int) -> str:
    """The machine's Ed25519 host key, as another program gets it."""
    command = ["ssh-keyscan", "-T", "30", "-t", "ed25519", "-p", str(port), "127.0.0.1"]
    found = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return " ".join(found.stdout.split()[1:3])


@pytest.mark.vm
@pytest.mark.parametrize(("way", "copied"), [("config-drive", True), ("fw_cfg", False)])
def test_a_guest_answers_with_the_injected_key(
    guest: Path, tmp_path: Path, host_key: SshHostKey, way: str, copied: bool
) -> None:
    digest = None
    by_drive = way == "config-drive"
    fd = config_drive_file("i-1", "vm-1", b"", host_key) if by_drive else credential_file(host_key)
    with HeldDisk(guest, copy_limit=1 << 30 if copied else 0) as disk:
        digest = disk.digest
        machine = Machine("vm-1", tmp_path / "vm", disk.fd, free_port("127.0.0.1"))
        machine = replace(machine, config_drive=fd) if by_drive else replace(machine, credential=fd)
        running = start(machine)
    os.close(fd)
    with running:
        assert_nowhere(host_key, running.pid, machine.folder)
        running.wait_for("ssh ready", BOOT_SECONDS)
        time.sleep(0.2)
        assert scan(running.ssh_port) == " ".join(host_key.public_openssh.split()[:2])
        assert f"host key from {way}" in machine.serial_log.read_text(errors="replace")
        assert_nowhere(host_key, running.pid, machine.folder)
    with HeldDisk(guest) as disk:
        assert disk.digest == digest
