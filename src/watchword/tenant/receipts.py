"""Receipts as files: one signed decision per line, exactly as the authority signed it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from watchword.crypto import dsse
from watchword.errors import MalformedError
from watchword.launch.receipt import Decision, LogPosition, Receipt
from watchword.tenant.files import read_bounded, write_private

__all__ = ["read", "read_key_lists", "read_unverified", "write"]

_MAX_FILE = 32 << 20  # bytes
_MAX_RECEIPTS = 10_000


class _Claimed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: str
    authority: str
    entry: str
    log: LogPosition


class _Keys(msgspec.Struct, frozen=True):
    keys: list[msgspec.Raw]


def write(path: Path, receipts: Sequence[Receipt]) -> None:
    """Keep ``receipts`` at ``path``, mode 0600. Raises :class:`UsageError`."""
    write_private(path, b"".join(receipt.envelope.strip() + b"\n" for receipt in receipts))


def read(path: Path) -> list[bytes]:
    """The envelopes in a file that :func:`write` made, nothing verified. Raises :class:`MalformedError` when empty."""
    envelopes = [line for line in read_bounded(path, _MAX_FILE, "the receipt").splitlines() if line.strip()]
    if not 1 <= len(envelopes) <= _MAX_RECEIPTS:
        raise MalformedError(f"receipt: the file has {len(envelopes)}, between 1 and {_MAX_RECEIPTS} are possible")
    return envelopes


def read_unverified(envelope: bytes) -> Receipt:
    """What an envelope claims, for display. Raises :class:`MalformedError`."""
    _, payload, key_ids = dsse.open_unverified(envelope)
    try:
        claimed = msgspec.json.decode(payload, type=_Claimed)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedError(f"receipt: {error}") from None
    decision = Decision.parse(claimed.entry.encode())
    return Receipt(claimed.authority, decision, claimed.log, None, frozenset(key_ids), envelope)


def read_key_lists(path: Path) -> list[bytes]:
    """The signed key lists in a file that holds the answer to ``GET /v1/keys``. Raises :class:`MalformedError`."""
    try:
        document = msgspec.json.decode(read_bounded(path, _MAX_FILE, "the key lists"), type=_Keys)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedError(f"key lists: {error}") from None
    return [bytes(envelope) for envelope in document.keys]
