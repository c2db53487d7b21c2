"""``watchword receipt``: signed decisions in a file, good offline and for years."""

from __future__ import annotations

import time
from pathlib import Path

import click
import msgspec

from watchword.cli.log import read_witnesses, witness_options
from watchword.cli.output import emit, json_option, note, printable
from watchword.crypto.keylist import KeyList
from watchword.errors import UsageError
from watchword.launch.receipt import Receipt, verify_receipt
from watchword.tenant import launches, receipts, trust
from watchword.tenant.split_verdict import hear_all
from watchword.tenant.verdict import check_receipts, decision_document
from watchword.verify.log import check_witnesses
from watchword.wire.trace import trace_of_token_id, traced

__all__ = ["receipt"]

_PATH = click.Path(path_type=Path, dir_okay=False)


@click.group()
def receipt() -> None:
    """Keep and check the proof, offline and for years.

    \b
    Example:
      watchword receipt fetch web1 -o web1.receipt
    """


@receipt.command()
@click.argument("name")
@click.option("-o", "--output", type=_PATH, required=True, metavar="FILE", help="Where to keep the receipts.")
@json_option
def fetch(name: str, output: Path, as_json: bool) -> None:
    """Fetch, check and keep every signed decision about the launch NAME.

    \b
    Example:
      watchword receipt fetch web1 -o web1.receipt
    """
    record = launches.load(name)
    with traced(record.trace):
        found = _fetched(record)
    if not found:
        raise UsageError("receipt-none", f"the authority has decided nothing about {name!r} yet")
    receipts.write(output, found)
    emit({"file": str(output), "receipts": len(found)}, f"{len(found)} in {output}", as_json=as_json)


@receipt.command()
@click.argument("file", type=_PATH)
@json_option
def show(file: Path, as_json: bool) -> None:
    """Show what FILE says, without checking any signature.

    \b
    Example:
      watchword receipt show web1.receipt
    """
    found = [receipts.read_unverified(envelope) for envelope in receipts.read(file)]
    note("nothing was verified; do that with: watchword receipt verify")
    _emit(found, False, as_json)


@receipt.command()
@click.argument("file", type=_PATH)
@click.option("--authority", metavar="NAME", help="A pinned authority; not needed when only one is.")
@click.option("--keys", type=_PATH, metavar="FILE", help="The authority's key lists, as GET /v1/keys gives them.")
@click.option("--fingerprint", metavar="SHA256:...", help="Of the authority's root key; goes with --keys.")
@click.option("--launch", metavar="NAME", help="Require that it is about this launch, and all about it.")
@witness_options
@json_option
def verify(
    file: Path,
    authority: str | None,
    keys: Path | None,
    fingerprint: str | None,
    launch: str | None,
    witnesses: Path | None,
    quorum: int | None,
    as_json: bool,
) -> None:
    """Verify the signatures and log proofs in FILE, offline. Exit status 3 when one of them is wrong.

    \b
    Example:
      watchword receipt verify web1.receipt --keys auditor-keys.json --fingerprint SHA256:...
    """
    envelopes = receipts.read(file)
    record = launches.load(launch) if launch is not None else None
    if record is not None and record.shares and authority is None and keys is None:
        found = _check_shares(envelopes, record)
    elif record is not None:
        found = check_receipts(envelopes, record, _keys(authority, keys, fingerprint))
    else:
        trusted = _keys(authority, keys, fingerprint)
        found = [verify_receipt(envelope, trusted) for envelope in envelopes]
    demanded = read_witnesses(witnesses, quorum)
    for each in found:
        if each.checkpoint is not None:
            check_witnesses(each.checkpoint.note, *demanded)
    _emit(found, True, as_json)


def _fetched(record: launches.LaunchRecord) -> list[Receipt]:
    if not record.shares:
        client = trust.load(record.authority).client()
        return check_receipts(client.decisions(bytes.fromhex(record.launch_id)), record, client.keys)
    words = hear_all([(part, trust.load(part.authority).client()) for part in record.parts()], record.threshold)
    for word in words:
        if word.error is not None:
            note(f"nothing from {printable(word.name)}: {printable(word.error.message)}")
    return [receipt for word in words for receipt in word.receipts]


def _check_shares(envelopes: list[bytes], record: launches.LaunchRecord) -> list[Receipt]:
    """Receipts of all authorities of a split secret, each checked as its own authority's."""
    found: list[Receipt] = []
    claimed = [receipts.read_unverified(envelope).authority for envelope in envelopes]
    for part in record.parts():
        trusted = trust.load(part.authority).keys
        own = [each for each, name in zip(envelopes, claimed, strict=True) if name == trusted.authority]
        found += check_receipts(own, part, trusted)
    if len(found) != len(envelopes):
        raise UsageError(
            "authority-ambiguous", "the file has a receipt of an authority that has no share of this launch",
            hint="verify it by itself, with --authority or with --keys and --fingerprint",
        )  # fmt: skip
    return found


def _keys(authority: str | None, keys: Path | None, fingerprint: str | None) -> KeyList:
    if (keys is None) != (fingerprint is None) or (keys is not None and authority is not None):
        raise UsageError("bad-keys", "give --authority, or --keys together with --fingerprint")
    if keys is not None and fingerprint is not None:
        return trust.follow_chain(receipts.read_key_lists(keys), trust.check_fingerprint(fingerprint))[-1]
    if authority is not None:
        return trust.load(authority).keys
    pinned = list(trust.load_all())
    if len(pinned) != 1:
        raise UsageError(
            "authority-ambiguous",
            f"{len(pinned)} authorities are pinned",
            hint="say which with --authority, or give --keys and --fingerprint",
        )
    return pinned[0].keys


def _emit(found: list[Receipt], verified: bool, as_json: bool) -> None:
    documents = [{"authority": item.authority, **decision_document(item)} for item in found]
    text = "\n".join(_text(item, verified) for item in found)
    emit({"verified": verified, "receipts": documents}, text, as_json=as_json)


def _text(item: Receipt, verified: bool) -> str:
    decision, mark = item.decision, "verified" if verified else "UNVERIFIED"
    when = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(min(max(decision.time, 0), 253402300799)))
    lines = [f"{mark}: {decision.outcome} by {item.authority}, entry {item.log.seq}, {when}"]
    if decision.stack is not None:
        lines.append(f"  level {decision.level or 'none'}, stack {decision.stack.name} {decision.stack.version}")
    lines.append(f"  host {decision.host or 'unknown'}, release {decision.releases} of {decision.allowed}")
    lines.append(f"  trace {trace_of_token_id(decision.token)}")
    if decision.share is not msgspec.UNSET:
        place = decision.share
        lines.append(f"  share {place.index} of {place.count}, {place.threshold} needed; run {place.run or 'none'}")
    lines += [f"  [{f.clause}] {f.code}: {f.message}" for f in decision.findings[:20]]
    return "\n".join(printable(line) for line in lines)
