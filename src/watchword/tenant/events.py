"""What a receiver of events remembers: the last event of each chain, so that a missing one is noticed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Self

import msgspec

from watchword.crypto.keylist import KeyList
from watchword.errors import UsageError
from watchword.launch.event import Event, Seen, check_next, verify_event
from watchword.tenant.files import read_bounded, write_private

__all__ = ["Chains"]

_FORMAT: Final = "watchword-chains/1"
_MAX_FILE: Final = 16 << 20
_DIGEST: Final = re.compile(r"[0-9a-f]{64}\Z")


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: str
    seen: dict[str, tuple[int, str]]


class Chains:
    """The last event that was seen of each chain."""

    def __init__(self, seen: Mapping[str, Seen] | None = None) -> None:
        self._seen = dict(seen or {})

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read ``path``; nothing was seen when there is no such file. Raises UsageError (``chains-file``)."""
        if not path.exists():
            return cls()
        try:
            document = msgspec.json.decode(read_bounded(path, _MAX_FILE, "file of chains"), type=_File)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            document = _File("", {})
        good = all(number > 0 and _DIGEST.match(digest) for number, digest in document.seen.values())
        if document.format != _FORMAT or not good:
            raise UsageError("chains-file", f"{path} does not hold what was seen of events", hint="remove it")
        return cls({name: Seen(*value) for name, value in document.seen.items()})

    def save(self, path: Path) -> None:
        """Write ``path``, private to this user, whole or not at all."""
        seen = {name: (each.number, each.digest) for name, each in self._seen.items()}
        write_private(path, msgspec.json.encode(_File(_FORMAT, seen)))

    def take(self, envelope: bytes, keys: KeyList) -> Event:
        """The verified event in ``envelope``, the next of its chain (W7).

        After a ``gap``, which says that events were given up, every chain begins anew.
        Raises MalformedError, Rejected: ``document-signature``, ``document-signers``, ``event-repeated``,
        ``event-missing``, ``event-forked``.
        """
        event, digest = verify_event(envelope, keys)
        if event.type == "gap":
            self._seen.clear()
        elif event.chain:
            check_next(event, self._seen.get(event.chain))
            self._seen[event.chain] = Seen(event.number, digest)
        return event
