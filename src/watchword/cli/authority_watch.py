"""``watchword authority watch``: by which profiles hosts are watched, and how they stand."""

from __future__ import annotations

import click

from watchword.cli.authority_common import Place, anywhere, emit_rows
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
@anywhere
def watch_add(profile: str, place: Place, as_json: bool) -> None:
    """Judge every host by PROFILE (its id, or the first digits of it) whenever it attests.

    \b
    Example:
      watchword authority watch add 3b1f9c20
    """
    document = place.ask("watch add", profile=profile)
    emit(document, f"hosts are watched by {document['name']} {document['watched']}", as_json=as_json)


@watch.command("remove")
@click.argument("profile")
@anywhere
def watch_remove(profile: str, place: Place, as_json: bool) -> None:
    """Stop judging every host by PROFILE; launches under it keep it for the hosts that they run on.

    \b
    Example:
      watchword authority watch remove 3b1f9c20
    """
    document = place.ask("watch remove", profile=profile)
    emit(document, f"removed {document['removed']}", as_json=as_json)


@watch.command("list")
@anywhere
def watch_list(place: Place, as_json: bool) -> None:
    """List the profiles that hosts are watched by, the one that counts for providers first.

    \b
    Example:
      watchword authority watch list --json
    """
    emit_rows("watched", place.ask("watch list")["watched"], as_json)


@watch.command("hosts")
@click.option("--profile", help="By this profile instead of the first watched one.")
@click.option("--state", "wanted", multiple=True, help="Only hosts in this state; may be repeated.")
@anywhere
def watch_hosts(profile: str | None, wanted: tuple[str, ...], place: Place, as_json: bool) -> None:
    """List all hosts, how they stand now, what is in the way, and the release that each was last seen to run.

    \b
    Example:
      watchword authority watch hosts --state failed --state stale
    """
    document = place.ask("watch hosts", profile=profile)
    shown = [row for row in document["hosts"] if not wanted or row["state"] in wanted]
    if as_json:
        emit(document | {"hosts": shown}, "", as_json=True)
        return
    emit_rows("hosts", shown, False)


@watch.command("accept")
@click.argument("host_id")
@click.option("--reason", required=True, help="Why; kept in the record.")
@anywhere
def watch_accept(host_id: str, reason: str, place: Place, as_json: bool) -> None:
    """Take what a degraded host is worth now as good enough for it.

    \b
    Example:
      watchword authority watch accept 0f3c9a12 --reason "its service processor was replaced"
    """
    document = place.ask("watch accept", host=host_id, reason=reason)
    emit(document, f"accepted {document['accepted']}", as_json=as_json)


GROUPS = (watch,)
