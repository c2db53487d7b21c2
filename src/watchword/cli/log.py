"""``watchword log``: check the public log of an authority, and find in it what is about you."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from watchword.cli.output import emit, json_option, note, printable
from watchword.crypto.note import COSIGNS, parse_key
from watchword.errors import Rejected, Unavailable, UsageError
from watchword.tenant import launches, log_state, trust
from watchword.tenant.audit import Audited, Visit, audit
from watchword.tenant.files import read_bounded
from watchword.tenant.log_state import Seen
from watchword.tenant.monitor import Monitor
from watchword.tenant.verdict import check_receipts
from watchword.wire.note import Note, NoteKey

__all__ = ["log", "pinned", "read_witnesses", "witness_options"]

_MAX_WITNESSES = 64 * 1024  # bytes of the file
_KEY_ID = 64  # hex digits


def witness_options(function: Any) -> Any:
    """Add ``--witnesses`` and ``--quorum``."""
    path = click.Path(path_type=Path, dir_okay=False)
    listed = click.option("--witnesses", type=path, metavar="FILE", help="Your witnesses: one verifier key on a line.")
    number = click.option("--quorum", type=click.IntRange(min=1), help="How many must have cosigned; all by default.")
    return listed(number(function))


def read_witnesses(file: Path | None, quorum: int | None) -> tuple[tuple[NoteKey, ...], int]:
    """The witnesses in ``file``, and how many of them are demanded. Raises :class:`UsageError` (``bad-quorum``)."""
    if file is None:
        if quorum is not None:
            raise UsageError("bad-quorum", "a quorum needs witnesses", hint="name them with --witnesses FILE")
        return (), 0
    text = read_bounded(file, _MAX_WITNESSES, "the list of witnesses").decode("utf-8", "replace")
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    keys = {key.key: key for key in (parse_key(line, COSIGNS) for line in lines)}
    wanted = len(keys) if quorum is None else quorum
    if not 1 <= wanted <= len(keys):
        raise UsageError("bad-quorum", f"{wanted} of {len(keys)} witnesses cannot be demanded")
    return tuple(keys.values()), wanted


def pinned(name: str | None) -> trust.Authority:
    """The authority called ``name``, or the only one. Raises :class:`UsageError` (``authority-ambiguous``)."""
    if name is not None:
        return trust.load(name)
    found = list(trust.load_all())
    if len(found) != 1:
        raise UsageError(
            "authority-ambiguous", f"{len(found)} authorities are pinned", hint="say which with --authority NAME"
        )
    return found[0]


@click.group()
def log() -> None:
    """Check an authority's public log, and find in it what is about you.

    \b
    Example:
      watchword log audit --authority auditor
    """


@log.command("audit")
@click.option("--authority", metavar="NAME", help="A pinned authority; not needed when only one is.")
@click.option("--full", is_flag=True, help="Read the whole log again, not only what is new.")
@witness_options
@json_option
def audit_command(authority: str | None, full: bool, witnesses: Path | None, quorum: int | None, as_json: bool) -> None:
    """Check that the log continues the one that was seen before: nothing dropped, changed or forked.

    What is seen is remembered for the next time. Exit status 3 when the log is not what it was.

    \b
    Example:
      watchword log audit --authority auditor --witnesses witnesses.txt --quorum 2
    """
    found = _audit(pinned(authority), *read_witnesses(witnesses, quorum), full=full)
    size, root = found.checkpoint.size, found.checkpoint.root.hex()
    document = {
        "authority": found.checkpoint.checkpoint.origin,
        "checked_from": found.start,
        "size": size,
        "root": root,
        "cosigned": [{"witness": each.witness.name, "time": each.time} for each in found.cosigned],
        "checkpoint": found.checkpoint.note.encode().decode(),
    }
    text = f"the log is whole: {size} entries, {size - found.start} of them checked now, root {root}"
    names = ", ".join(each.witness.name for each in found.cosigned)
    emit(document, text + (f"\ncosigned by {printable(names)}" if names else ""), as_json=as_json)


def _audit(
    authority: trust.Authority,
    witnesses: Sequence[NoteKey],
    quorum: int,
    *,
    full: bool,
    since: Seen | None = None,
    visit: Visit = lambda index, entry, tree: None,
) -> Audited:
    """Audit from what was seen, or from ``since`` on, and remember it; a fork is kept as evidence."""
    seen, client = since or log_state.load(authority.name), _Remembering(authority)
    try:
        found = audit(
            client, authority.keys, seen, witnesses=witnesses, quorum=quorum, full=full, visit=visit
        )  # fmt: skip
    except Rejected as error:
        if seen is not None and error.code in ("log-fork", "log-rollback"):
            kept = log_state.keep_contradiction(authority.name, seen.note, Note.parse(client.shown))
            note(f"both checkpoints are in {kept}")
        raise
    before = log_state.load(authority.name)  # another audit may have gone further meanwhile
    if before is None or before.frontier.size <= found.frontier.size:
        log_state.save(authority.name, found.seen)
    return found


class _Remembering:
    """The authority's log, and the checkpoint that it showed."""

    def __init__(self, authority: trust.Authority) -> None:
        self._client = authority.client()
        self.tile = self._client.tile
        self.shown = b""

    def checkpoint(self) -> bytes:
        self.shown = self._client.checkpoint()
        return self.shown


