"""``docs/reference/cli.md`` names every command, and the JSON members of ``inspect`` that it promises are there."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.conftest import ROOT

from watchword.cli.main import cli
from watchword.cli.manpage import commands

PAGE = (ROOT / "docs" / "reference" / "cli.md").read_text()


def promised(command: str) -> set[str]:
    """The members that the page lists for ``inspect COMMAND`` without options, nested ones left out."""
    row = re.search(rf"^\| `inspect {command}` \| (.*) \|$", PAGE, re.MULTILINE)
    assert row is not None
    text = re.sub(r"\([^)]*\)", "", row[1].partition("; with ")[0].partition(", sometimes")[0])
    return set(re.findall(r"`(\w+)`", text))


@pytest.mark.parametrize("path", [name.split()[1:] for name, _ in commands() if " " in name])
def test_every_command_is_named(path: list[str]) -> None:
    row = re.search(rf"^\| `{path[0]}\b.*$", PAGE, re.MULTILINE)
    assert row is not None
    assert len(path) == 1 or path[0] == "authority" or re.search(rf"[` ]{path[1]}`", row[0]), path


@pytest.mark.parametrize(("command", "file"), [("eventlog", "eventlog.bin"), ("ima", "ima.bin")])
def test_inspect_prints_the_members_that_are_promised(boots: Path, command: str, file: str) -> None:
    done = CliRunner().invoke(cli, ["inspect", command, "--json", str(boots / "good" / file)])
    found = set(json.loads(done.stdout)) - {"pcrs_padded"}
    assert found == promised(command)
