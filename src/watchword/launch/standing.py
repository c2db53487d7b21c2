"""What the hosts of one launch are worth now, signed: for its tenant, who never learns which hosts they are.

A statement lives for minutes. It repeats nothing that a receipt proves: that the secret was released to these hosts is
in the receipts, and a statement tells how they stand since.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from watchword.crypto import dsse
from watchword.crypto.ed25519 import Ed25519Signer
from watchword.crypto.keylist import KeyList
from watchword.errors import Finding, MalformedError, Rejected

__all__ = ["MAX_AGE", "PAYLOAD_TYPE", "HostStanding", "Statement", "check_hosts", "make_statement", "verify_statement"]

PAYLOAD_TYPE: Final = "application/vnd.watchword.standing+json"
MAX_AGE: Final = 300  # seconds between the statement and its reader's clock, to either side
_FORMAT: Final = "watchword-standing/1"
_MAX_STATEMENT: Final = 128 * 1024
_GOOD: Final = ("trusted", "degraded")


class HostStanding(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One host: its pseudonym as in the receipt, and how it stands by the profile of the launch.

    ``state`` trusted, degraded, failed, stale or unknown; ``level`` and ``rank`` reached; times in Unix seconds (0: it
    never attested); ``rebooted`` since the release; ``code`` of the first finding in the way.
    """

    host: str
    state: str
    level: str
    rank: int
    since: int
    checked: int
    until: int
    rebooted: bool
    code: str = ""


class Statement(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``hosts`` are all those that the launch was released to; ``launch`` is ``launch_key`` in hex."""

    authority: str
    time: int
    launch: str
    profile: str
    hosts: tuple[HostStanding, ...]
    format: str = _FORMAT


def make_statement(statement: Statement, key: Ed25519Signer) -> bytes:
    """The signed statement (DSSE)."""
    return dsse.sign(msgspec.json.encode(statement), PAYLOAD_TYPE, [key])


def verify_statement(envelope: bytes, keys: KeyList, *, launch: str, profile: str, now: int) -> Statement:
    """The statement in ``envelope``, if it was signed just now about this launch (``launch_key`` and profile, hex).

    Raises MalformedError, or Rejected: ``document-signature``, ``document-signers``, ``standing-mismatch`` (W4),
    ``standing-old`` (W4).
    """
    signed = dsse.verify(envelope, PAYLOAD_TYPE, keys.receipt_keys(), 1, max_size=_MAX_STATEMENT)
    try:
        statement = msgspec.json.decode(signed.payload, type=Statement)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedError(f"statement: {error}") from None
    if statement.format != _FORMAT:
        raise MalformedError("statement: unknown format")
    about = (statement.authority, statement.launch, statement.profile)
    if about != (keys.authority, launch, profile):
        text = "the statement is not about this launch"
        expected, actual = f"{keys.authority} {launch} {profile}", " ".join(about)
        raise Rejected(Finding("W4", "standing-mismatch", text, expected, actual))
    if abs(now - statement.time) > MAX_AGE:
        text = "the statement was not made just now"
        raise Rejected(
            Finding("W4", "standing-old", text, f"{now} ± {MAX_AGE}", str(statement.time)),
            hint="compare your clock with the authority's; somebody in between may repeat an old answer",
        )
    return statement


def check_hosts(statement: Statement, released: Sequence[str], rank: int) -> None:
    """W5: every host in ``released`` (pseudonyms) is still there, and still reaches ``rank`` in the same boot.

    Raises Rejected with a finding for each host that does not: ``host-unmentioned``, ``host-rebooted``,
    ``host-silent``, ``host-below-level``.
    """
    known = {host.host: host for host in statement.hosts}
    findings = [finding for name in dict.fromkeys(released) for finding in _judge(name, known.get(name), rank)]
    if findings:
        raise Rejected(*findings, hint="take your secrets out of that machine, and ask the provider for another host")


def _judge(name: str, host: HostStanding | None, rank: int) -> list[Finding]:
    subject = f"host {name}"
    if host is None:
        text = "the authority says nothing about a host that the secret was released to"
        return [Finding("W5", "host-unmentioned", text, subject=subject)]
    if host.rebooted:
        text = "the host was started anew after the release, so the machine of this launch ended with it"
        return [Finding("W5", "host-rebooted", text, subject=subject)]
    if host.state in ("stale", "unknown"):
        text = "the host has not shown in time what it runs"
        return [Finding("W5", "host-silent", text, "an attestation in time", host.state, subject)]
    if host.state not in _GOOD or host.rank < rank:
        text = "the host does not reach the level demanded any more"
        why = f"{host.state}, rank {host.rank}" + (f", {host.code}" if host.code else "")
        return [Finding("W5", "host-below-level", text, f"rank {rank}", why, subject)]
    return []
