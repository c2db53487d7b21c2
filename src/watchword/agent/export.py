"""Writes this host's evidence to files, for people who want to look at it."""

from __future__ import annotations

import json
import secrets
from pathlib import Path

from watchword.agent.collect import measure
from watchword.agent.tpm.client import Tpm
from watchword.errors import MalformedError, UsageError
from watchword.wire.messages import EnrolBegin
from watchword.wire.tpm.algorithms import alg_by_name, hash_name
from watchword.wire.tpm.pcr import PcrSelection, PcrValues, Selections

__all__ = ["export", "parse_selection"]

_NONCE_SIZE = 32


def parse_selection(text: str) -> PcrSelection:
    """``sha256:0,1,7`` as a selection. Raises :class:`UsageError` (``pcrs``, ``unknown-hash``)."""
    name, _, numbers = text.partition(":")
    try:
        return PcrSelection(alg_by_name(name), tuple(sorted({int(number) for number in numbers.split(",")})))
    except (ValueError, MalformedError):
        raise UsageError("pcrs", f"{text[:80]!r} is not BANK:N,N,... such as sha256:0,1,7") from None


def export(
    tpm: Tpm, selections: Selections, identity: EnrolBegin, folder: Path, *, event_log: Path, runtime_log: Path
) -> list[str]:
    """Quote ``selections`` over a random nonce and write everything into the new ``folder``; returns the file names.

    Raises :class:`UsageError` (``output``) when the folder exists or cannot be made, and what collecting raises.
    """
    nonce = secrets.token_bytes(_NONCE_SIZE)
    found = measure(tpm, selections, nonce, event_log=event_log, runtime_log=runtime_log)
    files = {
        "nonce": nonce,
        "quote.attest": found.attest,
        "quote.signature": found.signature,
        "pcrs.json": _pcrs_document(found.pcrs),
        "event.log": found.event_log,
        "ima.log": found.ima_log,
        "ak.public": identity.ak_public,
        "ek.public": identity.ek_public,
        "ek.certificate": identity.ek_certificate,
    }
    present = {name: data for name, data in files.items() if data}
    try:
        folder.mkdir(parents=True)
        for name, data in present.items():
            (folder / name).write_bytes(data)
    except OSError as error:
        raise UsageError("output", f"cannot write to {folder}: {error.strerror}") from None
    return list(present)


def _pcrs_document(values: PcrValues) -> bytes:
    document = {
        hash_name(bank): {str(number): value.hex() for number, value in sorted(pcrs.items())}
        for bank, pcrs in values.items()
    }
    return json.dumps(document, indent=1).encode() + b"\n"
