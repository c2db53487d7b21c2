"""What one client may cost: bytes and seconds of a body, and how much work may wait at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from anyio import CapacityLimiter, to_thread
from starlette.requests import ClientDisconnect, Request

from watchword.authority.problems import Problem

__all__ = ["Intake", "Limits"]

_T = TypeVar("_T")
_MIB: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Limits:
    """``body`` bytes of one message, ``body_seconds`` for all of it to arrive; ``workers`` threads that do the
    work, ``waiting`` requests that may wait for one, ``held`` bytes of all bodies in memory at the same time."""

    body: int = 16 * _MIB
    body_seconds: float = 30.0
    workers: int = 8
    waiting: int = 256
    held: int = 256 * _MIB


class Intake:
    """Reads bodies and runs blocking work, within :class:`Limits`; belongs to one event loop."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._threads = CapacityLimiter(limits.workers)
        self._waiting = 0
        self._held = 0

    async def run(self, work: Callable[[], _T]) -> _T:
        """The result of ``work``, done in a thread. Raises :class:`Problem` (``overloaded``) when too many wait."""
        if self._waiting >= self._limits.waiting + self._limits.workers:
            raise Problem("overloaded", "too many requests are waiting")
        self._waiting += 1
        try:
            return await to_thread.run_sync(work, limiter=self._threads)
        finally:
            self._waiting -= 1

    async def message(
        self, request: Request, work: Callable[[bytes], _T], *, kind: str = "application/octet-stream"
    ) -> _T:
        """Read the whole body, which is of the media type ``kind``, hand it to ``work`` in a thread; its result.

        Raises :class:`Problem`: ``body-…`` for what is wrong with the body, ``overloaded``.
        """
        self._check_head(request, kind)
        parts = bytearray()
        try:
            async with asyncio.timeout(self._limits.body_seconds):
                async for part in request.stream():
                    self._held += len(part)
                    parts += part
                    self._check_size(len(parts))
            if not parts:
                raise Problem("body-empty", "a message has at least one byte")
            body = bytes(parts)
            return await self.run(lambda: work(body))
        except TimeoutError:
            raise Problem(
                "body-slow", f"the whole body must arrive within {self._limits.body_seconds:g} seconds"
            ) from None
        except ClientDisconnect:
            raise Problem("http-malformed", "the client left before the body was complete") from None
        finally:
            self._held -= len(parts)

    def _check_head(self, request: Request, kind: str) -> None:
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != kind:
            raise Problem("body-type", f"send {kind}")
        if request.headers.get("content-encoding", "identity").lower() != "identity":
            raise Problem("body-type", "send the body without a content encoding")
        length = request.headers.get("content-length")
        if length is None and "transfer-encoding" not in request.headers:
            raise Problem("body-length", "send Content-Length, or chunked")
        if length is not None:
            self._check_size(int(length) if length.isascii() and length.isdigit() else 0)

    def _check_size(self, size: int) -> None:
        if size > self._limits.body:
            raise Problem("body-too-large", f"at most {self._limits.body} bytes are taken")
        if self._held > self._limits.held:
            raise Problem("overloaded", "too many messages are on their way in")
