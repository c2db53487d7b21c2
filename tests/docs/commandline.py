"""Command lines that a page shows, parsed as the ``watchword`` command parses them."""

from __future__ import annotations

import shlex

import click

from watchword.cli.main import cli


def parse(line: str) -> tuple[str, ...]:
    """The command that ``line`` would run, its arguments parsed and nothing done; raises a click exception."""
    words = shlex.split(line.partition(" > ")[0].partition(" | ")[0], comments=True)
    assert words.pop(0) == "watchword"
    command: click.Command = cli
    context = click.Context(cli, None, "watchword", **cli.context_settings)
    path = ["watchword"]
    while isinstance(command, click.Group):
        name = words.pop(0)
        found = command.get_command(context, name)
        assert found is not None, f"there is no command {name}"
        command = found
        path.append(name)
    try:
        command.make_context(path[-1], words, parent=context, resilient_parsing=False)
    except click.BadParameter as error:
        # The files of an example do not exist here.
        if error.param is None or not isinstance(error.param.type, click.Path | click.File):
            raise
    return tuple(path)
