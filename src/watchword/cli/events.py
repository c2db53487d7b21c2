"""``watchword events``: for those who receive events."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click
import msgspec

from watchword.cli.ear import trusted_keys
from watchword.cli.output import emit, json_option, printable
from watchword.launch.event import MAX_EVENT
from watchword.tenant.events import Chains

__all__ = ["events"]

_PATH = click.Path(path_type=Path, dir_okay=False, exists=True)


@click.group()
def events() -> None:
    """Check signed events, as webhooks and POST /v1/events bring them.

    \b
    Example:
      watchword events verify --authority cloud
    """


@events.command()
@click.option("--authority", metavar="NAME", help="The pinned authority that signed it.")
@click.option("--keys", type=_PATH, metavar="FILE", help="The authority's key lists, as GET /v1/keys gives them.")
@click.option("--fingerprint", metavar="SHA256:...", help="Of the authority's root key; goes with --keys.")
@click.option(
    "--chains", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
    help="What was seen so far is kept there, and the event must be the next.",
)  # fmt: skip
@json_option
def verify(
    authority: str | None, keys: Path | None, fingerprint: str | None, chains: Path | None, as_json: bool
) -> None:
    """Verify the event on standard input, and print it. Exit status 3 when it is refused.

    With --chains it is also refused when it was seen before (event-repeated: take it off the queue), when one before it
    is missing (event-missing) or when it continues another history (event-forked).

    \b
    Example:
      watchword events verify --authority cloud --chains seen.json --json
    """
    trusted = trusted_keys(authority, keys, fingerprint)
    body = sys.stdin.buffer.read(MAX_EVENT + 1)
    known = Chains.load(chains) if chains is not None else Chains()
    event = known.take(body, trusted)
    if chains is not None:
        known.save(chains)
    document: dict[str, Any] = msgspec.to_builtins(event)
    text = f"{event.seq}  {event.type}  {event.subject}  {event.profile}"
    emit(document, printable(text.rstrip()), as_json=as_json)
