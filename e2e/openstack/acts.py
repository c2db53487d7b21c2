"""The acts: what the provider tries in a real OpenStack, what stops it, and what everybody sees."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from e2e.openstack.leaks import found_in
from e2e.openstack.play import SILENT, Outcome, Play, fault
from e2e.openstack.settings import AGENT_PORT
from e2e.openstack.spaces import AUTHORITY, run
from e2e.openstack.trust import Answer
from watchword.testing.commands import watchword

__all__ = ["ACTS"]

_ASK_AGENT = f"""
import json, sys, urllib.error, urllib.request
body = json.dumps({{"project-id": "p", "instance-id": "6a8f3b3e-0000-4000-8000-000000000000", "image-id": "i",
    "user-data": None, "hostname": "h", "metadata": {{}}, "boot-roles": ""}}).encode()
token = sys.stdin.read().strip()
url = "http://127.0.0.1:{AGENT_PORT}/v1/vendordata"
try:
    request = urllib.request.Request(url, body, {{"X-Auth-Token": token}} if token else {{}})
    print(urllib.request.urlopen(request).status)
except urllib.error.HTTPError as error:
    print(error.code)
"""


def _reason(text: str) -> str:
    """The part of nova's words that is ours, else the beginning."""
    line = " ".join(text.split())
    at = line.find("watchword")
    return line[max(at, 0) :][:240]


def _words(verdict: Answer) -> str:
    """The verdict's sentence, and codes that the authority signed."""
    text = verdict.error.get("message") or verdict.document.get("verdict") or verdict.said
    signed = ", ".join(code for code in verdict.codes[1:] if not code.startswith("V"))
    return " ".join(str(text).split())[:240] + (f"; the authority signed: {signed}" if signed else "")


def _heard(outcome: Outcome, verdict: Answer, code: str) -> bool:
    """Whether the tenant read ``code``, as the provider's word apart from what is proven."""
    provider = verdict.document.get("provider") or {}
    outcome.host_said = str(provider.get("reason", ""))
    return f" {code}: " in outcome.host_said


def good_launch(play: Play) -> Outcome:
    """The scheduler picks the good host, the machine boots, and proves itself."""
    outcome = Outcome("An honest provider", "launches the machine where the scheduler puts it")
    play.honest()
    server, verdict = play.show(play.machine), play.verdict
    script = run(*watchword("guest", "self-check", "--script")).stdout
    inside = play.inside("python3 -", script)
    good = play.cloud.compute(play.good)
    far = run(*play.cloud.on(good, "ip", "route", "get", AUTHORITY), check=False).returncode != 0
    asked = [run(*play.cloud.on(good, "python3", "-c", _ASK_AGENT), text=token).stdout.strip()
             for token in (str(play.cloud.api.auth_token), "")]  # fmt: skip
    outcome.details = {"verify": verdict.document, "inside": inside, "only_the_relay": far, "other_users": asked}
    outcome.right = (
        server.compute_host == play.good and verdict.document.get("verdict") == "trusted"
        and inside == "this machine has the key of its launch" and far and asked == ["401", "401"]
    )  # fmt: skip
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
    zone = ("--availability-zone", f"nova:{play.bad}")
    with play.policy():
        forbidden = play.launch("forbidden", *zone, cloud="admin")
    play.launch("forced", *zone, cloud="admin")
    _refused(play, outcome, "forced", cloud="admin")
    outcome.details["policy"] = forbidden.said
    outcome.right = outcome.right and "forced_host" in forbidden.said and "stack-none" in outcome.nova_said
    return outcome


def filter_removed(play: Play) -> Outcome:
    """The scheduler knows nothing of trust, and only the bad host is left."""
    outcome = Outcome("No filter", "takes the filter out of the scheduler and the good host out of service")
    play.cloud.use_filter(False)
    try:
        with play.out_of_service(play.good):
            play.launch("unfiltered")
            return _refused(play, outcome, "unfiltered")
    finally:
        play.cloud.use_filter(True)


