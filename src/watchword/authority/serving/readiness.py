"""Whether the service can do its work now: what a load balancer and a service manager ask."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, Protocol

from watchword.authority.serving.problems import Problem
from watchword.authority.telemetry import journal
from watchword.authority.telemetry.events import FailureEvent, Tell
from watchword.errors import WatchwordError

__all__ = ["Readiness"]

FRESH_SECONDS: Final = 1.0


class _Run(Protocol):
    def __call__(self, work: Callable[[], tuple[str, ...]], /) -> Awaitable[tuple[str, ...]]: ...


class Readiness:
    """Runs named ``checks``, each of which raises when its part does not work; belongs to one event loop.

    Anybody may ask, so the checks run at most once in ``fresh_seconds``, and once at a time: who asks in between gets
    the same answer. ``clock`` gives seconds.
    """

    def __init__(
        self,
        checks: Mapping[str, Callable[[], object]],
        *,
        fresh_seconds: float = FRESH_SECONDS,
        clock: Callable[[], float] = time.monotonic,
        tell: Tell = journal.tell,
    ) -> None:
        self._checks, self._fresh, self._clock, self._tell = checks, fresh_seconds, clock, tell
        self._stopping = False
        self._asked_at = 0.0
        self._answer: asyncio.Task[tuple[str, ...]] | None = None

    def stop(self) -> None:
        """Never be ready again: the service is about to end."""
        self._stopping = True

    @property
    def stopping(self) -> bool:
        """Whether the service is about to end."""
        return self._stopping

    async def check(self, run: _Run) -> list[str]:
        """The names of what was checked; ``run`` does blocking work.

        Raises :class:`Problem`: ``stopping``, ``not-ready`` with the names of what does not work, ``overloaded``.
        """
        if self._stopping:
            raise Problem("stopping", "the service was told to stop and takes no new work")
        failed = await self._failed(run)
        if failed:
            raise Problem("not-ready", f"does not work: {', '.join(failed)}")
        return list(self._checks)

    async def _failed(self, run: _Run) -> tuple[str, ...]:
        answer = self._answer
        if answer is None or (answer.done() and self._clock() >= self._asked_at + self._fresh):
            self._asked_at = self._clock()
            self._answer = answer = asyncio.create_task(self._ask(run))
        return await asyncio.shield(answer)  # one client that leaves does not take the answer from the others

    async def _ask(self, run: _Run) -> tuple[str, ...]:
        return await run(self._run_checks)

    def _run_checks(self) -> tuple[str, ...]:
        failed = []
        for name, check in self._checks.items():
            try:
                check()
            except (WatchwordError, OSError) as error:
                code = error.code if isinstance(error, WatchwordError) else ""
                self._tell(FailureEvent(f"ready-{name}", code, str(error)))
                failed.append(name)
        return tuple(failed)
