"""The acts: what the provider tries, what stops it, and what the tenant sees.

Each act changes one thing and asks the real commands what they say; an act is right only when exactly the expected
clause or code comes back. No outcome is written down in advance anywhere else.
"""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from demo.stage import BOOTS, CHANGED, GOOD, UNKNOWN, Answer, Stage
from watchword.agent.unseal import open_release, request_release
from watchword.errors import WatchwordError
from watchword.testing.interceptor import Interceptor
from watchword.testing.provider import Machine, Provider, honest

__all__ = ["ACTS", "Outcome"]


@dataclass(slots=True)
class Outcome:
    """How an act ended: ``right`` is whether everything came out as it must."""

    title: str
    tried: str
    stopped_by: str = ""
    tenant_saw: str = ""
    right: bool = False
    seconds: float = 0.0
    shown: list[str] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)


Act = Callable[[Stage], Outcome]


def honest_launch(stage: Stage) -> Outcome:
    """The machine boots on the good host and proves itself."""
    outcome = Outcome("An honest provider", "launches the machine on a host that was verified")
    launched = _launch(stage, "honest")
    verdict = stage.run("verify", "honest")
    outcome.shown = [
        f"$ watchword launch {stage.provider.url} --authority demo --profile gold.json --disk guest.img --name honest",
        *_lines(launched.document, "name", "address", "port", "ssh_fingerprint"),
        "$ watchword verify honest",
        *stage.say("verify", "honest").splitlines(),
    ]
    outcome.details = {"launch": launched.document, "verify": verdict.document}
    outcome.right = launched.status == 0 and verdict.status == 0 and verdict.document.get("verdict") == "trusted"
    outcome.stopped_by = "nothing: this is how it should be"
    outcome.tenant_saw = _verdict(verdict)
    return outcome


def changed_kernel(stage: Stage) -> Outcome:
    """A vouched-for TPM, but another kernel was booted."""
    outcome = Outcome("A host with another kernel", "launches on a host that booted a kernel nobody measured")
    stage.provider.behaviour = honest(CHANGED)
    return _refused(stage, outcome, "changed-kernel", "E2")


def unknown_tpm(stage: Stage) -> Outcome:
    """The right software in front of a TPM that the provider made up itself."""
    outcome = Outcome("A TPM nobody vouches for", "launches on a host with a TPM of the provider's own making")
    host = stage.hosts[UNKNOWN]
    stage.provider.behaviour = _as_another_host(stage, UNKNOWN, GOOD)
    outcome.details["enrolment"] = host.refusal
    _refused(stage, outcome, "unknown-tpm", "B4")
    outcome.right = outcome.right and not host.enrolled and host.refusal.startswith("A1 ")
    outcome.stopped_by = f"{host.refusal} at enrolment; {outcome.stopped_by}"
    return outcome


def verdict_ignored(stage: Stage) -> Outcome:
    """The provider starts the machine anyway, without the secret it was refused."""
    outcome = Outcome("The verdict ignored", "is refused the secret and boots the machine on the bad host anyway")
    stage.provider.behaviour = _boot_without_secret(CHANGED)
    _launch(stage, "ignored")
    return _not_mine(stage, outcome, "ignored")


def replayed_token(stage: Stage) -> Outcome:
    """A second machine from the token of the first one."""
    outcome = Outcome("The token used twice", "starts a second machine with the token of the first")
    first = next(machine for machine in stage.provider.machines.values() if machine.status == "ACTIVE")
    stage.provider.behaviour = honest(GOOD)
    second = _wait(stage.provider.create(first.request))
    seen = stage.run("verify", "honest")
    outcome.details = {"fault": second.fault, "verify": seen.document}
    outcome.right = second.status == "ERROR" and second.fault.startswith("token-used-up") and seen.status == 0
    outcome.stopped_by = _clause(second.fault)
    outcome.tenant_saw = "its own machine still verifies; the log has the refused second launch"
    return outcome


def swapped_image(stage: Stage) -> Outcome:
    """A verified host, the right token, and another disk."""
    outcome = Outcome("Another image", "hands the verified host a disk that is not the tenant's")

    def behave(provider: Provider, machine: Machine) -> None:
        provider.agent(machine, GOOD, image=stage.other_image)

    stage.provider.behaviour = behave
    launched = _launch(stage, "swapped")
    fault = str(launched.error.get("message", ""))
    outcome.details = {"launch": launched.document}
    outcome.right = launched.status != 0 and "inputs-differ" in fault
    outcome.stopped_by = f"{_clause(fault)}, by the host's agent"
    outcome.tenant_saw = "no machine: " + _short(fault)
    return outcome


def rebooted_host(stage: Stage) -> Outcome:
    """The host is verified, and reboots into something else before it opens the secret."""
    outcome = Outcome("A reboot at the right moment", "reboots the host between its quote and the secret")
    token = stage.must("token", "create", "--authority", "demo", "--profile", stage.profile, "--level", "full",
                       "--disk", stage.image, "--name", "rebooted")  # fmt: skip
    machine = stage.hosts[GOOD].machine
    with stage.opened(GOOD) as (host, host_id):
        release, bound = request_release(host, host_id, str(token["token"]), "rebooted")
    machine.reboot(BOOTS / "kernel")
    caught: WatchwordError | None = None
    try:
        with stage.opened(GOOD) as (host, _):
            open_release(host, release, bound)
    except WatchwordError as error:
        caught = error
    machine.reboot(BOOTS / "good")
    outcome.details = {"error": str(caught)}
    outcome.right = caught is not None and caught.code == "tpm-wrong-boot"
    outcome.stopped_by = f"the TPM: {caught.code}" if caught else "nothing"
    outcome.tenant_saw = "no machine; the release stays closed for ever"
    return outcome


