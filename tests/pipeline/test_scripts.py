"""``packaging/pipelines``: the scripts run as they are, against an authority in a process of its own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from tests.conftest import ROOT
from tests.pipeline.releases import profile
from tests.reference import machines

from watchword.testing.farm import have_swtpm

SCRIPTS = ROOT / "packaging" / "pipelines"
_SECONDS = 60


class Site:
    """An authority that runs, its operator's commands, and a pipeline that reaches it through the gate."""

    def __init__(self, folder: Path, boots: Path) -> None:
        self.folder, self.boots = folder, boots
        self.environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(folder),
        }
        for name in ("XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "WATCHWORD_PASSPHRASE"):
            self.environment.pop(name, None)
        # What sshd does with a forced command: it runs that, and what was asked for is in the environment.
        forced = folder / "forced"
        forced.write_text(
            f'#!/bin/sh\nSSH_ORIGINAL_COMMAND="$*" exec {SCRIPTS / "authority-gate"} --data {folder / "authority"}\n'
        )
        forced.chmod(0o755)
        self.environment["WATCHWORD_GATE"] = str(forced)
        self._running: list[subprocess.Popen[bytes]] = []
        arguments = ["--name", "test", "--listen", "127.0.0.1:0", "--data", "authority", "--ready-file", "ready"]
        self.start("watchword", "authority", "serve", *arguments, until=folder / "ready")
        self.ready = json.loads((folder / "ready").read_text())

    def start(self, *command: str, until: Path) -> None:
        with (self.folder / "log").open("ab") as log:
            process = subprocess.Popen(command, cwd=self.folder, env=self.environment, stdout=log, stderr=log)
        self._running.append(process)
        deadline = time.monotonic() + _SECONDS
        while not until.exists():
            assert process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < deadline, f"waited in vain for {until.name}"
            time.sleep(0.05)

    def close(self) -> None:
        for process in reversed(self._running):
            process.terminate()
            process.wait(_SECONDS)

    def call(self, *command: object, stdin: bytes = b"", more: Mapping[str, str] | None = None) -> tuple[int, Any, str]:
        """Exit status, the JSON document on stdout (None without one) and what was said on stderr."""
        done = subprocess.run(
            [str(part) for part in command], cwd=self.folder, env=self.environment | dict(more or {}), input=stdin,
            capture_output=True, timeout=_SECONDS, check=False,
        )  # fmt: skip
        said = done.stderr.decode()
        assert "Traceback" not in said
        return done.returncode, json.loads(done.stdout) if done.stdout.strip() else None, said

    def release(self, *arguments: object) -> tuple[int, Any, str]:
        return self.call(SCRIPTS / "release.sh", *arguments)

    def authority(self, *arguments: object) -> Any:
        status, document, said = self.call("watchword", "authority", *arguments, "--data", "authority", "--json")
        assert status == 0, said
        return document

    def endorser(self, name: str) -> str:
        key = Ed25519PrivateKey.generate()
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (self.folder / f"{name}.pem").write_bytes(private)
        public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        (self.folder / f"{name}.pub").write_bytes(public)
        return str(self.authority("endorser", "add", f"{name}.pub", "--name", name)["key"])

    def artifacts(self, serial: int, scenario: str, more: str = "") -> Path:
        """What a build leaves behind: the release file and the artifacts that it names."""
        folder = self.folder / str(serial)
        machines.recorded(self.boots, scenario, folder, stack="fleet", serial=serial)
        head = machines.HEADER.replace('"compute"', '"fleet"').replace("serial = 1", f"serial = {serial}\n{more}")
        (folder / "release.toml").write_text(
            head.replace('"1.0"', f'"{serial}"') + '[firmware]\nsheets = ["ovmf.json"]\n[secure-boot]\nstate = "off"\n'
            '[[boot]]\nkind = "uki"\nimage = "compute.efi"\n[runtime]\nfiles = ["files.json"]\n'
        )
        return folder

    def attest(self) -> tuple[int, Any]:
        return self.call("watchword", "agent", "attest", "--config", "host/agent.toml", "--json")[:2]


@pytest.fixture
def site(tmp_path: Path, boots: Path) -> Iterator[Site]:
    if not have_swtpm():
        pytest.skip("swtpm is not installed: the host has a real emulated TPM")
    made = Site(tmp_path, boots)
    try:
        keys = [made.endorser(name) for name in ("builder", "auditor", "second")]
        rule = [part for key in keys for part in ("--endorsers", key)]
        made.authority("stack", "rule", "set", "fleet", *rule, "--threshold", "2")
        (tmp_path / "fleet.json").write_text(json.dumps(profile(*keys)))
        watched = made.authority("profile", "add", "fleet.json")
        made.authority("watch", "add", watched["id"])
        yield made
    finally:
        made.close()


def host(site: Site) -> None:
    """A compute host that booted the first release enrols."""
    reach = ["--authority", site.ready["url"], "--fingerprint", site.ready["fingerprint"]]
    recording = ["--recording", str(site.boots / "good"), "--folder", "host"]
    settings = site.folder / "host" / "agent.toml"
    site.start(sys.executable, "-m", "watchword.testing", "host", *recording, *reach, until=settings)
    site.authority("anchor", "add", "host/maker-root.der", "--class", "virtual")
    assert site.call("watchword", "agent", "enrol", "--config", "host/agent.toml", "--json")[0] == 0


def through(site: Site, folder: Path, previous: Path | None = None) -> Path:
    """All steps up to the draft."""
    stack, envelope = folder / "stack.json", folder / "stack.dsse.json"
    before = [previous] if previous else []
    status, measured, said = site.release("measure", folder / "release.toml", stack, *before)
    assert status == 0, said
    assert ("PCR 11" in said) == bool(previous)  # what changed, in words, for whoever reads the log of the pipeline
    assert site.release("endorse", stack, "builder.pem", envelope)[0] == 0
    status, answer, _ = site.release("submit", envelope)
    assert (status, answer["error"]["code"]) == (3, "stack-threshold")
    assert site.release("review", folder / "release.toml", envelope, "auditor.pem")[0] == 0
    status, answer, said = site.release("submit", envelope)
    assert (status, answer["state"], answer["digest"]) == (0, "draft", measured["digest"]), said
    return envelope


def test_two_releases_and_one_that_would_hurt(site: Site) -> None:
    first = through(site, site.artifacts(1, "good"))
    assert site.release("dry-run", first)[0] == 0
    assert site.release("activate", first)[0] == 0
    host(site)
    assert site.attest()[1]["state"] == "trusted"

    second = through(site, site.artifacts(2, "release-2"), first)
    status, tried, _ = site.release("dry-run", second)
    assert (status, tried["effects"]["same"]) == (0, 1)
    assert site.release("submit", second)[0] == 0  # a pipeline that runs again
    status, answer, _ = site.release("activate", second, "30m")
    assert (status, answer["state"], len(answer["retiring"])) == (0, "active", 1)
    [old, new] = site.authority("stack", "list")["stacks"]
    assert (old["state"], new["state"]) == ("retiring", "active")
    assert 1700 < old["retire_at"] - int(time.time()) <= 1800
    assert site.attest()[1]["state"] == "trusted"

    bad = f'[[known-bad]]\ndigest = "sha256:{old["digest"]}"\nwhat = "stack"\nreason = "a hole in its kernel"\n'
    third = through(site, site.artifacts(3, "initrd", bad), second)
    status, tried, said = site.release("dry-run", third)
    assert (status, tried["effects"]["refused"]) == (3, 1), said
    assert "known-bad" in {reason["code"] for reason in tried["reasons"]}
    assert [row["state"] for row in site.authority("stack", "list")["stacks"]] == ["retiring", "active", "draft"]


def test_who_reviews_computes_again(site: Site) -> None:
    folder = site.artifacts(1, "good")
    envelope = folder / "stack.dsse.json"
    assert site.release("measure", folder / "release.toml", folder / "stack.json")[0] == 0
    altered = json.loads((folder / "stack.json").read_text())
    altered["runtime"]["files"]["/opt/backdoor"] = ["sha256:" + "ab" * 32]
    (folder / "stack.json").write_text(json.dumps(altered))
    assert site.release("endorse", folder / "stack.json", "builder.pem", envelope)[0] == 0
    before = envelope.read_bytes()
    status, _, said = site.release("review", folder / "release.toml", envelope, "auditor.pem")
    assert status == 3
    assert "/opt/backdoor" in said
    assert envelope.read_bytes() == before


def test_mistakes_are_told(site: Site) -> None:
    folder = site.artifacts(1, "good")
    stack = folder / "stack.json"
    assert site.release("measure", folder / "release.toml", stack)[0] == 0
    status, _, said = site.release("measure", folder / "release.toml", folder / "again.json", stack)
    assert (status, "nothing to do" in said) == (1, True)
    (folder / "compute.efi").write_bytes(b"MZ")
    status, answer, _ = site.release("measure", folder / "release.toml", stack)
    assert (status, answer["error"]["code"]) == (3, "malformed")
    status, _, said = site.release("deploy")
    assert (status, "release.sh measure" in said) == (1, True)


@pytest.mark.parametrize(
    "asked",
    [
        "",
        "revoke {}",
        "submit --unendorsed",
        "dry-run {} --revoke {}",
        "activate {}",
        "activate {} 2h --allow-rollback",
        "activate {} 2h; touch escaped",
        "activate {} $(touch escaped)h",
        "submit\ntouch escaped",
        "touch escaped\nsubmit",
        "dry-run {}\nsubmit",
    ],
)
def test_the_gate_does_three_things_and_nothing_else(tmp_path: Path, asked: str) -> None:
    watchword = tmp_path / "watchword"
    watchword.write_text(f'#!/bin/sh\necho "$@" >>{tmp_path}/ran\n')
    watchword.chmod(0o755)
    environment = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "SSH_ORIGINAL_COMMAND": asked.format("ab" * 32, "cd" * 32),
    }
    done = subprocess.run(
        [SCRIPTS / "authority-gate"], cwd=tmp_path, env=environment, capture_output=True, check=False, timeout=20
    )
    assert done.returncode == 1
    assert json.loads(done.stdout)["error"]["code"] == "gate-refused"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["watchword"]


def test_the_pipelines_call_the_script_as_it_is() -> None:
    """Each step of the ready-made pipelines is a step that the script has, in the order of a release."""
    steps = ["measure", "endorse", "review", "submit", "dry-run", "activate"]
    for name in ("github-actions.yml", "gitlab-ci.yml"):
        text = (SCRIPTS / name).read_text()
        assert yaml.safe_load(text)
        called = re.findall(r"^[^#\n]*\./release\.sh (\S+)", text, re.MULTILINE)
        assert called == steps, name
