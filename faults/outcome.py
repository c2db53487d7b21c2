"""What came of one kind of fault."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["Outcome", "Unable"]


class Unable(Exception):
    """This machine cannot be made to have the fault; the text says why."""


@dataclass
class Outcome:
    """``times`` that the fault was there, ``said`` what hosts heard meanwhile, ``broken`` which promises were broken.

    ``longest`` is the longest that a request took, in seconds; ``notes`` are for the reader.
    """

    times: int = 0
    said: Counter[str] = field(default_factory=Counter)
    broken: Counter[str] = field(default_factory=Counter)
    longest: float = 0.0
    notes: list[str] = field(default_factory=list)

    def add(self, said: Mapping[str, int], broken: list[str], longest: float = 0.0) -> None:
        """Count one more fault."""
        self.times += 1
        self.said.update(said)
        self.broken.update(broken)
        self.longest = max(self.longest, longest)
        if said.get("hung"):
            self.broken["a request was not answered in time"] += said["hung"]
