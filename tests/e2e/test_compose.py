"""``packaging/compose`` without containers: podman-compose reads it, and its commands are commands of ours.

``bin/compose-e2e`` runs it.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.conftest import ROOT
from tests.docs.commandline import parse

from watchword.authority.store import DatabaseUrl

COMPOSE = ROOT / "packaging" / "compose"
AUTHORITIES = ("authority-1", "authority-2")


def read(**variables: str) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name("podman-compose")
    bare = {name: value for name, value in os.environ.items() if name not in ("DATABASE_PASSWORD", "AUTHORITY_NAME")}
    return subprocess.run(
        [program, "--dry-run", "--file", COMPOSE / "compose.yaml", "config"], capture_output=True, text=True,
        check=False, env={**bare, **variables}, timeout=60,
    )  # fmt: skip


@cache
def services() -> dict[str, dict[str, Any]]:
    done = read(DATABASE_PASSWORD="abc", AUTHORITY_NAME="authority.example")
    assert done.returncode == 0, done.stderr
    found: dict[str, dict[str, Any]] = yaml.safe_load(done.stdout)["services"]
    return found


def seconds(text: str) -> float:
    number, unit = re.fullmatch(r"(\d+)(m?s)", text).groups()  # type: ignore[union-attr]
    return int(number) / (1000 if unit == "ms" else 1)


def balancer(setting: str) -> str:
    found = re.search(rf"\b{setting} (\S+)", (COMPOSE / "haproxy.cfg").read_text())
    assert found is not None, setting
    return found[1]


@pytest.mark.parametrize("missing", ["DATABASE_PASSWORD", "AUTHORITY_NAME"])
def test_it_does_not_start_without_what_it_needs(missing: str) -> None:
    variables = {"DATABASE_PASSWORD": "abc", "AUTHORITY_NAME": "authority.example", missing: ""}
    assert read(**variables).returncode != 0


@pytest.mark.parametrize("name", AUTHORITIES)
def test_the_authorities_are_commands_of_ours(name: str) -> None:
    command = services()[name]["command"]
    assert parse(" ".join(["watchword", "authority", *command])) == ("watchword", "authority", "serve")
    assert "--name=authority.example" in command
    DatabaseUrl.parse(services()[name]["environment"]["WATCHWORD_DATABASE"])


@pytest.mark.parametrize("name", AUTHORITIES)
def test_the_authorities_may_nothing(name: str) -> None:
    service = services()[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["networks"] == ["inside"]
    assert "ports" not in service


def test_the_replicas_are_alike() -> None:
    first, second = (services()[name] for name in AUTHORITIES)
    assert first == second


def test_there_is_time_to_stop_in_order() -> None:
    service = services()["authority-1"]
    drain = int(next(word for word in service["command"] if word.startswith("--drain-seconds=")).partition("=")[2])
    assert drain > int(balancer("fall")) * seconds(balancer("inter"))
    assert seconds(service["stop_grace_period"]) >= drain + 10 + 20  # requests that were begun; a silent database


def test_the_image_starts_a_command_of_ours() -> None:
    text = (COMPOSE / "Containerfile").read_text()
    entry, command = (
        json.loads(re.search(rf"^{word} (.*)$", text, re.MULTILINE)[1])  # type: ignore[index]
        for word in ("ENTRYPOINT", "CMD")
    )
    assert parse(" ".join([*entry, *command])) == ("watchword", "authority", "serve")


def test_what_the_image_takes_is_not_left_out() -> None:
    copied = {
        word
        for line in re.findall(r"^COPY (?!--from)(.*)$", (COMPOSE / "Containerfile").read_text(), re.MULTILINE)
        for word in line.split()[:-1]
    }
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert ignored[1] == "*"
    assert copied == {line[1:] for line in ignored if line.startswith("!")}
    assert all((ROOT / name).exists() for name in copied)


def test_images_are_named_with_their_registry() -> None:
    named = [service["image"] for name, service in services().items() if name not in AUTHORITIES]
    named += re.findall(r"^FROM (\S+)", (COMPOSE / "Containerfile").read_text(), re.MULTILINE)
    assert [name for name in named if not name.startswith("docker.io/library/")] == []
