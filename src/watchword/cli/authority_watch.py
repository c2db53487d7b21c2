"""``watchword authority watch``: by which profiles hosts are watched, and how they stand."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import Any

import click

from watchword.cli.authority_common import emit_rows, one, opened, where
from watchword.cli.output import emit

__all__ = ["GROUPS"]


@click.group()
def watch() -> None:
    """Keep up with hosts between launches.

    \b
    Example:
      watchword authority watch add 3b1f9c20
    """


@watch.command("add")
@click.argument("profile")
@where
def watch_add(profile: str, data: Path, passphrase_file: Path | None, as_json: bool) -> None:
    """Judge every host by PROFILE (its id, or the first digits of it) whenever it attests.

    \b
    Example:
      watchword authority watch add 3b1f9c20
    """
    with opened(data, passphrase_file) as (directory, admin):
        row = one(directory.store.profiles(), profile, lambda row: row.id.hex(), "profile")
        admin.watch(row.id)
    emit(
        {"watched": row.id.hex(), "name": row.name}, f"hosts are watched by {row.name} {row.id.hex()}", as_json=as_json
    )


@watch.command("remove")
@click.argument("profile")
@where
def watch_remove(profile: str, data: Path, passphrase_file: Path | None, as_json: bool) -> None:
    """Stop judging every host by PROFILE; launches under it keep it for the hosts that they run on.

    \b
    Example:
      watchword authority watch remove 3b1f9c20
    """
    with opened(data, passphrase_file) as (directory, admin):
        found = one(directory.store.watched(), profile, bytes.hex, "watched profile")
        admin.unwatch(found)
    emit({"removed": found.hex()}, f"removed {found.hex()}", as_json=as_json)


@watch.command("list")
@where
def watch_list(data: Path, passphrase_file: Path | None, as_json: bool) -> None:
    """List the profiles that hosts are watched by, the one that counts for providers first.

    \b
    Example:
      watchword authority watch list --json
    """
    with opened(data, passphrase_file) as (directory, _):
        names = {row.id: row.name for row in directory.store.profiles()}
        rows = [{"id": profile.hex(), "name": names[profile]} for profile in directory.store.watched()]
    emit_rows("watched", rows, as_json)


@watch.command("hosts")
@click.option("--profile", help="By this profile instead of the first watched one.")
@click.option("--state", "wanted", multiple=True, help="Only hosts in this state; may be repeated.")
@where
def watch_hosts(
    profile: str | None, wanted: tuple[str, ...], data: Path, passphrase_file: Path | None, as_json: bool
) -> None:
    """List all hosts, how they stand now, what is in the way, and the release that each was last seen to run.

    \b
    Example:
      watchword authority watch hosts --state failed --state stale
    """
    from watchword.authority.watch import standing_now

    now = int(time.time())
    with opened(data, passphrase_file) as (directory, _):
        store = directory.store
        ids = store.watched() if profile is None else tuple(row.id for row in store.profiles())
        chosen = one(ids, profile, bytes.hex, "profile") if profile is not None else next(iter(ids), None)
        states = store.states_by(chosen) if chosen is not None else {}
        labels = {row.digest: row.label for row in store.stack_infos()}
        rows: list[dict[str, Any]] = []
        for host in store.hosts():
            state = states.get(host.host_id)
            standing, reason = standing_now(state, now, revoked=host.revoked)
            rows.append(
                {
                    "host": host.host_id.hex(),
                    "state": standing,
                    "level": state.level if state else "",
                    "since": state.since if state else None,
                    "until": state.until if state else None,
                    "stack": labels.get(state.stack, "") if state else "",
                    "code": state.code if state and reason == state.reason else "",
                    "reason": reason,
                }
            )
    counts = Counter(row["state"] for row in rows)
    shown = [row for row in rows if not wanted or row["state"] in wanted]
    if as_json:
        emit({"hosts": shown, "counts": dict(counts)}, "", as_json=True)
        return
    emit_rows("hosts", shown, False)


@watch.command("accept")
@click.argument("host_id")
@click.option("--reason", required=True, help="Why; kept in the record.")
@where
def watch_accept(host_id: str, reason: str, data: Path, passphrase_file: Path | None, as_json: bool) -> None:
    """Take what a degraded host is worth now as good enough for it.

    \b
    Example:
      watchword authority watch accept 0f3c9a12 --reason "its service processor was replaced"
    """
    with opened(data, passphrase_file) as (directory, admin):
        row = one(directory.store.hosts(), host_id, lambda row: row.host_id.hex(), "host")
        admin.accept_host(row.host_id, reason)
    emit({"accepted": row.host_id.hex()}, f"accepted {row.host_id.hex()}", as_json=as_json)


GROUPS = (watch,)
