"""From a built image to a trusted fleet: two releases measured, booted, endorsed and rolled out, one host at a time."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.pipeline.releases import Built, Command, build, command, profile, record

from watchword.errors import Rejected
from watchword.policy.match import StackMatch, match
from watchword.policy.profile import Profile
from watchword.policy.stack import CompiledStack
from watchword.reference.host_diff import compare_files
from watchword.testing.soft_tpm import SoftTpm
from watchword.testing.world import TestHost, World
from watchword.verify.boot_log import verify_boot_log
from watchword.wire.ima_log import ImaLog
from watchword.wire.tcg_log import EventLog
from watchword.wire.tpm.algorithms import Alg

HOSTS, LAGGARDS = 12, 2


@pytest.fixture
def releases(boots: Path, tmp_path: Path) -> dict[str, Built]:
    for program in ("swtpm", "qemu-system-x86_64"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    return {
        "first": build(boots, tmp_path / "1", "good", 1),
        "second": build(boots, tmp_path / "2", "release-2", 2, 'supersedes = ["../1/compute.json"]\n'),
    }


@pytest.fixture
def watchword(capsys: pytest.CaptureFixture[str]) -> Command:
    return command(capsys)


class Fleet:
    """An authority, its operator's commands, three endorsers of whom two must sign, and hosts."""

    def __init__(self, world: World, watchword: Command, folder: Path) -> None:
        self.world, self._watchword, self._folder = world, watchword, folder
        self.keys = [self._endorser(name) for name in ("builder", "auditor", "second")]
        rule = [part for key in self.keys for part in ("--endorsers", key)]
        assert self.authority("stack", "rule", "set", "fleet", *rule, "--threshold", "2")[0] == 0
        (folder / "fleet.json").write_text(json.dumps(profile(*self.keys)))
        self.profile = Profile.parse((folder / "fleet.json").read_bytes())
        assert self.authority("profile", "add", folder / "fleet.json")[0] == 0
        assert self.authority("watch", "add", self.profile.id.hex())[0] == 0
        self.hosts: list[TestHost] = []

    def _endorser(self, name: str) -> str:
        key, pem = Ed25519PrivateKey.generate(), serialization.Encoding.PEM
        private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        public = key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo)
        (self._folder / f"{name}.pem").write_bytes(private)
        (self._folder / f"{name}.pub").write_bytes(public)
        status, added = self.authority("endorser", "add", self._folder / f"{name}.pub", "--name", name)
        assert status == 0
        return str(added["key"])

    def authority(self, *arguments: object, status: int | None = None) -> tuple[int, dict[str, object]]:
        found = self._watchword("authority", *arguments, "--data", self.world.folder)
        assert status in (None, found[0]), found
        return found

    def endorse(self, built: Built, name: str) -> None:
        source = built.endorsed if built.endorsed.exists() else built.stack
        key = self._folder / f"{name}.pem"
        assert self._watchword("stack", "endorse", source, "--key", key, "-o", built.endorsed)[0] == 0

    def attest(self, host: TestHost) -> tuple[str, str]:
        """How ``host`` stands after it attested, and the code of what is in the way."""
        self.world.now = int(time.time())
        found = host.attest()
        return found.state, found.code

    def failed(self) -> dict[str, str]:
        """The hosts that the authority holds for failed, and why."""
        rows = self.authority("watch", "hosts", "--state", "failed", status=0)[1]["hosts"]
        assert isinstance(rows, list)
        return {row["host"]: row["code"] for row in rows}


@pytest.fixture
def fleet(releases: dict[str, Built], watchword: Command, boots: Path, tmp_path: Path) -> Iterator[Fleet]:
    """Both releases measured, and only then booted."""
    predicted = {}
    for name, built in releases.items():
        status, said = watchword("stack", "measure", built.folder / "release.toml", "-o", built.stack)
        assert status == 0, said
        [prediction] = said["predictions"]
        predicted[name] = prediction["pcrs"]["sha256"]
    record(releases, tmp_path / "boots")
    for name, values in predicted.items():
        as_predicted(releases[name], tmp_path / "boots" / name, values)
    shutil.copytree(boots / "cmdline", tmp_path / "boots" / "good")  # the stack of this world, which no host here boots
    with World(tmp_path / "boots", clock=int(time.time())) as world:
        yield Fleet(world, watchword, tmp_path)