def _refused(play: Play, outcome: Outcome, name: str, cloud: str = "mine") -> Outcome:
    """The server must be in ERROR, and the tenant must read that the authority signed: E2 stack-none."""
    server = play.show(name)
    verdict = play.verify(name, SILENT, cloud)
    outcome.details |= {"fault": fault(server), "verify": verdict.document, "said": verdict.said}
    outcome.nova_said = f"{server.status}: {_reason(fault(server))}"
    outcome.tenant_saw = f"refused: {_words(verdict)}"
    outcome.stopped_by = ", ".join(code for code in verdict.codes[1:] if code) or verdict.codes[0] or "nothing"
    outcome.right = _heard(outcome, verdict, "stack-none") and server.status == "ERROR" and verdict.status == 3
    outcome.right = outcome.right and "E2 stack-none" in verdict.codes
    play.remove(name)
    return outcome


def only_the_bad_host(play: Play) -> Outcome:
    """With the filter in place and the good host out of service, nothing is launched at all."""
    outcome = Outcome("The filter", "has only the bad host left")
    with play.out_of_service(play.good):
        launched = play.launch("nowhere")
    server, verdict = play.show("nowhere"), play.verify("nowhere", SILENT)
    outcome.nova_said = f"{server.status}: {fault(server)}"
    outcome.details = {"launch": launched.document, "verify": verdict.document, "host": server.compute_host}
    outcome.right = server.status == "ERROR" and "No valid host" in fault(server) and not server.compute_host
    outcome.right = outcome.right and verdict.status == 2 and "No valid host" in verdict.said
    outcome.stopped_by = "the scheduler's filter"
    outcome.tenant_saw = f"nothing proven: {_words(verdict)}"
    play.remove("nowhere")
    return outcome


def forced_migration(play: Play) -> Outcome:
    """The old live migration with force: nova asks neither filter nor agent, the hook of the target refuses."""
    outcome = Outcome("Forced live migration", f"moves the running machine to {play.bad} (API 2.60, force)")
    play.honest()
    body = {"os-migrateLive": {"host": play.bad, "block_migration": "auto", "force": True}}
    with play.policy():
        forbidden = play.action(play.machine, body, "2.60").status_code
    play.action(play.machine, body, "2.60")
    time.sleep(2)
    server = play.settle(play.machine)
    [migration, *_] = list(play.cloud.api.compute.migrations(instance_uuid=server.id)) or [None]
    said, verdict = play.hook_said(play.bad), play.verify(play.machine)
    events, admin = play.events(play.machine)
    outcome.details = {"policy": forbidden, "events": events[:4], "admin": admin[-400:], "verify": verdict.document}
    outcome.nova_said = f"{server.status} on {server.compute_host}, migration {migration and migration.status}"
    outcome.stopped_by = f"the hook on {play.bad}: {said}" if said else "nothing of ours"
    outcome.tenant_saw = f"{verdict.document.get('verdict')}: its machine still runs where it ran"
    outcome.right = (
        _heard(outcome, verdict, "host-level") and forbidden == 403 and server.compute_host == play.good
        and server.id in play.running(play.good) and server.id not in play.running(play.bad) and bool(said)
        and migration is not None and migration.status in ("error", "failed") and verdict.status == 0
    )  # fmt: skip
    if server.compute_host != play.good:
        play.forget_honest()
    elif server.status == "ERROR":  # what nova calls a machine that still runs where it ran
        play.action(play.machine, {"os-resetState": {"state": "active"}})
    return outcome


def stop_and_start(play: Play) -> Outcome:
    """The host went bad after the launch: the operator's watcher stops the machine, nova starts it and asks nobody."""
    outcome = Outcome("Stop and start", "starts the machine, which was stopped when its host went bad")
    play.honest()
    with play.host_gone_bad():
        watched = play.watch("stop")
        stopped = play.settle(play.machine)
        play.action(play.machine, {"os-start": None})
        time.sleep(2)
        _not_started(play, outcome, play.settle(play.machine))
        play.watch("stop", "--reasons")
        told = str(play.show(play.machine).metadata.get("watchword_reason", ""))
        service = _service(play, play.good)
    back = play.watch("disable")
    again = _service(play, play.good)
    play.cloud.api.compute.enable_service(_id(play, play.bad))  # what the watcher did to it is not for other acts
    outcome.nova_said += f"; watchword_reason: {told}"
    outcome.details |= {"watch": watched.said, "service": [service, again], "back": back.said}
    outcome.right = outcome.right and stopped.status == "SHUTOFF" and " host-level: " in told
    outcome.right = outcome.right and (service, again) == ("disabled", "enabled")
    play.back_again(outcome, {"os-start": None}, "the host was booted anew")
    return outcome


