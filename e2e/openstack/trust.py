"""Watchword around the cloud: an authority, a TPM, an agent and a hook per host, the status service, a tenant."""

from __future__ import annotations

import json
import shutil
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from e2e.openstack.cloud import Cloud
from e2e.openstack.processes import listens, wait_until
from e2e.openstack.settings import IDENTITY, STATUS_URL
from e2e.openstack.spaces import AUTHORITY, CONTROLLER, Compute
from watchword.testing.commands import Answer, audit, fetch_keys, run_command, watchword
from watchword.testing.emulated import EmulatedHost
from watchword.testing.farm import EkAuthority, Farm

__all__ = ["NAME", "Answer", "Trust"]

NAME = "auditor"  # of the authority, as in the guides
AUTHORITY_PORT, RELAY_PORT = 8443, 8444
LEVELS = ("boot", "full")
_INTERVAL = 10  # seconds between two attestations of a host
_SECONDS = 1500.0  # for a command: it may wait for a machine under emulation


class Trust:
    """Everything of ours; ``machines`` is the emulated hardware by the name of the compute host.

    The compute host ``far`` has no way to the authority but the relay, and asks the identity service who nova is.
    """

    def __init__(self, cloud: Cloud, far: str) -> None:
        self._cloud, self._far, self._guide = cloud, far, cloud.places.guide
        self.folder = cloud.places.state / "watchword"
        self.tenant = self.folder / "tenant"
        self._boots = cloud.places.checkout / "vectors" / "boots"
        self._stack = ExitStack()
        self.machines: dict[str, EmulatedHost] = {}
        ours = {key: value for key, value in cloud.environment.items() if not key.startswith("OS_")}
        self.environment = {
            **ours,
            "PATH": f"{Path(watchword()[0]).parent}:/usr/sbin:/usr/bin:/sbin:/bin",
            "XDG_CONFIG_HOME": str(self.folder / "config"),
            "XDG_STATE_HOME": str(self.folder / "state"),
            "XDG_DATA_HOME": str(self.folder / "data"),
        }

    def run(self, *arguments: str | Path, on: Compute | None = None) -> Answer:
        """Run ``watchword ARGUMENTS --json`` in the tenant's folder, or ``on`` a host."""
        command = watchword(*arguments, "--json")
        command = self._cloud.on(on, *command) if on else command
        return run_command(command, self.environment, timeout=_SECONDS, cwd=self.tenant)

    def must(self, *arguments: str | Path, on: Compute | None = None) -> dict[str, Any]:
        """Run a command that has to succeed."""
        answer = self.run(*arguments, on=on)
        if answer.status:
            raise RuntimeError(
                f"watchword {' '.join(map(str, arguments))}: exit {answer.status}: {answer.said} {answer.document}"
            )
        return answer.document

    # -- bringing up ---------------------------------------------------------------------------------------------

    def start(self, recordings: dict[str, str], image: Path) -> None:
        """Authority, TPMs in the state of ``recordings`` (compute host to recorded boot), agents, hooks, status."""
        self.tenant.mkdir(parents=True)
        makers = EkAuthority.create("End to end")
        self._authority()
        profile_file = audit(self.must, self.tenant, makers, self._boots / "good", self.data)
        profile = str(self.must("profile", "id", profile_file)["id"])
        self.must("authority", "watch", "add", profile, "--data", self.data)
        self._tenant(image)
        farm = self._stack.enter_context(Farm(0, authority=makers))
        ids = {}
        for compute in self._cloud.computes:
            self.machines[compute.name] = EmulatedHost(farm.add(), self._boots / recordings[compute.name])
            ids[compute.name] = self._host(compute, makers)
        self._status(profile, ids)
        for compute in self._cloud.computes:
            self._agent(compute)

    def stop(self) -> None:
        self._stack.close()

    def _authority(self) -> None:
        self.data, ready = self.folder / "authority", self.folder / "authority-ready"
        command = ["authority", "serve", "--data", self.data, "--listen", f"{AUTHORITY}:{AUTHORITY_PORT}"]
        command += ["--ready-file", ready, "--name", "authority.example"]
        self._start("authority", *command)
        wait_until("the authority", ready.exists, self._cloud.daemons, every=0.5)
        answer = json.loads(ready.read_text())
        self.url, self.fingerprint = str(answer["url"]), str(answer["fingerprint"])
        fetch_keys(self.url, self.fingerprint, self.folder / "keys.json")
        self._start("relay", "relay", "serve", "--authority", self.url, "--listen", f"{CONTROLLER}:{RELAY_PORT}")
        wait_until("the relay", lambda: listens(CONTROLLER, RELAY_PORT), self._cloud.daemons, every=0.5)

    def _tenant(self, image: Path) -> None:
        """A tenant as the guide has it: a pinned authority, a profile, an image, user-data with a key, clouds.yaml."""
        self.must("trust", "add", self.url, "--fingerprint", self.fingerprint, "--name", NAME)
        (self.tenant / "guest.img").symlink_to(image)
        (self.tenant / "clouds.yaml").write_text(self._cloud.clouds())
        key = Ed25519PrivateKey.generate()
        self.ssh_key = self.tenant / "id_ed25519"
        self.ssh_key.touch(mode=0o600)
        self.ssh_key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
        public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
        text = self._guide.block("openstack-tenant", "yaml", "ssh_authorized_keys")
        own = text.replace("ssh-ed25519 AAAA…", public) + "disable_root: false\n"  # the acts look at what is root's
        (self.tenant / "user-data").write_text(own)

    def _host(self, compute: Compute, makers: EkAuthority) -> str:
        """Settings, enrolment and the hook of one host; its id."""
        machine, folder = self.machines[compute.name], compute.file("/etc/watchword")
        (folder / "intermediate.der").write_bytes(makers.intermediates[0])
        (folder / "state").mkdir()
        shutil.copy(self.folder / "config" / "watchword" / "authorities" / f"{NAME}.json", folder / "authority.json")
        far = compute.name == self._far
        (folder / "agent.toml").write_text(
            self._guide.packaged_settings(
                "agent.toml",
                authority={"relay": f"http://{CONTROLLER}:{RELAY_PORT}"} if far else {},
                tpm={
                    "address": machine.tpm_address,
                    "event_log": str(machine.event_log_path),
                    "runtime_log": str(machine.ima_log_path),
                    "intermediates": ["/etc/watchword/intermediate.der"],
                },
                host={"state": "/etc/watchword/state"},
                serve={"deadline": 280, "on_refusal": "fail", **({"keystone": IDENTITY} if far else {})},
                status={"rank": len(LEVELS), "interval": _INTERVAL, "report": STATUS_URL},
            )
        )
        enrolled = self.must("agent", "enrol", on=compute)
        self.must(*self._guide.command("openstack-operator", "libvirt install-hook"), on=compute)
        self._cloud.restart_libvirtd(compute)
        return str(enrolled["host_id"])

    def _status(self, profile: str, ids: dict[str, str]) -> None:
        folder = Path("/etc/watchword")
        shutil.copy(self.folder / "config" / "watchword" / "authorities" / f"{NAME}.json", folder / "authority.json")
        service = {"listen": STATUS_URL.removeprefix("http://"), "profile": profile, "levels": LEVELS, "interval": 3}
        (folder / "status.toml").write_text(self._guide.packaged_settings("status.toml", service=service, hosts=ids))
        self._start("watchword-status", "openstack", "status")
        wait_until("the status service", lambda: listens(CONTROLLER, 8450), self._cloud.daemons, every=0.5)

    def _agent(self, compute: Compute) -> None:
        self._cloud.daemons.start(
            f"watchword-agent-{compute.name}", self._cloud.on(compute, *watchword("agent", "serve")), self.environment
        )

    def _start(self, name: str, *arguments: str | Path) -> None:
        self._cloud.daemons.start(name, watchword(*arguments), self.environment)

    def statuses(self) -> dict[str, Any]:
        """What the status service knows of the hosts."""
        with urllib.request.urlopen(f"{STATUS_URL}/v1/hosts", timeout=20) as response:
            hosts: dict[str, Any] = json.loads(response.read())["hosts"]
        return hosts

    def await_good(self, name: str) -> None:
        """Wait until the status service knows that this host has the highest level."""
        self._await(f"the highest level of {name}", name, lambda rank: rank == len(LEVELS))

    def await_bad(self, name: str) -> None:
        """Wait until the status service knows that this host has lost it."""
        self._await(f"the loss of level of {name}", name, lambda rank: rank < len(LEVELS))

    def _await(self, what: str, name: str, agrees: Callable[[int], bool]) -> None:
        wait_until(what, lambda: agrees(int(self.statuses()[name]["rank"])), self._cloud.daemons, every=1)
