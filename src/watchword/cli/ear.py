"""``watchword ear``: attestation results of this or another authority, offline."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import click

from watchword.cli.output import emit, json_option, note, printable
from watchword.cli.profile import read_bounded
from watchword.crypto import jwt
from watchword.crypto.keylist import KeyList
from watchword.errors import Finding, Rejected, Unavailable, UsageError
from watchword.policy import ear as results
from watchword.policy.ear_claims import Ear
from watchword.policy.trustworthiness import Tier, tier_of
from watchword.tenant import launches, receipts, trust

__all__ = ["ear", "trusted_keys"]

_PATH = click.Path(path_type=Path, dir_okay=False, exists=True)


@click.group()
def ear() -> None:
    """Check and read attestation results (EAR).

    \b
    Example:
      watchword ear verify host.ear --authority auditor
    """


@ear.command()
@click.argument("name")
@click.option("--authority", metavar="NAME", help="Whose result, when the secret was split over several.")
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Write it there.")
@json_option
def fetch(name: str, authority: str | None, output: Path | None, as_json: bool) -> None:
    """Fetch the newest result about the launch NAME, verify its signature, and print it.

    \b
    Example:
      watchword ear fetch web1 -o web1.ear
    """
    record = launches.load(name)
    names = [part.authority for part in record.parts()]
    chosen = authority or (names[0] if len(names) == 1 else "")
    if chosen not in names:
        raise UsageError(
            "authority-ambiguous",
            f"{len(names)} authorities have a result about {name!r}",
            hint=f"say which with --authority: {', '.join(names)}",
        )
    pinned = trust.load(chosen)
    tokens = pinned.client().results(bytes.fromhex(record.launch_id))
    if not tokens:
        raise Unavailable("result-missing", f"the authority has decided nothing about {name!r} yet", hint="try later")
    found = results.verify(tokens[-1], pinned.keys.receipt_keys(), int(time.time()))
    if output is not None:
        output.write_bytes(tokens[-1] + b"\n")
        note(f"written to {output}")
    status = {module: part.status.value for module, part in found.submodules.items()}
    emit({"result": tokens[-1].decode(), "status": status}, tokens[-1].decode(), as_json=as_json)


@ear.command()
@click.argument("file", type=_PATH)
@click.option("--authority", metavar="NAME", help="The pinned authority that signed it.")
@click.option("--keys", type=_PATH, metavar="FILE", help="The authority's key lists, as GET /v1/keys gives them.")
@click.option("--fingerprint", metavar="SHA256:...", help="Of the authority's root key; goes with --keys.")
@json_option
def verify(file: Path, authority: str | None, keys: Path | None, fingerprint: str | None, as_json: bool) -> None:
    """Verify the signed result in FILE, offline. Exit status 3 when it is refused or does not affirm the host.

    \b
    Example:
      watchword ear verify host.ear --keys auditor-keys.json --fingerprint SHA256:...
    """
    trusted = trusted_keys(authority, keys, fingerprint).receipt_keys()
    found = results.verify(read_bounded(file, jwt.MAX_TOKEN).strip(), trusted, int(time.time()))
    bad = [
        Finding("J5", "ear-status", "the result does not affirm", Tier.AFFIRMING, module.status, f"submodule {name}")
        for name, module in found.submodules.items()
        if module.status is not Tier.AFFIRMING
    ]
    if bad:
        raise Rejected(*bad, hint=f"the reasons: watchword explain {file}")
    _emit(found, True, as_json)


@ear.command()
@click.argument("file", type=_PATH)
@json_option
def show(file: Path, as_json: bool) -> None:
    """Show what the result in FILE says, signed or bare claims, in JSON or CBOR, without checking anything.

    \b
    Example:
      watchword ear show host.ear
    """
    data = read_bounded(file, jwt.MAX_TOKEN)
    if data and data[0] >> 5 in (5, 6):  # a CBOR map or tag
        found = _read_cbor(data)
        note("nothing was verified, and of results in CBOR nothing can be")
    else:
        data = data.strip()
        found = Ear.parse(data if data.startswith(b"{") else jwt.open_unverified(data)[1])
        note("nothing was verified; do that with: watchword ear verify")
    _emit(found, False, as_json)


def _read_cbor(data: bytes) -> Ear:
    try:
        from watchword.policy.ear_cbor import parse_unverified
    except ModuleNotFoundError as missing:
        if missing.name != "cbor2":
            raise
        hint = "install the Debian package watchword-auditor, or: pip install 'watchword[auditor]'"
        raise UsageError("extra-missing", "results in CBOR need the package cbor2", hint=hint) from None
    return parse_unverified(data)


def trusted_keys(authority: str | None, keys: Path | None, fingerprint: str | None) -> KeyList:
    """The key list of a pinned authority, or at the end of the lists in a file. Raises :class:`UsageError`."""
    if authority is not None and keys is None and fingerprint is None:
        return trust.load(authority).keys
    if authority is None and keys is not None and fingerprint is not None:
        return trust.follow_chain(receipts.read_key_lists(keys), trust.check_fingerprint(fingerprint))[-1]
    raise UsageError("bad-keys", "give --authority, or --keys together with --fingerprint")


def _emit(found: Ear, verified: bool, as_json: bool) -> None:
    document: dict[str, Any] = {"verified": verified, "claims": json.loads(found.encode())}
    emit(document, "\n".join(map(printable, _lines(found, verified))), as_json=as_json)


def _lines(found: Ear, verified: bool) -> list[str]:
    mark = "verified" if verified else "UNVERIFIED"
    when = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(min(found.issued, 253402300799)))
    lines = [f"{mark}: issued {when} by {found.verifier.developer} ({found.verifier.build})"]
    for name, module in found.submodules.items():
        lines.append(f"{name}: {module.status}")
        lines += [f"  {claim.value}: {value} ({tier_of(value)})" for claim, value in module.vector.items()]
        lines += [f"  policy {policy}" for policy in module.policy_ids]
        lines += [f"  also says: {extension}" for extension in module.extensions]
    return lines
