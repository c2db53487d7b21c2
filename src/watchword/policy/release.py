"""A stack as an authority has it on file: who endorsed it, and where it is in its life."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from watchword.policy.known_bad import NOTHING_BAD, KnownBad
from watchword.policy.stack import CompiledStack

__all__ = ["StackRelease", "State", "known_bad", "settled_until"]

State = Literal["draft", "active", "retiring", "revoked"]


@dataclass(frozen=True, slots=True)
class StackRelease:
    """One registered stack.

    ``endorsed_by`` are the ids of the keys whose signatures over the document verified (``crypto.dsse``), ``digest``
    is the SHA-256 of the document (32 bytes), ``retire_at`` is Unix time and present exactly when ``state`` is
    "retiring". A "draft" is on file and decides nothing. Raises ValueError when these do not fit together: that is
    the caller's bug.
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
        if self.state not in get_args(State):
            raise ValueError(f"unknown state {self.state!r}")

    def in_force(self, now: int) -> bool:
        """Whether what the release says of others counts at ``now`` (Unix seconds): active, or not retired yet."""
        return self.state == "active" or (self.retire_at is not None and now < self.retire_at)


def known_bad(releases: Sequence[StackRelease], now: int) -> KnownBad:
    """What the ``releases`` that are in force at ``now`` (Unix seconds) name as bad."""
    named = [(r.stack.label, r.stack.known_bad) for r in releases if r.stack.known_bad and r.in_force(now)]
    return KnownBad.of(named) if named else NOTHING_BAD


def settled_until(releases: Sequence[StackRelease], now: int) -> int | None:
    """When the time alone will next change what ``releases`` say (Unix seconds, after ``now``); None for never."""
    ends = ((r.stack.not_before, r.stack.not_after, r.retire_at) for r in releases)
    return min((end for times in ends for end in times if end is not None and end > now), default=None)
