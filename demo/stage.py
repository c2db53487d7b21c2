"""The stage: everything real that the acts play on, started on loopback and stopped again.

An authority (its own process), three emulated compute hosts (real swtpm processes that measured recorded boots), a
provider with an API, a tenant with its own configuration folder, and a guest image that boots in QEMU.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from watchword.agent.config import Enrolment
from watchword.agent.host import Host
from watchword.agent.transport import HttpsExchange
from watchword.testing.commands import Answer, audit, fetch_keys, run_command, watchword
from watchword.testing.emulated import EmulatedHost
from watchword.testing.farm import EkAuthority, Farm, SwTpm
from watchword.testing.provider import ComputeHost, Provider

__all__ = ["Answer", "DemoHost", "Stage"]

ROOT = Path(__file__).resolve().parent.parent
BOOTS = ROOT / "vectors" / "boots"
GOOD, CHANGED, UNKNOWN = "good-host", "changed-host", "unknown-host"
_READY_SECONDS = 60


@dataclass(frozen=True, slots=True)
class DemoHost:
    """A compute host: its emulated hardware, its agent's settings, whether the authority took it, and if not why."""

    name: str
    machine: EmulatedHost
    config: Path
    enrolled: bool
    refusal: str


class Stage:
    """Use as a context manager; ``say`` receives one line per step of the set-up."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._stack = ExitStack()
        self.folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="watchword-demo-")))
        self._environment = {
            **os.environ,
            "XDG_CONFIG_HOME": str(self.folder / "tenant-config"),
            "XDG_STATE_HOME": str(self.folder / "tenant-state"),
            "XDG_DATA_HOME": str(self.folder / "data"),
        }
        self.hosts: dict[str, DemoHost] = {}

    def __enter__(self) -> Stage:
        try:
            self._set_up()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def run(self, *arguments: str | Path, text: str = "", timeout: float = 240) -> Answer:
        """Run ``watchword ARGUMENTS --json`` as the person at the keyboard would."""
        return run_command(watchword(*arguments, "--json"), self._environment, text=text, timeout=timeout)

    def say(self, *arguments: str | Path) -> str:
        """What a command prints for people."""
        done = subprocess.run(
            watchword(*arguments), capture_output=True, text=True, timeout=240, env=self._environment, check=False
        )
        return done.stdout.strip()

    def must(self, *arguments: str | Path) -> dict[str, Any]:
        """Run a command that has to succeed."""
        answer = self.run(*arguments)
        if answer.status:
            raise RuntimeError(f"watchword {' '.join(map(str, arguments))}: exit {answer.status}: {answer.said}")
        return answer.document

    @contextmanager
    def opened(self, name: str) -> Iterator[tuple[Host, bytes]]:
        """A host's agent as a library, for what no command does: stop half-way. And the host's id."""
        demo_host = self.hosts[name]
        enrolment = Enrolment.read(demo_host.config.parent)
        if enrolment is None:
            raise RuntimeError(f"{name} is not enrolled")
        machine = demo_host.machine
        with HttpsExchange(self.url, self.keys) as exchange, machine.tpm.client() as tpm:
            host = Host(tpm, exchange, self.keys, enrolment.ek_kind, machine.event_log_path, machine.ima_log_path)
            yield host, enrolment.host_id

    # -- set-up ------------------------------------------------------------------------------------------------

    def _set_up(self) -> None:
        self.image = self._guest()
        self.other_image = self._other_image()
        self._say("starting the authority")
        self.url, self.fingerprint = self._authority()
        self.keys_file = self.folder / "keys.json"
        self.keys = fetch_keys(self.url, self.fingerprint, self.keys_file)
        makers = EkAuthority.create("Demonstration")
        self._say("the auditor: one TPM maker, one measured stack, one profile")
        self.profile = audit(self.must, self.folder, makers, BOOTS / "good", self.data)
        farm = self._stack.enter_context(Farm(0, authority=makers))
        self._say("three compute hosts with a TPM each")
        self._host(GOOD, farm.add(), "good", makers)
        self._host(CHANGED, farm.add(), "kernel", makers)
        strangers = EkAuthority.create("Nobody vouches for this")
        self._host(UNKNOWN, farm.add(strangers), "good", strangers)
        hosts = [ComputeHost(host.name, host.config) for host in self.hosts.values()]
        images = {"guest.img": self.image}
        self.provider = self._stack.enter_context(Provider(hosts, images, self.folder))
        self._say("the tenant pins the authority")
        self.must("trust", "add", self.url, "--fingerprint", self.fingerprint, "--name", "demo")

    def _guest(self) -> Path:
        self._say("building the guest image (downloads Debian packages the first time)")
        folder = self.folder / "guest"
        subprocess.run([ROOT / "images" / "guest" / "build", folder], check=True, stdout=subprocess.DEVNULL)
        return folder / "guest.img"

    def _other_image(self) -> Path:
        """The same machine with one bit turned in a corner that nobody uses: it boots, but it is not the tenant's."""
        path = self.folder / "other.img"
        shutil.copyfile(self.image, path)
        with path.open("r+b") as file:
            file.seek(-1, os.SEEK_END)
            last = file.read(1)
            file.seek(-1, os.SEEK_END)
            file.write(bytes([last[0] ^ 1]))
        return path

    def _authority(self) -> tuple[str, str]:
        ready = self.folder / "authority-ready"
        log = self._stack.enter_context((self.folder / "authority.log").open("wb"))
        self.data = self.folder / "authority"
        process = subprocess.Popen(
            watchword("authority", "serve", "--data", self.data, "--listen", "127.0.0.1:0",
                      "--ready-file", ready, "--name", "authority.demo"),
            stdout=log, stderr=log, env=self._environment,
        )  # fmt: skip
        self._stack.callback(_end, process)
        deadline = time.monotonic() + _READY_SECONDS
        while not ready.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the authority did not start: {(self.folder / 'authority.log').read_text()[-800:]}")
            time.sleep(0.05)
        answer = json.loads(ready.read_text())
        return str(answer["url"]), str(answer["fingerprint"])

    def _host(self, name: str, tpm: SwTpm, recording: str, makers: EkAuthority) -> None:
        machine = EmulatedHost(tpm, BOOTS / recording)
        folder = self.folder / name
        folder.mkdir()
        chain = folder / "intermediate.der"
        chain.write_bytes(makers.intermediates[0])
        config = folder / "agent.toml"
        config.write_text(
            f'[authority]\nurl = "{self.url}"\nkeys = "{self.keys_file}"\nfingerprint = "{self.fingerprint}"\n'
            f'[tpm]\naddress = "{machine.tpm_address}"\nevent_log = "{machine.event_log_path}"\n'
            f'runtime_log = "{machine.ima_log_path}"\nintermediates = ["{chain}"]\n'
            f'[host]\nstate = "{folder}"\n'
        )
        answer = self.run("agent", "enrol", "--config", config)
        findings = answer.error.get("findings") or [{}]
        refusal = "" if answer.status == 0 else f"{findings[0].get('clause')} {findings[0].get('code')}"
        self.hosts[name] = DemoHost(name, machine, config, answer.status == 0, refusal)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
