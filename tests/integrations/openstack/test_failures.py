"""What goes wrong, and what nova and people are told: in time, and with no secret where none belongs."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import httpx2
import pytest
from click.testing import CliRunner
from tests.integrations.openstack.helpers import IMAGE, ask, body, start
from tests.integrations.openstack.test_vendordata import launch_file, token_for

from watchword.cli.main import cli
from watchword.integrations.openstack import peer
from watchword.integrations.openstack.service import AgentService
from watchword.testing.compute import ComputeHost
from watchword.testing.scripted import ScriptedAuthority, serve
from watchword.testing.world import World


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"metadata": 1}', b'{"metadata": {"watchword": 5}}', b"\xff"])
def test_what_nova_never_sends_is_refused(agent: AgentService, content: bytes) -> None:
    assert ask(agent, content).status_code == 400


def test_bodies_are_bounded(agent: AgentService) -> None:
    assert ask(agent, b"x" * (2 << 20)).status_code == 413
    assert httpx2.post(f"{agent.url}/v1/vendordata", content=iter([b"{}"])).status_code == 411
    assert httpx2.get(f"{agent.url}/elsewhere").status_code == 404


def test_only_users_that_are_named_may_ask(compute: ComputeHost) -> None:
    compute.write_settings(serve='users = ["nobody"]')
    with start(compute) as agent:
        answer = ask(agent, body(compute.spawn(compute.image(IMAGE)), token_for(compute.world).text))
    assert (answer.status_code, answer.headers["x-watchword-code"]) == (403, "agent-peer")
    assert peer.owner_of("127.0.0.1", 1) is None


def test_it_listens_on_loopback_only(compute: ComputeHost) -> None:
    text = compute.config.read_text().replace("127.0.0.1:0", "0.0.0.0:0")
    compute.config.write_text(text)
    done = CliRunner().invoke(cli, ["agent", "serve", "--config", str(compute.config)])
    assert getattr(done.exception, "code", "") == "listen"


def test_an_authority_that_is_down(compute: ComputeHost) -> None:
    compute.write_settings(authority='relay = "http://127.0.0.1:9"')
    instance, token = compute.spawn(compute.image(IMAGE)), token_for(compute.world)
    with start(compute) as agent:
        answer = ask(agent, body(instance, token.text))
        assert (answer.status_code, answer.headers["x-watchword-code"]) == (503, "exchange-failed")
    compute.write_settings()
    with start(compute) as agent:  # the failure was no decision: the same build may be asked for again
        assert "ssh_keys" in ask(agent, body(instance, token.text)).json()


def test_an_authority_that_is_slow_does_not_hold_nova(compute: ComputeHost) -> None:
    release = threading.Event()

    def sleep(_path: str, _body: bytes) -> None:
        release.wait(30)

    instance, token = compute.spawn(compute.image(IMAGE)), token_for(compute.world)
    with serve(sleep) as url:
        compute.write_settings(authority=f'relay = "{url}"', serve="deadline = 2")
        with start(compute) as agent:
            before = time.monotonic()
            answer = ask(agent, body(instance, token.text))
            took = time.monotonic() - before
            release.set()
    assert answer.status_code in (503, 504)
    assert took < 10


def test_an_authority_with_another_certificate(compute: ComputeHost, tmp_path: Path) -> None:
    stranger = ScriptedAuthority(lambda *_: pytest.fail("it must not be asked"))
    (tmp_path / "tls").mkdir()
    with serve(lambda *_: (200, b""), stranger.tls(tmp_path / "tls")) as url:
        compute.write_settings(authority=f'url = "{url}"')
        with start(compute) as agent:
            answer = ask(agent, body(compute.spawn(compute.image(IMAGE)), token_for(compute.world).text))
    assert (answer.status_code, answer.headers["x-watchword-code"]) == (503, "exchange-failed")
    assert "certificate" in answer.text.lower()


def test_a_reboot_between_two_questions(agent: AgentService, compute: ComputeHost) -> None:
    """What was kept of the build is worthless in another boot, and the token is used up."""
    instance, token = compute.spawn(compute.image(IMAGE)), token_for(compute.world)
    assert "ssh_keys" in ask(agent, body(instance, token.text)).json()
    compute.host.machine.reboot()
    with start_again(compute) as other:
        assert launch_file(ask(other, body(instance, token.text)).json())["code"] == "token-used-up"


def start_again(compute: ComputeHost) -> AgentService:
    compute.write_settings(serve="")
    text = compute.config.read_text().replace("agent.sock", "other.sock")
    compute.config.write_text(text)
    return start(compute)


def test_nothing_secret_is_written_or_logged(compute: ComputeHost, capfd: pytest.CaptureFixture[str]) -> None:
    instance, token = compute.spawn(compute.image(IMAGE)), token_for(compute.world)
    with start(compute) as agent:
        answer = ask(agent, body(instance, token.text)).json()
        private = next(line.strip() for line in answer.splitlines() if line.strip().startswith("b3Blbn"))
        seen = capfd.readouterr()
        kept = b"".join(path.read_bytes() for path in compute.folder.rglob("*") if path.is_file())
        arguments = b"".join(path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists())
    for place in ((seen.out + seen.err).encode(), kept, arguments):
        for secret in (private.encode(), token.body.secret, token.body.secret.hex().encode()):
            assert secret not in place
    assert token.text not in seen.out + seen.err


def test_two_at_a_time_are_one_build(agent: AgentService, compute: ComputeHost) -> None:
    instance, token = compute.spawn(compute.image(IMAGE)), token_for(compute.world)
    answers: list[str] = []
    threads = [
        threading.Thread(target=lambda: answers.append(ask(agent, body(instance, token.text)).text)) for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 6
    assert len(set(answers)) == 1
    assert [each.outcome for each in compute.world.decisions(token)] == ["released"]


def test_keystone_decides_who_may_ask(compute: ComputeHost) -> None:
    def users(path: str, _body: bytes) -> tuple[int, bytes]:
        return 404, b""

    with serve(users) as url:
        compute.write_settings(serve=f'keystone = "{url}"')
        with start(compute) as agent:
            instance = compute.spawn(compute.image(IMAGE))
            none = ask(agent, body(instance, None))
            unknown = ask(agent, body(instance, None), **{"X-Auth-Token": "t" * 32})
    assert (none.status_code, none.headers["x-watchword-code"]) == (401, "caller-unknown")
    # This server knows no GET at all: an identity service that does not do its part is not a yes.
    assert unknown.status_code in (401, 503)


def test_the_doctor_says_what_to_fix(compute: ComputeHost, world: World) -> None:
    nova = compute.folder / "nova.conf"
    nova.write_text("[DEFAULT]\nforce_config_drive = true\n[api]\nvendordata_dynamic_read_timeout = 5\n")
    compute.write_settings(status="rank = 0")
    line = ["agent", "doctor", "--config", str(compute.config), "--nova-conf", str(nova), "--json"]
    done = CliRunner().invoke(cli, line, standalone_mode=False)
    found = {problem["code"] for problem in json.loads(done.stdout)["problems"]}
    assert found == {"nova-providers", "nova-targets", "nova-fatal", "nova-timeout", "hook-missing", "rank-unset"}
    nova.write_text(
        "[DEFAULT]\nforce_config_drive = true\n[api]\nvendordata_dynamic_failure_fatal = True\n"
        "vendordata_dynamic_read_timeout = 60\nvendordata_providers = StaticJSON\nvendordata_providers = DynamicJSON\n"
        "vendordata_dynamic_targets = cloud-init@http://127.0.0.1:0/v1/vendordata\n"
    )
    hook = compute.folder / "hook"
    hook.touch(0o755)
    compute.write_settings(status="rank = 1")
    done = CliRunner().invoke(cli, [*line, "--hook", str(hook)], standalone_mode=False)
    assert json.loads(done.stdout)["problems"] == []
    assert done.return_value == 0


def test_the_doctor_does_not_miss_a_cache_that_nova_has_yet_to_make(compute: ComputeHost) -> None:
    compute.write_settings()
    line = ["agent", "doctor", "--config", str(compute.config), "--nova-conf", "/dev/null", "--json"]
    for missing, codes in ((compute.base, set()), (compute.base.parent, {"base-missing"})):
        missing.rmdir()
        done = CliRunner().invoke(cli, line, standalone_mode=False)
        found = {problem["code"] for problem in json.loads(done.stdout)["problems"]}
        assert found & {"base-missing"} == codes
