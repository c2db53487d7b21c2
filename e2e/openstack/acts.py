"""The acts: what the provider tries in a real OpenStack, what stops it, and what everybody sees."""

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
from e2e.openstack.spaces import run
from e2e.openstack.trust import Answer, Trust

__all__ = ["ACTS", "Outcome", "Play"]

PATIENCE = 1200.0  # seconds for a machine under emulation, on a busy machine
WRITTEN = 40.0  # seconds until a Linux guest has written its first files (30 to age, 5 between two rounds)


@dataclass(slots=True)
class Outcome:
    """How an act ended: ``right`` is whether everything came out as it must."""

    title: str
    tried: str
    stopped_by: str = ""
    nova_said: str = ""
    tenant_saw: str = ""
    right: bool = False
    name: str = ""
    seconds: float = 0.0
    details: dict[str, Any] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        return {
            "act": self.name, "tried": self.tried, "stopped_by": self.stopped_by, "nova_said": self.nova_said,
            "tenant_saw": self.tenant_saw, "right": self.right,
            "seconds": round(self.seconds, 1), "details": self.details,
        }  # fmt: skip


class Play:
    """What the acts share: the cloud, the tenant, and one server that was launched as it should be."""

    def __init__(
        self, cloud: Cloud, trust: Trust, image: Path, good: str, bad: str, say: Callable[[str], None]
    ) -> None:
        self.cloud, self.trust, self.image, self.good, self.bad, self.say = cloud, trust, image, good, bad, say
        self._honest: Answer | None = None
        self._verdict: Answer | None = None
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
        self.image_id = self.cloud.upload("debian", self.image)
        self.trust.await_good(self.good)
        self.trust.await_bad(self.bad)

    # -- the tenant ----------------------------------------------------------------------------------------------

    def launch(self, name: str, *more: str, image: str = "debian") -> Answer:
        return self.trust.run(
            "openstack", "launch", "--authority", "demo", "--profile", self.trust.profile, "--level", "full",
            "--disk", self.image, "--image", image, "--flavor", f"{FLAVOR}.trusted", "--network", "tenant",
            "--name", name, "--timeout", str(int(PATIENCE)), *more,
        )  # fmt: skip

    def verify(self, name: str, patience: float = PATIENCE) -> Answer:
        return self.trust.run("openstack", "verify", name, "--timeout", str(int(patience)))

    # -- the provider --------------------------------------------------------------------------------------------

    def show(self, name: str) -> Any:
        """``openstack server show NAME``."""
        found = self.cloud.api.compute.find_server(name, ignore_missing=False)
        return self.cloud.api.compute.get_server(found.id)

    def settle(self, name: str, *, seconds: float = PATIENCE) -> Any:
        """Wait until nova has no task with the server; the server."""
        deadline = time.monotonic() + seconds
        while True:
            server = self.show(name)
            if server.status not in ("BUILD", "REBUILD", "MIGRATING") and not server.task_state:
                return server
            if time.monotonic() > deadline:
                raise RuntimeError(f"{name} is still {server.status} {server.task_state}")
            time.sleep(2)

    def action(self, name: str, body: dict[str, Any], version: str = "2.90") -> Any:
        """Post an action of the compute API as administrator."""
        server = self.show(name)
        return self.cloud.api.compute.post(f"/servers/{server.id}/action", json=body, microversion=version)

    def events(self, name: str) -> list[str]:
        """What the actions of the server came to (``openstack server event show``), newest first."""
        server = self.show(name)
        said = []
        for action in self.cloud.api.compute.server_actions(server.id):
            details = self.cloud.api.compute.get_server_action(action.request_id, server.id)
            said += [f"{action.action}: {e['result']} {e.get('details') or ''}" for e in details.events or []]
        return said

    def create(self, name: str, image: str, token: str) -> None:
        """A server as the provider likes it, with ``token`` in its metadata."""
        compute = self.cloud.api.compute
        flavor, network = compute.find_flavor(f"{FLAVOR}.trusted"), self.cloud.api.network.find_network("tenant")
        compute.create_server(
            name=name, image_id=image, flavor_id=flavor.id, networks=[{"uuid": network.id}], config_drive=True,
            metadata={"watchword": token},
        )  # fmt: skip

    def token(self, name: str) -> str:
        """A token as the tenant makes it, for the tenant's own image."""
        made = self.trust.must("token", "create", "--authority", "demo", "--profile", self.trust.profile,
                               "--level", "full", "--disk", self.image, "--name", name)  # fmt: skip
        return str(made["token"])

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
            self._other = self.cloud.upload("debian-too", self.other_disk())
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

    def forget_honest(self) -> None:
        """The honest server is not what it was: the next act gets a new one."""
        self.remove(self.machine)
        self._honest = self._verdict = None
        self._number += 1  # the tenant's records have one launch of a name

    def remove(self, name: str) -> None:
        found = self.cloud.api.compute.find_server(name, ignore_missing=True)
        if found:
            self.cloud.api.compute.delete_server(found.id)
            self.cloud.api.compute.wait_for_delete(found, wait=300)

    def honest(self) -> None:
        """Have the server that was launched as it should be, running on the good host."""
        if self._honest is None:
            self._honest = self.launch(self.machine)
            self._verdict = self.verify(self.machine)
            if self._honest.status or self._verdict.status:
                raise RuntimeError(f"the honest launch failed: {self._honest.said} {self._verdict.said}")
            time.sleep(WRITTEN)  # whose power is cut before has empty files for host keys at its next start

    def power(self, body: dict[str, Any], wanted: str) -> Any:
        """Ask for a change of the honest server's power and wait for ``wanted``; the server."""
        self.action(self.machine, body)
        server = self.settle(self.machine)
        if server.status != wanted:
            raise RuntimeError(
                f"{next(iter(body))} of an honest server on a good host: {server.status}, {self.events('honest')[:2]}"
            )
        return server


