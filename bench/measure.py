"""Medians of repeated runs, in CPU and in wall time."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["Figure", "measure"]


@dataclass(frozen=True, slots=True)
class Figure:
    """One result: ``name``, median and spread in microseconds of CPU per call, and how many calls were made."""

    name: str
    median_us: float
    min_us: float
    max_us: float
    calls: int
    note: str = ""

    def document(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "median_us": round(self.median_us, 2),
            "min_us": round(self.min_us, 2),
            "max_us": round(self.max_us, 2),
            "calls": self.calls,
            "note": self.note,
        }


def measure(
    name: str, function: Callable[[], object], *, per: int = 1, note: str = "", seconds: float = 0.6, rounds: int = 15
) -> Figure:
    """Run ``function`` in ``rounds`` batches of together about ``seconds`` and divide by ``per`` things it handles."""
    function()
    start = time.process_time()
    function()
    once = max(time.process_time() - start, 1e-7)
    batch = max(1, int(seconds / rounds / once))
    results = []
    for _ in range(rounds):
        start = time.process_time()
        for _ in range(batch):
            function()
        results.append((time.process_time() - start) / batch / per * 1e6)
    return Figure(name, statistics.median(results), min(results), max(results), batch * rounds, note)
