"""``watchword authority events`` and ``authority webhook``: what happened, and who is told."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from watchword.cli.authority_common import FILE, date, emit_rows, opened, where
from watchword.cli.output import emit, printable
from watchword.cli.profile import read_bounded
from watchword.errors import UsageError

if TYPE_CHECKING:  # the authority needs an extra; without it, the help must still work
    from watchword.authority.store import Store, Webhook

__all__ = ["GROUP", "events_command"]

_PAGE: Final = 200
_MAX_CA: Final = 64 * 1024


@click.command("events")
@click.option("--after", type=click.IntRange(min=0), help="Events after this number; all that are on file otherwise.")
@click.option("--follow", is_flag=True, help="Go on, and print each event when it happens.")
@where
def events_command(after: int | None, follow: bool, data: Path, passphrase_file: Path | None, as_json: bool) -> None:
    """Print what happened to hosts and to what is believed, one line for each event; with --json one object each.

    \b
    Example:
      watchword authority events --follow --json
    """
    with opened(data, passphrase_file) as (directory, _):
        place = after or 0
        while True:
            place = _print(directory.store, place, as_json)
            if not follow:
                return
            sys.stdout.flush()
            time.sleep(1.0)


def _print(store: Store, place: int, as_json: bool) -> int:
    from watchword.authority.store import Audience

    while True:
        page = store.events(place, Audience(None, None), _PAGE)
        for _, payload in page.payloads:
            event = json.loads(payload)
            emit(event, "  ".join(map(printable, _line(event))), as_json=as_json)
        place = page.last
        if len(page.payloads) < _PAGE:
            return place


def _line(event: dict[str, Any]) -> tuple[str, ...]:
    details = " ".join(f"{name}={value}" for name, value in event["details"].items() if value not in ("", None))
    return (str(event["seq"]), date(event["time"]), event["type"], event["subject"], details)


@click.group("webhook")
def GROUP() -> None:
    """Who is told what happened, by a signed POST.

    \b
    Example:
      watchword authority webhook list
    """


@GROUP.command("add")
@click.argument("url")
@click.option(
    "--events", "kinds", multiple=True, type=click.Choice(["host", "public"]),
    help="About hosts, or what everybody may know (stacks, keys, trust anchors); both by default.",
)  # fmt: skip
@click.option("--ca", type=FILE, help="The certificate authority (PEM) to believe there, in place of the system's.")
@click.option("--allow-http", is_flag=True, help="Take an address without TLS.")
@where
def webhook_add(
    url: str,
    kinds: tuple[str, ...],
    ca: Path | None,
    allow_http: bool,
    data: Path,
    passphrase_file: Path | None,
    as_json: bool,
) -> None:
    """Post every event from now on to URL, in order, again and again until it is taken.

    \b
    Example:
      watchword authority webhook add https://controller.example/watchword --events host
    """
    from watchword.authority.publishing.webhooks import MAX_WEBHOOKS, check_url, make_webhook

    text = read_bounded(ca, _MAX_CA).decode("ascii", "replace") if ca is not None else ""
    with opened(data, passphrase_file) as (directory, admin):
        made = make_webhook(check_url(url, allow_http=allow_http), kinds, text, admin.now)
        with directory.store.transaction() as tx:
            tx.put_webhook(made, MAX_WEBHOOKS)
            tx.append_act(admin.now, "webhook-add", made.id, by=admin.actor, url=url, kinds=made.kinds)
    emit({"id": made.id, "url": url, "events": made.kinds.split(",")}, made.id, as_json=as_json)


@GROUP.command("list")
@where
def webhook_list(data: Path, passphrase_file: Path | None, as_json: bool) -> None:
    """List webhooks: how many events each has not been looked at for, when it took the last one, and what went wrong.

    \b
    Example:
      watchword authority webhook list --json
    """
    with opened(data, passphrase_file) as (directory, _):
        newest = directory.store.last_event()
        rows = [_row(each, newest) for each in directory.store.webhooks()]
    emit_rows("webhooks", rows, as_json)


def _row(webhook: Webhook, newest: int) -> dict[str, Any]:
    return {
        "id": webhook.id,
        "url": webhook.url,
        "events": webhook.kinds.split(","),
        "behind": max(0, newest - webhook.place),
        "delivered_at": webhook.delivered_at,
        "attempts": webhook.attempts,
        "next_try": webhook.next_try or None,
        "error": printable(webhook.last_error),
    }


@GROUP.command("remove")
@click.argument("webhook")
@where
def webhook_remove(webhook: str, data: Path, passphrase_file: Path | None, as_json: bool) -> None:
    """Tell WEBHOOK (its id) nothing more; what it was not told yet is not told.

    \b
    Example:
      watchword authority webhook remove 5c1f0a9b23d4e6f7
    """
    with opened(data, passphrase_file) as (directory, admin), directory.store.transaction() as tx:
        tx.remove_webhook(webhook)
        tx.append_act(admin.now, "webhook-remove", webhook, by=admin.actor)
    emit({"removed": webhook}, f"removed {webhook}", as_json=as_json)


@GROUP.command("test")
@click.argument("webhook")
@where
def webhook_test(webhook: str, data: Path, passphrase_file: Path | None, as_json: bool) -> None:
    """Post a signed event of type "test" to WEBHOOK (its id) now, from here, once.

    \b
    Example:
      watchword authority webhook test 5c1f0a9b23d4e6f7
    """
    from watchword.authority.publishing.webhooks import post, trial
    from watchword.launch.event import sign_event

    with opened(data, passphrase_file) as (directory, admin):
        found = [each for each in directory.store.webhooks() if each.id == webhook]
        if not found:
            raise UsageError("webhook-unknown", f"there is no webhook {webhook}")
        post(found[0], sign_event(trial(found[0], admin.now).encode(), directory.keyring.signing_key))
    emit({"id": webhook, "taken": True}, f"{webhook} took it", as_json=as_json)
