"""Every ``watchword`` command in a console block of a page is one that exists, with options that it has."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from tests.conftest import ROOT
from tests.docs.commandline import parse

_BLOCK = re.compile(r"^```console\n(.*?)^```", re.MULTILINE | re.DOTALL)
_COMMAND = re.compile(r"^[$#] (?:sudo -u watchword )?(watchword .*)$", re.MULTILINE)


def commands() -> Iterator[tuple[str, str]]:
    """Page and command line."""
    for page in sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]):
        for block in _BLOCK.findall(page.read_text()):
            for line in _COMMAND.findall(block.replace("\\\n", " ")):
                yield str(page.relative_to(ROOT)), line


@pytest.mark.parametrize(("page", "line"), sorted(set(commands())))
def test_the_command_line_accepts_it(page: str, line: str) -> None:
    assert parse(line)[0] == "watchword", page
