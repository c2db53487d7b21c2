"""``watchword authority database``: the tables of the store, and bringing them up to date."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from watchword.cli.authority_common import database, where
from watchword.cli.authority_move import move
from watchword.cli.output import emit

if TYPE_CHECKING:  # the authority needs an extra; without it, the help must still work
    from watchword.authority.store.upgrade import Tables

__all__ = ["GROUP"]


@click.group("database")
def GROUP() -> None:
    """The database that the store is in, and its tables.

    \b
    Example:
      watchword authority database status
    """


@GROUP.command()
@where
def status(data: Path, passphrase_file: Path | None, as_json: bool) -> None:
    """Show which tables the store has, and which this program needs; changes nothing.

    \b
    Example:
      watchword authority database status --database postgresql://db.example/watchword
    """
    from watchword.authority.data import store_of
    from watchword.authority.store.upgrade import tables

    _show(tables(store_of(data, database(data))), as_json)


@GROUP.command()
@where
def upgrade(data: Path, passphrase_file: Path | None, as_json: bool) -> None:
    """Bring the tables up to date, all of them or none. Replicas of the version before may go on running.

    \b
    Example:
      watchword authority database upgrade --database postgresql://db.example/watchword
    """
    from watchword.authority.data import store_of
    from watchword.authority.store.upgrade import tables
    from watchword.authority.store.upgrade import upgrade as bring

    place = store_of(data, database(data))
    before = bring(place)
    _show(tables(place), as_json, before.revision)


GROUP.add_command(move)


def _show(found: Tables, as_json: bool, before: str | None = None) -> None:
    document = {"kind": found.kind, "revision": found.revision, "known": found.known, "outdated": found.outdated}
    lines = [
        f"store      {found.kind}",
        f"revision   {found.revision or 'none: it is empty'}",
        f"known      {found.known}",
    ]
    if before is not None:
        document["before"] = before
        lines.append(f"before     {before}")
    if found.outdated:
        lines.append("next       watchword authority database upgrade")
    emit(document, "\n".join(lines), as_json=as_json)
