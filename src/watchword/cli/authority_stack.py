"""``watchword authority stack``: releases of host software, from draft to revoked, and who must sign them."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from watchword.cli.authority_common import (
    FILE,
    Place,
    anywhere,
    date,
    duration,
    emit_rows,
    shown,
    unix_time,
)
from watchword.cli.output import emit, note
from watchword.cli.profile import read_bounded
from watchword.errors import UsageError

__all__ = ["stack_group"]

F = TypeVar("F", bound=Callable[..., Any])


@click.group("stack")
def stack_group() -> None:
    """Releases of host software that hosts are measured against.

    \b
    Example:
      watchword authority stack list
    """


def _how(function: F) -> F:
    """Add the options of a release that becomes active."""
    for option in (
        click.option("--reason", default="", help="Why; kept in the record."),
        click.option("--allow-rollback", is_flag=True, help="Take a serial below one that was active; needs --reason."),
        click.option("--retire-old-in", help="End the releases that are active beside it after 30m, 2h or 7d."),
        click.option("--overlap-until", help="End the releases that are active beside it at this time."),
    ):
        function = option(function)
    return function


def _activation(
    overlap_until: str | None, retire_old_in: str | None, allow_rollback: bool, reason: str
) -> dict[str, Any]:
    if overlap_until and retire_old_in:
        raise UsageError("usage", "--overlap-until and --retire-old-in say the same thing: give one of them")
    until = unix_time(overlap_until) if overlap_until else None
    if retire_old_in:
        until = int(time.time()) + duration(retire_old_in)
    return {"overlap_until": until, "allow_rollback": allow_rollback, "reason": reason}


@stack_group.command("add")
@click.argument("file", type=FILE)
@click.option("--draft", is_flag=True, help="Keep it on file only: it decides nothing until it is activated.")
@click.option("--unendorsed", is_flag=True, help="FILE is the bare document: nobody has signed it.")
@_how
@anywhere
def stack_add(
    file: Path,
    draft: bool,
    unendorsed: bool,
    overlap_until: str | None,
    retire_old_in: str | None,
    allow_rollback: bool,
    reason: str,
    place: Place,
    as_json: bool,
) -> None:
    """Take over the endorsed release in FILE, as 'watchword stack endorse' writes it; one with more signatures again.

    \b
    Example:
      watchword authority stack add compute-2026.11.stack.json --retire-old-in 2h
    """
    from watchword.authority.acts.endorsement import MAX_ENVELOPE

    how = _activation(overlap_until, retire_old_in, allow_rollback, reason)
    content = read_bounded(file, MAX_ENVELOPE)
    _tell(place.ask("stack add", document=content, draft=draft, unendorsed=unendorsed, **how), as_json)


@stack_group.command("activate")
@click.argument("stack")
@_how
@anywhere
def stack_activate(
    stack: str,
    overlap_until: str | None,
    retire_old_in: str | None,
    allow_rollback: bool,
    reason: str,
    place: Place,
    as_json: bool,
) -> None:
    """Let STACK (digest, or NAME@VERSION) be in force: a draft, or with a reason what was retiring or revoked.

    \b
    Example:
      watchword authority stack activate compute@2026.11 --retire-old-in 2h
    """
    how = _activation(overlap_until, retire_old_in, allow_rollback, reason)
    _tell(place.ask("stack activate", stack=stack, **how), as_json)


def _tell(taken: dict[str, Any], as_json: bool) -> None:
    labels = taken["labels"]
    for twin in taken["same_boot"]:
        label = labels[twin]
        note(f"{label} matches the same boots: a host counts as the one that reaches the higher level or serial")
    for other in taken["retiring"]:
        note(f"{labels[other]} is retiring")
    emit(taken, f"{taken['label']} {taken['digest']}", as_json=as_json)


@stack_group.command("list")
@click.option("--state", type=click.Choice(["draft", "active", "retiring", "revoked"]), help="Only those in it.")
@anywhere
def stack_list(state: str | None, place: Place, as_json: bool) -> None:
    """List the releases: name, version, serial, pool, channel, state, digest, end, endorsers.

    \b
    Example:
      watchword authority stack list --state active
    """
    emit_rows("stacks", place.ask("stack list", state=state)["stacks"], as_json)


@stack_group.command("show")
@click.argument("stack")
@anywhere
def stack_show(stack: str, place: Place, as_json: bool) -> None:
    """Say in words what STACK (digest, or NAME@VERSION) is, who endorsed it and where it is in its life.

    \b
    Example:
      watchword authority stack show compute@2026.11
    """
    document = place.ask("stack show", stack=stack)
    parts = ("endorsed_by", "endorsers", "history", "words")
    lines = [f"{name:12} {shown(value)}" for name, value in document.items() if name not in parts]
    lines += [f"{'endorsed by':12} {each['name']} {each['key']}" for each in document["endorsers"]]
    lines += [f"{'history':12} {_history_line(each)}" for each in document["history"]]
    emit(document, "\n".join([*lines, *document["words"]]), as_json=as_json)


@stack_group.command("history")
@click.argument("stack")
@anywhere
def stack_history(stack: str, place: Place, as_json: bool) -> None:
    """List every change of STACK's state (digest, or NAME@VERSION): when, into what, by whom and why.

    \b
    Example:
      watchword authority stack history compute@2026.10
    """
    document = place.ask("stack history", stack=stack)
    emit(document, "\n".join(map(_history_line, document["history"])), as_json=as_json)


def _history_line(change: dict[str, Any]) -> str:
    end = f" until {date(change['retire_at'])}" if change["retire_at"] is not None else ""
    why = f": {change['reason']}" if change["reason"] else ""
    return f"{date(change['time'])} {change['state']}{end}, by {change['by']}{why}"


@stack_group.command("retire")
@click.argument("stack")
@click.option("--at", "at", required=True, help="When it ends: 2026-12-31T00:00:00+00:00, or Unix seconds.")
@click.option("--reason", default="", help="Why; kept in the record.")
@anywhere
def stack_retire(stack: str, at: str, reason: str, place: Place, as_json: bool) -> None:
    """Let STACK (digest, or NAME@VERSION) be accepted until a date and no longer.

    \b
    Example:
      watchword authority stack retire compute@2026.10 --at 2026-12-31T00:00:00+00:00
    """
    _tell_state(place.ask("stack retire", stack=stack, at=unix_time(at), reason=reason), as_json)


@stack_group.command("revoke")
@click.argument("stack")
@click.option("--reason", default="", help="Why; kept in the record.")
@anywhere
def stack_revoke(stack: str, reason: str, place: Place, as_json: bool) -> None:
    """Refuse STACK (digest, or NAME@VERSION) from now on.

    \b
    Example:
      watchword authority stack revoke compute@2026.10 --reason "CVE-2026-0001"
    """
    _tell_state(place.ask("stack revoke", stack=stack, reason=reason), as_json)


def _tell_state(document: dict[str, Any], as_json: bool) -> None:
    emit(document, f"{document['label']} is {document['state']}", as_json=as_json)


# -- who must sign ---------------------------------------------------------------------------------------------------


@stack_group.group("rule")
def rule() -> None:
    """Whose signatures a release needs before it is taken over; without a rule, any one endorser's.

    \b
    Example:
      watchword authority stack rule list
    """


@rule.command("set")
@click.argument("name")
@click.option("--pool", default="default", show_default=True, help="The pool that the rule is for.")
@click.option("--endorsers", required=True, multiple=True, help="Key id, or 8 digits of it; may be given again.")
@click.option("--threshold", default=1, show_default=True, type=click.IntRange(min=1), help="So many must sign.")
@anywhere
def rule_set(
    name: str,
    pool: str,
    endorsers: tuple[str, ...],
    threshold: int,
    place: Place,
    as_json: bool,
) -> None:
    """Ask for THRESHOLD of these endorsers on releases of stack NAME. Replaces the rule of that name and pool.

    \b
    Example:
      watchword authority stack rule set compute --endorsers 71b0e44d --endorsers 0c9d2f11 --threshold 2
    """
    row = place.ask("stack rule set", name=name, pool=pool, endorsers=endorsers, threshold=threshold)
    emit(row, f"{name} in pool {pool}: {threshold} of {len(row['keys'])}", as_json=as_json)


@rule.command("list")
@anywhere
def rule_list(place: Place, as_json: bool) -> None:
    """List the rules.

    \b
    Example:
      watchword authority stack rule list --json
    """
    emit_rows("rules", place.ask("stack rule list")["rules"], as_json)


@rule.command("remove")
@click.argument("name")
@click.option("--pool", default="default", show_default=True, help="The pool that the rule is for.")
@anywhere
def rule_remove(name: str, pool: str, place: Place, as_json: bool) -> None:
    """Ask for any one endorser again on releases of stack NAME.

    \b
    Example:
      watchword authority stack rule remove compute --pool default
    """
    document = place.ask("stack rule remove", name=name, pool=pool)
    emit(document, f"removed the rule of {name} in pool {pool}", as_json=as_json)
