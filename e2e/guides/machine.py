"""A machine: QEMU with OVMF, its own TPM (swtpm), a way out, and a network that the machines of a run share."""

from __future__ import annotations

import shlex
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from e2e.guides.image import key

__all__ = ["Answer", "Machine"]

_OVMF = Path("/usr/share/OVMF")
_PATIENCE = 900.0  # seconds to boot, under emulation on a busy machine


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command ended with and printed."""

    status: int
    out: str
    said: str


@dataclass
class Machine:
    """A machine of a run: its ``address`` on the common network, the ``disk`` to start from, ``memory`` in MiB."""

    name: str
    address: str
    disk: Path
    folder: Path
    network: int
    memory: int = 1024
    _processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    _port: int = 0

    def start(self) -> None:
        """Make disk, variables and TPM at the first time, and switch on."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if not (self.folder / "disk.qcow2").exists():
            create = [
                "qemu-img",
                "create",
                "-q",
                "-f",
                "qcow2",
                "-F",
                "raw",
                "-b",
                self.disk,
                self.folder / "disk.qcow2",
            ]
            subprocess.run(create, check=True)
            shutil.copy(_OVMF / "OVMF_VARS_4M.ms.fd", self.folder / "vars.fd")
            self._manufacture()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        tpm = ["swtpm", "socket", "--tpm2", "--tpmstate", f"dir={self.folder}/tpm"]
        self._spawn([*tpm, "--ctrl", f"type=unixio,path={self.folder}/tpm.sock"])
        self._spawn(self._qemu())

    def _manufacture(self) -> None:
        """A TPM with an EK certificate by a maker of its own, as swtpm_setup makes one."""
        (self.folder / "tpm").mkdir()
        (self.folder / "ca").mkdir()
        (self.folder / "ca.conf").write_text(
            f"statedir = {self.folder}/ca\nsigningkey = {self.folder}/ca/key.pem\n"
            f"issuercert = {self.folder}/ca/issuer.pem\ncertserial = {self.folder}/ca/serial\n"
        )
        (self.folder / "ca.options").write_text(
            "--platform-manufacturer Debian\n--platform-version 1\n--platform-model QEMU\n"
        )
        (self.folder / "setup.conf").write_text(
            f"create_certs_tool = /usr/bin/swtpm_localca\ncreate_certs_tool_config = {self.folder}/ca.conf\n"
            f"create_certs_tool_options = {self.folder}/ca.options\nactive_pcr_banks = sha256\n"
        )
        command = ["swtpm_setup", "--tpm2", "--tpm-state", self.folder / "tpm", "--config", self.folder / "setup.conf"]
        command += ["--create-ek-cert", "--pcr-banks", "sha256", "--ecc", "--lock-nvram"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    def _spawn(self, command: list[str]) -> None:
        with (self.folder / f"{Path(command[0]).name}.log").open("ab") as log:
            self._processes.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log))

    def _qemu(self) -> list[str]:
        number = self.address.rpartition(".")[2]
        command = [
            "qemu-system-x86_64",
            "-machine",
            "q35,accel=tcg,smm=on",
            "-cpu",
            "qemu64,+rdrand,+ssse3,+sse4.1,+sse4.2",
        ]
        command += ["-global", "driver=cfi.pflash01,property=secure,value=on"]
        command += ["-smp", "2", "-m", str(self.memory), "-nodefaults", "-display", "none"]
        command += ["-drive", f"if=pflash,format=raw,unit=0,readonly=on,file={_OVMF}/OVMF_CODE_4M.secboot.fd"]
        command += ["-drive", f"if=pflash,format=raw,unit=1,file={self.folder}/vars.fd"]
        command += ["-drive", f"if=none,id=disk,format=qcow2,cache=unsafe,file={self.folder}/disk.qcow2"]
        command += ["-device", "virtio-blk-pci,drive=disk,bootindex=1", "-serial", f"file:{self.folder}/serial.log"]
        command += ["-chardev", f"socket,id=tpm,path={self.folder}/tpm.sock", "-tpmdev", "emulator,id=tpm0,chardev=tpm"]
        command += ["-device", "tpm-crb,tpmdev=tpm0", "-device", "virtio-rng-pci"]
        command += ["-netdev", f"user,id=out,hostfwd=tcp:127.0.0.1:{self._port}-:22"]
        command += ["-device", f"virtio-net-pci,netdev=out,romfile=,mac=52:54:00:00:01:{int(number):02x}"]
        command += ["-netdev", f"socket,id=lan,mcast=230.0.0.1:{self.network},localaddr=127.0.0.1"]
        return [*command, "-device", f"virtio-net-pci,netdev=lan,romfile=,mac=52:54:00:00:02:{int(number):02x}"]

    def wait(self) -> None:
        """Until systemd says that the machine has booted. Raises RuntimeError when that takes too long."""
        end = time.monotonic() + _PATIENCE
        while time.monotonic() < end:
            if any(process.poll() is not None for process in self._processes):
                raise RuntimeError(f"{self.name} ended by itself: see {self.folder}")
            answer = self.run("systemctl is-system-running", seconds=60)
            if answer.out.strip() in {"running", "degraded"}:
                return
            time.sleep(3)
        raise RuntimeError(f"{self.name} does not come up: see {self.folder}/serial.log")

    def reboot(self, say: Callable[[], object]) -> None:
        """Have ``say`` end this boot, and wait for the next one. Raises RuntimeError when that does not come."""
        before = self.run("cat /proc/sys/kernel/random/boot_id").out
        say()
        end = time.monotonic() + _PATIENCE
        while time.monotonic() < end:
            time.sleep(5)
            self._forget()
            now = self.run("cat /proc/sys/kernel/random/boot_id", seconds=60)
            if now.status == 0 and now.out != before:
                return self.wait()
        raise RuntimeError(f"{self.name} does not boot again: see {self.folder}/serial.log")

    def _forget(self) -> None:
        """End the connection that commands share: it is one to the boot before."""
        command = ["ssh", *self._ssh(), "-p", str(self._port), "-O", "exit", "root@127.0.0.1"]
        subprocess.run(command, check=False, capture_output=True)

    def _ssh(self) -> list[str]:
        options = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"]
        options += [
            "-o",
            "ConnectTimeout=30",
            "-o",
            "BatchMode=yes",
            "-o",
            "ControlMaster=auto",
            "-o",
            "ControlPersist=yes",
        ]
        return [*options, "-o", f"ControlPath={self.folder}/ssh-%C", "-i", str(key())]

    def run(self, command: str, user: str = "root", seconds: float = 900) -> Answer:
        """Let ``user`` type ``command`` in a login shell."""
        typed = command if user == "root" else f"sudo -u {user} -i bash -c {shlex.quote(command)}"
        ssh = ["ssh", *self._ssh(), "-p", str(self._port), "root@127.0.0.1", typed]
        try:
            done = subprocess.run(
                ssh, capture_output=True, text=True, timeout=seconds, check=False, stdin=subprocess.DEVNULL
            )
        except subprocess.TimeoutExpired:
            return Answer(124, "", f"no end within {seconds:.0f} s")
        return Answer(done.returncode, done.stdout, done.stderr)

    def put(self, source: Path, path: str) -> None:
        """Bring a file to the machine; a relative ``path`` begins in the home of its administrator."""
        scp = ["scp", "-q", *self._ssh(), "-P", str(self._port), str(source), f"root@127.0.0.1:{path}"]
        subprocess.run(scp, check=True, stdin=subprocess.DEVNULL, timeout=900)

    def get(self, path: str, target: Path) -> None:
        """Fetch a file from the machine; ``path`` as for :meth:`put`."""
        scp = ["scp", "-q", *self._ssh(), "-P", str(self._port), f"root@127.0.0.1:{path}", str(target)]
        subprocess.run(scp, check=True, stdin=subprocess.DEVNULL, timeout=900)

    def stop(self) -> None:
        """Switch off. Harmless when it is off."""
        while self._processes:
            process = self._processes.pop()
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
