"""One verdict about one launch: does the machine hold the key, and what did the authority sign about it?

The steps, numbered as findings quote them:

    V1  the machine completes an SSH key exchange with the expected host key      (watchword.tenant.ssh)
    V2  every decision is signed by the authority and proven to be in its log     (watchword.launch.receipt)
    V3  none is missing; each is about this launch and repeats what the tenant demanded
    V4  the secret was released, and exactly as often as the tenant expects
    V5  every release was to a host that reached the level demanded

All must hold. The handshake alone proves that *somebody approved* got the secret, the receipts alone that nobody else
did; neither says which machine is at the other end without the other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from watchword.crypto.keylist import KeyList
from watchword.errors import Finding, Rejected, Unavailable, UsageError, WatchwordError
from watchword.launch.receipt import Decision, Receipt, launch_key, verify_receipt
from watchword.tenant.client import AuthorityClient
from watchword.tenant.launches import LaunchRecord
from watchword.tenant.ssh import Address, prove_host_key
from watchword.wire.share import SharePlace
from watchword.wire.trace import trace_of_token_id

__all__ = [
    "Verdict",
    "Word",
    "check_level",
    "check_receipts",
    "decision_document",
    "find_machine",
    "judge",
    "reasons",
    "split_outcomes",
    "verify_launch",
]

_REFUSED_SECONDS = 15.0  # how long a machine is asked when the authority released nothing
_UPDATE_HINT = "after a key change of the authority: watchword trust update"


@dataclass(frozen=True, slots=True)
class Word:
    """What one authority of a split secret said: its verified ``receipts``, or why its word does not count.

    ``name`` is the tenant's own name for it.
    """

    name: str
    receipts: tuple[Receipt, ...]
    error: WatchwordError | None = None

    def document(self) -> dict[str, Any]:
        said = {"name": self.name, "receipts": [decision_document(receipt) for receipt in self.receipts]}
        return said | ({"error": {"code": self.error.code, "message": self.error.message}} if self.error else {})


@dataclass(frozen=True, slots=True)
class Verdict:
    """A trusted machine: ``released`` (at least one) and ``refused`` are the verified receipts of its launch.

    Of a split secret, ``words`` has what each authority said.
    """

    record: LaunchRecord
    address: Address
    released: tuple[Receipt, ...]
    refused: tuple[Receipt, ...]
    words: tuple[Word, ...] = ()

    def document(self) -> dict[str, Any]:
        """The verdict as ``--json`` prints it."""
        newest = self.released[-1]
        split = {"threshold": self.record.threshold, "authorities": [word.document() for word in self.words]}
        return {
            "verdict": "trusted",
            "name": self.record.name,
            "address": str(self.address),
            "ssh_fingerprint": self.record.ssh_fingerprint,
            "authority": newest.authority,
            "profile": self.record.profile,
            "required_level": self.record.level,
            **decision_document(newest),
            "releases": len(self.released),
            **(split if self.words else {}),
            "receipts": [decision_document(receipt) for receipt in self.released],
            "refused": [decision_document(receipt) for receipt in self.refused],
        }


def decision_document(receipt: Receipt) -> dict[str, Any]:
    """What a verified receipt says, as JSON has it."""
    decision = receipt.decision
    stack = decision.stack
    return {
        "trace": trace_of_token_id(decision.token),
        "outcome": decision.outcome,
        "time": decision.time,
        "level": decision.level,
        "rank": decision.rank,
        "stack": msgspec.to_builtins(stack) if stack else None,
        "host": decision.host,
        "instance": decision.instance,
        "log": _log_document(receipt),
        **({"share": msgspec.to_builtins(decision.share)} if decision.share is not msgspec.UNSET else {}),
        "findings": [
            {
                "clause": f.clause,
                "code": f.code,
                "message": f.message,
                "expected": f.expected,
                "actual": f.actual,
                "subject": f.subject,
            }
            for f in decision.findings
        ],
    }


def _log_document(receipt: Receipt) -> dict[str, Any]:
    place: dict[str, Any] = {"seq": receipt.log.seq, "number": receipt.log.number}
    if receipt.checkpoint is not None:
        place |= {"size": receipt.checkpoint.size, "root": receipt.checkpoint.root.hex()}
    return place


def verify_launch(
    record: LaunchRecord, client: AuthorityClient, address: Address | None, *, timeout: float, releases: int = 1
) -> Verdict:
    """Decide about the machine at ``address``, which may be unknown when the launch was refused.

    ``timeout`` bounds the handshake, in seconds; ``releases`` is how many machines the tenant means to have started
    with the token. Raises :class:`Rejected` with every reason known, :class:`Unavailable` when nothing is proven
    either way, with what the authority refused since, :class:`UsageError` (``address-unknown``).
    """

    def ask() -> list[Receipt]:
        return check_receipts(client.decisions(bytes.fromhex(record.launch_id)), record, client.keys)

    released, refused = split_outcomes(ask())
    place = find_machine(record, address, refused, ask, hopeless=not released, timeout=timeout)
    # Asked again: the release may be younger than the first answer, and a second one must not be missed.
    return judge(record, place, ask(), releases)


def find_machine(
    record: LaunchRecord,
    address: Address | None,
    refused: Sequence[Receipt],
    again: Callable[[], Sequence[Receipt]],
    *,
    hopeless: bool,
    timeout: float,
) -> Address:
    """V1: the machine at ``address`` proves its key; returns where that is.

    ``refused`` are the decisions against this launch so far, ``again`` asks for all of them; ``hopeless`` says that
    without further releases there can be no machine. Raises as :func:`verify_launch` does.
    """
    only_refused = bool(refused) and hopeless
    if address is None:
        if only_refused:
            raise _launch_refused(refused)
        raise UsageError(
            "address-unknown", f"where {record.name!r} answers is not known", hint="give it: HOST:PORT after the name"
        )
    try:
        prove_host_key(address, record.ssh_public_key, min(timeout, _REFUSED_SECONDS) if only_refused else timeout)
    except Rejected as error:
        raise Rejected(*error.findings, *reasons(refused), hint=error.hint) from None
    except Unavailable as error:
        if only_refused:
            raise _launch_refused(refused) from None
        # Asked again: a rebuild may have been refused while the machine was waited for.
        error.findings = tuple(reasons(split_outcomes(again())[1]))
        raise
    return address


def check_receipts(envelopes: Sequence[bytes], record: LaunchRecord, keys: KeyList) -> list[Receipt]:
    """V2 and V3: the verified receipts, in the order of the log. Raises :class:`Rejected`, :class:`MalformedError`."""
    receipts = []
    for envelope in envelopes:
        try:
            receipt = verify_receipt(envelope, keys)
        except Rejected as error:
            raise Rejected(*error.findings, hint=error.hint or _UPDATE_HINT) from None
        _check_subject(receipt.decision, record)
        receipts.append(receipt)
    receipts.sort(key=lambda receipt: receipt.log.seq)
    _check_whole(receipts)
    return receipts


def _check_whole(receipts: Sequence[Receipt]) -> None:
    """V3: decisions about a launch are counted; all must be here, in order and from one log."""
    numbers = [receipt.log.number for receipt in receipts]
    if numbers != list(range(1, len(numbers) + 1)):
        raise _refuse(
            "V3",
            "receipt-gap",
            "a decision about this launch is missing",
            f"1 to {max(numbers)}",
            ", ".join(map(str, numbers))[:200],
            hint="the authority holds back a receipt, or the file does not have all of them",
        )
    roots: dict[int, bytes] = {}
    for receipt in receipts:
        found = receipt.checkpoint
        if found is not None and roots.setdefault(found.size, found.root) != found.root:
            raise _refuse("T3", "log-fork", "two receipts are from different logs", subject=f"size {found.size}")


def _check_subject(decision: Decision, record: LaunchRecord) -> None:
    demanded: tuple[tuple[str, object, object], ...] = (
        ("launch", launch_key(bytes.fromhex(record.launch_id)).hex(), decision.launch),
        ("token", record.token, decision.token),
        ("profile", record.profile, decision.profile),
        ("inputs", record.inputs, decision.inputs),
        ("required level", record.rank, decision.required),
        ("allowed releases", record.releases, decision.allowed),
        ("share", record.place(), _place(decision)),
    )
    for subject, expected, actual in demanded:
        if expected != actual:
            raise _refuse(
                "V3", "receipt-mismatch", "a receipt is not about this launch", str(expected), str(actual), subject
            )


def _place(decision: Decision) -> str:
    found = decision.share
    return "" if found is msgspec.UNSET else str(SharePlace(found.index, found.threshold, found.count))


def judge(record: LaunchRecord, address: Address, receipts: Sequence[Receipt], releases: int) -> Verdict:
    """V4 and V5, over receipts that :func:`check_receipts` passed, of a machine that proved its key."""
    released, refused = split_outcomes(receipts)
    if not released:
        finding = Finding("V4", "receipt-missing", "the authority has no record of releasing this launch's secret")
        raise Rejected(finding, *reasons(refused), hint="the secret is known to somebody it was not released to")
    counts = sorted(receipt.decision.releases for receipt in released)
    if counts != list(range(1, releases + 1)):
        raise _refuse(
            "V4",
            "releases-count",
            "the secret was not released as often as expected",
            str(releases),
            str(len(released)),
            hint="another machine may hold the same key; if you started several, say so with --releases",
        )
    for receipt in released:
        check_level(receipt.decision, record)
    return Verdict(record, address, tuple(released), tuple(refused))


def check_level(decision: Decision, record: LaunchRecord) -> None:
    """V5: the host reached the level demanded, and in time. Raises :class:`Rejected`."""
    if decision.rank < record.rank or decision.stack is None:
        reached = f"{decision.level or 'none'} ({decision.rank})"
        raise _refuse(
            "V5",
            "level-too-low",
            "the host did not reach the level demanded",
            f"{record.level} ({record.rank})",
            reached,
        )
    if not decision.time < record.expires:
        raise _refuse(
            "V5",
            "released-late",
            "the secret was released after the token expired",
            f"before {record.expires}",
            str(decision.time),
        )


def split_outcomes(receipts: Sequence[Receipt]) -> tuple[list[Receipt], list[Receipt]]:
    """Those that released, and those that refused."""
    released = [receipt for receipt in receipts if receipt.decision.outcome == "released"]
    return released, [receipt for receipt in receipts if receipt.decision.outcome == "refused"]


def reasons(refused: Sequence[Receipt]) -> list[Finding]:
    """The authority's own findings, each once, newest refusal first."""
    seen: dict[Finding, None] = {}
    for receipt in reversed(refused):
        for f in receipt.decision.findings:
            seen[Finding(f.clause, f.code, f.message, f.expected, f.actual, f.subject)] = None
    return list(seen)


def _launch_refused(refused: Sequence[Receipt]) -> Rejected:
    finding = Finding("V4", "launch-refused", "the authority refused to release the secret of this launch")
    hint = "no machine of this launch can be trusted; the findings say what was wrong with the host or the request"
    return Rejected(finding, *reasons(refused), hint=hint)


def _refuse(
    clause: str, code: str, message: str, expected: str = "", actual: str = "", subject: str = "", *, hint: str = ""
) -> Rejected:
    return Rejected(Finding(clause, code, message, expected, actual, subject), hint=hint)
