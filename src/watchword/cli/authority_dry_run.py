"""``watchword authority dry-run``: what a change would do to the fleet, before anybody makes it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from watchword.cli.authority_common import MAX_SMALL_FILE, Place, anywhere, opened, unix_time
from watchword.cli.output import emit, note
from watchword.cli.profile import read_bounded
from watchword.errors import Rejected

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["dry_run_command"]


@click.command("dry-run")
@click.option(
    "--activate", multiple=True, metavar="FILE|STACK", help="This stack becomes active: a file, or one on file."
)
@click.option("--revoke", multiple=True, metavar="STACK", help="A stack is revoked: digest, or NAME@VERSION.")
@click.option("--end", multiple=True, metavar="STACK", help="A stack retires, and its end has come.")
@click.option("--profile", metavar="FILE|ID", help="Hosts are judged by this profile instead.")
@click.option("--watched", metavar="ID", help="The profile that they are judged by today; default: the first watched.")
@click.option("--at", metavar="TIME", help="As if it were then: 2026-12-31T00:00:00+00:00, or Unix seconds.")
@click.option("--hosts", "list_hosts", is_flag=True, help="List every host that gets worse.")
@anywhere
def dry_run_command(
    activate: tuple[str, ...], revoke: tuple[str, ...], end: tuple[str, ...], profile: str | None, watched: str | None,
    at: str | None, list_hosts: bool, place: Place, as_json: bool,
) -> int:  # fmt: skip
    """Judge every host once more, over the evidence on file, as if the changes named were made. Nothing is changed.

    Exit status 3 when a host would get worse, or when it cannot be told for some.

    \b
    Example:
      watchword authority dry-run --activate compute-2026.12.dsse.json --revoke compute@2026.11
    """
    files = [text for text in activate if Path(text).is_file()]
    question: dict[str, Any] = {
        "stacks": tuple(text for text in activate if text not in files),
        "releases": tuple(read_bounded(Path(text), _max_envelope()) for text in files),
        "revoke": revoke,
        "end": end,
        "watched": watched,
        "at": unix_time(at) if at is not None else None,
        "hosts": list_hosts,
    }
    if profile is not None and Path(profile).is_file():
        question["document"] = read_bounded(Path(profile), MAX_SMALL_FILE)
    else:
        question["profile"] = profile
    document = place.ask("dry-run", **question) if place.authority is not None else _here(place, question)
    emit(document, "\n".join(_lines(document)), as_json=as_json)
    if document["harmless"]:
        return 0
    note("nothing was changed")
    return Rejected.exit_status


def _max_envelope() -> int:
    from watchword.authority.acts.endorsement import MAX_ENVELOPE

    return MAX_ENVELOPE


def _here(place: Place, question: dict[str, Any]) -> dict[str, Any]:
    """On the machine itself: as long as it takes, and one sees how far it is."""
    from watchword.authority.operations import Desk
    from watchword.authority.operations.dry_run import DryRunOf, try_change

    with (
        opened(place.data, place.passphrase_file) as (directory, admin),
        _progress(directory.store.counts().hosts) as progress,
    ):
        return try_change(Desk(directory.store, admin.now, admin.actor), DryRunOf(**question), progress=progress)


@contextmanager
def _progress(total: int) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal, on stderr; nothing elsewhere."""
    if not sys.stderr.isatty():
        yield lambda done: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("hosts", total=total)
        yield lambda done: bar.update(task, completed=done)


def _lines(document: dict[str, Any]) -> Iterator[str]:
    if not document["complete"]:
        yield "not all hosts were looked at: there was no time left"
    yield f"{document['hosts']} hosts: " + ", ".join(f"{n} {name}" for name, n in document["effects"].items() if n)
    for move in document["moves"]:
        yield f"  {move['hosts']:>8}  {move['before'] or 'none'} -> {move['after'] or 'none'}"
    for reason in document["reasons"]:
        yield f"{reason['hosts']:>8} hosts  {reason['code']}: {reason['text']}"
        yield f"          such as {', '.join(reason['samples'])}"
    for change in document.get("worse", ()):
        yield f"  {change['host']} {change['effect']}: {change['before'] or 'none'} -> {change['after'] or 'none'}"
