"""``watchword verify``: one verdict about one machine."""

from __future__ import annotations

import time

import click

from watchword.cli.output import emit, json_option, note, printable
from watchword.launch.receipt import StackRecord
from watchword.tenant import launches, trust
from watchword.tenant.launches import LaunchRecord
from watchword.tenant.ssh import Address, parse_address
from watchword.tenant.verdict import Verdict, verify_launch
from watchword.wire.trace import trace_of_token_id, traced

__all__ = ["record_address", "verdict_text", "verify"]


@click.command()
@click.argument("name")
@click.argument("address", required=False, metavar="[HOST:PORT]")
@click.option("--timeout", type=click.FloatRange(1, 3600), default=120, show_default=True, help="Seconds for SSH.")
@click.option("--releases", type=click.IntRange(1, 65535), default=1, show_default=True, help="Machines you started.")
@json_option
def verify(name: str, address: str | None, timeout: float, releases: int, as_json: bool) -> None:
    """Find out whether the machine of the launch NAME is yours, and what it runs on.

    Exit status: 0 trusted, 3 rejected, 2 nothing could be proven, 1 the command is wrong.

    \b
    Example:
      watchword verify web1 192.0.2.7:22
    """
    record = launches.load(name)
    authority = trust.load(record.authority)
    place = parse_address(address) if address else record_address(record)
    with traced(trace_of_token_id(record.token)):
        verdict = verify_launch(record, authority.client(), place, timeout=timeout, releases=releases)
    if verdict.refused:
        note(f"the authority also refused {len(verdict.refused)} other requests with this token; --json shows them")
    emit(verdict.document(), verdict_text(verdict), as_json=as_json)


def record_address(record: LaunchRecord) -> Address | None:
    """Where the provider said that the machine answers; it said so, so it is read as strictly as an argument."""
    if not record.address or not record.port:
        return None
    literal = f"[{record.address}]" if ":" in record.address else record.address
    return parse_address(f"{literal}:{record.port}")


def verdict_text(verdict: Verdict) -> str:
    """A trusted machine, for people."""
    newest = verdict.released[-1]
    decision = newest.decision
    stack = decision.stack
    when = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(min(max(decision.time, 0), 253402300799)))
    lines = (
        f"TRUSTED: {verdict.record.name} at {verdict.address} holds the key that was released for it",
        f"  level      {decision.level} (demanded: {verdict.record.level})",
        f"  stack      {stack.name} {stack.version} (sha256:{stack.digest}){_origin(stack)}" if stack else "",
        f"  host       {decision.host} (pseudonym)",
        f"  host key   {verdict.record.ssh_fingerprint}",
        f"  releases   {len(verdict.released)} of {decision.allowed} allowed",
        f"  receipt    entry {newest.log.seq} of {newest.authority}, {when}",
    )
    return "\n".join(printable(line) for line in lines if line)


def _origin(stack: StackRecord) -> str:
    """Worth saying only when it is less than the tenant may think: whoever endorsed it vouched for one machine."""
    return ", captured from a host and not computed" if stack.origin == "captured" else ""