def as_predicted(built: Built, recording: Path, predicted: dict[str, str]) -> None:
    """The machine's PCRs have the values computed before it booted; its logs are the stack's and its files listed."""
    stack = CompiledStack.parse(built.stack.read_bytes())
    real = json.loads((recording / "pcrs.json").read_text())["sha256"]
    assert {pcr: predicted.get(str(pcr), "0" * 64) for pcr in stack.pcrs} == {pcr: real[str(pcr)] for pcr in stack.pcrs}
    quoted = {pcr: bytes.fromhex(real[str(pcr)]) for pcr in stack.pcrs}
    log = EventLog.parse((recording / "eventlog.bin").read_bytes())
    verified = verify_boot_log(log, SoftTpm.create().verified_pcrs(Alg.SHA256, quoted), Alg.SHA256)
    assert isinstance(match(stack, verified), StackMatch)
    files = compare_files(stack, ImaLog.parse((recording / "ima.bin").read_bytes()))
    assert files.measured > 5
    assert not files.unlisted
    assert not files.violations


@pytest.mark.vm
def test_a_fleet_moves_to_the_next_release_and_no_attestation_is_refused_on_the_way(
    fleet: Fleet, releases: dict[str, Built]
) -> None:
    world, old, new = fleet.world, releases["first"], releases["second"]
    fleet.endorse(old, "builder"), fleet.endorse(old, "second")
    fleet.authority("stack", "add", old.endorsed, status=0)
    fleet.hosts += [world.host("first") for _ in range(HOSTS)]
    assert {fleet.attest(host) for host in fleet.hosts} == {("trusted", "")}

    # The next release: one signature is not enough, a draft decides nothing, and the dry run says that nobody is hurt.
    fleet.endorse(new, "builder")
    _, refused = fleet.authority("stack", "add", new.endorsed, "--draft", status=3)
    assert refused["error"]["code"] == "stack-threshold"  # type: ignore[index]
    fleet.endorse(new, "auditor")
    fleet.authority("stack", "add", new.endorsed, "--draft", status=0)
    _, tried = fleet.authority("dry-run", "--activate", "fleet@2", status=0)
    assert tried["effects"] == {"same": HOSTS, "better": 0, "worse": 0, "refused": 0, "unknown": 0}
    _, active = fleet.authority("stack", "activate", "fleet@2", "--retire-old-in", "2h", status=0)
    assert len(active["retiring"]) == 1  # type: ignore[arg-type]

    *moved, last, laggard = fleet.hosts
    for number, host in enumerate(moved):
        host.machine.reboot(world.boots / "second", orderly=True)
        assert fleet.attest(host) == ("trusted", ""), number
        assert fleet.attest(fleet.hosts[number + 1]) == ("trusted", ""), number
    assert fleet.authority("watch", "hosts")[1]["counts"] == {"trusted": HOSTS}

    # The end of the old one: who would be refused is known before, and is exactly who did not reboot.
    laggards = {host.host_id.hex() for host in (last, laggard)}
    _, tried = fleet.authority("dry-run", "--revoke", "fleet@1", "--hosts", status=3)
    assert {row["host"] for row in tried["worse"]} == laggards  # type: ignore[attr-defined]
    assert {row["code"] for row in tried["reasons"]} >= {"stack-revoked"}  # type: ignore[attr-defined]
    fleet.authority("stack", "revoke", "fleet@1", "--reason", "a hole in its kernel", status=0)
    states = {host.host_id.hex(): fleet.attest(host) for host in fleet.hosts}
    assert {name for name, state in states.items() if state != ("trusted", "")} == laggards
    assert fleet.failed() == dict.fromkeys(laggards, "stack-revoked")
    with pytest.raises(Rejected) as caught:
        laggard.obtain(world.token(profile=fleet.profile.id, level=1))
    assert caught.value.code == "stack-revoked"
    laggard.machine.reboot(world.boots / "second", orderly=True)
    assert fleet.attest(laggard) == ("trusted", "")
    assert set(fleet.failed()) == {last.host_id.hex()}
