"""``watchword guest``: for use inside a machine."""

from __future__ import annotations

from pathlib import Path

import click

from watchword.cli.output import emit, json_option
from watchword.integrations.guest import self_check

__all__ = ["guest"]


@click.group()
def guest() -> None:
    """Find out inside a machine whether it got its key.

    \b
    Example:
      watchword guest self-check
    """


@guest.command("self-check")
@click.option("--launch", default=self_check.LAUNCH, show_default=True, metavar="FILE", help="What the host left.")
@click.option("--host-key", default=self_check.HOST_KEY, show_default=True, metavar="FILE", help="The SSH host key.")
@click.option("--script", is_flag=True, help="Print the check as a script that needs nothing but Python.")
@json_option
def self_check_command(launch: str, host_key: str, script: bool, as_json: bool) -> int:
    """Tell whether this machine holds the key of its launch. Exit status 3 when it does not, 2 when nobody can tell.

    \b
    Example:
      watchword guest self-check --script > self-check.py
    """
    if script:
        click.echo(Path(self_check.__file__).read_text(), nl=False)
        return 0
    status, sentence = self_check.check(launch, host_key)
    emit({"has_key": status == 0, "status": status, "sentence": sentence}, sentence, as_json=as_json)
    return status