@log.command()
@click.option("--authority", metavar="NAME", help="A pinned authority; not needed when only one is.")
@click.option("--endorser", metavar="KEYID", default="", help="Tell about uses of this endorser's key instead.")
@click.option("--follow", is_flag=True, help="Go on, and tell what is new.")
@click.option(
    "--interval", type=click.FloatRange(min=1), default=60.0, show_default=True, help="Seconds between looks."
)
@witness_options
@json_option
def monitor(
    authority: str | None,
    endorser: str,
    follow: bool,
    interval: float,
    witnesses: Path | None,
    quorum: int | None,
    as_json: bool,
) -> None:
    """Tell about every decision on your launches that the log has, and that none of them was kept from you.

    Reads and checks the whole log. Exit status 3 when something is missing, or the log is not what it was.

    \b
    Example:
      watchword log monitor --authority auditor --follow
    """
    found = pinned(authority)
    if endorser and (len(endorser) != _KEY_ID or set(endorser) - set("0123456789abcdef")):
        raise UsageError("bad-key-id", "a key id has 64 hex digits", hint="'watchword stack endorse' prints it")
    records = [] if endorser else _about(found.name)
    watch, told = Monitor(records, endorser), set[int]()
    demanded = read_witnesses(witnesses, quorum)
    since, first = None, True
    while True:
        try:
            # From where this monitor is, not from what another audit saw: it must visit every entry.
            checked = _audit(found, *demanded, full=first, since=since, visit=watch.visit)
            since = checked.seen
            report = _acts(watch, found) if endorser else _launches(watch, found)
            _tell(report, checked, told, first or not follow, as_json)
            first = False
        except Unavailable as error:
            if not follow or first:
                raise
            note(f"{error.code}: {error.message}; trying again")
        if not follow:
            return
        time.sleep(interval)


def _about(authority: str) -> list[launches.LaunchRecord]:
    """Launches that this authority has the secret of, or a share."""
    return [part for each in launches.load_all() for part in each.parts() if part.authority == authority]


def _launches(watch: Monitor, authority: trust.Authority) -> list[dict[str, Any]]:
    client, report = authority.client(), list[dict[str, Any]]()
    for record, logged in watch.launches():
        receipts = check_receipts(client.decisions(bytes.fromhex(record.launch_id)), record, client.keys)
        watch.check_shown(logged, receipts)
        for receipt in receipts:
            decision = receipt.decision
            report.append(
                {
                    "launch": record.name,
                    "seq": receipt.log.seq,
                    "outcome": decision.outcome,
                    "time": decision.time,
                    "host": decision.host,
                    "instance": decision.instance,
                    "releases": decision.releases,
                    "allowed": decision.allowed,
                }
            )
    return report


def _acts(watch: Monitor, authority: trust.Authority) -> list[dict[str, Any]]:
    listed = authority.client().stacks()
    watch.check_stacks(listed)
    return [act.document() for act in watch.acts(listed)]


def _tell(report: list[dict[str, Any]], checked: Audited, told: set[int], always: bool, as_json: bool) -> None:
    new = [each for each in report if each["seq"] not in told]
    told |= {each["seq"] for each in new}
    if not new and not always:
        return
    size = checked.checkpoint.size
    lines = [_line(each) for each in new] or ["nothing about you"]
    lines.append(f"{size} entries, root {checked.checkpoint.root.hex()}")
    emit({"size": size, "root": checked.checkpoint.root.hex(), "entries": new}, "\n".join(lines), as_json=as_json)


def _line(entry: dict[str, Any]) -> str:
    when = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(min(max(entry["time"], 0), 253402300799)))
    rest = {name: value for name, value in entry.items() if name not in ("seq", "time", "launch", "act", "outcome")}
    what = f"{entry.get('launch', '')} {entry.get('outcome', '')}{entry.get('act', '')}".strip()
    return printable(f"{entry['seq']:6} {when} {what} {json.dumps(rest, ensure_ascii=False)}")