def _service(play: Play, host: str) -> str:
    return next(str(s.status) for s in play.cloud.api.compute.services() if s.id == _id(play, host))


def _id(play: Play, host: str) -> str:
    services = play.cloud.api.compute.services()
    return next(str(s.id) for s in services if s.host == host and s.binary == "nova-compute")


def hard_reboot(play: Play) -> Outcome:
    """The host went bad after the launch; a hard reboot asks nobody either."""
    outcome = Outcome("Hard reboot", "reboots the machine hard after the host went bad")
    play.honest()
    with play.host_gone_bad():
        play.action(play.machine, {"reboot": {"type": "HARD"}})
        time.sleep(2)
        _not_started(play, outcome, play.settle(play.machine))
    play.back_again(outcome, {"reboot": {"type": "HARD"}}, "the host was booted anew")
    return outcome


def _not_started(play: Play, outcome: Outcome, server: Any) -> None:
    """The hook must have refused, for everybody to read: its log, the administrator, the tenant."""
    said, running = play.hook_said(play.good), play.running(play.good)
    events, admin = play.events(play.machine)
    verdict = play.verify(play.machine, SILENT)
    outcome.nova_said = f"{server.status}: {_reason(fault(server)) or events[0][:200]}"
    outcome.stopped_by = f"the hook: {said}" if said else "nothing of ours"
    outcome.tenant_saw = f"nothing proven: {_words(verdict)}"
    outcome.details |= {"events": events[:3], "fault": fault(server), "admin": admin[-600:], "hook": said}
    outcome.details["verify"] = verdict.document
    outcome.right = _heard(outcome, verdict, "host-level") and bool(said) and server.id not in running
    outcome.right = outcome.right and verdict.status == 2
    # Nova shows a fault, with the hook's words for administrators, of servers in ERROR; one that stays SHUTOFF has none.
    outcome.right = outcome.right and (server.status == "SHUTOFF" or "host-level" in admin)


def rescued(play: Play) -> Outcome:
    """Nova boots another disk beside the tenant's, with the tenant's disk attached."""
    outcome = Outcome("Rescue", "rescues the machine with an image of its own")
    play.honest()
    _tampered(play, outcome, {"rescue": {"rescue_image_ref": play.other_image()}}, "launch-detour")
    outcome.right = outcome.right and "launch-detour" in outcome.nova_said
    play.back_again(outcome, {"reboot": {"type": "HARD"}}, "a hard reboot, from its own disk")
    return outcome


def rebuilt(play: Play) -> Outcome:
    """Nova replaces the disk and keeps name, address and metadata."""
    outcome = Outcome("Rebuild", "rebuilds the machine from an image of its own")
    return _rebuilt(play, outcome, play.other_image())


def rebuilt_from_the_same(play: Play) -> Outcome:
    """The image is the tenant's; the token is spent."""
    outcome = Outcome("Rebuild, same image", "rebuilds the machine from the tenant's own image: a second machine")
    return _rebuilt(play, outcome, play.image_id)


def _rebuilt(play: Play, outcome: Outcome, image: str) -> Outcome:
    """The authority's answer comes before the disk is compared; its refusal is signed, and younger than the release."""
    play.honest(spoiled=True)
    play.spoil()
    _tampered(play, outcome, {"rebuild": {"imageRef": image}}, "token-used-up")
    outcome.right = outcome.right and "the authority signed: F4 token-used-up" in outcome.tenant_saw
    return outcome


