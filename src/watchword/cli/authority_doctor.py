"""``watchword authority doctor``: what keeps an authority from its work, or soon will."""

from __future__ import annotations

import time
from pathlib import Path

import click
from rich.console import Console

from watchword.cli.authority_common import FILE, database, passphrase, tokens, where
from watchword.cli.authority_prune import retain_option
from watchword.cli.output import emit, printable

__all__ = ["doctor_command"]


@click.command("doctor")
@click.option("--url", metavar="URL", help="Also ask the service, where clients reach it: https://HOST:PORT.")
@click.option("--backup", type=FILE, metavar="PATH", help="Also look how old the newest backup there is.")
@click.option("--whole-log", is_flag=True, help="Check every entry of the log, and not only the newest thousand.")
@retain_option
@where
def doctor_command(
    url: str | None,
    backup: Path | None,
    whole_log: bool,
    retain: tuple[str, ...],
    data: Path,
    passphrase_file: Path | None,
    as_json: bool,
) -> int:
    """Show what keeps the authority from its work, or soon will, and what to do. Exit status 2 if something does.

    It changes nothing, and may run while the service does. A warning alone leaves the exit status at 0.

    \b
    Example:
      watchword authority doctor --url https://authority.example:8443
    """
    from watchword.authority.doctor.examine import examine
    from watchword.authority.doctor.report import Subject
    from watchword.authority.upkeep.retention import Retention

    subject = Subject(
        data=data,
        now=int(time.time()),
        passphrase=passphrase(passphrase_file),
        database=database(data),
        tokens=tokens(),
        url=url,
        backup=backup,
        whole_log=whole_log,
        retention=Retention.parse(retain),
    )
    with Console(stderr=True).status("looking") as status:

        def progress(done: int, size: int) -> None:
            if done % 1000 == 0:
                status.update(f"checking the log: {done} of {size}")

        found = examine(subject, progress)
    text = "\n".join(printable(line) for line in found.text().splitlines())
    emit(found.document(), text, as_json=as_json)
    return 0 if found.healthy else 2
