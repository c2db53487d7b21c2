"""Every start of a machine passes the hook: the script as libvirt runs it, a real agent, a real TPM."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.integrations.openstack.helpers import IMAGE, ask, body, start
from tests.integrations.openstack.test_vendordata import token_for

from watchword.cli.main import cli
from watchword.errors import Unavailable
from watchword.integrations.openstack.service import AgentService
from watchword.testing.compute import ComputeHost, Instance, domain_xml


@pytest.fixture
def hook(compute: ComputeHost) -> Path:
    """The hook as the command installs it."""
    folder = compute.folder / "hooks" / "qemu.d"
    arguments = ["--folder", str(folder), "--socket", str(compute.folder / "agent.sock")]
    done = CliRunner().invoke(cli, ["libvirt", "install-hook", *arguments])
    assert done.exit_code == 0, done.output
    return folder / "50-watchword"


@pytest.fixture
def watched(compute: ComputeHost) -> Iterator[AgentService]:
    """An agent that asks the authority at every start."""
    compute.write_settings(status="rank = 2\ninterval = 86400")
    with start(compute) as service:
        yield service


def run(hook: Path, xml: str, operation: str = "prepare", sub: str = "begin") -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-I", str(hook), "instance-00000001", operation, sub, "-"]
    return subprocess.run(line, input=xml, capture_output=True, text=True, timeout=90, check=False)


def drive(instance: Instance, token: str) -> Path:
    """A config drive as nova leaves it beside the disk; only the token in it matters here."""
    path = instance.disk.with_name("disk.config")
    path.write_bytes(bytes(40_000) + b'{"meta": {"watchword": "%s"}}' % token.encode() + bytes(2000))
    return path


def xml_of(instance: Instance, config: Path | None) -> str:
    disks = [("disk", "qcow2", instance.disk)] + ([("cdrom", "raw", config)] if config else [])
    return domain_xml(instance.id, disks, kind="kvm")


def test_a_good_host_starts_the_machine(watched: AgentService, compute: ComputeHost, hook: Path) -> None:
    instance = compute.spawn(compute.image(IMAGE))
    done = run(hook, xml_of(instance, drive(instance, token_for(compute.world).text)))
    assert (done.returncode, done.stderr) == (0, "")


def test_a_host_that_changed_does_not(watched: AgentService, compute: ComputeHost, hook: Path, boots: Path) -> None:
    instance = compute.spawn(compute.image(IMAGE))
    xml = xml_of(instance, drive(instance, token_for(compute.world).text))
    compute.host.machine.reboot(boots / "kernel")
    watched.attestors.each[0]._asked = float("-inf")  # as after the seconds that a verdict is shared for
    done = run(hook, xml)
    assert done.returncode == 1
    assert "must not start here" in done.stderr
    assert "host-level" in done.stderr
    assert "stack-none" in done.stderr


def test_a_machine_without_a_token_starts_anywhere(
    watched: AgentService, compute: ComputeHost, hook: Path, boots: Path
) -> None:
    instance = compute.spawn(compute.image(IMAGE))
    compute.host.machine.reboot(boots / "kernel")
    watched.attestors.each[0]._asked = float("-inf")
    assert run(hook, xml_of(instance, None)).returncode == 0
    assert run(hook, xml_of(instance, drive(instance, "nothing"))).returncode == 0


def test_without_an_agent_only_machines_without_a_token_start(compute: ComputeHost, hook: Path) -> None:
    instance = compute.spawn(compute.image(IMAGE))
    xml = xml_of(instance, drive(instance, token_for(compute.world).text))
    done = run(hook, xml)
    assert done.returncode == 1
    assert "agent of this host does not answer" in done.stderr
    assert run(hook, xml, "stopped", "end").returncode == 0
    assert run(hook, xml_of(instance, None)).returncode == 0


def test_the_target_of_a_migration_whose_drive_is_not_copied_yet(
    watched: AgentService, compute: ComputeHost, hook: Path, boots: Path
) -> None:
    """Nova makes the file, libvirt calls the hook, and only then does QEMU copy the content."""
    instance = compute.spawn(compute.image(IMAGE))
    config = instance.disk.with_name("disk.config")
    config.write_bytes(bytes(505_856))
    xml = xml_of(instance, config)
    assert run(hook, xml).returncode == 0
    compute.host.machine.reboot(boots / "kernel")
    watched.attestors.each[0]._asked = float("-inf")
    done = run(hook, xml)
    assert done.returncode == 1
    assert "stack-none" in done.stderr


def test_without_an_agent_a_drive_without_content_counts(compute: ComputeHost, hook: Path) -> None:
    instance = compute.spawn(compute.image(IMAGE))
    config = instance.disk.with_name("disk.config")
    config.write_bytes(bytes(505_856))
    assert run(hook, xml_of(instance, config)).returncode == 1


def test_the_first_start_is_of_what_was_measured(agent: AgentService, compute: ComputeHost, hook: Path) -> None:
    instance = compute.spawn(compute.image(IMAGE))
    token = token_for(compute.world)
    assert "ssh_keys" in ask(agent, body(instance, token.text)).json()
    xml = xml_of(instance, drive(instance, token.text))
    assert run(hook, xml).returncode == 0
    subprocess.run(["qemu-io", "-f", "qcow2", "-c", "write -P 65 0 512", str(instance.disk)], check=True)
    done = run(hook, xml)
    assert done.returncode == 1
    assert "disk-changed" in done.stderr


def test_a_first_start_is_checked_by_an_agent_that_was_restarted(compute: ComputeHost, hook: Path) -> None:
    instance = compute.spawn(compute.image(IMAGE))
    token = token_for(compute.world)
    with start(compute) as agent:
        assert "ssh_keys" in ask(agent, body(instance, token.text)).json()
    xml = xml_of(instance, drive(instance, token.text))
    with start(compute):
        assert run(hook, xml).returncode == 0
        subprocess.run(["qemu-io", "-f", "qcow2", "-c", "write -P 65 0 512", str(instance.disk)], check=True)
        done = run(hook, xml)
        assert (done.returncode, "disk-changed" in done.stderr) == (1, True)
        next((compute.folder / "state" / "builds").iterdir()).write_bytes(b"{")
        assert "disk-changed" in run(hook, xml).stderr


def test_later_starts_need_a_good_host_without_any_setting(compute: ComputeHost, hook: Path, boots: Path) -> None:
    """Launched on a good host, which goes bad: stop and start, and a hard reboot, call the same hook again."""
    instance = compute.spawn(compute.image(IMAGE))
    token = token_for(compute.world)
    xml = xml_of(instance, drive(instance, token.text))
    with start(compute) as agent:
        assert "ssh_keys" in ask(agent, body(instance, token.text)).json()
        assert run(hook, xml).returncode == 0
        assert run(hook, xml, "started").returncode == 0
        compute.host.machine.reboot(boots / "kernel")
    with start(compute):
        for _ in ("start", "hard reboot"):
            assert run(hook, xml, "stopped", "end").returncode == 0
            assert run(hook, xml, "release", "end").returncode == 0
            done = run(hook, xml)
            assert (done.returncode, "host-level" in done.stderr) == (1, True), done.stderr
        assert run(hook, xml_of(compute.spawn(compute.image(IMAGE)), None)).returncode == 0
    compute.write_settings(status="rank = 0")
    with start(compute):  # the operator may switch it off, and has to say so
        assert run(hook, xml).returncode == 0


def test_an_old_verdict_counts_only_while_both_sides_say_so(watched: AgentService, compute: ComputeHost) -> None:
    """A slow authority is like one that is down: the last verdict counts for a while, and then nothing does."""
    attestor = watched.attestors.each[0]
    assert attestor.check(30).state == "trusted"
    attestor._asked = time.monotonic() - 60  # no longer shared, still young enough
    with attestor._lock:  # the background attestation waits for an answer
        assert attestor.check(0.5).state == "trusted"
        attestor._asked = time.monotonic() - 601
        with pytest.raises(Unavailable, match="still being asked"):
            attestor.check(0.5)
        attestor._asked = time.monotonic() - 60
        attestor._found = replace(attestor.check(0.5), until=int(time.time()) - 1)
        with pytest.raises(Unavailable, match="still being asked"):
            attestor.check(0.5)


def test_a_start_ends_the_repeating_of_the_answer(agent: AgentService, compute: ComputeHost, hook: Path) -> None:
    instance = compute.spawn(compute.image(IMAGE))
    token = token_for(compute.world)
    assert "ssh_keys" in ask(agent, body(instance, token.text)).json()
    assert list((compute.folder / "state" / "builds").iterdir()) != []
    assert run(hook, xml_of(instance, drive(instance, token.text)), "started").returncode == 0
    assert list((compute.folder / "state" / "builds").iterdir()) == []
    assert "ssh_keys" not in ask(agent, body(instance, token.text)).json()
