"""``watchword verify``: one verdict about one machine."""

from __future__ import annotations

import time

import click

from watchword.cli.output import emit, json_option, note, printable
from watchword.launch.receipt import Receipt, StackRecord
from watchword.tenant import launches
from watchword.tenant.launches import LaunchRecord
from watchword.tenant.split_verdict import verify as verify_launch
from watchword.tenant.ssh import Address, parse_address
from watchword.tenant.verdict import Verdict, Word
from watchword.wire.trace import traced

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
    place = parse_address(address) if address else record_address(record)
    with traced(record.trace):
        verdict = verify_launch(record, place, timeout=timeout, releases=releases)
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
    lines = (
        f"TRUSTED: {verdict.record.name} at {verdict.address} holds the key that was released for it",
        f"  level      {decision.level} (demanded: {verdict.record.level})",
        f"  stack      {stack.name} {stack.version} (sha256:{stack.digest}){_origin(stack)}" if stack else "",
        f"  host       {decision.host} (pseudonym)",
        f"  host key   {verdict.record.ssh_fingerprint}",
        *(_words(verdict) if verdict.words else _word(newest, len(verdict.released))),
    )
    return "\n".join(printable(line) for line in lines if line)


def _word(newest: Receipt, count: int) -> tuple[str, ...]:
    return (
        f"  releases   {count} of {newest.decision.allowed} allowed",
        f"  receipt    entry {newest.log.seq} of {newest.authority}, {_when(newest)}",
    )


def _words(verdict: Verdict) -> list[str]:
    """What each authority of a split secret said."""
    record = verdict.record
    needed = f"  shares     {record.threshold} of {len(record.shares)} authorities needed"
    return [needed, *(f"    {word.name}: {_said(word)}" for word in verdict.words)]


def _said(word: Word) -> str:
    if word.error is not None:
        return f"its word does not count: {word.error.message[:200]}"
    if not word.receipts:
        return "was not asked for its share"
    newest = word.receipts[-1]
    codes = ", ".join(dict.fromkeys(f.code for f in newest.decision.findings))
    what = "released its share" if newest.decision.outcome == "released" else f"refused: {codes}"
    return f"{what}, entry {newest.log.seq}, {_when(newest)}"


def _when(receipt: Receipt) -> str:
    seconds = min(max(receipt.decision.time, 0), 253402300799)
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))


def _origin(stack: StackRecord) -> str:
    """Worth saying only when it is less than the tenant may think: whoever endorsed it vouched for one machine."""
    return ", captured from a host and not computed" if stack.origin == "captured" else ""
