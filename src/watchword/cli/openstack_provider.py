"""The provider's half of ``watchword openstack``: the status service, and what follows from it."""

from __future__ import annotations

import json
import signal
import threading
import time
from pathlib import Path
from typing import Any

import click
import httpx2

from watchword.agent import config as settings
from watchword.cli.output import emit, json_option, note
from watchword.cli.relay import parse_listen
from watchword.errors import MalformedError, Unavailable, WatchwordError
from watchword.integrations.openstack.launcher import connect
from watchword.integrations.openstack.refusals import ROUTE, Refusal
from watchword.integrations.openstack.status_service import StatusConfig, Statuses, StatusServer, ask_authority
from watchword.integrations.openstack.traits import Watcher

__all__ = ["status", "watch"]

_PATH = click.Path(path_type=Path)
_DEFAULT = "/etc/watchword/status.toml"


@click.command()
@click.option("--config", type=_PATH, default=_DEFAULT, show_default=True, metavar="FILE", help="Settings (TOML).")
@json_option
def status(config: Path, as_json: bool) -> None:
    """Run the status service until SIGINT or SIGTERM.

    It asks the authority about the hosts that are listed, by their ids; the scheduler asks it by host name.

    \b
    Example:
      watchword openstack status --config /etc/watchword/status.toml
    """
    service = StatusConfig.load(config)
    keys = settings.load_authority(config)
    keys.authority_keys()  # first what costs nothing
    statuses = Statuses(service, ask_authority(keys.address(), keys.authority_keys))
    address, port = parse_listen(service.listen)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with StatusServer(address, port, statuses) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.2,), daemon=True)
        thread.start()
        threading.Thread(target=statuses.run, daemon=True).start()
        url = f"http://{f'[{address}]' if ':' in address else address}:{server.server_address[1]}"
        emit({"url": url}, f"listening on {url}", as_json=as_json)
        stop.wait()
        statuses.stop()
        server.shutdown()
        thread.join()


@click.command()
@click.option("--status-url", default="http://127.0.0.1:8450", show_default=True, metavar="URL", help="The service.")
@click.option("--cloud", metavar="NAME", help="Of clouds.yaml; else OS_CLOUD and the other OS_ variables.")
@click.option("--rank", type=click.IntRange(1, 255), default=1, show_default=True, help="What a host must have.")
@click.option(
    "--action", type=click.Choice(["notify", "disable", "stop"]), default="notify", show_default=True,
    help="For hosts below it: say so, disable the compute service, also stop the servers.",
)  # fmt: skip
@click.option("--interval", type=click.FloatRange(1, 86400), default=30, show_default=True, help="Seconds.")
@click.option("--reasons", is_flag=True, help="Write into servers' metadata why they did not start.")
@click.option("--once", is_flag=True, help="One round; exit status 2 when a host is below.")
@json_option
def watch(
    status_url: str,
    cloud: str | None,
    rank: int,
    action: str,
    interval: float,
    reasons: bool,
    once: bool,
    as_json: bool,
) -> int:
    """Keep traits in placement in line with hosts' levels, and act when a host loses its level.

    \b
    Example:
      watchword openstack watch --cloud admin --rank 2 --action disable
    """
    watcher = Watcher(connect(cloud), rank=rank, action=action)
    while True:
        try:
            hosts = _hosts(status_url)
            changes = watcher.apply(hosts)
            changes += watcher.explain(_refusals(status_url)) if reasons else []
            for change in changes:
                emit(change, json.dumps(change), as_json=as_json)
        except WatchwordError as error:
            if once:
                raise
            note(f"{error.code}: {error.message}")
            hosts = {}
        if once:
            return 0 if all(int(entry["rank"]) >= rank for entry in hosts.values()) else 2
        time.sleep(interval)


def _hosts(url: str) -> dict[str, Any]:
    hosts = _ask(url, "/v1/hosts", "hosts")
    if not isinstance(hosts, dict) or not all(_has_rank(entry) for entry in hosts.values()):
        raise Unavailable("status-service", "the status service answered, and no list of hosts")
    return hosts


def _refusals(url: str) -> list[Refusal]:
    found = _ask(url, ROUTE, "refusals")
    try:
        return [Refusal.parse(json.dumps(each).encode()) for each in found]
    except (MalformedError, TypeError):
        raise Unavailable("status-service", "the status service answered, and no list of refusals") from None


def _ask(url: str, route: str, member: str) -> Any:
    try:
        answer = httpx2.get(url.rstrip("/") + route, timeout=10, trust_env=False)
        return answer.json()[member] if answer.status_code == 200 else None
    except (httpx2.HTTPError, httpx2.InvalidURL, OSError, ValueError, KeyError, TypeError) as error:
        raise Unavailable("status-service", f"the status service does not answer: {str(error)[:200]}") from None


def _has_rank(entry: object) -> bool:
    """Whether an entry can be used; nothing is done to any host on the word of a service that says nothing."""
    return isinstance(entry, dict) and type(entry.get("rank")) is int and 0 <= entry["rank"] <= 255
