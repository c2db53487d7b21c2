"""The verdict about a launch whose secret was split: what every authority signed, and whether it fits together.

V1 to V5 hold for each authority's word. Beyond that:

    V6  at least as many authorities as are needed show receipts that hold, and every release of a share belongs to an
        attempt of one host (a *run*) in which that many released

An authority that hides a release cannot make up for it: the machine's own run needs the word of enough authorities,
and any release of an honest one to another run is in that one's receipts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

import msgspec

from watchword.errors import Finding, MalformedError, Rejected, Unavailable
from watchword.launch.receipt import Receipt
from watchword.tenant import trust
from watchword.tenant.client import AuthorityClient
from watchword.tenant.launches import LaunchRecord
from watchword.tenant.ssh import Address
from watchword.tenant.verdict import (
    Verdict,
    Word,
    check_level,
    check_receipts,
    find_machine,
    reasons,
    split_outcomes,
    verify_launch,
)

__all__ = ["hear_all", "judge_split", "verify"]

Part = tuple[LaunchRecord, AuthorityClient]


def verify(record: LaunchRecord, address: Address | None, *, timeout: float, releases: int = 1) -> Verdict:
    """The verdict about the launch ``record``, by its authority or by all that have a share.

    ``timeout`` bounds the handshake, in seconds; ``releases`` is how many machines were started with the tokens. Raises
    as :func:`watchword.tenant.verdict.verify_launch` does.
    """
    if not record.shares:
        return verify_launch(record, trust.load(record.authority).client(), address, timeout=timeout, releases=releases)
    parts = [(part, trust.load(part.authority).client()) for part in record.parts()]

    def ask() -> list[Receipt]:
        return [receipt for word in hear_all(parts, record.threshold) for receipt in word.receipts]

    released, refused = split_outcomes(ask())
    place = find_machine(record, address, refused, ask, hopeless=len(released) < record.threshold, timeout=timeout)
    # Asked again: the releases may be younger than the first answers, and others must not be missed.
    return judge_split(record, place, hear_all(parts, record.threshold), releases)


def hear_all(parts: Sequence[Part], threshold: int) -> tuple[Word, ...]:
    """V2 and V3 for each authority. One whose word cannot be had, or does not hold, is as good as silent.

    Raises :class:`Unavailable` or :class:`Rejected` (V6, ``authorities-silent``) when fewer than ``threshold`` speak.
    """
    words = tuple(_hear(*part) for part in parts)
    silent = [word for word in words if word.error is not None]
    if len(words) - len(silent) >= threshold:
        return words
    said = "; ".join(f"{word.name}: {word.error.message[:300]}" for word in silent if word.error)
    message = f"only {len(words) - len(silent)} of the {threshold} authorities that are needed could be heard"
    findings = [finding for word in silent for finding in _findings(word)]
    if findings:
        raise Rejected(Finding("V6", "authorities-silent", message), *findings)
    raise Unavailable("authorities-silent", f"{message}: {said}", hint="try again when they can be reached")


def _hear(record: LaunchRecord, client: AuthorityClient) -> Word:
    try:
        return Word(
            record.authority,
            tuple(check_receipts(client.decisions(bytes.fromhex(record.launch_id)), record, client.keys)),
        )
    except (Rejected, MalformedError, Unavailable) as error:
        return Word(record.authority, (), error)


def _findings(word: Word) -> list[Finding]:
    """Why a word does not hold, with the authority's name."""
    if isinstance(word.error, Rejected):
        return [_about(f, word.name) for f in word.error.findings]
    if isinstance(word.error, MalformedError):
        return [Finding("V6", "receipt-malformed", word.error.message[:300], subject=word.name)]
    return []


def _about(finding: Finding, name: str) -> Finding:
    return Finding(finding.clause, finding.code, finding.message, finding.expected, finding.actual, name)


def judge_split(record: LaunchRecord, address: Address, words: Sequence[Word], releases: int) -> Verdict:
    """V4 to V6, over words that :func:`hear_all` passed, of a machine that proved its key."""
    released, refused = split_outcomes([receipt for word in words for receipt in word.receipts])
    runs = _runs(words)
    complete = [run for run, names in runs.items() if len(names) >= record.threshold]
    if not complete:
        _too_few(record, runs, refused)
    stray = sorted({name for run, names in runs.items() if run not in complete for name in names})
    if stray:
        raise Rejected(
            Finding("V6", "share-run", "an authority released its share to another attempt than the others",
                    f"{record.threshold} authorities for each", f"{len(runs) - len(complete)} with fewer",
                    ", ".join(stray)),
            hint="A host gave up half way, or another one holds a share: launch again with new tokens.",
        )  # fmt: skip
    _check_counts(words, len(complete), releases)
    for receipt in released:
        check_level(receipt.decision, record)
    return Verdict(record, address, tuple(released), tuple(refused), tuple(words))


def _runs(words: Sequence[Word]) -> dict[str, set[str]]:
    """Which authorities released to which attempt."""
    runs: dict[str, set[str]] = {}
    for word in words:
        for receipt in word.receipts:
            share = receipt.decision.share
            if receipt.decision.outcome == "released" and share is not msgspec.UNSET:
                runs.setdefault(share.run, set()).add(word.name)
    return runs


def _check_counts(words: Sequence[Word], complete: int, releases: int) -> None:
    """V4: as many attempts as the tenant started machines, and no authority released more often than that."""
    most = max(sum(receipt.decision.outcome == "released" for receipt in word.receipts) for word in words)
    if complete != releases or most > releases:
        raise Rejected(
            Finding("V4", "releases-count", "the secret was not released as often as expected",
                    str(releases), str(max(complete, most))),
            hint="another machine may hold the same key; if you started several, say so with --releases",
        )  # fmt: skip
    for word in words:
        counts = sorted(r.decision.releases for r in word.receipts if r.decision.outcome == "released")
        if counts != list(range(1, len(counts) + 1)):
            raise Rejected(
                Finding("V4", "releases-count", "an authority's own count of its releases does not add up",
                        f"1 to {len(counts)}", ", ".join(map(str, counts))[:200], word.name)
            )  # fmt: skip


def _too_few(record: LaunchRecord, runs: dict[str, set[str]], refused: Sequence[Receipt]) -> NoReturn:
    found = max((len(names) for names in runs.values()), default=0)
    finding = Finding(
        "V6", "shares-unreleased", "not enough authorities have a record of releasing a share to one attempt",
        str(record.threshold), str(found),
    )  # fmt: skip
    raise Rejected(finding, *reasons(refused), hint="the secret is known to somebody it was not released to")
