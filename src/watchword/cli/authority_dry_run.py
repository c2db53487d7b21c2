"""``watchword authority dry-run``: what a change would do to the fleet, before anybody makes it."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from watchword.cli.authority_common import MAX_SMALL_FILE, opened, unix_time, where
from watchword.cli.output import emit, note
from watchword.cli.profile import read_bounded
from watchword.errors import Rejected, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from watchword.authority.store import StackInfo, Store
    from watchword.policy.dry_run import Summary
    from watchword.policy.profile import Profile

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
@where
def dry_run_command(
    activate: tuple[str, ...], revoke: tuple[str, ...], end: tuple[str, ...], profile: str | None, watched: str | None,
    at: str | None, list_hosts: bool, data: Path, passphrase_file: Path | None, as_json: bool,
) -> int:  # fmt: skip
    """Judge every host once more, over the evidence on file, as if the changes named were made. Nothing is changed.

    Exit status 3 when a host would get worse, or when it cannot be told for some.

    \b
    Example:
      watchword authority dry-run --activate compute-2026.12.dsse.json --revoke compute@2026.11
    """
    from watchword.authority.dry_run import Plan, dry_run
    from watchword.authority.operations import find_stack
    from watchword.policy.dry_run import Effect, Summary

    now = unix_time(at) if at is not None else int(time.time())
    with opened(data, passphrase_file) as (directory, _):
        store = directory.store
        rows = store.stack_infos()
        plan = Plan(
            activate=tuple(_release(store, rows, text) for text in activate),
            revoke=frozenset(find_stack(rows, text).digest for text in revoke),
            end=frozenset(find_stack(rows, text).digest for text in end),
            profile=_profile(store, profile) if profile is not None else None,
        )
        today = _today(store, watched)
        summary, worse = Summary(), []
        with _progress(store.counts().hosts) as progress:
            for change in dry_run(store, plan, today, now, progress):
                summary.add(change)
                if list_hosts and change.effect in (Effect.WORSE, Effect.REFUSED, Effect.UNKNOWN):
                    worse.append(change)
    document = _document(summary, today, now)
    if list_hosts:
        document["worse"] = [
            {"host": c.host_id.hex(), "effect": str(c.effect), "before": c.before, "after": c.after} for c in worse
        ]
    emit(document, "\n".join(_lines(document)), as_json=as_json)
    if summary.harmless:
        return 0
    note("nothing was changed")
    return Rejected.exit_status


def _release(store: Store, rows: tuple[StackInfo, ...], text: str) -> Any:
    from watchword.authority.dry_run import open_release
    from watchword.authority.endorsement import MAX_ENVELOPE
    from watchword.authority.operations import find_stack
    from watchword.policy.release import StackRelease
    from watchword.policy.stack import CompiledStack

    if Path(text).is_file():
        return open_release(store, read_bounded(Path(text), MAX_ENVELOPE), endorsed=True)
    info = find_stack(rows, text)
    row = next(row for row in store.stacks() if row.digest == info.digest)
    return StackRelease(CompiledStack.parse(row.document), row.digest, row.endorsed_by)


def _profile(store: Store, text: str) -> Profile:
    from watchword.authority.operations import one
    from watchword.policy.profile import Profile

    if Path(text).is_file():
        return Profile.parse(read_bounded(Path(text), MAX_SMALL_FILE))
    return Profile.parse(one(store.profiles(), text, lambda row: row.id.hex(), "profile").document)


def _today(store: Store, text: str | None) -> Profile:
    if text is not None:
        return _profile(store, text)
    first = next(iter(store.watched()), None)
    if first is None:
        raise UsageError(
            "watch-none",
            "hosts are judged by no profile yet",
            hint="name one with --watched, or let them be: watchword authority watch add PROFILE",
        )
    return _profile(store, first.hex())


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


def _document(summary: Summary, profile: Profile, now: int) -> dict[str, Any]:
    return {
        "profile": profile.id.hex(),
        "at": now,
        "hosts": summary.hosts,
        "effects": dict(summary.counts()),
        "moves": [
            {"before": before, "after": after, "hosts": count}
            for (before, after), count in sorted(summary.moves.items(), key=lambda move: -move[1])
        ],
        "reasons": [
            {"code": r.code, "text": r.text, "hosts": r.hosts, "samples": [host.hex() for host in r.samples]}
            for r in summary.reasons()
        ],
    }


def _lines(document: dict[str, Any]) -> Iterator[str]:
    yield f"{document['hosts']} hosts: " + ", ".join(f"{n} {name}" for name, n in document["effects"].items() if n)
    for move in document["moves"]:
        yield f"  {move['hosts']:>8}  {move['before'] or 'none'} -> {move['after'] or 'none'}"
    for reason in document["reasons"]:
        yield f"{reason['hosts']:>8} hosts  {reason['code']}: {reason['text']}"
        yield f"          such as {', '.join(reason['samples'])}"
    for change in document.get("worse", ()):
        yield f"  {change['host']} {change['effect']}: {change['before'] or 'none'} -> {change['after'] or 'none'}"
