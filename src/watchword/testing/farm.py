"""TPMs by the dozen: real emulated ones (swtpm), each with an EK certificate from an authority of our own.

For tests of Watchword and of what integrates it. Everything is started on Unix sockets in folders of its own below
the temporary directory, and stopped and removed at the end, also when the interpreter exits with an error.
"""

from __future__ import annotations

import atexit
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from watchword.agent.tpm.client import Tpm
from watchword.agent.tpm.commands import Code, Entity, Handle
from watchword.agent.tpm.sessions import Password
from watchword.errors import Unavailable, UsageError
from watchword.testing.ek_authority import EkAuthority
from watchword.wire.reader import Writer
from watchword.wire.tpm.algorithms import Alg
from watchword.wire.tpm.templates import EkKind, nv_certificate_index

__all__ = ["EkAuthority", "Farm", "SwTpm", "have_swtpm"]

_CMD_GET_CAPABILITY, _CMD_INIT, _CMD_SET_LOCALITY = 1, 2, 5
_PATH_MAX = 107  # sun_path
_START_SECONDS = 10.0
# What makers give a certificate: written with platform authorization, readable by all, not subject to lockout.
_NV_CERTIFICATE = 0x42070001
_NV_CHUNK = 1024
_RUNNING: set[SwTpm] = set()


def have_swtpm() -> bool:
    """Is swtpm installed here?"""
    return shutil.which("swtpm") is not None


