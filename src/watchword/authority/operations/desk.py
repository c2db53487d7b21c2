"""What every operation has: somebody who asks, a store, and ways to name things."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Final, TypeVar

import msgspec
from msgspec import Meta

from watchword.authority.acts.admin import Admin
from watchword.authority.acts.texts import MAX_TEXT
from watchword.authority.store import StackInfo, Store
from watchword.errors import UsageError

__all__ = [
    "Answer",
    "Desk",
    "Document",
    "Named",
    "Nothing",
    "Operation",
    "Question",
    "Text",
    "Time",
    "find_stack",
    "one",
]

T = TypeVar("T")
Answer = dict[str, Any]  # a JSON object
Text = Annotated[str, Meta(max_length=MAX_TEXT)]
Named = Annotated[str, Meta(min_length=1, max_length=MAX_TEXT)]
Document = Annotated[bytes, Meta(min_length=1, max_length=16 << 20)]
Time = Annotated[int, Meta(ge=0, lt=1 << 40)]  # Unix seconds
MIN_PREFIX: Final = 8  # hex digits of an id that stand for all of it


class Question(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an operation is asked: every field by name, nothing else."""


class Nothing(Question, frozen=True):
    """A question without fields."""


@dataclass(frozen=True, slots=True)
class Desk:
    """Where operations are done: by ``actor`` (as the record names them) at ``now`` (Unix seconds) on ``store``."""

    store: Store
    now: int
    actor: str

    @property
    def admin(self) -> Admin:
        """Acts under that name."""
        return Admin(self.store, self.now, self.actor)


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing that people can ask for, on the machine and from elsewhere.

    ``name`` is the words of the command. ``act`` is the row of the table of permissions, and ``also`` says which other
    row a question needs, or none. ``changes`` is False for what only reads. A request has at most ``limit`` bytes.
    """

    name: str
    act: str
    question: type[Question]
    run: Callable[[Desk, Any], Answer]
    changes: bool = True
    limit: int = 64 << 10
    also: Callable[[Any], str | None] = lambda _question: None
    seconds: float = 30.0  # that an answer may take

    @property
    def path(self) -> str:
        """Where it is on the web."""
        return f"/v1/admin/{self.name.replace(' ', '/')}"


def one(rows: tuple[T, ...], text: str, identity: Callable[[T], str], what: str) -> T:
    """The one row whose id is ``text`` or starts with it. Raises :class:`UsageError`."""
    found = [row for row in rows if identity(row).startswith(text.lower())] if len(text) >= MIN_PREFIX else []
    if len(found) != 1:
        why = f"{len(found)} of them fit" if found else "none fits"
        raise UsageError(
            "id-unknown",
            f"no single {what} is {text!r}: {why}",
            hint=f"give its id, or {MIN_PREFIX} digits of it or more",
        )
    return found[0]


def find_stack(rows: tuple[StackInfo, ...], name: str) -> StackInfo:
    """The release that ``name`` (digest, its first digits, or NAME@VERSION) stands for. Raises UsageError."""
    named = [row for row in rows if f"{row.name}@{row.version}" == name]
    return named[0] if len(named) == 1 else one(rows, name, lambda row: row.digest.hex(), "stack")