@contextmanager
def host_gone_bad(play: Play) -> Iterator[None]:
    """Something that nobody listed runs on the good host; afterwards it is booted anew."""
    machine = play.trust.machines[play.good]
    machine.run_file(b"/usr/local/bin/reads-memory", b"of other people's machines")
    play.trust.await_bad(play.good)
    try:
        yield
    finally:
        machine.reboot(orderly=True)  # an abrupt one sets the clock of a TPM back, and the authority waits for it
        play.trust.await_good(play.good)


def fault(server: Any) -> str:
    """The words of nova's fault."""
    return str((server.fault or {}).get("message", ""))


def _reason(text: str) -> str:
    """The part of nova's words that is the hook's, else the beginning."""
    line = " ".join(text.split())
    at = line.find("watchword")
    return line[max(at, 0) :][:240]


def _refused(play: Play, outcome: Outcome, name: str, expected: str) -> Outcome:
    """The server must be in ERROR, and the tenant must read ``expected``, signed by the authority."""
    server = play.show(name)
    verdict = play.verify(name, 60)
    outcome.details |= {
        "fault": fault(server),
        "verify": verdict.document,
        "said": verdict.said,
        "host": server.compute_host,
    }
    outcome.nova_said = f"{server.status}: {_reason(fault(server))}"
    outcome.tenant_saw = _sentence(verdict)
    outcome.stopped_by = ", ".join(code for code in verdict.codes[1:] if code) or verdict.codes[0] or "nothing"
    outcome.right = server.status == "ERROR" and verdict.status == 3 and expected in " ".join(verdict.codes)
    play.remove(name)
    return outcome


def _sentence(verdict: Answer) -> str:
    findings = verdict.error.get("findings") or [{}]
    text = findings[0].get("message") or verdict.error.get("message") or verdict.document.get("verdict") or verdict.said
    return " ".join(str(text).split())[:240]


def good_launch(play: Play) -> Outcome:
    """The scheduler picks the good host, the machine boots, and proves itself."""
    outcome = Outcome("An honest provider", "launches the machine where the scheduler puts it")
    play.honest()
    server, verdict = play.show(play.machine), play.verdict
    outcome.details = {"verify": verdict.document, "host": server.compute_host}
    outcome.right = server.compute_host == play.good and verdict.document.get("verdict") == "trusted"
    outcome.stopped_by = "nothing: this is how it should be"
    outcome.nova_said = f"{server.status} on {server.compute_host}"
    stack = verdict.document.get("stack") or {}
    outcome.tenant_saw = (
        f"trusted, level {verdict.document.get('level')}, stack {stack.get('name')} {stack.get('version')}"
    )
    return outcome


def forced_zone(play: Play) -> Outcome:
    """An administrator names the bad host; nova asks no filter."""
    outcome = Outcome("The host forced", f"creates the server with availability_zone nova:{play.bad}")
    play.launch("forced", "--availability-zone", f"nova:{play.bad}")
    return _refused(play, outcome, "forced", "E2 ")


def filter_removed(play: Play) -> Outcome:
    """The scheduler knows nothing of trust, and only the bad host is left."""
    outcome = Outcome("No filter", "takes the filter out of the scheduler and the good host out of service")
    good = next(s for s in play.cloud.api.compute.services() if s.host == play.good and s.binary == "nova-compute")
    play.cloud.use_filter(False)
    play.cloud.api.compute.disable_service(good)
    try:
        play.launch("unfiltered")
        return _refused(play, outcome, "unfiltered", "E2 ")
    finally:
        play.cloud.api.compute.enable_service(good)
        play.cloud.use_filter(True)


