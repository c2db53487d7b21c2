"""``watchword trust``: the authorities that you believe, pinned by a fingerprint you got some other way."""

from __future__ import annotations

from typing import Any

import click

from watchword.cli.output import emit, json_option
from watchword.tenant import trust as authorities
from watchword.tenant.trust import Authority

__all__ = ["trust"]


@click.group()
def trust() -> None:
    """Pin the authorities that you trust.

    \b
    Example:
      watchword trust list
    """


@trust.command()
@click.argument("url")
@click.option("--fingerprint", required=True, metavar="SHA256:...", help="Of the authority's root key.")
@click.option("--name", help="What to call it here; its host name otherwise.")
@json_option
def add(url: str, fingerprint: str, name: str | None, as_json: bool) -> None:
    """Pin the authority at URL.

    Get the fingerprint over a channel that the provider does not control.

    \b
    Example:
      watchword trust add https://authority.example:8443 --fingerprint SHA256:... --name auditor
    """
    _report("pinned", authorities.add(url, fingerprint, name), as_json)


@trust.command("list")
@json_option
def list_(as_json: bool) -> None:
    """Show the pinned authorities.

    \b
    Example:
      watchword trust list --json
    """
    known = list(authorities.load_all())
    lines = [f"{item.name}\t{item.url}\t{item.fingerprint}\tkeys version {item.keys.version}" for item in known]
    text = "\n".join(lines) or "no authority is pinned"
    emit({"authorities": [_document(item) for item in known]}, text, as_json=as_json)


@trust.command()
@click.argument("name")
@json_option
def update(name: str, as_json: bool) -> None:
    """Follow the authority NAME to its newest keys; older ones are refused.

    \b
    Example:
      watchword trust update auditor
    """
    _report("is up to date:", authorities.update(name), as_json)


@trust.command()
@click.argument("name")
@json_option
def remove(name: str, as_json: bool) -> None:
    """Forget the authority NAME.

    \b
    Example:
      watchword trust remove auditor
    """
    authorities.remove(name)
    emit({"removed": name}, f"{name} is no longer trusted", as_json=as_json)


def _report(what: str, item: Authority, as_json: bool) -> None:
    text = f"{item.name} {what} {item.url}, keys version {item.keys.version}, root {item.fingerprint}"
    emit(_document(item), text, as_json=as_json)


def _document(item: Authority) -> dict[str, Any]:
    return {
        "name": item.name,
        "url": item.url,
        "authority": item.keys.authority,
        "fingerprint": item.fingerprint,
        "keys_version": item.keys.version,
        "issued": item.keys.issued,
    }