class SwTpm:
    """One emulated TPM 2.0 with its state in a folder of its own.

    It serves one client at a time: open, use, close. ``certificates`` has the EK certificates (DER) written into it.
    """

    def __init__(self, folder: Path | None = None) -> None:
        """``folder`` holds state and sockets and is kept; without it a temporary one is made, and removed by stop()."""
        self._own_folder = folder is None
        self.folder = folder or Path(tempfile.mkdtemp(prefix="ww-tpm-"))
        self._socket = self.folder / "s"
        if len(os.fsencode(f"{self._socket}.ctrl")) > _PATH_MAX:
            raise UsageError("tpm-address", f"the socket path is longer than {_PATH_MAX} bytes: {self._socket}.ctrl")
        self._process: subprocess.Popen[bytes] | None = None
        self.certificates: dict[EkKind, bytes] = {}

    @property
    def address(self) -> str:
        """The address for an agent."""
        return f"unix:{self._socket}"

    @property
    def tcti(self) -> str:
        """The address for tpm2-tools (``TPM2TOOLS_TCTI``)."""
        return f"swtpm:path={self._socket}"

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def launch(self) -> None:
        """Start the process without waiting for it; wait() does. Raises UsageError when swtpm is not installed."""
        program = shutil.which("swtpm")
        if program is None:
            raise UsageError("swtpm-missing", "swtpm is not installed", hint="apt install swtpm")
        command = [program, "socket", "--tpm2", "--tpmstate", f"dir={self.folder}"]
        command += ["--server", f"type=unixio,path={self._socket}", "--ctrl", f"type=unixio,path={self._socket}.ctrl"]
        command += ["--flags", "not-need-init,startup-clear"]
        with (self.folder / "log").open("ab") as log:
            # A session of its own: Ctrl-C in a terminal is for us, and we stop it in order.
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        _RUNNING.add(self)

    def wait(self) -> None:
        """Wait until it serves both of its sockets. Raises Unavailable."""
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline and self.running:
            if self._serves():
                return
            time.sleep(0.002)
        log = (self.folder / "log").read_text(errors="replace")
        self.stop()
        raise Unavailable("swtpm-start", f"swtpm did not start: {log.strip()[-500:]}")

    def start(self) -> SwTpm:
        """Power on: the firmware's TPM2_Startup(CLEAR) included."""
        self.launch()
        self.wait()
        return self

    def stop(self) -> None:
        """Power off at once. A temporary folder is removed. Harmless when it does not run."""
        self.power_off()
        if self._own_folder:
            shutil.rmtree(self.folder, ignore_errors=True)

    def power_off(self) -> None:
        """End the process and keep the state: start() goes on from it, as a new boot."""
        _RUNNING.discard(self)
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def init(self, locality: int = 0) -> None:
        """Reset the chip (CMD_INIT): PCRs and sessions are gone, and it waits for a TPM2_Startup from ``locality``.

        Works while a client is connected, which keeps its connection.
        """
        self._request(_CMD_INIT, bytes(4))
        if locality:
            self._request(_CMD_SET_LOCALITY, bytes([locality]))

    def reset(self, *, orderly: bool = False, locality: int = 0) -> None:
        """Reboot: with TPM2_Shutdown before if ``orderly``, then reset and TPM2_Startup(CLEAR) from ``locality``."""
        if orderly:
            with self.client() as tpm:
                tpm.shutdown()
        self.init(locality)
        with self.client() as tpm:
            tpm.startup()
        if locality:
            self._request(_CMD_SET_LOCALITY, bytes([0]))

    def client(self, ek_kind: EkKind = EkKind.P256, timeout: float = 20.0) -> Tpm:
        """A connected client; close it before the next one is opened."""
        return Tpm.open(self.address, timeout=timeout, ek_kind=ek_kind)

    def manufacture(self, authority: EkAuthority, kinds: Sequence[EkKind] = (EkKind.P256,)) -> Mapping[EkKind, bytes]:
        """Certify the EKs of ``kinds`` and write the certificates into NV, as a maker does."""
        with self.client() as tpm:
            for kind in kinds:
                certificate = authority.issue(tpm.create_ek(kind))
                write_nv(tpm, nv_certificate_index(kind), certificate)
                self.certificates[kind] = certificate
        return self.certificates

    def _serves(self) -> bool:
        """It binds the control socket before the other one, and answers there once it serves both."""
        try:
            with self._control() as sock:
                sock.sendall(_CMD_GET_CAPABILITY.to_bytes(4, "big"))
                return bool(sock.recv(8))
        except OSError:
            return False

    def _control(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(_START_SECONDS)
        try:
            sock.connect(f"{self._socket}.ctrl")
        except OSError:
            sock.close()
            raise
        return sock

    def _request(self, command: int, body: bytes) -> None:
        try:
            with self._control() as sock:
                sock.sendall(command.to_bytes(4, "big") + body)
                result = sock.recv(4)
        except OSError as error:
            raise Unavailable("swtpm-control", f"the control socket of swtpm failed: {error}") from error
        if result != bytes(4):
            raise Unavailable("swtpm-control", f"swtpm refused control command {command}: {result.hex()}")


def write_nv(tpm: Tpm, index: int, data: bytes) -> None:
    """Define NV ``index`` with platform authorization and write ``data`` into it (Part 3, 31.3 and 31.7)."""
    platform = Entity.of(Handle.PLATFORM)
    public = Writer().u32(index).u16(Alg.SHA256).u32(_NV_CERTIFICATE).sized16(b"").u16(len(data)).done()
    parameters = Writer().sized16(b"").sized16(public).done()
    tpm.channel.run(Code.NV_DEFINE_SPACE, (platform,), parameters, (Password(),))
    for offset in range(0, len(data), _NV_CHUNK):
        parameters = Writer().sized16(data[offset : offset + _NV_CHUNK]).u16(offset).done()
        tpm.channel.run(Code.NV_WRITE, (platform, Entity.of(index)), parameters, (Password(),))


class Farm:
    """Many TPMs that live and die together; a context manager."""

    def __init__(
        self, count: int, authority: EkAuthority | None = None, kinds: Sequence[EkKind] = (EkKind.P256,)
    ) -> None:
        """``count`` TPMs, each with certificates for ``kinds`` from ``authority`` (default: a new one)."""
        self.authority = authority or EkAuthority.create()
        self.tpms: list[SwTpm] = []
        self._count = count
        self._kinds = tuple(kinds)

    def __enter__(self) -> Farm:
        try:
            # All processes first: they get ready side by side.
            for _ in range(self._count):
                self.tpms.append(SwTpm())
                self.tpms[-1].launch()
            for tpm in self.tpms:
                tpm.wait()
                tpm.manufacture(self.authority, self._kinds)
        except BaseException:
            self.stop()
            raise
        return self

    def add(self, authority: EkAuthority | None = None) -> SwTpm:
        """One more, perhaps certified by somebody else."""
        tpm = SwTpm()
        self.tpms.append(tpm)
        tpm.start().manufacture(authority or self.authority, self._kinds)
        return tpm

    def stop(self) -> None:
        """Stop all of them."""
        for tpm in self.tpms:
            tpm.stop()
        self.tpms.clear()

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.stop()


@atexit.register
def _stop_all() -> None:
    for tpm in list(_RUNNING):
        tpm.stop()