def only_the_bad_host(play: Play) -> Outcome:
    """With the filter in place and the good host out of service, nothing is launched at all."""
    outcome = Outcome("The filter", "has only the bad host left")
    good = next(s for s in play.cloud.api.compute.services() if s.host == play.good and s.binary == "nova-compute")
    play.cloud.api.compute.disable_service(good)
    try:
        launched = play.launch("nowhere")
        server = play.show("nowhere")
    finally:
        play.cloud.api.compute.enable_service(good)
    outcome.nova_said = f"{server.status}: {fault(server)}"
    outcome.details = {"launch": launched.document, "fault": fault(server), "host": server.compute_host}
    outcome.right = server.status == "ERROR" and "No valid host" in fault(server) and not server.compute_host
    outcome.stopped_by = "the scheduler's filter"
    outcome.tenant_saw = "no machine: " + launched.said.splitlines()[-1][:160] if launched.said else ""
    play.remove("nowhere")
    return outcome


def forced_migration(play: Play) -> Outcome:
    """The old live migration with force: nova asks neither filter nor agent, the hook of the target refuses."""
    outcome = Outcome("Forced live migration", f"moves the running machine to {play.bad} (API 2.60, force)")
    play.honest()
    body = {"os-migrateLive": {"host": play.bad, "block_migration": "auto", "force": True}}
    answer = play.action(play.machine, body, "2.60")
    time.sleep(3)
    server = play.settle(play.machine)
    events = play.events(play.machine)
    [migration, *_] = list(play.cloud.api.compute.migrations(instance_uuid=server.id)) or [None]
    verdict = play.verify(play.machine)
    outcome.details = {"answer": answer.text[:300], "events": events[:4], "verify": verdict.document}
    outcome.nova_said = f"{server.status} on {server.compute_host}, migration {migration and migration.status}"
    said = play.hook_said(play.bad)
    outcome.stopped_by = f"the hook on {play.bad}: {said}" if said else "nothing of ours"
    outcome.details["hook"] = said
    outcome.tenant_saw = f"{verdict.document.get('verdict')}: its machine still runs where it ran"
    outcome.right = (
        server.compute_host == play.good and server.id in play.running(play.good)
        and server.id not in play.running(play.bad) and bool(said)
        and migration is not None and migration.status in ("error", "failed") and verdict.status == 0
    )  # fmt: skip
    if server.compute_host != play.good:
        play.forget_honest()
    elif server.status == "ERROR":  # what nova calls a machine that still runs where it ran
        play.action(play.machine, {"os-resetState": {"state": "active"}})
    return outcome


def stop_and_start(play: Play) -> Outcome:
    """The host went bad after the launch; nova starts the machine without asking anybody."""
    outcome = Outcome("Stop and start", "stops the machine, and starts it after the host went bad")
    play.honest()
    play.power({"os-stop": None}, "SHUTOFF")
    with host_gone_bad(play):
        play.action(play.machine, {"os-start": None})
        time.sleep(3)
        server = play.settle(play.machine)
        _not_started(play, outcome, server)
    play.power({"os-start": None}, "ACTIVE")
    verdict = play.verify(play.machine)
    outcome.details["verify_afterwards"] = verdict.document
    outcome.right = outcome.right and verdict.status == 0
    outcome.tenant_saw += "; trusted again after the host was booted anew"
    return outcome


def hard_reboot(play: Play) -> Outcome:
    """The host went bad after the launch; a hard reboot asks nobody either."""
    outcome = Outcome("Hard reboot", "reboots the machine hard after the host went bad")
    play.honest()
    with host_gone_bad(play):
        play.action(play.machine, {"reboot": {"type": "HARD"}})
        time.sleep(3)
        server = play.settle(play.machine)
        _not_started(play, outcome, server)
    play.power({"reboot": {"type": "HARD"}}, "ACTIVE")
    verdict = play.verify(play.machine)
    outcome.details["verify_afterwards"] = verdict.document
    outcome.right = outcome.right and verdict.status == 0
    outcome.tenant_saw += "; trusted again after the host was booted anew"
    return outcome


def _not_started(play: Play, outcome: Outcome, server: Any) -> None:
    events = play.events(play.machine)
    said = play.hook_said(play.good)
    running = play.running(play.good)
    verdict = play.verify(play.machine, 20)
    outcome.nova_said = f"{server.status}: {_reason(fault(server)) or events[0][:200]}"
    outcome.stopped_by = f"the hook: {said}" if said else "nothing of ours"
    outcome.tenant_saw = _sentence(verdict)
    outcome.details |= {"events": events[:3], "fault": fault(server), "hook": said, "verify": verdict.document}
    outcome.right = bool(said) and server.id not in running and verdict.status != 0


