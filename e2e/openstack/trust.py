"""Watchword around the cloud: an authority, a TPM, an agent and a hook per host, the status service, a tenant."""

from __future__ import annotations

import json
import ssl
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from e2e.openstack.cloud import Cloud
from e2e.openstack.processes import listens, wait_until
from e2e.openstack.settings import AGENT_PORT, STATUS_PORT
from e2e.openstack.spaces import CONTROLLER, Compute
from watchword.crypto.keylist import verify_chain
from watchword.testing.emulated import EmulatedHost
from watchword.testing.farm import EkAuthority, Farm
from watchword.testing.world import profile_document, stack_from_recording

__all__ = ["Answer", "Trust"]

AUTHORITY_PORT = 8443
LEVELS = ("boot", "full")
_INTERVAL = 20  # seconds between two attestations of a host


@dataclass(frozen=True, slots=True)
class Answer:
    """What a ``watchword`` command said: exit ``status``, its JSON ``document``, and ``said`` on stderr."""

    status: int
    document: dict[str, Any]
    said: str

    @property
    def error(self) -> dict[str, Any]:
        error = self.document.get("error", {})
        return error if isinstance(error, dict) else {}

    @property
    def codes(self) -> list[str]:
        """The code of the error and of all its findings."""
        findings = [f"{f.get('clause')} {f.get('code')}" for f in self.error.get("findings", [])]
        return [str(self.error.get("code", "")), *findings]


