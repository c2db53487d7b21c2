"""A stack as an authority has it on file: who endorsed it, and where it is in its life."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from watchword.policy.stack import CompiledStack

__all__ = ["StackRelease", "State"]

State = Literal["active", "retiring", "revoked"]


@dataclass(frozen=True, slots=True)
class StackRelease:
    """One registered stack.

    ``endorsed_by`` are the ids of the keys whose signatures over the document verified (``crypto.dsse``), ``digest``
    is the SHA-256 of the document (32 bytes), ``retire_at`` is Unix time and present exactly when ``state`` is
    "retiring". Raises ValueError when these do not fit together: that is the caller's bug.
    """

    stack: CompiledStack
    digest: bytes
    endorsed_by: frozenset[str]
    state: State = "active"
    retire_at: int | None = None

    def __post_init__(self) -> None:
        if self.digest != self.stack.digest:
            raise ValueError("the digest is not that of the stack's document")
        if (self.state == "retiring") != (self.retire_at is not None):
            raise ValueError("a retiring release has an end date, and only a retiring one")
        if self.state not in ("active", "retiring", "revoked"):
            raise ValueError(f"unknown state {self.state!r}")
