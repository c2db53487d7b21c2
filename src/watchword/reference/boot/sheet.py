"""Firmware sheets: what one firmware measures into PCRs 0, 2 and 3, captured once for each model and version.

Firmware's own code is not among the files of a release, and most of it is in no file that anybody can have: so its
events come from the log of a machine that an auditor believes, and the sheet says so.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from watchword.errors import UsageError
from watchword.policy.capture import captured_events
from watchword.policy.document import DIGEST_NAMES, digest_name, fail, load, parse_digest, parse_hex
from watchword.policy.stack import DEBUG_PCRS, RUNTIME_PCR
from watchword.reference.boot.events import Predicted
from watchword.wire.tcg_log import EventLog, pcr0_start
from watchword.wire.tpm.algorithms import Alg, digest_size

__all__ = ["DEFAULT_PCRS", "MAX_SHEET_SIZE", "Sheet", "capture_sheet"]

DEFAULT_PCRS = (0, 2, 3)
MAX_SHEET_SIZE = 4 << 20
_WHAT = "firmware sheet"
_MAX_EVENTS = 2000

_Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,30}\Z")]


class _Event(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pcr: Annotated[int, Meta(ge=0, le=23)]
    digests: Annotated[dict[str, str], Meta(min_length=1, max_length=4)]
    note: Annotated[str, Meta(max_length=200)] = ""


class _Sheet(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: Literal["watchword-firmware/1"]
    origin: Literal["captured"]
    model: _Name
    version: _Name
    log: str
    locality: Annotated[int, Meta(ge=0, le=4)]
    pcrs: Annotated[tuple[Annotated[int, Meta(ge=0, le=23)], ...], Meta(min_length=1, max_length=24)]
    events: Annotated[tuple[_Event, ...], Meta(min_length=1, max_length=_MAX_EVENTS)]


@dataclass(frozen=True, slots=True)
class Sheet:
    """A sheet that was read. ``log`` is the SHA-256 of the log it came from, ``locality`` that of TPM2_Startup."""

    model: str
    version: str
    log: bytes
    locality: int
    pcrs: tuple[int, ...]
    events: tuple[Predicted, ...]

    @property
    def name(self) -> str:
        """What the variant of a stack is called."""
        return f"{self.model}-{self.version}"

    @classmethod
    def parse(cls, data: bytes) -> Sheet:
        """Raises MalformedError with the place that is wrong."""
        document = load(data, _Sheet, _WHAT, MAX_SHEET_SIZE)
        _, log = parse_digest(_WHAT, "log", document.log)
        if list(document.pcrs) != sorted(set(document.pcrs)) or {RUNTIME_PCR, *DEBUG_PCRS} & set(document.pcrs):
            fail(_WHAT, "pcrs", "must be ascending, without repetition, and without 10, 16 and 23")
        events = tuple(_event(event, document.pcrs, f"events[{i}]") for i, event in enumerate(document.events))
        return cls(document.model, document.version, log, document.locality, document.pcrs, events)

    def in_banks(self, banks: tuple[Alg, ...]) -> tuple[Predicted, ...]:
        """The events with the digests of ``banks`` only. Raises UsageError when one of them is missing."""
        for event in self.events:
            missing = [digest_name(bank) for bank in banks if bank not in event.digests]
            if missing:
                raise UsageError("release-bank", f"firmware sheet {self.name}: it has no digests for {missing[0]}")
        return tuple(Predicted(e.pcr, {bank: e.digests[bank] for bank in banks}, e.note) for e in self.events)


def _event(event: _Event, pcrs: tuple[int, ...], path: str) -> Predicted:
    if event.pcr not in pcrs:
        fail(_WHAT, f"{path}.pcr", f"PCR {event.pcr} is not among the pcrs of this sheet")
    if not event.note.isprintable():
        fail(_WHAT, f"{path}.note", "has control characters")
    digests = {}
    for name, digits in event.digests.items():
        alg = DIGEST_NAMES.get(name)
        if alg is None:
            fail(_WHAT, f"{path}.digests", f"{name!r} is not one of {', '.join(DIGEST_NAMES)}")
        digests[alg] = parse_hex(_WHAT, f"{path}.digests.{name}", digits, digest_size(alg))
    return Predicted(event.pcr, digests, event.note)


def capture_sheet(log: bytes, *, model: str, version: str, pcrs: tuple[int, ...] = DEFAULT_PCRS) -> bytes:
    """The sheet of the firmware that wrote ``log``. Raises MalformedError, and UsageError when nothing was measured."""
    parsed = EventLog.parse(log)
    events = [event for event in captured_events(parsed) if event[0] in pcrs]
    if not events or not all(event[1] for event in events):
        raise UsageError("capture-bank", "the log has no events with a strong digest for these PCRs")
    document: dict[str, Any] = {
        "format": "watchword-firmware/1",
        "origin": "captured",
        "model": model,
        "version": version,
        "log": f"sha256:{hashlib.sha256(log).hexdigest()}",
        "locality": pcr0_start(parsed),
        "pcrs": sorted(set(pcrs)),
        "events": [
            {
                "pcr": pcr,
                "digests": {digest_name(alg): digests[alg].hex() for alg in sorted(digests)},
                "note": "".join(c if c.isprintable() else " " for c in note)[:200],
            }
            for pcr, digests, note in events
        ],
    }
    data = msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n"
    Sheet.parse(data)  # what we write must be what we read
    return data
