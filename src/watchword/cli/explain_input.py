"""What ``watchword explain`` takes: findings in whatever form a refusal was kept. Nothing here is verified."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from watchword.crypto import jwt
from watchword.errors import Finding, MalformedError, UsageError
from watchword.launch.receipt import Decision, FindingRecord
from watchword.policy.ear import EXTENSION
from watchword.policy.ear_claims import Ear
from watchword.tenant.receipts import read_unverified

__all__ = ["MAX_INPUT", "read_findings"]

MAX_INPUT = 32 << 20  # bytes
_MAX_FINDINGS = 10_000
_PROBLEM = "urn:watchword:problem:"
_HINT = "Give a receipt, a decision, a result, the --json output of a refused command, or a folder of evidence."

Text = Annotated[str, Meta(max_length=8192)]


class _Finding(msgspec.Struct, frozen=True):
    code: Text
    clause: Text = ""
    message: Text = ""
    expected: Text = ""
    actual: Text = ""
    subject: Text = ""
    fatal: bool = True


def read_findings(data: bytes) -> tuple[Finding, ...]:
    """Every finding in a decision, receipts, a signed result, or what a command printed with ``--json``.

    Empty when it is a record of something that was not refused. Raises :class:`UsageError` (``explain-input``) when it
    is nothing of the kind, :class:`MalformedError` when it is, and damaged.
    """
    text = data.strip()
    if not text:
        raise UsageError("explain-input", "there is nothing in it", hint=_HINT)
    if text.count(b".") == 2 and b"{" not in text:
        return _of_result(jwt.open_unverified(text)[1])
    document = _json(text)
    if document is None:
        return tuple(f for line in text.splitlines() if line.strip() for f in _of_receipt(line))
    if "payloadType" in document:
        return _of_receipt(text)
    if document.get("format") == "watchword-decision/1":
        return _of_records(Decision.parse(text).findings)
    if "submods" in document:
        return _of_result(text)
    found = tuple(_of_output(document))
    if len(found) > _MAX_FINDINGS:
        raise MalformedError(f"more than {_MAX_FINDINGS} findings")
    return found


def _json(text: bytes) -> dict[str, Any] | None:
    """One JSON object, or None when there is none or there are several."""
    try:
        document = json.loads(text.decode("utf-8"))
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def _of_receipt(envelope: bytes) -> tuple[Finding, ...]:
    try:
        return _of_records(read_unverified(envelope).decision.findings)
    except MalformedError as error:
        raise UsageError(
            "explain-input", f"this is nothing that can be explained: {error.message}", hint=_HINT
        ) from None


def _of_records(records: Sequence[FindingRecord]) -> tuple[Finding, ...]:
    return tuple(Finding(r.clause, r.code, r.message, r.expected, r.actual, r.subject) for r in records)


def _of_result(claims: bytes) -> tuple[Finding, ...]:
    found: list[Finding] = []
    for module in Ear.parse(claims).submodules.values():
        extension = module.extensions.get(EXTENSION)
        if isinstance(extension, dict):
            found += _listed(extension.get("findings"))
    return tuple(found)


def _of_output(document: dict[str, Any]) -> Iterator[Finding]:
    """The output of a command: its error, its findings, or the receipts in it."""
    error, kind = document.get("error"), document.get("type")
    if isinstance(error, dict):
        found = _listed(error.get("findings")) or _listed([error])
        yield from found
    elif isinstance(kind, str) and kind.startswith(_PROBLEM):
        yield Finding("", kind.removeprefix(_PROBLEM)[:100], str(document.get("detail", ""))[:8192])
    elif any(name in document for name in ("findings", "receipts", "refused")):
        yield from _listed(document.get("findings"))
        for name in ("receipts", "refused"):
            for item in document[name] if isinstance(document.get(name), list) else ():
                yield from _listed(item.get("findings") if isinstance(item, dict) else None)
    else:
        raise UsageError("explain-input", "this is nothing that can be explained", hint=_HINT)


def _listed(value: object) -> list[Finding]:
    if value is None:
        return []
    try:
        records = msgspec.convert(value, list[_Finding])
    except msgspec.ValidationError as error:
        raise MalformedError(f"findings: {error}") from None
    return [Finding(r.clause, r.code, r.message, r.expected, r.actual, r.subject, r.fatal) for r in records]