def rescued(play: Play) -> Outcome:
    """Nova boots another disk beside the tenant's, with the tenant's disk attached."""
    outcome = Outcome("Rescue", "rescues the machine with an image of its own")
    play.honest()
    _tampered(play, outcome, {"rescue": {"rescue_image_ref": play.other_image()}}, "launch-detour")
    play.power({"reboot": {"type": "HARD"}}, "ACTIVE")  # the way back, from the tenant's own disk
    verdict = play.verify(play.machine)
    outcome.details["verify_afterwards"] = verdict.document
    outcome.right = outcome.right and verdict.status == 0
    outcome.tenant_saw += "; trusted again after a hard reboot"
    return outcome


def rebuilt(play: Play) -> Outcome:
    """Nova replaces the disk and keeps name, address and metadata."""
    outcome = Outcome("Rebuild", "rebuilds the machine from an image of its own")
    play.honest()
    _tampered(play, outcome, {"rebuild": {"imageRef": play.other_image()}}, "token-used-up")  # comes before the disk
    play.forget_honest()
    return outcome


def rebuilt_from_the_same(play: Play) -> Outcome:
    """The image is the tenant's; the token is spent."""
    outcome = Outcome("Rebuild, same image", "rebuilds the machine from the tenant's own image: a second machine")
    play.honest()
    _tampered(play, outcome, {"rebuild": {"imageRef": play.image_id}}, "token-used-up")
    play.forget_honest()
    return outcome


def _tampered(play: Play, outcome: Outcome, body: dict[str, Any], code: str) -> None:
    """The honest machine becomes another one: the agent refuses it for the reason ``code``, and it does not run."""
    play.agent_said(play.good)  # what it said before is not about this
    play.action(play.machine, body)
    time.sleep(3)
    server = play.settle(play.machine)
    _caught(play, outcome, server, code)
    outcome.details["events"] = play.events(play.machine)[:3]
    outcome.right = outcome.right and server.id not in play.running(play.good)


def _caught(play: Play, outcome: Outcome, server: Any, code: str) -> None:
    """The agent's reason must be ``code``. A machine that merely does not answer is caught by nobody."""
    said = play.agent_said(play.good)
    verdict = play.verify(server.name, 20)
    outcome.nova_said = f"{server.status}: {_reason(fault(server))}"
    outcome.stopped_by = f"the agent: {said}" if said else "nothing of ours"
    outcome.tenant_saw = f"{'refused' if verdict.status == 3 else 'nothing proven'}: {_sentence(verdict)}"
    outcome.details |= {"fault": fault(server), "agent": said, "verify": verdict.document, "said": verdict.said}
    outcome.right = server.status == "ERROR" and said.startswith(f"{code}: ") and verdict.status in (1, 2, 3)


def edited_metadata(play: Play) -> Outcome:
    """One character of the launch token is another one."""
    outcome = Outcome("Metadata edited", "changes the token in the server's metadata")
    token = play.token("edited")
    at = len(token) - 20  # of the sealed body; the last character may have bits that must be zero
    changed = f"{token[:at]}{'A' if token[at] != 'A' else 'B'}{token[at + 1 :]}"
    play.agent_said(play.good)
    play.create("edited", play.image_id, changed)
    _caught(play, outcome, play.settle("edited"), "token-unopenable")
    play.remove("edited")
    return outcome


def swapped_image(play: Play) -> Outcome:
    """Same image, same id: its file in Glance's store is another one, and so are the digests in Glance's database."""
    outcome = Outcome("Image swapped", "puts another disk where the tenant's image is in Glance's store")
    image = play.cloud.upload("debian-swapped", play.image)
    play.cloud.replace_image(image, play.other_disk())
    play.agent_said(play.good)
    launched = play.launch("swapped", image="debian-swapped")
    outcome.details["launch"] = launched.said
    _caught(play, outcome, play.show("swapped"), "inputs-differ")
    play.remove("swapped")
    return outcome


ACTS: dict[str, Callable[[Play], Outcome]] = {
    "good-launch": good_launch,
    "stop-and-start": stop_and_start,
    "hard-reboot": hard_reboot,
    "forced-migration": forced_migration,
    "rescue": rescued,
    "rebuild": rebuilt,
    "rebuild-same-image": rebuilt_from_the_same,
    "filter": only_the_bad_host,
    "forced-zone": forced_zone,
    "filter-removed": filter_removed,
    "metadata-edited": edited_metadata,
    "image-swapped": swapped_image,
}
