"""``watchword watch``: does the host under a machine still deserve it?"""

from __future__ import annotations

import sys
import time
from typing import Any

import click
import msgspec

from watchword.cli.output import emit, json_option, printable, report_error
from watchword.errors import Unavailable
from watchword.launch.receipt import launch_key
from watchword.launch.standing import Statement, check_hosts, verify_statement
from watchword.tenant import launches, trust
from watchword.tenant.client import AuthorityClient
from watchword.tenant.launches import LaunchRecord
from watchword.tenant.verdict import check_receipts
from watchword.wire.trace import trace_of_token_id, traced

__all__ = ["watch"]


@click.command()
@click.argument("name")
@click.option("--follow", is_flag=True, help="Go on, and end when a host is not good any more.")
@click.option("--every", type=click.FloatRange(5, 86400), default=60, show_default=True, help="Seconds in between.")
@json_option
def watch(name: str, follow: bool, every: float, as_json: bool) -> None:
    """Find out whether the host under the machine of the launch NAME is still as good as you demanded.

    The authority says so, signed; which host it is stays the provider's secret. Exit status 3 when a host went bad,
    was started anew or fell silent. With --follow an authority that cannot be reached is asked again.

    \b
    Example:
      watchword watch web1
    """
    record = launches.load(name)
    client = trust.load(record.authority).client()
    while True:
        try:
            with traced(trace_of_token_id(record.token)):
                statement = look(record, client, int(time.time()))
            emit(_document(record, statement), _text(record, statement), as_json=as_json)
        except Unavailable as error:
            if not follow:
                raise
            report_error(error, as_json=as_json)
        if not follow:
            return
        sys.stdout.flush()
        time.sleep(every)


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


def _document(record: LaunchRecord, statement: Statement) -> dict[str, Any]:
    return {
        "name": record.name,
        "time": statement.time,
        "required_level": record.level,
        "hosts": [msgspec.to_builtins(host) for host in statement.hosts],
    }


def _text(record: LaunchRecord, statement: Statement) -> str:
    when = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(statement.time))
    lines = [f"{record.name}: good at {when} (demanded: {record.level})"]
    for host in statement.hosts:
        lines.append(f"  host {host.host}  {host.state} at level {host.level}")
    return "\n".join(map(printable, lines))
