"""A real swtpm driven by tpm2-tools: other people's code on the other side of ours, for cross-checks in tests."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from watchword.crypto.tpm_seal import Credential
from watchword.wire.tpm.algorithms import Alg
from watchword.wire.tpm.attest import ClockInfo
from watchword.wire.tpm.public import Attributes, Public
from watchword.wire.tpm.templates import EkKind, ek_template

__all__ = ["Tpm2Tools", "missing_programs", "tpm2_tools"]

_PROGRAMS = ("swtpm", "tpm2_import", "tpm2_activatecredential", "tpm2_quote")


def missing_programs() -> list[str]:
    """What is not installed and would be needed."""
    return [name for name in _PROGRAMS if not shutil.which(name)]


class Tpm2Tools:
    """One swtpm and the command line tools that talk to it, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # The tools speak to a TCP port and expect the control channel on the next one.
        self.port = _two_free_ports()
        state = folder / "state"
        state.mkdir()
        self.process = subprocess.Popen(
            [
                *("swtpm", "socket", "--tpm2", "--tpmstate", f"dir={state}"),
                *("--server", f"type=tcp,port={self.port}", "--ctrl", f"type=tcp,port={self.port + 1}"),
                *("--flags", "not-need-init,startup-clear"),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        _wait_for(self.port + 1)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(10)

    def run(self, *arguments: str, succeed: bool = True) -> bytes:
        """Run one tool; each leaves what it loaded behind, and the TPM has three places for objects."""
        output = self._run(*arguments, succeed=succeed)
        self._run("tpm2_flushcontext", "-t")
        return output

    def _run(self, *arguments: str, succeed: bool = True) -> bytes:
        environment = os.environ | {"TPM2TOOLS_TCTI": f"swtpm:host=127.0.0.1,port={self.port}"}
        done = subprocess.run(arguments, cwd=self.folder, env=environment, capture_output=True, timeout=60, check=False)
        assert (done.returncode == 0) is succeed, (arguments, done.stderr.decode())
        return done.stdout if succeed else done.stderr.lower()

    def write(self, name: str, data: bytes) -> str:
        (self.folder / name).write_bytes(data)
        return name

    def read(self, name: str) -> bytes:
        return (self.folder / name).read_bytes()

    def make_ek(self, kind: EkKind) -> Public:
        """Let the tools make the endorsement key; return it as we would rebuild it from a certificate."""
        algorithm = {EkKind.P256: "ecc", EkKind.RSA2048: "rsa", EkKind.P384: "ecc384"}[kind]
        self.run("tpm2_createek", "-c", "ek.ctx", "-G", algorithm, "-u", "ek.pub")
        theirs = Public.parse_2b(self.read("ek.pub"))
        assert ek_template(kind, theirs.unique) == theirs
        return theirs

    def ek_session(self, ek: Public) -> str:
        """A session that may use the endorsement key."""
        name = "sha384" if ek.name_alg is Alg.SHA384 else "sha256"
        self.run("tpm2_startauthsession", "--policy-session", "-S", "ek.session", "-g", name)
        self.run("tpm2_policysecret", "-S", "ek.session", "-c", "e")
        return "session:ek.session"

    def auth(self, ek: Public) -> list[str]:
        """Options that authorise the parent: a policy for the low templates, an empty password for the high ones."""
        if Attributes.USER_WITH_AUTH in ek.attributes:
            return []
        return ["-P", self.ek_session(ek)]

    def clock(self) -> ClockInfo:
        text = dict(
            line.strip().split(": ", 1) for line in self.run("tpm2_readclock").decode().splitlines() if ": " in line
        )
        return ClockInfo(int(text["clock"]), int(text["reset_count"]), int(text["restart_count"]), safe=True)

    def pcrs(self, numbers: tuple[int, ...]) -> dict[Alg, dict[int, bytes]]:
        """The values of at most eight PCRs of the SHA-256 bank."""
        self.run("tpm2_pcrread", "sha256:" + ",".join(map(str, numbers)), "-o", "pcrs.bin")
        data = self.read("pcrs.bin")
        return {Alg.SHA256: {pcr: data[32 * at : 32 * at + 32] for at, pcr in enumerate(numbers)}}

    def make_ak(self) -> Public:
        """Let the tools make an attestation key like ours in the endorsement hierarchy, as ``ak.ctx``."""
        attributes = "restricted|sign|fixedtpm|fixedparent|sensitivedataorigin|userwithauth|noda"
        algorithm = ["-G", "ecc256:ecdsa-sha256:null", "-g", "sha256", "-a", attributes]
        self.run("tpm2_createprimary", "-C", "e", "-c", "ak.ctx", *algorithm)
        self.run("tpm2_readpublic", "-c", "ak.ctx", "-o", "ak.pub")
        return Public.parse_2b(self.read("ak.pub"))

    def activate(self, ek: Public, credential: Credential, *, succeed: bool = True) -> bytes:
        """TPM2_ActivateCredential with ``ak.ctx`` and ``ek.ctx``: the secret, or what the tool complains about."""
        # The tools' own file format: a magic number and a version in front of the two buffers.
        header = bytes.fromhex("badcc0de00000001")
        self.write("credential", header + credential.id_object + credential.encrypted_secret)
        options = ["-c", "ak.ctx", "-C", "ek.ctx", "-i", "credential", "-o", "secret", *self.auth(ek)]
        error = self.run("tpm2_activatecredential", *options, succeed=succeed)
        return self.read("secret") if succeed else error


def _two_free_ports() -> int:
    for port in range(20000 + os.getpid() % 20000, 60000, 2):
        with socket.socket() as one, socket.socket() as two:
            try:
                one.bind(("127.0.0.1", port))
                two.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
            return port
    raise AssertionError("no free ports")


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.02)
            continue
        return
    raise AssertionError("swtpm did not start")


@contextmanager
def tpm2_tools() -> Iterator[Tpm2Tools]:
    """A fresh TPM in a folder of its own, stopped at the end."""
    with tempfile.TemporaryDirectory(prefix="watchword-tools-") as folder:
        tools = Tpm2Tools(Path(folder))
        try:
            yield tools
        finally:
            tools.stop()
