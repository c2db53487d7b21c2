"""Starts a virtual machine with QEMU from things that were checked, and holds on to it.

Everything that was checked or is secret reaches QEMU as an inherited descriptor, never as a path or an argument. The
machine writes to a temporary overlay, so the image that was hashed stays as it was.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from watchword.agent.inject.fwcfg import NAME as CREDENTIAL
from watchword.agent.qmp import Qmp
from watchword.errors import Unavailable, UsageError

__all__ = ["Machine", "Running", "free_port", "start", "stop_process"]

_QEMU = "qemu-system-x86_64"
_FIRMWARE = Path("/usr/share/OVMF/OVMF_CODE_4M.fd")
_VARIABLES = Path("/usr/share/OVMF/OVMF_VARS_4M.fd")
_START_TIMEOUT = 60.0  # seconds; a busy machine needs about one
_LOG_SHOWN = 400  # characters of QEMU's own complaint


@dataclass(frozen=True, slots=True)
class Machine:
    """What to start.

    ``disk``, ``config_drive`` and ``credential`` are read-only descriptors (-1: none); ``folder`` takes the logs and
    the overlay (a file without a name that QEMU writes the machine's changes to); ``ssh_port`` on ``ssh_address`` of
    the host leads to port 22 of the machine; ``accelerator`` as QEMU names it; ``outbound`` whether the machine may
    open connections.
    """

    name: str
    folder: Path
    disk: int
    ssh_port: int
    ssh_address: str = "127.0.0.1"
    config_drive: int = -1
    credential: int = -1
    memory_mib: int = 256
    cpus: int = 1
    accelerator: str = "tcg"
    outbound: bool = False

    @property
    def serial_log(self) -> Path:
        """What the machine writes to its first serial port."""
        return self.folder / "serial.log"

    @property
    def qemu_log(self) -> Path:
        """What QEMU itself complains about."""
        return self.folder / "qemu.log"


def command(machine: Machine, control: int) -> list[str]:
    """QEMU's command line; ``control`` is the descriptor of the control socket. Contains no secret and no disk path."""
    restrict = "off" if machine.outbound else "on"
    line = [_QEMU, "-name", machine.name, "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]
    line += ["-machine", f"q35,accel={machine.accelerator},dump-guest-core=off", "-cpu", "max"]
    line += ["-m", str(machine.memory_mib), "-smp", str(machine.cpus), "-boot", "strict=on"]
    line += ["-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"]
    line += ["-drive", f"if=pflash,format=raw,unit=0,readonly=on,file={_FIRMWARE}"]
    line += ["-drive", f"if=pflash,format=raw,unit=1,snapshot=on,file={_VARIABLES}"]
    line += _disk("disk", machine.disk, "snapshot=on", ",bootindex=1")
    if machine.config_drive >= 0:
        line += _disk("config", machine.config_drive, "readonly=on", "")
    if machine.credential >= 0:
        line += ["-fw_cfg", f"name={CREDENTIAL},file=/dev/fd/{machine.credential}"]
    forward = f"hostfwd=tcp:{machine.ssh_address}:{machine.ssh_port}-:22"
    line += ["-netdev", f"user,id=net,restrict={restrict},{forward}"]
    line += ["-device", "virtio-net-pci,netdev=net,romfile=", "-device", "virtio-rng-pci"]
    line += ["-serial", f"file:{machine.serial_log}"]
    return [*line, "-chardev", f"socket,id=control,fd={control}", "-mon", "chardev=control,mode=control"]


def _disk(name: str, fd: int, mode: str, device: str) -> list[str]:
    """A disk from a descriptor. The format is given: QEMU must never guess it from what a stranger wrote there."""
    return [
        "-add-fd", f"fd={fd},set={fd}",
        "-drive", f"if=none,id={name},format=raw,{mode},file=/dev/fdset/{fd}",
        "-device", f"virtio-blk-pci,drive={name}{device}",
    ]  # fmt: skip


def start(machine: Machine, *, timeout: float = _START_TIMEOUT) -> Running:
    """Start ``machine`` and return once QEMU runs it (the guest itself has only begun to boot).

    Raises :class:`UsageError` (``vm-folder``, ``vm-name``, ``qemu-missing``) or :class:`Unavailable` (``qemu-failed``)
    with QEMU's own words; nothing is left running then.
    """
    _check(machine)
    ours, theirs = socket.socketpair()
    try:
        process = _spawn(machine, theirs.fileno())
    except UsageError:
        ours.close()
        raise
    finally:
        theirs.close()
    running = Running(machine, process, Qmp(ours, timeout))
    try:
        running.control.greet()
    except BaseException as error:
        running.stop(timeout=0)
        if not isinstance(error, Unavailable):
            raise
        said = _read(machine.qemu_log)[-_LOG_SHOWN:].decode("utf-8", "replace").strip()
        raise Unavailable("qemu-failed", f"QEMU did not start: {said or error.message}") from None
    return running


def _check(machine: Machine) -> None:
    # QEMU reads commas in these values as the start of the next option.
    if not machine.name or not all(c.isalnum() or c in "._-" for c in machine.name):
        raise UsageError("vm-name", "a machine's name has letters, digits, dots, hyphens and underscores")
    if "," in str(machine.folder):
        raise UsageError("vm-folder", f"the folder {machine.folder} has a comma in its name")


def _spawn(machine: Machine, control: int) -> subprocess.Popen[bytes]:
    inherited = [fd for fd in (machine.disk, machine.config_drive, machine.credential, control) if fd >= 0]
    environment = {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "TMPDIR": str(machine.folder.resolve())}
    try:
        machine.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with machine.qemu_log.open("wb") as log:
            return subprocess.Popen(  # noqa: S603
                command(machine, control),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=inherited,
                env=environment,
                start_new_session=True,
            )
    except OSError as error:
        if error.filename == _QEMU:
            hint = "apt install qemu-system-x86 ovmf"
            raise UsageError("qemu-missing", f"{_QEMU} cannot be run: {error.strerror}", hint=hint) from None
        raise UsageError("vm-folder", f"the machine cannot be prepared in {machine.folder}: {error}") from None


class Running:
    """A machine that runs: ``pid``, ``ssh_port``. As a context manager it stops the machine at the end."""

    def __init__(self, machine: Machine, process: subprocess.Popen[bytes], control: Qmp) -> None:
        self.machine = machine
        self._process = process
        self.control = control

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def ssh_port(self) -> int:
        return self.machine.ssh_port

    def wait(self, timeout: float | None = None) -> int | None:
        """QEMU's exit status once it ends; None when ``timeout`` seconds pass first."""
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            return None

    def wait_for(self, marker: str, timeout: float) -> None:
        """Wait until ``marker`` stands in the serial log. Raises :class:`Unavailable` (``vm-silent``, ``vm-ended``)."""
        deadline = time.monotonic() + timeout
        while marker.encode() not in _read(self.machine.serial_log):
            if self._process.poll() is not None:
                raise Unavailable("vm-ended", f"the machine ended before it said {marker!r}")
            if time.monotonic() > deadline:
                raise Unavailable("vm-silent", f"the machine did not say {marker!r} in {timeout:.0f} s")
            time.sleep(0.05)

    def detach(self) -> None:
        """Let the machine run on without us; :func:`stop_process` ends it later."""
        self.control.close()
        self._process.returncode = 0  # tells Popen that nobody waits: it would warn about a child left behind

    def stop(self, timeout: float = 10.0) -> None:
        """End the machine, politely first; may be called twice."""
        self.control.close()
        if self._process.poll() is None:
            self._process.terminate()
            if self.wait(timeout) is None:
                self._process.kill()
                self._process.wait()

    def __enter__(self) -> Running:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _read(path: Path) -> bytes:
    with contextlib.suppress(FileNotFoundError):
        return path.read_bytes()
    return b""


def stop_process(pid: int, name: str, timeout: float = 10.0) -> bool:
    """End the detached machine ``name`` that has process id ``pid``; False when it does not run any more.

    The process is looked at before it is signalled, and through a handle, because process ids are used again.
    """
    try:
        handle = os.pidfd_open(pid)
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    try:
        if not words[0].endswith(_QEMU.encode()) or words[1:3] != [b"-name", name.encode()]:
            return False
        for number in (signal.SIGTERM, signal.SIGKILL):
            signal.pidfd_send_signal(handle, number)
            if _gone(pid, timeout):
                break
    except ProcessLookupError:
        pass
    finally:
        os.close(handle)
    return True


def _gone(pid: int, timeout: float) -> bool:
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (OSError, IndexError):
            return True
        if state == "Z":  # ended; whoever started it has not asked yet
            return True
        time.sleep(0.02)
    return False


def free_port(address: str) -> int:
    """A TCP port of ``address`` that nothing listens on at this moment. Raises :class:`UsageError`."""
    try:
        with socket.create_server((address, 0)) as listener:
            port: int = listener.getsockname()[1]
            return port
    except OSError as error:
        raise UsageError("ssh-address", f"cannot listen on {address}: {error}") from None
