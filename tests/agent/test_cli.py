"""``watchword agent`` as people and orchestrators use it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from watchword.agent.launch import BootKind
from watchword.cli.main import run
from watchword.testing.scripted import serve
from watchword.wire.inputs import inputs_digest
from watchword.wire.token import Token
from watchword.wire.tpm.attest import Attest

TOKEN = Token(1, b"keyk", bytes(120)).text()
DISK = b"a disk" * 1000


class Agent:
    """A compute host with a settings file, and its authority behind a relay."""

    def __init__(self, bench, url: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.bench, self.folder, self.capsys = bench, folder, capsys
        keys = folder / "keys.json"
        keys.write_text(json.dumps({"keys": [json.loads(bench.authority.envelope)]}))
        self.config = folder / "agent.toml"
        self.config.write_text(
            f"""
            [authority]
            relay = "{url}"
            keys = "{keys}"
            fingerprint = "{bench.authority.fingerprint}"
            [tpm]
            address = "{bench.tpm.address}"
            event_log = "{bench.event_log}"
            runtime_log = "{bench.runtime_log}"
            [host]
            state = "{folder / "state"}"
            """
        )
        self.disk = folder / "disk.img"
        self.disk.write_bytes(DISK)
        self.token = folder / "token"
        self.token.write_text(TOKEN + "\n")
        inputs = inputs_digest({"disk": hashlib.sha256(DISK).digest()})
        bench.authority.secret = replace(bench.authority.secret, inputs=inputs)

    def run(self, *arguments: str) -> int:
        self.capsys.readouterr()
        return run(["agent", *arguments])

    def json(self, *arguments: str) -> dict:
        status = self.run(*arguments, "--config", str(self.config), "--json")
        said = self.capsys.readouterr()
        return {"status": status, "stderr": said.err, **json.loads(said.out)}

    def launch(self, *arguments: str) -> dict:
        if shutil.which("qemu-system-x86_64") is None:
            pytest.skip("qemu-system-x86_64 is not installed")
        return self.json("launch", "--disk", str(self.disk), "--token-file", str(self.token), *arguments)


@pytest.fixture
def agent(bench, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Agent]:
    with serve(lambda _, body: (200, bench.authority.send(body))) as url:
        yield Agent(bench, url, tmp_path, capsys)


def test_enrol_remembers_what_launch_needs(agent: Agent) -> None:
    agent.bench.authority.host_id = bytes(range(32))
    found = agent.json("enrol")
    assert found["status"] == 0
    assert (found["host_id"], found["ek"], found["authority"]) == (bytes(range(32)).hex(), "p256", "scripted")
    assert json.loads((agent.folder / "state/enrolment.json").read_text())["host_id"] == found["host_id"]


def test_a_detached_machine_runs_on_and_is_stopped_by_its_folder(agent: Agent) -> None:
    agent.json("enrol")
    found = agent.launch("--detach", "--instance", "web-1")
    assert found["status"] == 0
    assert found["instance"] == "web-1"
    assert Path(f"/proc/{found['pid']}/cmdline").read_bytes().startswith(b"qemu-system")
    assert found["ssh"]["port"] > 0
    assert agent.run("stop", found["folder"], "--json") == 0
    assert json.loads(agent.capsys.readouterr().out) == {"stopped": True, "pid": found["pid"]}
    os.waitpid(found["pid"], 0)
    assert agent.run("stop", found["folder"]) == 0
    assert "did not run" in agent.capsys.readouterr().out


def test_in_the_foreground_a_signal_ends_the_machine(agent: Agent) -> None:
    agent.json("enrol")
    arguments = ["agent", "launch", "--disk", str(agent.disk), "--config", str(agent.config), "--json"]
    program = f"from watchword.cli.main import main; main({arguments!r})"
    environment = {**os.environ, "WATCHWORD_TOKEN": TOKEN}
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            assert process.stdout is not None
            found = json.loads(process.stdout.readline())
            assert Path(f"/proc/{found['pid']}").exists()
            process.terminate()
            assert process.wait(15) == 0
            assert not Path(f"/proc/{found['pid']}").exists()
        finally:
            process.kill()


def test_a_swapped_image_is_refused_and_explained(agent: Agent) -> None:
    agent.json("enrol")
    agent.disk.write_bytes(DISK + b"!")
    found = agent.launch()
    assert (found["status"], found["error"]["code"]) == (3, "inputs-differ")
    assert "[L2]" in found["stderr"]
    assert "hint" in found["stderr"]
    assert not (agent.folder / "state/machines").exists()


@pytest.mark.parametrize("boot", [kind.value for kind in BootKind if kind is not BootKind.FRESH])
def test_detours_are_refused(agent: Agent, boot: str) -> None:
    found = agent.launch("--boot", boot)
    assert (found["status"], found["error"]["code"]) == (3, "launch-detour")


def test_a_host_that_is_not_enrolled_is_told_what_to_do(agent: Agent) -> None:
    found = agent.launch()
    assert (found["status"], found["error"]["code"]) == (1, "not-enrolled")
    assert "watchword agent enrol" in found["error"]["hint"]


@pytest.mark.parametrize("content", [b"", b"no token", b"\xff\xfe", b"WWT1" * 1000])
def test_a_bad_token_is_malformed(agent: Agent, content: bytes) -> None:
    agent.token.write_bytes(content)
    found = agent.launch()
    assert (found["status"], found["error"]["code"]) == (3, "malformed")


def test_without_a_token_there_is_a_hint(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WATCHWORD_TOKEN", raising=False)
    found = agent.json("launch", "--disk", str(agent.disk))
    assert (found["status"], found["error"]["code"]) == (1, "token-missing")


def test_there_is_no_option_that_takes_a_token(agent: Agent) -> None:
    assert agent.run("launch", "--token", TOKEN, "--disk", str(agent.disk)) == 1


def test_status_of_a_host_that_is_ready(agent: Agent) -> None:
    agent.json("enrol")
    found = agent.json("status")
    assert (found["status"], found["ready"], found["problems"]) == (0, True, [])
    assert "sha256" in found["tpm"]["banks"]
    assert found["authority"]["name"] == "scripted"
    assert agent.run("status", "--config", str(agent.config)) == 0
    assert agent.capsys.readouterr().out.startswith("ready: yes\n")


def test_status_names_every_problem_at_once(agent: Agent) -> None:
    found = agent.json("status", "--tpm", "unix:/nowhere", "--event-log", "/nowhere", "--keys", "/nowhere")
    assert (found["status"], found["ready"]) == (2, False)
    codes = [problem["code"] for problem in found["problems"]]
    assert codes == ["tpm-unreachable", "log-unreadable", "file-unreadable", "not-enrolled"]


def test_evidence_is_written_for_people(agent: Agent) -> None:
    output = agent.folder / "evidence"
    found = agent.json("evidence", str(output), "--pcrs", "sha256:0,7,10")
    assert found["status"] == 0
    assert set(found["files"]) == {path.name for path in output.iterdir()}
    assert Attest.parse((output / "quote.attest").read_bytes()).extra_data == (output / "nonce").read_bytes()
    assert set(json.loads((output / "pcrs.json").read_text())["sha256"]) == {"0", "7", "10"}
    assert (output / "event.log").read_bytes() == b"the firmware's log"
    again = agent.json("evidence", str(output))
    assert (again["status"], again["error"]["code"]) == (1, "output")


@pytest.mark.parametrize("pcrs", ["", "sha256", "sha256:", "md5:0", "sha256:x", "sha256:-1", "sha256:99", "0"])
def test_strange_pcrs_are_refused(agent: Agent, pcrs: str) -> None:
    found = agent.json("evidence", str(agent.folder / "evidence"), "--pcrs", pcrs)
    known = pcrs.startswith("sha256")
    assert (found["status"], found["error"]["code"]) == (1, "pcrs" if known else "unknown-hash")


@pytest.mark.parametrize("content", [None, "", "[]", '{"pid": 1}', '{"pid": "x", "name": "y"}'])
def test_a_strange_folder_stops_nothing(agent: Agent, content: str | None) -> None:
    if content is not None:
        (agent.folder / "machine.json").write_text(content)
    assert agent.run("stop", str(agent.folder)) == 1
    assert "machine" in agent.capsys.readouterr().err


@pytest.mark.parametrize("command", ["enrol", "status", "launch", "stop", "evidence"])
def test_every_help_page_ends_with_an_example(agent: Agent, command: str) -> None:
    assert agent.run(command, "--help") == 0
    assert "Example:\n    watchword agent" in agent.capsys.readouterr().out
