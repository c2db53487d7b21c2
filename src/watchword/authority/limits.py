"""What one client may cost: bytes and seconds of a body, and how much work may wait at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Final, TypeVar

from anyio import CapacityLimiter, to_thread
from starlette.requests import ClientDisconnect, Request

from watchword.authority.problems import Problem
from watchword.wire.messages import MAX_REQUEST

__all__ = ["Intake", "Limits"]

_T = TypeVar("_T")
_MIB: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Limits:
    """``body`` bytes of one message, ``body_seconds`` for all of it to arrive; ``workers`` threads that do the
    work, ``waiting`` requests that may wait for one, ``held`` bytes of all bodies in memory at the same time.

    A message of more than ``large`` bytes, which is a host's first runtime log, counts apart: ``held_large`` bytes of
    all of them in memory, ``workers_large`` in work. So they cannot keep the small ones out, nor fill the memory.
    """

    body: int = MAX_REQUEST
    body_seconds: float = 30.0
    workers: int = 8
    waiting: int = 256
    held: int = 64 * _MIB
    large: int = _MIB
    held_large: int = 160 * _MIB
    workers_large: int = 2


class Intake:
    """Reads bodies and runs blocking work, within :class:`Limits`; belongs to one event loop."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._threads = CapacityLimiter(limits.workers)
        self._large = CapacityLimiter(limits.workers_large)
        self._waiting = 0
        self._rooms = {False: limits.held, True: limits.held_large}  # bytes that are left for small and large ones

    async def run(self, work: Callable[[], _T], *, large: bool = False) -> _T:
        """The result of ``work``, done in a thread. Raises :class:`Problem` (``overloaded``) when too many wait."""
        if self._waiting >= self._limits.waiting + self._limits.workers:
            raise Problem("overloaded", "too many requests are waiting")
        self._waiting += 1
        try:
            async with self._large if large else nullcontext():
                return await to_thread.run_sync(work, limiter=self._threads)
        finally:
            self._waiting -= 1

    async def message(
        self, request: Request, work: Callable[[bytes], _T], *, kind: str = "application/octet-stream"
    ) -> _T:
        """Read the whole body, which is of the media type ``kind``, hand it to ``work`` in a thread; its result.

        Raises :class:`Problem`: ``body-…`` for what is wrong with the body, ``overloaded``.
        """
        announced = self._check_head(request, kind)
        with _Held(self._limits, self._rooms, announced) as held:
            parts = await self._body(request, held)
            if not parts:
                raise Problem("body-empty", "a message has at least one byte")
            return await self.run(lambda: work(_joined(parts)), large=held.large)

    async def _body(self, request: Request, held: _Held) -> list[bytes]:
        parts: list[bytes] = []
        try:
            async with asyncio.timeout(self._limits.body_seconds):
                async for part in request.stream():
                    held.add(len(part))
                    if part:
                        parts.append(part)
        except TimeoutError:
            raise Problem(
                "body-slow", f"the whole body must arrive within {self._limits.body_seconds:g} seconds"
            ) from None
        except ClientDisconnect:
            raise Problem("http-malformed", "the client left before the body was complete") from None
        return parts

    def _check_head(self, request: Request, kind: str) -> int:
        """The size that the body is said to have, 0 when it is not said."""
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != kind:
            raise Problem("body-type", f"send {kind}")
        if request.headers.get("content-encoding", "identity").lower() != "identity":
            raise Problem("body-type", "send the body without a content encoding")
        length = request.headers.get("content-length")
        if length is None and "transfer-encoding" not in request.headers:
            raise Problem("body-length", "send Content-Length, or chunked")
        return int(length) if length is not None and length.isascii() and length.isdigit() else 0


def _joined(parts: list[bytes]) -> bytes:
    """All of them in one, which is then the only one."""
    body = b"".join(parts)
    parts.clear()
    return body


class _Held:
    """The bytes of one body that are in memory; gives them back at the end.

    They count as they arrive: who announces much and sends nothing takes no room from others. What is announced is
    refused at once if there is no room for it now.
    """

    def __init__(self, limits: Limits, rooms: dict[bool, int], announced: int) -> None:
        self._limits = limits
        self._rooms = rooms
        self._size = 0
        self.large = announced > limits.large
        self._check(announced, announced)

    def add(self, size: int) -> None:
        """``size`` more bytes have arrived. Raises :class:`Problem`: ``body-too-large``, ``overloaded``."""
        total = self._size + size
        if total > self._limits.large and not self.large:  # a chunked one does not say it before
            self._rooms[False] += self._size
            self._rooms[True] -= self._size
            self.large = True
        self._check(total, size)
        self._size = total
        self._rooms[self.large] -= size

    def _check(self, total: int, more: int) -> None:
        if total > self._limits.body:
            raise Problem("body-too-large", f"at most {self._limits.body} bytes are taken")
        if more > self._rooms[self.large]:
            raise Problem("overloaded", f"too many {'large ' if self.large else ''}messages are on their way in")

    def __enter__(self) -> _Held:
        return self

    def __exit__(self, *_: object) -> None:
        self._rooms[self.large] += self._size
