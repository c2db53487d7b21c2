"""What the rules of a level look at."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from watchword.errors import Finding
from watchword.policy.profile import Profile, Rules
from watchword.policy.release import StackRelease
from watchword.verify.command_line import CommandLine
from watchword.verify.host import VerifiedHost

__all__ = ["Check", "Context", "OfRelease", "Offered"]


class Offered(Protocol):
    """What the rules about a release look at: the release that a host matched, or might, and the time."""

    @property
    def release(self) -> StackRelease | None: ...

    @property
    def now(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Context:
    """Host and profile, the release that the boot log matched (or None and why) with the variants chosen, the time.

    ``challenged_at`` and ``now`` are Unix seconds. ``runtime`` are the D5 findings for this release and ``known_bad``
    what releases in force name as bad, worked out once for all levels; ``command_line`` is the kernel's, None when no
    level asks or when it is not known.
    """

    host: VerifiedHost
    profile: Profile
    release: StackRelease | None
    variants: tuple[tuple[str, str], ...]
    unmatched: tuple[Finding, ...]
    runtime: tuple[Finding, ...]
    known_bad: tuple[Finding, ...]
    command_line: CommandLine | None
    challenged_at: int
    now: int


OfRelease: TypeAlias = Callable[[Offered, Rules], Iterator[Finding]]
Check: TypeAlias = Callable[[Context, Rules], Iterator[Finding]]
