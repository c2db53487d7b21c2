"""The threads that decide: one, as long as that is enough.

Two threads that compute take the interpreter from one another at every statement of the database, and gain nothing by
it. So there is a second one only while the first is held up: by a large log, a slow disk, a far server.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, TypeVar, cast

__all__ = ["HELD_UP", "Workers"]

HELD_UP: Final = 0.02  # seconds that a job may take before others go on beside it
WAITED: Final = 0.2  # seconds that a job may wait for its turn
IDLE: Final = 5.0  # seconds without a job after which the last thread ends
_T = TypeVar("_T")
_Ended = tuple[asyncio.Future[Any], Any, BaseException | None]


@dataclass(frozen=True, slots=True)
class _Job:
    work: Callable[[], Any]
    future: asyncio.Future[Any]
    queued: float


class Workers:
    """At most ``most`` threads for the jobs of one event loop: first come, first served."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._jobs: queue.SimpleQueue[_Job] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._threads = 0
        self._resting = False  # one of them waits for a job
        self._begun: dict[int, float] = {}  # when each began its job
        self._waited = 0.0  # how long the newest of these jobs was in the queue
        self._ended: deque[_Ended] = deque()
        self._told = False  # the loop knows that something ended
        self._looking: asyncio.TimerHandle | None = None

    @property
    def threads(self) -> int:
        """How many there are now."""
        return self._threads

    async def run(self, work: Callable[[], _T]) -> _T:
        """The result of ``work``, done in a thread. Who is cancelled waits for the end of it all the same."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        self._jobs.put(_Job(work, future, time.monotonic()))
        self._start(loop, 1)
        if self._looking is None:
            self._looking = loop.call_later(HELD_UP, self._look, loop)
        try:
            return cast("_T", await asyncio.shield(future))
        except asyncio.CancelledError:
            while not future.done():
                with suppress(asyncio.CancelledError):
                    await asyncio.wait([future])
            raise

    def _start(self, loop: asyncio.AbstractEventLoop, least: int) -> None:
        """See to it that there are at least so many threads."""
        with self._lock:
            if self._threads >= least:
                return
            self._threads += 1
        threading.Thread(target=self._work, args=(loop,), name="decide", daemon=True).start()

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        """While jobs wait: is every thread held up, or has a job waited for long?"""
        self._looking = None
        if self._jobs.empty():
            return
        self._looking = loop.call_later(HELD_UP, self._look, loop)
        newest = max(list(self._begun.values()), default=0.0)
        if self._threads < self._most and (newest + HELD_UP < time.monotonic() or self._waited > WAITED):
            self._start(loop, self._threads + 1)

    # -- in a thread -------------------------------------------------------------------------------------------

    def _work(self, loop: asyncio.AbstractEventLoop) -> None:
        me = threading.get_ident()
        while (job := self._next()) is not None:
            self._begun[me] = now = time.monotonic()
            self._waited = now - job.queued
            ended: _Ended
            try:
                ended = job.future, job.work(), None
            except BaseException as error:  # noqa: BLE001 - whoever waits for it gets it
                ended = job.future, None, error
            del self._begun[me], job
            self._ended.append(ended)
            del ended
            if not self._told:
                self._told = True
                try:
                    loop.call_soon_threadsafe(self._tell)
                except RuntimeError:  # the loop is closed: nobody waits any more
                    return

    def _next(self) -> _Job | None:
        """The next job; None when it is time to end. One thread may wait for a while, the others end at once."""
        while True:
            with suppress(queue.Empty):
                return self._jobs.get_nowait()
            with self._lock:
                if not self._jobs.empty():
                    continue
                if self._resting:
                    self._threads -= 1
                    return None
                self._resting = True
            try:
                with suppress(queue.Empty):
                    return self._jobs.get(timeout=IDLE)
            finally:
                self._resting = False
            with self._lock:
                if self._jobs.empty():
                    self._threads -= 1
                    return None

    # -- in the loop -------------------------------------------------------------------------------------------

    def _tell(self) -> None:
        self._told = False
        while self._ended:
            future, result, error = self._ended.popleft()
            if future.done():  # the loop is being closed
                continue
            if error is None:
                future.set_result(result)
            elif isinstance(error, StopIteration):  # no future can hold one
                future.set_exception(RuntimeError("a job raised StopIteration"))
            else:
                future.set_exception(error)