class Trust:
    """Everything of ours; ``machines`` is the emulated hardware by the name of the compute host."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        self.folder = cloud.places.state / "watchword"
        self.boots = cloud.places.checkout / "vectors" / "boots"
        self._stack = ExitStack()
        self.machines: dict[str, EmulatedHost] = {}
        self.environment = {
            **cloud.environment,
            "PATH": f"{Path(sys.executable).parent}:/usr/sbin:/usr/bin:/sbin:/bin",
            "XDG_CONFIG_HOME": str(self.folder / "config"),
            "XDG_STATE_HOME": str(self.folder / "state"),
            "XDG_DATA_HOME": str(self.folder / "data"),
        }
        self.profile = self.folder / "gold.json"

    def command(self, *arguments: str | Path) -> list[str]:
        return [sys.executable, "-m", "watchword", *map(str, arguments)]

    def run(self, *arguments: str | Path, on: Compute | None = None, timeout: float = 1500) -> Answer:
        """Run ``watchword ARGUMENTS --json`` on the tenant's machine, or ``on`` a host."""
        command = self.command(*arguments, "--json")
        command = self._cloud.on(on, *command) if on else command
        done = subprocess.run(
            command, capture_output=True, timeout=timeout, env=self.environment, check=False, stdin=subprocess.DEVNULL
        )
        try:
            document = json.loads(done.stdout or b"{}")
        except ValueError:
            document = {}
        return Answer(done.returncode, document, done.stderr.decode(errors="replace").strip())

    def must(self, *arguments: str | Path, on: Compute | None = None) -> dict[str, Any]:
        """Run a command that has to succeed."""
        answer = self.run(*arguments, on=on)
        if answer.status:
            raise RuntimeError(
                f"watchword {' '.join(map(str, arguments))}: exit {answer.status}: {answer.said} {answer.document}"
            )
        return answer.document

    # -- bringing up ---------------------------------------------------------------------------------------------

    def start(self, recordings: dict[str, str]) -> None:
        """Authority, TPMs in the state of ``recordings`` (compute host to recorded boot), agents, hooks, status."""
        self.folder.mkdir()
        makers = EkAuthority.create("End to end")
        self._authority()
        profile = self._audit(makers)
        farm = self._stack.enter_context(Farm(0, authority=makers))
        ids = {}
        for compute in self._cloud.computes:
            self.machines[compute.name] = EmulatedHost(farm.add(), self.boots / recordings[compute.name])
            ids[compute.name] = self._host(compute, makers)
        self._status(profile, ids)
        for compute in self._cloud.computes:
            self._agent(compute)
        self.must("trust", "add", self.url, "--fingerprint", self.fingerprint, "--name", "demo")

    def stop(self) -> None:
        self._stack.close()

    def _authority(self) -> None:
        data, ready = self.folder / "authority", self.folder / "authority-ready"
        command = ["authority", "serve", "--data", data, "--listen", f"{CONTROLLER}:{AUTHORITY_PORT}"]
        command += ["--ready-file", ready, "--name", "authority.example"]
        self._cloud.daemons.start("authority", self.command(*command), self.environment)
        wait_until("the authority", ready.exists, self._cloud.daemons, every=0.5)
        answer = json.loads(ready.read_text())
        self.url, self.fingerprint, self.data = str(answer["url"]), str(answer["fingerprint"]), data
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # the fingerprint below is the check
        with urllib.request.urlopen(f"{self.url}/v1/keys", context=context, timeout=60) as response:
            document = response.read()
        self.keys_file = self.folder / "keys.json"
        self.keys_file.write_bytes(document)
        verify_chain([json.dumps(envelope).encode() for envelope in json.loads(document)["keys"]], self.fingerprint)

    def _audit(self, makers: EkAuthority) -> str:
        root, stack = self.folder / "maker-root.der", self.folder / "stack.json"
        root.write_bytes(makers.root)
        stack.write_bytes(stack_from_recording(self.boots / "good", name="compute-host", version="2026.11"))
        self.profile.write_bytes(profile_document(stacks=["compute-host"]))
        self.must("authority", "anchor", "add", root, "--class", "virtual", "--data", self.data)
        self.must("authority", "stack", "add", stack, "--unendorsed", "--data", self.data)
        self.must("authority", "profile", "add", self.profile, "--data", self.data)
        profile = str(self.must("profile", "id", self.profile)["id"])
        self.must("authority", "watch", "add", profile, "--data", self.data)
        return profile

    @property
    def _pinned(self) -> str:
        return f'[authority]\nurl = "{self.url}"\nkeys = "{self.keys_file}"\nfingerprint = "{self.fingerprint}"\n'

    def _host(self, compute: Compute, makers: EkAuthority) -> str:
        """Settings, enrolment and the hook of one host; its id."""
        machine, folder = self.machines[compute.name], compute.file("/etc/watchword")
        (folder / "intermediate.der").write_bytes(makers.intermediates[0])
        (folder / "state").mkdir()
        (folder / "agent.toml").write_text(
            self._pinned + f'[tpm]\naddress = "{machine.tpm_address}"\nevent_log = "{machine.event_log_path}"\n'
            f'runtime_log = "{machine.ima_log_path}"\nintermediates = ["/etc/watchword/intermediate.der"]\n'
            '[host]\nstate = "/etc/watchword/state"\n'
            f'[serve]\nlisten = "127.0.0.1:{AGENT_PORT}"\ndeadline = 280\non_refusal = "fail"\n'
            f"[status]\nrank = {len(LEVELS)}\ninterval = {_INTERVAL}\nmax_age = 600\n"
        )
        enrolled = self.must("agent", "enrol", "--config", "/etc/watchword/agent.toml", on=compute)
        self.must("libvirt", "install-hook", on=compute)
        self._cloud.restart_libvirtd(compute)
        return str(enrolled["host_id"])

    def _status(self, profile: str, ids: dict[str, str]) -> None:
        settings = self.folder / "status.toml"
        hosts = "".join(f'{name} = "{host_id}"\n' for name, host_id in ids.items())
        settings.write_text(
            self._pinned + f'[service]\nlisten = "{CONTROLLER}:{STATUS_PORT}"\nprofile = "{profile}"\n'
            f"levels = {json.dumps(LEVELS)}\ninterval = 3\n[hosts]\n{hosts}"
        )
        command = self.command("openstack", "status", "--config", settings)
        self._cloud.daemons.start("watchword-status", command, self.environment)
        wait_until("the status service", lambda: listens(CONTROLLER, STATUS_PORT), self._cloud.daemons, every=0.5)

    def _agent(self, compute: Compute) -> None:
        command = self._cloud.on(compute, *self.command("agent", "serve", "--config", "/etc/watchword/agent.toml"))
        self._cloud.daemons.start(f"watchword-agent-{compute.name}", command, self.environment)

    def statuses(self) -> dict[str, Any]:
        """What the status service knows of the hosts."""
        with urllib.request.urlopen(f"http://{CONTROLLER}:{STATUS_PORT}/v1/hosts", timeout=20) as response:
            hosts: dict[str, Any] = json.loads(response.read())["hosts"]
        return hosts

    def await_good(self, name: str) -> None:
        """Wait until the status service knows that this host has the highest level."""
        self._await(f"the highest level of {name}", name, lambda rank: rank == len(LEVELS))

    def await_bad(self, name: str) -> None:
        """Wait until the status service knows that this host has lost it."""
        self._await(f"the loss of level of {name}", name, lambda rank: rank < len(LEVELS))

    def _await(self, what: str, name: str, agrees: Callable[[int], bool]) -> None:
        wait_until(what, lambda: agrees(int(self.statuses()[name]["rank"])), self._cloud.daemons, every=2)
