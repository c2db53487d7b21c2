"""The how-to about several authorities, done as it is written: three real authorities, one host, machines in QEMU.

The commands and the host's sections come out of the page; only addresses, fingerprints and folders are put in.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import ROOT

from watchword.testing.commands import Answer, audit, run_command, watchword
from watchword.testing.emulated import EmulatedHost
from watchword.testing.farm import EkAuthority, Farm
from watchword.testing.provider import ComputeHost, Provider

PAGE = (ROOT / "docs" / "howto" / "several-authorities.md").read_text()
NAMES = ("auditor", "union", "lab")
NEEDED = ("qemu-system-x86_64", "swtpm", "objcopy", "apt-get")
_SECTION = re.compile(r"^## ", re.MULTILINE)
_BLOCK = re.compile(r"^```(console|toml)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def section(title: str, language: str) -> list[str]:
    """The blocks of ``language`` below one heading of the page."""
    (text,) = (each for each in _SECTION.split(PAGE) if each.startswith(title + "\n"))
    return [body for kind, body in _BLOCK.findall(text) if kind == language]


def commands(title: str) -> list[list[str]]:
    lines = [line for block in section(title, "console") for line in block.replace("\\\n", " ").splitlines()]
    assert all(line.startswith(("$ watchword ", "# watchword ")) for line in lines)
    return [shlex.split(line[2:])[1:] for line in lines]


class Authority:
    """A process of its own, with its own keys; ``url`` and ``fingerprint`` are known once it serves."""

    def __init__(self, name: str, folder: Path, environment: dict[str, str]) -> None:
        self.name, self.data = name, folder / f"{name}-data"
        self._ready, self._log = folder / f"{name}-ready", folder / f"{name}.log"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                watchword("authority", "serve", "--data", self.data, "--listen", "127.0.0.1:0",
                          "--ready-file", self._ready, "--name", name),
                stdout=log, stderr=log, env=environment,
            )  # fmt: skip

    def wait(self) -> None:
        deadline = time.monotonic() + 120
        while not self._ready.exists():
            assert self.process.poll() is None, self._log.read_text()
            assert time.monotonic() < deadline, self._log.read_text()
            time.sleep(0.1)
        answer = json.loads(self._ready.read_text())
        self.url, self.fingerprint = str(answer["url"]), str(answer["fingerprint"])

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


class Reader:
    """Who follows the page: tenant and provider in one, with a folder for what both keep."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {
            **os.environ,
            "XDG_CONFIG_HOME": str(folder / "config"),
            "XDG_STATE_HOME": str(folder / "state"),
            "XDG_DATA_HOME": str(folder / "data"),
        }
        self.authorities = {name: Authority(name, folder, self.environment) for name in NAMES}
        self.config = folder / "agent.toml"
        self.provider = ""

    def text(self, arguments: list[str]) -> str:
        """What a command prints for people; it has to succeed."""
        done = subprocess.run(
            watchword(*arguments), capture_output=True, text=True, timeout=240, env=self.environment, check=False,
            cwd=self.folder,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    def run(self, arguments: Sequence[str | Path]) -> Answer:
        return run_command(watchword(*arguments, "--json"), self.environment, cwd=self.folder)

    def must(self, *arguments: str | Path) -> dict[str, Any]:
        answer = self.run(arguments)
        assert answer.status == 0, f"{arguments}: {answer.said} {answer.document}"
        return answer.document

    def local(self, word: str) -> str:
        """A word of the page, with what is true here in the place of its examples."""
        for name, each in self.authorities.items():
            word = word.replace(f"https://{name}.example:8443", each.url)
        return word.replace("https://cloud.example", self.provider).replace("/etc/watchword/", f"{self.folder}/")

    def follow(self, command: list[str]) -> dict[str, Any]:
        words = [self.local(word) for word in command]
        if command[:2] == ["trust", "add"]:
            words[words.index("SHA256:…")] = self.authorities[command[-1]].fingerprint
        if command[0] == "agent":
            words += ["--config", str(self.config)]
        return self.must(*words)

    def launch(self, name: str) -> Answer:
        """The page's launch again, under another name."""
        (command,) = (each for each in commands("As the tenant") if each[0] == "launch")
        return self.run([self.local(word) for word in command[:-1]] + [name])


@pytest.fixture
def reader() -> Iterator[Reader]:
    if missing := [name for name in NEEDED if shutil.which(name) is None]:
        pytest.skip(f"needs {', '.join(missing)}")
    with ExitStack() as stack:
        # Not tmp_path: the address of a Unix socket has to be short.
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ww-several-")))
        reader = Reader(folder)
        for authority in reader.authorities.values():
            stack.callback(authority.kill)
        subprocess.run([ROOT / "images" / "guest" / "build", folder], check=True, stdout=subprocess.DEVNULL)
        makers = EkAuthority.create("Several")
        boot = ROOT / "vectors" / "boots" / "good"
        for authority in reader.authorities.values():
            authority.wait()
            profile = audit(reader.must, folder, makers, boot, authority.data)
            watched = str(reader.must("profile", "id", profile)["id"])
            reader.must("authority", "watch", "add", watched, "--data", authority.data)
        host = EmulatedHost(stack.enter_context(Farm(0, authority=makers)).add(), boot)
        (folder / "intermediate.der").write_bytes(makers.intermediates[0])
        reader.config.write_text(
            "\n".join(map(reader.local, section("As the provider", "toml")))
            + f'\n[tpm]\naddress = "{host.tpm_address}"\nevent_log = "{host.event_log_path}"\n'
            f'runtime_log = "{host.ima_log_path}"\nintermediates = ["{folder / "intermediate.der"}"]\n'
            f'[host]\nstate = "{folder / "agent"}"\n'
        )
        images = {"guest.img": folder / "guest.img"}
        reader.provider = stack.enter_context(Provider([ComputeHost("host", reader.config)], images, folder)).url
        yield reader


@pytest.mark.vm
def test_the_page_does_what_it_says(reader: Reader) -> None:
    tenant, provider = commands("As the tenant"), commands("As the provider")
    for command in (each for each in tenant if each[0] == "trust"):
        reader.follow(command)
        shutil.copy(reader.folder / "config/watchword/authorities" / f"{command[-1]}.json", reader.folder)
    enrolled, *attested = [reader.follow(command) for command in provider]
    assert enrolled["authorities"] == list(NAMES)
    assert [each["state"] for each in attested] == ["trusted"] * 3

    told = {command[0]: reader.follow(command) for command in tenant if command[0] not in ("trust", "receipt")}
    assert told["launch"]["status"] == "ACTIVE"
    assert told["verify"]["verdict"] == "trusted"
    fetched, verified = [reader.follow(command) for command in tenant if command[0] == "receipt"]
    assert fetched["receipts"] == len(verified["receipts"]) == 2
    assert verified["verified"] is True
    released = {receipt["authority"] for receipt in verified["receipts"]}
    assert len(released) == 2
    assert set(told["watch"]["authorities"]) >= released

    (spare,) = set(NAMES) - released
    with_one_gone(reader, spare)
    with_two_gone(reader, spare, min(released))


def with_one_gone(reader: Reader, gone: str) -> None:
    """What was launched stays trusted, and so is what is launched now; whose word is missing is said."""
    reader.authorities[gone].kill()
    silence = f"{gone}: its word does not count: "
    assert silence in (said := reader.text(["verify", "web1"]))
    assert said.startswith("TRUSTED")
    answer = reader.launch("web2")
    assert answer.status == 0, answer.said
    said = reader.text(["verify", "web2"])
    assert said.startswith("TRUSTED")
    assert silence in said
    assert said.count("released its share") == 2


def with_two_gone(reader: Reader, *gone: str) -> None:
    """Nothing is launched, and what is told has each authority that was missing, by its name."""
    reader.authorities[gone[1]].kill()
    answer = reader.launch("web3")
    assert answer.status == 2
    message = answer.error["message"]
    assert "shares-few" in message
    assert all(f"{name}: exchange-failed" in message for name in gone)
    verdict = reader.run(["verify", "web3"])
    assert (verdict.status, verdict.error["code"]) == (2, "authorities-silent")
    assert all(name in verdict.error["message"] for name in gone)
    watched = reader.run(["watch", "web1"])
    assert (watched.status, watched.error["code"]) == (2, "authorities-silent")
