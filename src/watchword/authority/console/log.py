"""The public log: its newest checkpoint, who witnessed it, its entries, and one entry with its proof."""

from __future__ import annotations

import json
from typing import Any, Final

from watchword.authority.console.page import Ask, Page
from watchword.authority.console.params import number
from watchword.authority.serving.problems import Problem
from watchword.authority.store import Decision
from watchword.errors import Rejected
from watchword.verify.log import check_inclusion
from watchword.wire.log_leaf import LogLeaf
from watchword.wire.note import Checkpoint, Note

__all__ = ["entry", "log", "proof_fault"]

PAGE: Final = 50  # entries
_MAX_LINES: Final = 400  # of one entry


def log(ask: Ask) -> Page:
    """The checkpoint, the witnesses, and a page of entries, the newest first."""
    store, ring = ask.services.store, ask.services.keyring()
    newest, published = ask.services.log.newest(ring), ask.services.log.published(ring)
    before = number(ask.query, "before")
    found = store.newest_decisions(PAGE + 1, before)
    checkpoint = Checkpoint.parse(newest.text)
    return Page(
        "log.html",
        {
            "checkpoint": checkpoint,
            "root": checkpoint.root.hex(),
            "published": Checkpoint.parse(published.text).size if store.witnesses() else None,
            "witnesses": [_witness(row, checkpoint.size) for row in store.witnesses()],
            "note": newest.encode().decode().splitlines(),
            "entries": [_row(each) for each in found[:PAGE]],
            "before": before,
            "older": found[PAGE - 1].seq if len(found) > PAGE else None,
        },
    )


def _witness(row: Any, size: int) -> dict[str, Any]:
    return {"name": row.key.partition("+")[0], "url": row.url, "size": row.seen_size, "behind": size - row.seen_size}


def _row(decision: Decision) -> dict[str, Any]:
    document = _document(decision)
    return {"seq": decision.seq, "time": decision.time, **_summary(document)}


def _document(decision: Decision) -> dict[str, Any]:
    document = json.loads(decision.entry)
    return document if isinstance(document, dict) else {}


def _summary(document: dict[str, Any]) -> dict[str, Any]:
    """Its kind, what it is about, and who did it."""
    if "outcome" in document:
        stack = document.get("stack") or {}
        what = f"{stack.get('name', '')} {stack.get('version', '')}".strip()
        about = f"launch {str(document.get('launch', ''))[:16]}…"
        findings = ", ".join(sorted({finding.get("code", "") for finding in document.get("findings", ())}))
        level = f"level {document['level']}" if document.get("level") else ""
        more = ", ".join(filter(None, (level, what, findings)))
        return {"kind": document["outcome"], "about": about, "host": "", "by": "", "more": more}
    subject = str(document.get("subject", ""))
    act = str(document.get("act", "unknown"))
    details = document.get("details") or {}
    label = f"{details.get('name', '')} {details.get('version', '')}".strip()
    of_host = act.startswith("host-") and len(subject) == 64
    about = f"host {subject[:16]}…" if of_host else label or (subject[:40] + ("…" if len(subject) > 40 else ""))
    more = str(details.get("reason") or details.get("code") or "")
    return {"kind": act, "about": about, "host": subject if of_host else "", "by": document.get("by", ""), "more": more}


def entry(ask: Ask) -> Page:
    """One entry: what it says, what everybody sees of it, and the proof that it is in the log."""
    seq = int(ask.path["seq"])
    decision = ask.services.store.decision(seq) if seq < 1 << 53 else None
    if decision is None:
        raise Problem("not-found", "the log has no entry with this number")
    [position] = ask.services.log.positions(ask.services.keyring(), [decision])
    leaf, checkpoint = LogLeaf.parse(decision.leaf), Checkpoint.parse(Note.parse(position.checkpoint.encode()).text)
    text = json.dumps(_document(decision), indent=2, ensure_ascii=False).split("\n")
    return Page(
        "entry.html",
        {
            "seq": seq,
            "last": ask.services.store.head().seq,
            "time": decision.time,
            **_summary(_document(decision)),
            "lines": text[:_MAX_LINES],
            "more_lines": len(text[_MAX_LINES:]),
            "public": leaf.public.decode("utf-8", "backslashreplace"),
            "commitment": leaf.commitment.hex(),
            "tag": leaf.tag.hex(),
            "proof": position.proof,
            "size": checkpoint.size,
            "root": checkpoint.root.hex(),
            "fault": proof_fault(
                position.index, decision.leaf, [bytes.fromhex(each) for each in position.proof], checkpoint
            ),
        },
    )


def proof_fault(index: int, leaf: bytes, proof: list[bytes], checkpoint: Checkpoint) -> str:
    """What is wrong with the proof, made and checked here: nothing unless the store was damaged."""
    try:
        check_inclusion(index, leaf, proof, checkpoint)
    except Rejected as refusal:
        return refusal.findings[0].message
    return ""
