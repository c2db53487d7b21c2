"""What the acts share: the cloud, the tenant, the provider's means, and one server launched as it should be."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from e2e.openstack.cloud import FLAVOR, Cloud
from e2e.openstack.leaks import private_parts
from e2e.openstack.settings import STATUS_URL
from e2e.openstack.spaces import run
from e2e.openstack.trust import Answer, Trust

__all__ = ["Outcome", "Play", "fault"]

PATIENCE = 1200.0  # seconds for a machine under emulation, on a busy machine
SILENT = 8.0  # seconds that a machine which does not run is asked for its key


@dataclass(slots=True)
class Outcome:
    """How an act ended: ``right`` is whether everything came out as it must.

    ``nova_said`` is what nova shows, ``host_said`` what the provider's agents reported, as the tenant reads both.
    """

    title: str
    tried: str
    stopped_by: str = ""
    nova_said: str = ""
    host_said: str = ""
    tenant_saw: str = ""
    right: bool = False
    name: str = ""
    seconds: float = 0.0
    details: dict[str, Any] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        return {
            "act": self.name, "tried": self.tried, "stopped_by": self.stopped_by, "nova_said": self.nova_said,
            "host_said": self.host_said, "tenant_saw": self.tenant_saw, "right": self.right,
            "seconds": round(self.seconds, 1), "details": self.details,
        }  # fmt: skip


class Play:
    """``good`` and ``bad`` are names of compute hosts, ``image`` is the tenant's disk."""

    def __init__(
        self, cloud: Cloud, trust: Trust, image: Path, good: str, bad: str, say: Callable[[str], None]
    ) -> None:
        self.cloud, self.trust, self.image, self.good, self.bad, self.say = cloud, trust, image, good, bad, say
        self.guide = cloud.places.guide
        self.secrets: list[bytes] = []
        self._launched: Answer | None = None
        self._verdict: Answer | None = None
        self._spoiled = False
        self._other = ""
        self._number = 1
        self._read: dict[str, int] = {}

    @property
    def machine(self) -> str:
        """The name of the honest server."""
        return f"honest-{self._number}"

    @property
    def verdict(self) -> Answer:
        """What the tenant found out about the honest server, first."""
        assert self._verdict is not None
        return self._verdict

    def prepare(self) -> None:
        self.image_id = self.cloud.upload("guest", self.image)
        self.trust.await_good(self.good)
        self.trust.await_bad(self.bad)

    # -- the tenant ----------------------------------------------------------------------------------------------

    def tenant(self, beginning: str, name: str, *more: str, **other: str) -> Answer:
        """A command of the tenant's guide, for the launch ``name`` in place of the guide's, with options after it."""
        words = {"web1": name, **other}
        command = self.guide.command("openstack-tenant", beginning)
        return self.trust.run(*(words.get(word, word) for word in command), *more)

    def launch(self, name: str, *more: str, image: str = "guest", cloud: str = "mine") -> Answer:
        options = ("--network", "tenant", "--timeout", str(int(PATIENCE)))
        return self.tenant("openstack launch", name, *options, *more, guest=image, mine=cloud)

    def verify(self, name: str, patience: float = PATIENCE, cloud: str = "mine") -> Answer:
        return self.tenant("openstack verify", name, "--timeout", str(int(patience)), mine=cloud)

    def token(self, name: str) -> str:
        """A token as the tenant makes it, for the tenant's own image."""
        made = self.tenant("token create", name)
        if made.status:
            raise RuntimeError(f"no token: {made.said}")
        file = self.trust.tenant / "token"
        token = file.read_text().strip()
        file.unlink()
        return token

    def inside(self, command: str, text: str = "") -> str:
        """Run a command in the honest machine as root, over SSH with the host key of its launch; what it printed."""
        assert self._launched is not None
        known = self.trust.tenant / "known_hosts"
        about = self._launched.document
        known.write_text(f"{about['address']} {about['ssh_public_key']}\n")
        options = ["-F", "none", "-i", self.trust.ssh_key, "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes"]
        options += ["-o", f"UserKnownHostsFile={known}", "-o", "GlobalKnownHostsFile=none", "-o", "ConnectTimeout=120"]
        return run("ssh", *options, f"root@{about['address']}", command, text=text).stdout.strip()

    # -- the provider --------------------------------------------------------------------------------------------

    def show(self, name: str) -> Any:
        """``openstack server show NAME``, as administrator."""
        compute = self.cloud.api.compute
        return compute.get_server(compute.find_server(name, ignore_missing=False, all_projects=True).id)

    def settle(self, name: str, *, seconds: float = PATIENCE) -> Any:
        """Wait until nova has no task with the server; the server."""
        deadline = time.monotonic() + seconds
        while True:
            server = self.show(name)
            if server.status not in ("BUILD", "REBUILD", "MIGRATING") and not server.task_state:
                return server
            if time.monotonic() > deadline:
                raise RuntimeError(f"{name} is still {server.status} {server.task_state}")
            time.sleep(1)

    def action(self, name: str, body: dict[str, Any], version: str = "2.90") -> Any:
        """Post an action of the compute API as administrator."""
        server = self.show(name)
        return self.cloud.api.compute.post(f"/servers/{server.id}/action", json=body, microversion=version)

    def events(self, name: str) -> tuple[list[str], str]:
        """What the actions of the server came to, newest first; and all that only an administrator is shown."""
        server = self.show(name)
        said, more = [], str((server.fault or {}).get("details", ""))
        for action in self.cloud.api.compute.server_actions(server.id):
            details = self.cloud.api.compute.get_server_action(action.request_id, server.id)
            for event in details.events or []:
                said.append(f"{action.action}: {event['result']} {event.get('details') or ''}")
                more += str(event.get("traceback") or "")
        return said, more

    def create(self, name: str, image: str, token: str) -> None:
        """A server as the provider likes it, with ``token`` in its metadata."""
        compute = self.cloud.api.compute
        flavor, network = compute.find_flavor(f"{FLAVOR}.trusted"), self.cloud.api.network.find_network("tenant")
        compute.create_server(
            name=name, image_id=image, flavor_id=flavor.id, networks=[{"uuid": network.id}], config_drive=True,
            metadata={"watchword": token},
        )  # fmt: skip

    @contextmanager
    def policy(self) -> Iterator[None]:
        """Nova's API obeys the policy of the operator's guide."""
        file = self.cloud.places.conf("nova") / "policy.yaml"
        file.write_text(self.guide.packaged("nova-policy.yaml"))
        try:
            yield
        finally:
            file.write_text("")

    @contextmanager
    def out_of_service(self, host: str) -> Iterator[None]:
        """The scheduler does not use ``host``."""
        compute = self.cloud.api.compute
        service = next(s for s in compute.services() if s.host == host and s.binary == "nova-compute")
        compute.disable_service(service)
        try:
            yield
        finally:
            compute.enable_service(service)

    def watch(self, action: str, *more: str) -> Answer:
        """The operator's ``watchword openstack watch``, one round."""
        command = self.guide.command("openstack-operator", "openstack watch")
        words = [action if word == "disable" else word for word in command]
        return self.trust.run(*words, "--once", "--status-url", STATUS_URL, *more)

    def other_disk(self) -> Path:
        """The provider's disk: the tenant's with another last byte, which nobody reads."""
        path = self.cloud.places.state / "other.raw"
        if not path.exists():
            run("cp", "--sparse=always", self.image, path)
            with path.open("r+b") as file:
                file.seek(-1, os.SEEK_END)
                last = file.read(1)
                file.seek(-1, os.SEEK_END)
                file.write(bytes([last[0] ^ 1]))
        return path

    def other_image(self) -> str:
        """:meth:`other_disk` in Glance."""
        if not self._other:
            self._other = self.cloud.upload("guest-too", self.other_disk())
        return self._other

    def hook_said(self, host: str) -> str:
        """What the hook on ``host`` said to libvirt since the last question, in libvirt's log."""
        found = re.findall(r"50-watchword[^\n]*?(watchword: [^\n]*)", self._new(f"libvirtd-{host}"))
        return found[-1][:240] if found else ""

    def agent_said(self, host: str) -> str:
        """What the agent on ``host`` refused since the last question: code and message."""
        found = re.findall(r"watchword: vendordata-(?:refused|failed) (\{.*\})", self._new(f"watchword-agent-{host}"))
        said = json.loads(found[-1]) if found else {}
        return f"{said.get('code')}: {said.get('message')}"[:240] if said else ""

    def _new(self, log: str) -> str:
        path = self.cloud.logs / f"{log}.out"
        with path.open("rb") as file:
            file.seek(self._read.get(log, 0))
            content = file.read()
        self._read[log] = self._read.get(log, 0) + len(content)
        return content.decode(errors="replace")

    def running(self, host: str) -> list[str]:
        """The machines that run on ``host``, as libvirt says."""
        return run(*self.cloud.on(self.cloud.compute(host), "virsh", "-q", "list", "--uuid")).stdout.split()

    # -- the honest server ---------------------------------------------------------------------------------------

    def honest(self, *, spoiled: bool = False) -> None:
        """Have the honest server; ``spoiled``: one that does not run any more will do."""
        if self._spoiled and not spoiled:
            self.forget_honest()
        if self._launched is not None:
            return
        self._launched = self.launch(self.machine)
        self._verdict = self.verify(self.machine)
        if self._launched.status or self._verdict.status:
            raise RuntimeError(f"the honest launch failed: {self._launched.said} {self._verdict.said}")
        instances = self.cloud.compute(self.good).file("/var/lib/nova/instances")
        self.secrets += private_parts((instances / self.show(self.machine).id / "disk.config").read_bytes())
        self.inside("sync")  # a machine whose power is cut before has empty files for host keys at its next start

    def spoil(self) -> None:
        """The honest server is not what it was: an act that needs it gets a new one."""
        self._spoiled = True

    def forget_honest(self) -> None:
        self.remove(self.machine)
        self._launched = self._verdict = None
        self._spoiled = False
        self._number += 1  # the tenant's records have one launch of a name

    def power(self, body: dict[str, Any], wanted: str) -> Any:
        """Ask for a change of the honest server's power and wait for ``wanted``; the server."""
        self.action(self.machine, body)
        time.sleep(1)
        server = self.settle(self.machine)
        if server.status != wanted:
            events = self.events(self.machine)[0][:2]
            raise RuntimeError(f"{next(iter(body))} of an honest server on a good host: {server.status}, {events}")
        return server

    def back_again(self, outcome: Outcome, body: dict[str, Any], how: str) -> None:
        """The way back: the honest server is started by ``body`` on a host that is good, and proves itself again."""
        self.power(body, "ACTIVE")
        verdict = self.verify(self.machine)
        outcome.details["verify_afterwards"] = verdict.document
        outcome.right = outcome.right and verdict.status == 0
        outcome.tenant_saw += f"; trusted again after {how}"

    @contextmanager
    def host_gone_bad(self) -> Iterator[None]:
        """Something that nobody listed runs on the good host; afterwards it is booted anew."""
        machine = self.trust.machines[self.good]
        machine.run_file(b"/usr/local/bin/reads-memory", b"of other people's machines")
        self.trust.await_bad(self.good)
        try:
            yield
        finally:
            machine.reboot(orderly=True)  # an abrupt one sets the clock of a TPM back, and the authority waits for it
            self.trust.await_good(self.good)

    def remove(self, name: str) -> None:
        compute = self.cloud.api.compute
        found = compute.find_server(name, ignore_missing=True, all_projects=True)
        if found:
            compute.delete_server(found.id)
            compute.wait_for_delete(found, interval=1, wait=300)


def fault(server: Any) -> str:
    """The words of nova's fault, which the tenant is shown too."""
    return str((server.fault or {}).get("message", ""))
