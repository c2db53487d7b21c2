"""What happened to hosts and to what is believed, one signed statement each, in chains that show when one is missing.

Events about one host by one profile are a chain; those about the host itself another; and everything that is public
(stacks, trust anchors, keys) is one more. Each event has its number in its chain and the digest of the one before.
Format: ``docs/reference/events.md``.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

import msgspec

from watchword.crypto import dsse
from watchword.crypto.ed25519 import Ed25519Signer
from watchword.crypto.keylist import KeyList
from watchword.errors import Finding, MalformedError, Rejected

__all__ = [
    "BAD",
    "MAX_EVENT",
    "PAYLOAD_TYPE",
    "PUBLIC",
    "Event",
    "Seen",
    "chain_of",
    "check_next",
    "sign_event",
    "verify_event",
]

PAYLOAD_TYPE: Final = "application/vnd.watchword.event+json"
PUBLIC: Final = "public"  # the chain of what everybody may know
MAX_EVENT: Final = 32 * 1024  # bytes of an envelope
BAD: Final = frozenset({"host-failed", "host-stale", "host-revoke"})  # after these a host is good for nothing
_FORMAT: Final = "watchword-event/1"
_UNCHAINED: Final = frozenset({"gap", "test"})

Detail = str | int | bool | list[str] | None


class Event(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``seq`` counts the events of an authority, ``number`` those of the chain, from 1; ``time`` in Unix seconds.

    ``subject`` is a host id or what else it is about; ``profile`` (hex) by which a host was judged, "" otherwise;
    ``previous`` is the SHA-256 (hex) of the payload before it in its chain, "" for the first.
    """

    seq: int
    time: int
    type: str
    subject: str
    profile: str
    number: int
    previous: str
    details: dict[str, Detail]
    format: str = _FORMAT

    def encode(self) -> bytes:
        """The payload: JSON."""
        return msgspec.json.encode(self)

    @property
    def chain(self) -> str:
        """Which chain it is of; "" for one that is of none (``gap``, ``test``)."""
        return "" if self.type in _UNCHAINED else chain_of(self.type, self.subject, self.profile)


def chain_of(kind: str, subject: str, profile: str) -> str:
    """The chain of events of type ``kind`` about ``subject``."""
    return f"{subject}/{profile}" if kind.startswith("host-") else PUBLIC


@dataclass(frozen=True, slots=True)
class Seen:
    """The last event of a chain that somebody has seen: its number, and the SHA-256 (hex) of its payload."""

    number: int
    digest: str


def sign_event(payload: bytes, key: Ed25519Signer) -> bytes:
    """The signed event (DSSE)."""
    return dsse.sign(payload, PAYLOAD_TYPE, [key])


def verify_event(envelope: bytes, keys: KeyList) -> tuple[Event, str]:
    """The event in ``envelope`` if the authority signed it (W7), and the digest of its payload.

    Raises MalformedError, or Rejected: ``document-signature``, ``document-signers``.
    """
    signed = dsse.verify(envelope, PAYLOAD_TYPE, keys.receipt_keys(), 1, max_size=MAX_EVENT)
    try:
        event = msgspec.json.decode(signed.payload, type=Event)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedError(f"event: {error}") from None
    if event.format != _FORMAT:
        raise MalformedError("event: unknown format")
    return event, hashlib.sha256(signed.payload).hexdigest()


def check_next(event: Event, seen: Seen | None) -> None:
    """W7: ``event`` is the next of its chain after ``seen``; without ``seen``, it is where somebody begins to look.

    Raises Rejected: ``event-repeated``, ``event-missing``, ``event-forked``.
    """
    if seen is None or not event.chain:
        return
    expected = f"number {seen.number + 1} after {seen.digest[:16]}"
    actual = f"number {event.number} after {event.previous[:16]}"
    if event.number <= seen.number:
        text = "this event, or a later one of its chain, was there before"
        raise Rejected(Finding("W7", "event-repeated", text, expected, actual, event.chain))
    if event.number > seen.number + 1:
        text = "events before this one are missing"
        raise Rejected(
            Finding("W7", "event-missing", text, expected, actual, event.chain),
            hint="ask POST /v1/host-states how the hosts stand now, and go on from here",
        )
    if event.previous != seen.digest:
        text = "the event continues another history than the one that was seen"
        raise Rejected(Finding("W7", "event-forked", text, expected, actual, event.chain))
