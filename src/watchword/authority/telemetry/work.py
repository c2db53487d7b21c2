"""How long the answer to one message takes, and which part of it takes how long."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from watchword.authority.telemetry.events import Cost

__all__ = ["Work"]


class Work:
    """One message being answered, in one thread from its beginning on."""

    def __init__(self) -> None:
        self._begun, self._cpu = time.perf_counter(), time.thread_time()
        self._phases: dict[str, float] = {}
        self.told = False  # there is a line about how it ended

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """What happens inside belongs to the phase ``name``."""
        begun = time.perf_counter()
        try:
            yield
        finally:
            self._phases[name] = self._phases.get(name, 0.0) + time.perf_counter() - begun

    def cost(self) -> Cost:
        """What it took so far."""
        return Cost(time.perf_counter() - self._begun, time.thread_time() - self._cpu, dict(self._phases))
