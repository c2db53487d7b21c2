"""``watchword authority stack``: releases of host software, from draft to revoked, and who must sign them."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from watchword.cli.authority_common import (
    FILE,
    date,
    duration,
    emit_rows,
    find_stack,
    one,
    opened,
    shown,
    unix_time,
    where,
)
from watchword.cli.output import emit, note
from watchword.cli.profile import read_bounded
from watchword.errors import UsageError

if TYPE_CHECKING:
    from watchword.authority.stacks import Activation, Taken
    from watchword.authority.store import StackInfo, StackRule

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


def _activation(overlap_until: str | None, retire_old_in: str | None, allow_rollback: bool, reason: str) -> Activation:
    from watchword.authority.stacks import Activation

    if overlap_until and retire_old_in:
        raise UsageError("usage", "--overlap-until and --retire-old-in say the same thing: give one of them")
    until = unix_time(overlap_until) if overlap_until else None
    if retire_old_in:
        until = int(time.time()) + duration(retire_old_in)
    return Activation(until, allow_rollback, reason)


@stack_group.command("add")
@click.argument("file", type=FILE)
@click.option("--draft", is_flag=True, help="Keep it on file only: it decides nothing until it is activated.")
@click.option("--unendorsed", is_flag=True, help="FILE is the bare document: nobody has signed it.")
@_how
@where
def stack_add(
    file: Path,
    draft: bool,
    unendorsed: bool,
    overlap_until: str | None,
    retire_old_in: str | None,
    allow_rollback: bool,
    reason: str,
    data: Path,
    passphrase_file: Path | None,
    as_json: bool,
) -> None:
    """Take over the endorsed release in FILE, as 'watchword stack endorse' writes it; one with more signatures again.

    \b
    Example:
      watchword authority stack add compute-2026.11.stack.json --retire-old-in 2h
    """
    from watchword.authority.endorsement import MAX_ENVELOPE

    how = _activation(overlap_until, retire_old_in, allow_rollback, reason)
    content = read_bounded(file, MAX_ENVELOPE)
    with opened(data, passphrase_file) as (_, admin):
        taken = admin.stacks.add(content, how, endorsed=not unendorsed, draft=draft)
    _tell(taken, as_json)


@stack_group.command("activate")
@click.argument("stack")
@_how
@where
def stack_activate(
    stack: str,
    overlap_until: str | None,
    retire_old_in: str | None,
    allow_rollback: bool,
    reason: str,
    data: Path,
    passphrase_file: Path | None,
    as_json: bool,
) -> None:
    """Let STACK (digest, or NAME@VERSION) be in force: a draft, or with a reason what was retiring or revoked.

    \b
    Example:
      watchword authority stack activate compute@2026.11 --retire-old-in 2h
    """
    how = _activation(overlap_until, retire_old_in, allow_rollback, reason)
    with opened(data, passphrase_file) as (directory, admin):
        taken = admin.stacks.activate(find_stack(directory.store.stack_infos(), stack), how)
    _tell(taken, as_json)


def _tell(taken: Taken, as_json: bool) -> None:
    for twin in taken.twins:
        note(f"{twin.label} matches the same boots: a host counts as the one that reaches the higher level or serial")
    for other in taken.retiring:
        note(f"{other.label} is retiring")
    document = stack_document(taken.row) | {
        "retiring": [other.digest.hex() for other in taken.retiring],
        "same_boot": [twin.digest.hex() for twin in taken.twins],
    }
    emit(document, f"{taken.row.label} {taken.row.digest.hex()}", as_json=as_json)


@stack_group.command("list")
@click.option("--state", type=click.Choice(["draft", "active", "retiring", "revoked"]), help="Only those in it.")
@where
def stack_list(state: str | None, data: Path, passphrase_file: Path | None, as_json: bool) -> None:
    """List the releases: name, version, serial, pool, channel, state, digest, end, endorsers.

    \b
    Example:
      watchword authority stack list --state active
    """
    with opened(data, passphrase_file) as (directory, _):
        rows = [stack_document(row) for row in directory.store.stack_infos() if state in (None, row.state)]
    emit_rows("stacks", rows, as_json)


@stack_group.command("show")
@click.argument("stack")
@where
def stack_show(stack: str, data: Path, passphrase_file: Path | None, as_json: bool) -> None:
    """Say in words what STACK (digest, or NAME@VERSION) is, who endorsed it and where it is in its life.

    \b
    Example:
      watchword authority stack show compute@2026.11
    """
    from watchword.policy.explain import explain_stack
    from watchword.policy.stack import CompiledStack

    with opened(data, passphrase_file) as (directory, _):
        info = find_stack(directory.store.stack_infos(), stack)
        row = next(row for row in directory.store.stacks() if row.digest == info.digest)
        history = _history(directory.store.stack_history(row.digest))
        names = {each.key_id: each.name for each in directory.store.endorsers()}
    words = explain_stack(CompiledStack.parse(row.document))
    document = stack_document(row)
    endorsers = [{"key": key_id, "name": names.get(key_id, "")} for key_id in sorted(row.endorsed_by)]
    lines = [f"{name:12} {shown(value)}" for name, value in document.items() if name != "endorsed_by"]
    lines += [f"{'endorsed by':12} {each['name']} {each['key']}" for each in endorsers]
    lines += [f"{'history':12} {_history_line(each)}" for each in history]
    full = document | {"endorsers": endorsers, "history": history, "words": words}
    emit(full, "\n".join([*lines, *words]), as_json=as_json)


@stack_group.command("history")
@click.argument("stack")
@where
def stack_history(stack: str, data: Path, passphrase_file: Path | None, as_json: bool) -> None:
    """List every change of STACK's state (digest, or NAME@VERSION): when, into what, by whom and why.

    \b
    Example:
      watchword authority stack history compute@2026.10
    """
    with opened(data, passphrase_file) as (directory, _):
        row = find_stack(directory.store.stack_infos(), stack)
        rows = _history(directory.store.stack_history(row.digest))
    emit({"digest": row.digest.hex(), "history": rows}, "\n".join(map(_history_line, rows)), as_json=as_json)


def _history(changes: tuple[Any, ...]) -> list[dict[str, Any]]:
    return [
        {"time": c.time, "state": str(c.state), "retire_at": c.retire_at, "by": c.by, "reason": c.reason}
        for c in changes
    ]


def _history_line(change: dict[str, Any]) -> str:
    end = f" until {date(change['retire_at'])}" if change["retire_at"] is not None else ""
    why = f": {change['reason']}" if change["reason"] else ""
    return f"{date(change['time'])} {change['state']}{end}, by {change['by']}{why}"


@stack_group.command("retire")
@click.argument("stack")
@click.option("--at", "at", required=True, help="When it ends: 2026-12-31T00:00:00+00:00, or Unix seconds.")
@click.option("--reason", default="", help="Why; kept in the record.")
@where
def stack_retire(stack: str, at: str, reason: str, data: Path, passphrase_file: Path | None, as_json: bool) -> None:
    """Let STACK (digest, or NAME@VERSION) be accepted until a date and no longer.

    \b
    Example:
      watchword authority stack retire compute@2026.10 --at 2026-12-31T00:00:00+00:00
    """
    end = unix_time(at)
    with opened(data, passphrase_file) as (directory, admin):
        row = find_stack(directory.store.stack_infos(), stack)
        admin.stacks.retire(row, end, reason)
    _tell_state(row, "retiring", end, as_json)


@stack_group.command("revoke")
@click.argument("stack")
@click.option("--reason", default="", help="Why; kept in the record.")
@where
def stack_revoke(stack: str, reason: str, data: Path, passphrase_file: Path | None, as_json: bool) -> None:
    """Refuse STACK (digest, or NAME@VERSION) from now on.

    \b
    Example:
      watchword authority stack revoke compute@2026.10 --reason "CVE-2026-0001"
    """
    with opened(data, passphrase_file) as (directory, admin):
        row = find_stack(directory.store.stack_infos(), stack)
        admin.stacks.revoke(row, reason)
    _tell_state(row, "revoked", None, as_json)


def _tell_state(row: StackInfo, state: str, retire_at: int | None, as_json: bool) -> None:
    document = {"digest": row.digest.hex(), "state": state, "retire_at": retire_at}
    emit(document, f"{row.label} is {state}", as_json=as_json)


def stack_document(row: StackInfo) -> dict[str, Any]:
    """What is told of a release."""
    return {
        "name": row.name,
        "version": row.version,
        "serial": row.serial,
        "pool": row.pool,
        "channel": row.channel,
        "state": str(row.state),
        "digest": row.digest.hex(),
        "retire_at": row.retire_at,
        "endorsed_by": sorted(row.endorsed_by),
        "added_at": row.added_at,
    }


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
@where
def rule_set(
    name: str,
    pool: str,
    endorsers: tuple[str, ...],
    threshold: int,
    data: Path,
    passphrase_file: Path | None,
    as_json: bool,
) -> None:
    """Ask for THRESHOLD of these endorsers on releases of stack NAME. Replaces the rule of that name and pool.

    \b
    Example:
      watchword authority stack rule set compute --endorsers 71b0e44d --endorsers 0c9d2f11 --threshold 2
    """
    with opened(data, passphrase_file) as (directory, admin):
        known = directory.store.endorsers()
        keys = {one(known, text, lambda row: row.key_id, "endorser").key_id for text in endorsers}
        row = admin.set_stack_rule(name, pool, frozenset(keys), threshold)
    emit(_rule_document(row), f"{name} in pool {pool}: {threshold} of {len(keys)}", as_json=as_json)


@rule.command("list")
@where
def rule_list(data: Path, passphrase_file: Path | None, as_json: bool) -> None:
    """List the rules.

    \b
    Example:
      watchword authority stack rule list --json
    """
    with opened(data, passphrase_file) as (directory, _):
        rows = [_rule_document(row) for row in directory.store.stack_rules()]
    emit_rows("rules", rows, as_json)


@rule.command("remove")
@click.argument("name")
@click.option("--pool", default="default", show_default=True, help="The pool that the rule is for.")
@where
def rule_remove(name: str, pool: str, data: Path, passphrase_file: Path | None, as_json: bool) -> None:
    """Ask for any one endorser again on releases of stack NAME.

    \b
    Example:
      watchword authority stack rule remove compute --pool default
    """
    with opened(data, passphrase_file) as (_, admin):
        admin.remove_stack_rule(name, pool)
    emit({"removed": name, "pool": pool}, f"removed the rule of {name} in pool {pool}", as_json=as_json)


def _rule_document(row: StackRule) -> dict[str, Any]:
    return {
        "name": row.name,
        "pool": row.pool,
        "threshold": row.threshold,
        "keys": sorted(row.keys),
        "added_at": row.added_at,
    }
