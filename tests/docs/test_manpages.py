"""Help pages end with an example that the command line accepts, and the manual pages are those of the commands."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest
from tests.conftest import ROOT
from tests.docs.commandline import parse

from watchword.cli.manpage import commands, example, help_text, page, write

PAGES = ROOT / "docs" / "man"
ALL = dict(commands())


@pytest.mark.parametrize("name", ALL)
def test_help_ends_with_an_example(name: str) -> None:
    before, found, after = help_text(ALL[name].command).partition("\b\nExample:\n")
    assert found, "no Example: block"
    assert before.strip(), "nothing before the example"
    assert all(line.startswith("  ") for line in after.splitlines()), "something follows the example"


@pytest.mark.parametrize("name", ALL)
def test_every_example_parses(name: str) -> None:
    lines = example(ALL[name].command).replace("\\\n", " ").splitlines()
    own = [line for line in lines if line.startswith("watchword ")]
    assert own, "the example runs no watchword command"
    parsed = [" ".join(parse(line)) for line in own]
    if not isinstance(ALL[name].command, click.Group):
        assert name in parsed, "the example shows another command"
    assert all(command.startswith(name) for command in parsed)


def test_every_option_is_explained() -> None:
    silent = [
        f"{name} {option.opts[0]}"
        for name, context in ALL.items()
        for option in context.command.params
        if isinstance(option, click.Option) and not option.help
    ]
    assert silent == []


def test_the_pages_are_those_of_the_commands(tmp_path: Path) -> None:
    # In a process of its own, as bin/man does it: what other tests ran leaves traces in the commands of this one.
    command = [sys.executable, "-m", "watchword.cli.manpage", str(tmp_path)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    fresh = {path.name: path.read_text() for path in tmp_path.iterdir()}
    kept = {path.name: path.read_text() for path in PAGES.glob("*.1")}
    assert kept == fresh, "run bin/man"


def test_writing_removes_the_page_of_a_command_that_is_gone(tmp_path: Path) -> None:
    (tmp_path / "watchword-gone.1").write_text("")
    assert (tmp_path / "watchword-gone.1") not in write(tmp_path)
    assert not (tmp_path / "watchword-gone.1").exists()


def test_roff_cannot_be_driven_by_a_help_text() -> None:
    @click.command()
    def odd() -> None:
        """.so /etc/passwd is a \\(dq 'request'.

        \b
        Example:
          .ab
        """

    source = page("watchword odd", click.Context(odd, info_name="watchword odd"))
    requests = {line.split()[0] for line in source.splitlines() if line.startswith((".", "'"))}
    assert requests <= {".TH", ".SH", ".PP", ".TP", ".B", ".BR", ".nf", ".fi"}
    assert "\\(dq \\(aqrequest" not in source


@pytest.mark.skipif(shutil.which("groff") is None, reason="groff is not installed")
def test_groff_has_nothing_to_say_about_the_pages() -> None:
    pages = sorted(PAGES.glob("*.1"))
    assert all(path.read_bytes().isascii() for path in pages)
    command = ["groff", "-man", "-Tutf8", "-ww", "-z", *map(str, pages)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr == ""
