"""The agent as nova's vendor-data service: who gets a key, who does not, and what nova is told."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.integrations.openstack.helpers import IMAGE, ask, body, start

from watchword.crypto.ssh_key import derive
from watchword.integrations.openstack.service import AgentService
from watchword.testing.compute import ComputeHost
from watchword.testing.world import Token, World
from watchword.wire.inputs import inputs_digest


def token_for(world: World, content: bytes = IMAGE, user_data: bytes | None = None, **fields: object) -> Token:
    used = {"disk": hashlib.sha256(content).digest()}
    if user_data is not None:
        used["user-data"] = hashlib.sha256(user_data).digest()
    return world.token(inputs=inputs_digest(used), **fields)


def launch_file(answer: str) -> dict[str, object]:
    line = next(line for line in answer.splitlines() if line.startswith("write_files: "))
    found: dict[str, object] = json.loads(json.loads(line.removeprefix("write_files: "))[0]["content"])
    return found


def test_a_server_that_asks_for_nothing_gets_nothing(agent: AgentService, compute: ComputeHost) -> None:
    instance = compute.spawn(compute.image(IMAGE))
    answer = ask(agent, body(instance, None, role="web"))
    assert (answer.status_code, answer.json()) == (200, {})


@pytest.mark.parametrize(("form", "size"), [("qcow2", 0), ("qcow2", 1 << 20), ("raw", 0), ("raw", 1 << 20)])
@pytest.mark.parametrize("user_data", [None, b"#cloud-config\n"])
def test_the_machine_gets_its_key(
    agent: AgentService, compute: ComputeHost, form: str, size: int, user_data: bytes | None
) -> None:
    instance = compute.spawn(compute.image(IMAGE), form=form, size=size)
    token = token_for(compute.world, user_data=user_data)
    answer = ask(agent, body(instance, token.text, user_data))
    assert answer.status_code == 200, answer.text
    key = derive(token.body.secret, token.body.launch_id)
    assert key.public_openssh in answer.json()
    assert launch_file(answer.json()) == {
        "released": True,
        "instance": instance.id,
        "ssh_host_key": key.public_openssh,
    }
    assert [each.instance for each in compute.world.decisions(token)] == [instance.id]


def test_six_questions_are_one_build(agent: AgentService, compute: ComputeHost) -> None:
    instance = compute.spawn(compute.image(IMAGE))
    token = token_for(compute.world)
    answers = {ask(agent, body(instance, token.text)).text for _ in range(6)}
    assert len(answers) == 1
    assert [each.outcome for each in compute.world.decisions(token)] == ["released"]


def test_a_restarted_agent_continues_the_build(compute: ComputeHost) -> None:
    instance = compute.spawn(compute.image(IMAGE))
    token = token_for(compute.world)
    with start(compute) as first:
        before = ask(first, body(instance, token.text))
    with start(compute) as second:
        after = ask(second, body(instance, token.text))
    assert before.status_code == after.status_code == 200
    assert launch_file(before.json()) == launch_file(after.json())
    assert "ssh_keys" in after.json()
    assert [each.outcome for each in compute.world.decisions(token)] == ["released"]
    kept = b"".join(path.read_bytes() for path in (compute.folder / "state").rglob("*") if path.is_file())
    assert token.body.secret.hex().encode() not in kept
    assert b"PRIVATE KEY" not in kept


def test_a_rebuild_is_another_build(agent: AgentService, compute: ComputeHost) -> None:
    image = compute.image(IMAGE)
    instance = compute.spawn(image)
    token = token_for(compute.world)
    assert "ssh_keys" in ask(agent, body(instance, token.text)).json()
    again = compute.spawn(image, instance=instance.id)
    answer = ask(agent, body(again, token.text))
    assert launch_file(answer.json())["code"] == "token-used-up"
    assert "ssh_keys" not in answer.json()


def test_a_token_may_allow_a_rebuild(agent: AgentService, compute: ComputeHost) -> None:
    image = compute.image(IMAGE)
    instance = compute.spawn(image)
    token = token_for(compute.world, releases=2)
    assert "ssh_keys" in ask(agent, body(instance, token.text)).json()
    assert "ssh_keys" in ask(agent, body(compute.spawn(image, instance=instance.id), token.text)).json()


def test_two_servers_with_one_token(agent: AgentService, compute: ComputeHost) -> None:
    token = token_for(compute.world)
    first, second = (compute.spawn(compute.image(IMAGE)) for _ in range(2))
    assert "ssh_keys" in ask(agent, body(first, token.text)).json()
    for _ in range(6):
        answer = ask(agent, body(second, token.text))
        assert answer.status_code == 200
        assert launch_file(answer.json())["code"] == "token-used-up"
    assert [each.outcome for each in compute.world.decisions(token)] == ["released", "refused"]


def test_a_rescue_gets_no_secret_and_nobody_is_asked(agent: AgentService, compute: ComputeHost) -> None:
    instance = compute.spawn(compute.image(IMAGE))
    rescue = instance.disk.with_name("disk.rescue")
    shutil.copy(instance.disk, rescue)
    compute.define(instance.id, [("disk", "qcow2", rescue), ("disk", "qcow2", instance.disk)])
    token = token_for(compute.world)
    answer = ask(agent, body(instance, token.text))
    assert launch_file(answer.json())["code"] == "launch-detour"
    assert compute.world.decisions(token) == []


@pytest.mark.parametrize("form", ["qcow2", "raw"])
def test_another_image_is_refused(agent: AgentService, compute: ComputeHost, form: str) -> None:
    instance = compute.spawn(compute.image(IMAGE + b"!"), form=form)
    answer = ask(agent, body(instance, token_for(compute.world).text))
    assert launch_file(answer.json())["code"] == "inputs-differ"
    assert "ssh_keys" not in answer.json()


def test_an_overlay_that_was_written_to_is_refused(agent: AgentService, compute: ComputeHost) -> None:
    instance = compute.spawn(compute.image(IMAGE))
    subprocess.run(["qemu-io", "-f", "qcow2", "-c", "write -P 65 0 512", str(instance.disk)], check=True)
    answer = ask(agent, body(instance, token_for(compute.world).text))
    assert launch_file(answer.json())["code"] == "inputs-differ"


@pytest.mark.parametrize("form", ["qcow2", "raw"])
def test_something_behind_the_image_is_refused(agent: AgentService, compute: ComputeHost, form: str) -> None:
    instance = compute.spawn(compute.image(IMAGE), form=form, size=1 << 20)
    write = f"write -P 65 {(1 << 20) - 512} 512"
    subprocess.run(["qemu-io", "-f", form, "-c", write, str(instance.disk)], check=True)
    answer = ask(agent, body(instance, token_for(compute.world).text))
    assert launch_file(answer.json())["code"] == "disk-tail"


def test_user_data_that_the_token_does_not_name_is_refused(agent: AgentService, compute: ComputeHost) -> None:
    instance = compute.spawn(compute.image(IMAGE))
    token = token_for(compute.world)
    answer = ask(agent, body(instance, token.text, b"#!/bin/sh\nevil\n", watchword_inputs="disk"))
    assert launch_file(answer.json())["code"] == "inputs-differ"


def test_a_kernel_that_the_token_does_not_name_is_refused(agent: AgentService, compute: ComputeHost) -> None:
    instance = compute.spawn(compute.image(IMAGE))
    kernel = compute.folder / "kernel"
    kernel.write_bytes(b"evil")
    compute.define(instance.id, [("disk", "qcow2", instance.disk)], boot=f"<kernel>{kernel}</kernel>")
    answer = ask(agent, body(instance, token_for(compute.world).text))
    assert launch_file(answer.json())["code"] == "inputs-differ"


@pytest.mark.parametrize("damage", ["WWT1", "", "WWT1" + "A" * 200, "not a token", "WWT1é"])
def test_a_damaged_token_is_the_tenants_mistake(agent: AgentService, compute: ComputeHost, damage: str) -> None:
    instance = compute.spawn(compute.image(IMAGE))
    answer = ask(agent, body(instance, damage))
    assert answer.status_code == 200
    assert launch_file(answer.json())["released"] is False


def test_a_refusal_can_be_made_fatal(compute: ComputeHost) -> None:
    compute.write_settings(serve='on_refusal = "fail"')
    instance = compute.spawn(compute.image(IMAGE))
    with start(compute) as agent:
        answer = ask(agent, body(instance, token_for(compute.world, expires=compute.world.now - 1).text))
    assert (answer.status_code, answer.headers["x-watchword-code"]) == (403, "token-expired")


def test_a_bad_host_makes_nova_try_another(world: World, tmp_path: Path) -> None:
    compute = ComputeHost(world, world.host("kernel"), tmp_path)
    instance = compute.spawn(compute.image(IMAGE))
    token = token_for(world)
    with start(compute) as agent:
        answer = ask(agent, body(instance, token.text))
    assert (answer.status_code, answer.headers["x-watchword-code"]) == (503, "stack-none")
    assert [each.outcome for each in world.decisions(token)] == ["refused"]


def test_a_host_that_is_not_enrolled_makes_nova_try_another(world: World, tmp_path: Path) -> None:
    compute = ComputeHost(world, world.host(enrolled=False), tmp_path)
    instance = compute.spawn(compute.image(IMAGE))
    with start(compute) as agent:
        answer = ask(agent, body(instance, token_for(world).text))
    assert (answer.status_code, answer.headers["x-watchword-code"]) == (503, "not-enrolled")


def test_a_domain_that_libvirt_does_not_know_gets_nothing(agent: AgentService, compute: ComputeHost) -> None:
    instance = compute.spawn(compute.image(IMAGE))
    instance.id = "00000000-0000-4000-8000-000000000000"
    answer = ask(agent, body(instance, token_for(compute.world).text))
    assert (answer.status_code, answer.headers["x-watchword-code"]) == (503, "domain-unknown")