def relayed_connection(stage: Stage) -> Outcome:
    """The genuine machine runs, but the tenant is connected to one in front of it."""
    outcome = Outcome("A machine in the middle", "answers the tenant itself and relays to the genuine machine")
    genuine = next(machine for machine in stage.provider.machines.values() if machine.status == "ACTIVE")
    with Interceptor(genuine.address, genuine.port) as middle:
        seen = stage.run("verify", "honest", f"{middle.address}:{middle.port}")
    outcome.details = {"verify": seen.document}
    outcome.right = seen.status == 3 and seen.error.get("code") == "ssh-host-key" and middle.connections > 0
    outcome.stopped_by = f"the SSH handshake: {seen.error.get('code')}"
    outcome.tenant_saw = _reason(seen)
    return outcome


ACTS: tuple[Act, ...] = (
    honest_launch,
    changed_kernel,
    unknown_tpm,
    verdict_ignored,
    replayed_token,
    swapped_image,
    rebooted_host,
    relayed_connection,
)


def _launch(stage: Stage, name: str) -> Answer:
    return stage.run("launch", stage.provider.url, "--authority", "demo", "--profile", stage.profile, "--level", "full",
                     "--image", "guest.img", "--disk", stage.image, "--name", name)  # fmt: skip


def _refused(stage: Stage, outcome: Outcome, name: str, clause: str) -> Outcome:
    """Launch, and expect the authority to refuse under ``clause``, visibly for the tenant."""
    launched = _launch(stage, name)
    seen = stage.run("verify", name)
    refusals = [finding for finding in seen.error.get("findings", []) if finding.get("clause") == clause]
    outcome.details = {**outcome.details, "launch": launched.document, "verify": seen.document}
    outcome.right = launched.status != 0 and seen.status == 3 and bool(refusals)
    outcome.stopped_by = f"{clause} {refusals[0]['code']}" if refusals else "nothing"
    outcome.tenant_saw = _short(str(refusals[0]["message"]) if refusals else seen.said)
    return outcome


def _not_mine(stage: Stage, outcome: Outcome, name: str) -> Outcome:
    """Verify a machine that runs and expect the handshake to unmask it."""
    _await_ssh(next(machine for machine in stage.provider.machines.values() if machine.name == name))
    seen = stage.run("verify", name)
    outcome.details = {"verify": seen.document}
    outcome.right = seen.status == 3 and seen.error.get("code") == "ssh-host-key"
    outcome.stopped_by = f"the SSH handshake: {seen.error.get('code')}"
    outcome.tenant_saw = _reason(seen)
    return outcome


def _verdict(answer: Answer) -> str:
    document = answer.document
    stack: Mapping[str, Any] = document.get("stack") or {}
    if answer.status:
        return _short(answer.said)
    return (
        f"{document.get('verdict')}: stack {stack.get('name')} {stack.get('version')}, level {document.get('level')}, "
        f"receipt: log entry {document.get('log', {}).get('seq')}"
    )


def _boot_without_secret(host: str) -> Callable[[Provider, Machine], None]:
    def behave(provider: Provider, machine: Machine) -> None:
        if not provider.agent(machine, host):
            provider.boot_anyway(machine)

    return behave


def _as_another_host(stage: Stage, actor: str, claimed: str) -> Callable[[Provider, Machine], None]:
    """The unknown host was not enrolled, so it claims to be the good one: same id, its own TPM."""

    def behave(provider: Provider, machine: Machine) -> None:
        enrolment = (stage.hosts[claimed].config.parent / "enrolment.json").read_text()
        (stage.hosts[actor].config.parent / "enrolment.json").write_text(enrolment)
        provider.agent(machine, actor)

    return behave


def _wait(machine: Machine, seconds: float = 180) -> Machine:
    deadline = time.monotonic() + seconds
    while machine.status == "BUILD" and time.monotonic() < deadline:
        time.sleep(0.05)
    return machine


def _lines(document: Mapping[str, Any], *names: str) -> list[str]:
    return [f"  {name:16} {document.get(name, '')}" for name in names]


def _await_ssh(machine: Machine, seconds: float = 180) -> None:
    """Wait until the machine has booted: refused launches get little patience from ``watchword verify``."""
    deadline = time.monotonic() + seconds
    while machine.pids and time.monotonic() < deadline:
        try:
            with socket.create_connection((machine.address, machine.port), 2) as connection:
                connection.settimeout(2)
                if connection.recv(4) == b"SSH-":
                    return
        except OSError:
            pass
        time.sleep(0.2)


def _clause(fault: str) -> str:
    """Clause and code in a fault such as ``inputs-differ: [L2] inputs-differ: …``."""
    found = re.search(r"\[([A-Z]\d+)\] ([a-z0-9-]+)", fault)
    return f"{found[1]} {found[2]}" if found else _short(fault)


def _reason(answer: Answer) -> str:
    """The reason of a refusal as a person reads it."""
    findings = answer.error.get("findings") or [{}]
    return _short(str(findings[0].get("message") or answer.error.get("message") or answer.said))


def _short(text: str, limit: int = 110) -> str:
    """One line for the table."""
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"
