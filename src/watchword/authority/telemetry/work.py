"""How long the answer to one message takes, and which part of it takes how long."""

from __future__ import annotations

import time

from watchword.authority.telemetry.events import Cost

__all__ = ["Work"]


class Work:
    """One message being answered, in one thread from its beginning on."""

    def __init__(self) -> None:
        self._begun, self._cpu = time.perf_counter(), time.thread_time()
        self._phases: dict[str, float] = {}
        self.told = False  # there is a line about how it ended

    def phase(self, name: str) -> _Phase:
        """What happens inside belongs to the phase ``name``."""
        return _Phase(self._phases, name)

    def cost(self) -> Cost:
        """What it took so far."""
        return Cost(time.perf_counter() - self._begun, time.thread_time() - self._cpu, dict(self._phases))


class _Phase:
    """A part of the work, from its beginning to its end."""

    __slots__ = ("_begun", "_name", "_phases")

    def __init__(self, phases: dict[str, float], name: str) -> None:
        self._phases, self._name = phases, name

    def __enter__(self) -> None:
        self._begun = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        spent = time.perf_counter() - self._begun
        self._phases[self._name] = self._phases.get(self._name, 0.0) + spent
