"""Manual pages out of the commands themselves: one page for each command and group, in man(7).

``python -m watchword.cli.manpage docs/man`` writes all of them. Nothing in a page is written twice: names, options and
examples are those of ``--help``; dates are left out, so a page changes only when its command does.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from watchword import __version__
from watchword.cli.main import cli

__all__ = ["commands", "example", "help_text", "page", "write"]

_EXAMPLE = "Example:"
_ESCAPES = {"\\": "\\e", "-": "\\-", "'": "\\(aq", "`": "\\(ga", '"': "\\(dq"}  # the backslash first
_STATUS = (
    ("0", "It worked; for a verification, every check passed."),
    ("1", "The command line, a file or a setting is wrong."),
    ("2", "A service, a TPM or a machine did not do its part. Nothing was proven."),
    ("3", "Evidence, a token, a receipt or a machine was refused or is malformed."),
)


def commands(
    command: click.Command = cli, name: str = "watchword", parent: click.Context | None = None
) -> Iterator[tuple[str, click.Context]]:
    """Every command below ``command`` with its full name ("watchword trust add"), itself first."""
    context = click.Context(command, parent, name, **command.context_settings)
    yield context.command_path, context
    if isinstance(command, click.Group):
        for child_name in command.list_commands(context):
            child = command.get_command(context, child_name)
            assert child is not None
            yield from commands(child, child_name, context)


def help_text(command: click.Command) -> str:
    """The help of a command as it was written, without the indentation of the source."""
    return inspect.cleandoc(command.help or "")


def example(command: click.Command) -> str:
    """The example at the end of a command's help: its lines, not indented; empty when there is none."""
    _, _, text = help_text(command).partition(_EXAMPLE + "\n")
    lines = text.splitlines()
    return "\n".join(line.removeprefix("  ") for line in lines)


def page(name: str, context: click.Context) -> str:
    """The manual page of one command, roff source."""
    command, title = context.command, name.replace(" ", "-")
    lines = [
        f'.TH "{_text(title.upper())}" "1" "" "watchword {_text(__version__)}" "Watchword"',
        ".SH NAME",
        f"{_text(title)} \\- {_text(_summary(command))}",
        ".SH SYNOPSIS",
        f".B {_text(name)}",
        _text(" ".join(command.collect_usage_pieces(context))),
        ".SH DESCRIPTION",
        *_description(command),
    ]
    if isinstance(command, click.Group):
        lines += [".SH COMMANDS", *_children(name, context)]
    lines += _options(context)
    lines += [".SH EXIT STATUS"]
    for status, meaning in _STATUS:
        lines += [".TP", f".B {status}", _text(meaning)]
    if example(command):
        lines += [".SH EXAMPLE", ".nf", *(_line(line) for line in example(command).splitlines()), ".fi"]
    return "\n".join([*lines, *_see_also(name, context)]) + "\n"


def write(folder: Path) -> list[Path]:
    """Write every page into ``folder`` and remove pages of commands that are gone."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, context in commands():
        written.append(folder / f"{name.replace(' ', '-')}.1")
        written[-1].write_text(page(name, context))
    for path in set(folder.glob("*.1")) - set(written):
        path.unlink()
    return written


def _summary(command: click.Command) -> str:
    """The first sentence, without its full stop."""
    first = " ".join(help_text(command).partition("\n\n")[0].split())
    return re.split(r"\.(?: |$)", first)[0]


def _description(command: click.Command) -> list[str]:
    text = help_text(command).partition("\b")[0]
    paragraphs = [" ".join(part.split()) for part in text.split("\n\n")]
    return [line for part in paragraphs if part for line in (".PP", _line(part))]


def _children(name: str, context: click.Context) -> Iterator[str]:
    group = context.command
    assert isinstance(group, click.Group)
    for child in group.list_commands(context):
        command = group.get_command(context, child)
        assert command is not None
        yield from (".TP", f".BR {_text(f'{name}-{child}'.replace(' ', '-'))} (1)", _text(_summary(command)) + ".")


def _options(context: click.Context) -> list[str]:
    records = [
        record
        for parameter in context.command.get_params(context)
        if isinstance(parameter, click.Option) and (record := parameter.get_help_record(context))
    ]
    lines = [".SH OPTIONS"]
    for names, meaning in records:
        lines += [".TP", f".B {_text(names)}", _line(" ".join(meaning.split()))]
    return lines


def _see_also(name: str, context: click.Context) -> list[str]:
    parent = name.rpartition(" ")[0]
    others = [parent] if parent else []
    if isinstance(context.command, click.Group):
        others += [f"{name} {child}" for child in context.command.list_commands(context)]
    links = [f".BR {_text(other.replace(' ', '-'))} (1)" for other in others]
    return [".SH SEE ALSO", *(link + "," for link in links[:-1]), *links[-1:]]


def _text(text: str) -> str:
    """``text`` with what roff would take for its own escaped, and in ASCII."""
    for plain, escaped in _ESCAPES.items():
        text = text.replace(plain, escaped)
    return "".join(c if c.isascii() else f"\\[u{ord(c):04X}]" for c in text)


def _line(text: str) -> str:
    """A line of text: one that begins with a dot or a quote would be a request."""
    escaped = _text(text)
    return "\\&" + escaped if escaped.startswith(".") else escaped


def _main(arguments: list[str]) -> Any:
    if len(arguments) != 1:
        return "usage: python -m watchword.cli.manpage FOLDER"
    for path in write(Path(arguments[0])):
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))