def _tampered(play: Play, outcome: Outcome, body: dict[str, Any], code: str) -> None:
    """The honest machine becomes another one: the agent refuses it for the reason ``code``, and it does not run."""
    play.agent_said(play.good)  # what it said before is not about this
    play.action(play.machine, body)
    time.sleep(2)
    server = play.settle(play.machine)
    _caught(play, outcome, server, code)
    events, admin = play.events(play.machine)
    outcome.details |= {"events": events[:3], "admin": admin[-600:]}
    outcome.right = outcome.right and server.id not in play.running(play.good) and code in admin


def _caught(play: Play, outcome: Outcome, server: Any, code: str, cloud: str = "mine") -> None:
    """The agent's reason must be ``code``, and reach the tenant: a silent machine is caught by nobody."""
    said = play.agent_said(play.good)
    verdict = play.verify(server.name, SILENT, cloud)
    outcome.nova_said = f"{server.status}: {_reason(fault(server))}"
    outcome.stopped_by = f"the agent: {said}" if said else "nothing of ours"
    outcome.tenant_saw = f"{'refused' if verdict.status == 3 else 'nothing proven'}: {_words(verdict)}"
    outcome.details |= {"fault": fault(server), "agent": said, "verify": verdict.document, "said": verdict.said}
    outcome.right = _heard(outcome, verdict, code) and server.status == "ERROR" and said.startswith(f"{code}: ")
    outcome.right = outcome.right and verdict.status in (2, 3)


def edited_metadata(play: Play) -> Outcome:
    """One character of the launch token is another one."""
    outcome = Outcome("Metadata edited", "changes the token in the server's metadata")
    token = play.token("edited")
    at = len(token) - 20  # of the sealed body; the last character may have bits that must be zero
    changed = f"{token[:at]}{'A' if token[at] != 'A' else 'B'}{token[at + 1 :]}"
    play.agent_said(play.good)
    play.create("edited", play.image_id, changed)
    _caught(play, outcome, play.settle("edited"), "token-unopenable", "admin")
    play.remove("edited")
    return outcome


def swapped_image(play: Play) -> Outcome:
    """Same image, same id: its file in Glance's store is another one, and so are the digests in Glance's database."""
    outcome = Outcome("Image swapped", "puts another disk where the tenant's image is in Glance's store")
    image = play.cloud.upload("guest-swapped", play.image)
    play.cloud.replace_image(image, play.other_disk())
    play.agent_said(play.good)
    launched = play.launch("swapped", image="guest-swapped")
    outcome.details["launch"] = launched.said
    _caught(play, outcome, play.show("swapped"), "inputs-differ")
    play.remove("swapped")
    return outcome


def leaks(play: Play) -> Outcome:
    """The machine's key is on its config drive, in its disk, and nowhere else in the cloud."""
    outcome = Outcome("Leaks", "looks for the machine's key in logs, databases, settings, command lines, environments")
    play.honest(spoiled=True)
    state = play.cloud.places.state
    drives = [compute.file("/var/lib/nova/instances") for compute in play.cloud.computes]
    folders = [state, Path("/run"), Path("/tmp"), Path("/etc"), Path("/var/lib")]  # ours: see spaces.py
    hits, number = found_in(folders, [*drives, state / "glance" / "images", *_images(play)], play.secrets)
    outcome.details = {"found_in": hits[:20], "parts": len(play.secrets), "looked_at": number}
    outcome.right = not hits and len(play.secrets) >= 3
    outcome.stopped_by = f"nothing to find in {number} files and processes"
    if hits:
        outcome.stopped_by = f"found in {', '.join(hits)[:200]}"
    return outcome


def _images(play: Play) -> list[Path]:
    """Whole disks, which nobody wrote a key of these machines into."""
    return [play.cloud.places.state / "other.raw", Path("/var/lib/nova")]


ACTS: dict[str, Callable[[Play], Outcome]] = {
    "good-launch": good_launch,
    "forced-migration": forced_migration,
    "stop-and-start": stop_and_start,
    "hard-reboot": hard_reboot,
    "rescue": rescued,
    "rebuild": rebuilt,
    "rebuild-same-image": rebuilt_from_the_same,
    "filter": only_the_bad_host,
    "forced-zone": forced_zone,
    "filter-removed": filter_removed,
    "metadata-edited": edited_metadata,
    "image-swapped": swapped_image,
    "leaks": leaks,
}
