"""``watchword authority prune``: forget now what the running service forgets little by little."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.console import Console

from watchword.cli.authority_common import opened, where
from watchword.cli.output import emit

__all__ = ["prune_command", "retain_option"]

F = TypeVar("F", bound=Callable[..., Any])


def retain_option(function: F) -> F:
    """Add ``--retain``; the parameter is a tuple of texts for ``Retention.parse``."""
    return click.option(
        "--retain",
        multiple=True,
        metavar="KIND=TIME",
        help="Keep evidence, states, placements or cosignatures so long: 12h, 30d, never.",
    )(function)


@click.command("prune")
@retain_option
@click.option("--dry-run", is_flag=True, help="Say how much would be forgotten, and forget nothing.")
@where
def prune_command(
    retain: tuple[str, ...], dry_run: bool, data: Path, passphrase_file: Path | None, as_json: bool
) -> None:
    """Forget evidence, states, placements and cosignatures that are older than they are kept.

    The log, its entries and the counts of releases are never forgotten. The service does the same while it runs.

    \b
    Example:
      watchword authority prune --retain evidence=7d --dry-run
    """
    from watchword.authority.store.retention import Kind
    from watchword.authority.upkeep.retention import Retention, forget_old, forgettable

    retention = Retention.parse(retain)
    with opened(data, passphrase_file) as (directory, admin):
        if dry_run:
            found = forgettable(directory.store, retention, admin.now)
        else:
            found = dict.fromkeys(Kind, 0)
            with Console(stderr=True).status("forgetting") as status:
                for kind, count in forget_old(directory.store, retention, admin.now):
                    found[kind] += count
                    status.update(f"forgetting {kind}: {found[kind]}")
            if any(found.values()):
                with directory.store.transaction() as tx:
                    counts = {str(kind): count for kind, count in found.items()}
                    tx.append_act(admin.now, "prune", "", by=admin.actor, **counts)
    document = {"dry_run": dry_run, "retain": retention.document(), "rows": {str(k): n for k, n in found.items()}}
    word = "would be forgotten" if dry_run else "forgotten"
    emit(document, "\n".join(f"{kind:12} {count} {word}" for kind, count in found.items()), as_json=as_json)
