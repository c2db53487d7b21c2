"""What a tenant remembers of each authority's log: the newest checkpoint that it checked, and the tree's right edge.

Kept below ``$XDG_STATE_HOME/watchword/logs``. It holds no secret, but it is what a fork or a rollback is found with.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from watchword.errors import MalformedError, UsageError
from watchword.tenant.files import check_name, logs_folder, read_bounded, write_private
from watchword.wire.merkle import Frontier
from watchword.wire.note import Checkpoint, Note

__all__ = ["Seen", "keep_contradiction", "load", "save"]

_FORMAT: Final = "watchword-log/1"
_MAX_FILE: Final = 128 * 1024


class _Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: str
    checkpoint: str
    frontier: str


@dataclass(frozen=True, slots=True)
class Seen:
    """The newest log that was checked: its signed checkpoint, and the frontier that gives the same root."""

    note: Note
    frontier: Frontier

    @property
    def checkpoint(self) -> Checkpoint:
        return Checkpoint.parse(self.note.text)


def load(name: str) -> Seen | None:
    """What was seen of the authority ``name``. Raises :class:`UsageError` (``log-file``) when it is damaged."""
    path = _path(name)
    if not path.exists():
        return None
    try:
        document = msgspec.json.decode(read_bounded(path, _MAX_FILE, "the log's state"), type=_Document)
        note = Note.parse(document.checkpoint.encode())
        frontier = Frontier.parse(Checkpoint.parse(note.text).size, bytes.fromhex(document.frontier))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError, MalformedError):
        raise _damaged(path) from None
    seen = Seen(note, frontier)
    if document.format != _FORMAT or seen.checkpoint.root != frontier.root():
        raise _damaged(path)
    return seen


def save(name: str, seen: Seen) -> None:
    """Remember ``seen``. Raises :class:`UsageError`."""
    document = _Document(_FORMAT, seen.note.encode().decode(), seen.frontier.encode().hex())
    write_private(_path(name), msgspec.json.encode(document))


def keep_contradiction(name: str, old: Note, new: Note) -> Path:
    """Keep two signed checkpoints that contradict each other; the file proves it to anybody."""
    size = Checkpoint.parse(new.text).size
    path = _path(name).with_name(f"{name}-{size}.contradiction")
    write_private(path, old.encode() + b"\n" + new.encode())
    return path


def _damaged(path: Path) -> UsageError:
    return UsageError(
        "log-file",
        f"{path} is damaged",
        hint="restore it: without it, a fork since then cannot be seen. Removing it starts over",
    )


def _path(name: str) -> Path:
    return logs_folder() / f"{check_name(name, 'an authority')}.json"
