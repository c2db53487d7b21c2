"""``watchword watch``: does the host under a machine still deserve it?"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import click
import msgspec

from watchword.cli.output import emit, json_option, note, printable, report_error
from watchword.errors import Rejected, Unavailable
from watchword.launch.receipt import launch_key
from watchword.launch.standing import Statement, check_hosts, verify_statement
from watchword.tenant import launches, trust
from watchword.tenant.client import AuthorityClient
from watchword.tenant.launches import LaunchRecord
from watchword.tenant.verdict import check_receipts
from watchword.wire.trace import traced

__all__ = ["watch"]


@click.command()
@click.argument("name")
@click.option("--follow", is_flag=True, help="Go on, and end when a host is not good any more.")
@click.option("--every", type=click.FloatRange(5, 86400), default=60, show_default=True, help="Seconds in between.")
@json_option
def watch(name: str, follow: bool, every: float, as_json: bool) -> None:
    """Find out whether the host under the machine of the launch NAME is still as good as you demanded.

    The authority says so, signed; which host it is stays the provider's secret. Exit status 3 when a host went bad,
    was started anew or fell silent. Of a split secret, as many authorities as the launch needed must say that it is
    good, and none that released a share may say otherwise. With --follow one that cannot be reached is asked again.

    \b
    Example:
      watchword watch web1
    """
    record = launches.load(name)
    parts = [(part, trust.load(part.authority).client()) for part in record.parts()]
    while True:
        try:
            with traced(record.trace):
                found = look_at_all(parts, record.threshold or 1, int(time.time()))
            emit(_document(record, found), _text(record, found), as_json=as_json)
        except Unavailable as error:
            if not follow:
                raise
            report_error(error, as_json=as_json)
        if not follow:
            return
        sys.stdout.flush()
        time.sleep(every)


def look_at_all(parts: Sequence[tuple[LaunchRecord, AuthorityClient]], needed: int, now: int) -> dict[str, Statement]:
    """The statement of each authority that has one, by its local name; at least ``needed``.

    Raises :class:`Rejected`, :class:`MalformedError`, :class:`Unavailable` (``authorities-silent``).
    """
    found, silent = dict[str, Statement](), dict[str, Unavailable]()
    for part, client in parts:
        try:
            found[part.authority] = look(part, client, now)
        except Unavailable as error:
            if len(parts) == 1:
                raise
            silent[part.authority] = error
        except Rejected:
            if len(parts) > 1:
                note(f"so says {printable(part.authority)}:")
            raise
    if len(found) < needed:
        said = "; ".join(f"{name}: {error.message[:300]}" for name, error in silent.items())
        raise Unavailable(
            "authorities-silent", f"only {len(found)} of {needed} authorities had a word about it: {said}"
        )
    return found


def look(record: LaunchRecord, client: AuthorityClient, now: int) -> Statement:
    """The verified statement about the hosts of a launch, all of them good (W4, W5), at ``now`` (Unix seconds).

    Raises :class:`Rejected`, :class:`MalformedError`, :class:`Unavailable`.
    """
    launch_id = bytes.fromhex(record.launch_id)
    receipts = check_receipts(client.decisions(launch_id), record, client.keys)
    released = [r.decision.host for r in receipts if r.decision.outcome == "released"]
    statement = verify_statement(
        client.standing(launch_id), client.keys, launch=launch_key(launch_id).hex(), profile=record.profile, now=now
    )
    check_hosts(statement, released, record.rank)
    return statement


def _document(record: LaunchRecord, found: Mapping[str, Statement]) -> dict[str, Any]:
    oldest = min(found.values(), key=lambda statement: statement.time)
    several = {name: [msgspec.to_builtins(host) for host in each.hosts] for name, each in found.items()}
    return {
        "name": record.name,
        "time": oldest.time,
        "required_level": record.level,
        "hosts": [msgspec.to_builtins(host) for host in oldest.hosts],
        **({"authorities": several} if record.shares else {}),
    }


def _text(record: LaunchRecord, found: Mapping[str, Statement]) -> str:
    statement = min(found.values(), key=lambda each: each.time)
    when = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(statement.time))
    lines = [f"{record.name}: good at {when} (demanded: {record.level})"]
    for name, each in found.items():
        by = f", says {name}" if record.shares else ""
        lines += [f"  host {host.host}  {host.state} at level {host.level}{by}" for host in each.hosts]
    return "\n".join(map(printable, lines))
