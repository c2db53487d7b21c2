"""One deleted check."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Mutation"]


@dataclass(frozen=True)
class Mutation:
    """``old``, found exactly once in ``file`` (below ``src/watchword``), becomes ``new``; one of ``tests`` must fail.

    ``clause`` is the number of the clause whose check this deletes.
    """

    clause: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    def apply(self, source: str) -> str:
        """The mutated source. Raises ValueError when the text to replace is not there exactly once."""
        found = source.count(self.old)
        if found != 1:
            raise ValueError(f"{self.clause} {self.file}: {self.old!r} is there {found} times")
        return source.replace(self.old, self.new)

    def __str__(self) -> str:
        line = next(line.strip() for line in self.old.splitlines() if line.strip())
        return f"{self.clause} {self.file}: {line[:70]}"
