"""Waiting for events, and noticing what happens because nothing happened: a host that has fallen silent."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from watchword.authority.serving.problems import Problem
from watchword.authority.store import Store

__all__ = ["EVENT_DAYS", "News", "note_fallen"]

EVENT_DAYS: Final = 30  # events are kept for so long
LOOK_SECONDS: Final = 0.5  # between two looks at the store, however many wait
MAX_WAITING: Final = 512
_BATCH: Final = 200


class _Run(Protocol):
    def __call__(self, work: Callable[[], int]) -> Awaitable[int]: ...


class News:
    """Lets any number of requests wait for events at the cost of one; belongs to one event loop.

    ``newest`` tells the number of the newest event, ``stopping`` that nobody is to wait any more.
    """

    def __init__(
        self,
        newest: Callable[[], int],
        run: _Run,
        stopping: Callable[[], bool],
        *,
        look_seconds: float = LOOK_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._newest, self._run, self._stopping = newest, run, stopping
        self._look_seconds, self._clock = look_seconds, clock
        self._look: asyncio.Task[int] | None = None
        self._waiting = 0

    async def beyond(self, place: int, seconds: float) -> bool:
        """Wait up to ``seconds`` for an event after number ``place``; whether there is one.

        Raises :class:`Problem` (``overloaded``) when too many wait.
        """
        if self._waiting >= MAX_WAITING:
            raise Problem("overloaded", "too many wait for events")
        self._waiting += 1
        try:
            deadline = self._clock() + seconds
            while not self._stopping():
                if self._look is None or self._look.done():
                    self._look = asyncio.create_task(self._look_soon())
                if await asyncio.shield(self._look) > place:
                    return True
                if self._clock() >= deadline:
                    return False
            return False
        finally:
            self._waiting -= 1

    async def _look_soon(self) -> int:
        await asyncio.sleep(self._look_seconds)
        return await self._run(self._newest)


def note_fallen(store: Store, now: int) -> int:
    """Record every host whose state ended by ``now`` (Unix seconds) without being renewed (W3); how many there were."""
    count = 0
    while store.has_fallen(now):
        with store.transaction() as tx:
            found = tx.fallen(now, _BATCH)
            for each in found:
                tx.append_act(
                    now,
                    "host-stale",
                    each.host_id.hex(),
                    profile=each.profile_id.hex(),
                    level="",
                    was=each.standing,
                    rebooted=False,
                    code="",
                )
        count += len(found)
        if not found:
            break
    return count
