"""``watchword authority database move``: from the file that an authority began with to a PostgreSQL database."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from watchword.cli.authority_common import database, operator, passphrase, tokens, where
from watchword.cli.output import emit, note
from watchword.errors import UsageError

if TYPE_CHECKING:  # the authority needs an extra; without it, the help must still work
    from watchword.authority.store import DatabaseUrl
    from watchword.authority.upkeep.moving import Moved

__all__ = ["move"]


@click.command()
@where
def move(data: Path, passphrase_file: Path | None, as_json: bool) -> None:
    """Move the store from its file in --data to a PostgreSQL database, which must be empty. The service is stopped.

    All of it arrives or nothing does; the file that is left is never opened again. Interrupted, run it once more.

    \b
    Example:
      watchword authority database move --database postgresql://db.example/watchword
    """
    target = database(data)
    if target is None:
        raise UsageError(
            "database-url",
            "where is the store to go?",
            hint=f"--database, --database-file, WATCHWORD_DATABASE, or a file {data / 'database.url'}",
        )
    os.umask(0o077)
    moved = _move(data, passphrase_file, target)
    emit(_document(moved), _told(moved), as_json=as_json)
    if not (data / "database.url").exists():
        note("the service is to be told as well where its store is: --database, --database-file or database.url")


def _move(data: Path, passphrase_file: Path | None, target: DatabaseUrl) -> Moved:
    from watchword.authority.keys.keyring import Keyring
    from watchword.authority.upkeep.moving import Move

    ring = Keyring.load(data / "keyring", passphrase=passphrase(passphrase_file), tokens=tokens())
    with ExitStack() as stack:
        work = Move(data, ring, target, int(time.time()), operator())
        return work.run(lambda total: _progress(stack, total))


def _progress(stack: ExitStack, total: int) -> Callable[[str, int], None]:
    """A bar on a terminal, on stderr; nothing elsewhere."""
    if not sys.stderr.isatty():
        return lambda what, rows: None
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    bar = stack.enter_context(Progress(*columns, console=Console(stderr=True), transient=True))
    task = bar.add_task("looking", total=total)
    return lambda what, rows: bar.update(task, description=what, advance=rows)


def _document(moved: Moved) -> dict[str, Any]:
    return {
        "entries": moved.head.seq,
        "root": moved.head.root.hex(),
        "releases": moved.releases,
        "rows": moved.rows,
        "file": str(moved.file),
    }


def _told(moved: Moved) -> str:
    lines = [
        f"moved     {sum(moved.rows.values())} rows in {len(moved.rows)} tables, each compared",
        f"log       {moved.head.seq} entries, root {moved.head.root.hex()}",
        f"releases  {moved.releases}",
        f"file      {moved.file}, not in force any more",
    ]
    return "\n".join(lines)
