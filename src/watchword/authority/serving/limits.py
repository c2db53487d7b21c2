"""What one client may cost: bytes and seconds of a body, how much work may wait at the same time, and how often."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Final, TypeVar

from anyio import CapacityLimiter
from starlette.requests import ClientDisconnect, Request

from watchword.authority.serving.problems import Problem
from watchword.authority.serving.workers import Workers
from watchword.wire.messages import MAX_REQUEST

__all__ = ["Intake", "Limits", "Load", "Rate"]

_T = TypeVar("_T")
_MIB: Final = 1 << 20
_MAX_ADDRESSES: Final = 4096
_SMALL: Final = 8192  # bytes of a message whose answer may need no thread: a quote without logs has 2 KiB
OCTETS: Final = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class Limits:
    """``body`` bytes of one message, ``body_seconds`` for all of it to arrive; at most ``workers`` threads that do the
    work, ``waiting`` requests that may wait for one, ``held`` bytes of all bodies in memory at the same time.

    A message of more than ``large`` bytes, which is a host's first runtime log, counts apart: ``held_large`` bytes of
    all of them in memory, ``workers_large`` in work. So they cannot keep the small ones out, nor fill the memory.

    A question for events waits for ``event_seconds`` at most.

    ``published`` profiles of tenants are kept; one address may publish ``publish_burst`` at once, and one more every
    ``publish_seconds``.
    """

    body: int = MAX_REQUEST
    body_seconds: float = 30.0
    workers: int = 8
    waiting: int = 256
    held: int = 64 * _MIB
    large: int = _MIB
    held_large: int = 160 * _MIB
    workers_large: int = 2
    event_seconds: float = 25.0
    published: int = 4096
    publish_burst: int = 10
    publish_seconds: float = 6.0


@dataclass(frozen=True, slots=True)
class Load:
    """How busy an :class:`Intake` is: requests in work or ``waiting`` of at most ``capacity``, bytes ``held``."""

    waiting: int
    capacity: int
    held: int
    held_large: int


class Intake:
    """Reads bodies and runs blocking work, within :class:`Limits`; belongs to one event loop."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._workers = Workers(limits.workers)
        self._large = CapacityLimiter(limits.workers_large)
        self._waiting = 0
        self._rooms = {False: limits.held, True: limits.held_large}  # bytes that are left for small and large ones

    def load(self) -> Load:
        """How busy it is now; any thread may ask."""
        limits, rooms = self._limits, self._rooms
        capacity = limits.waiting + limits.workers
        return Load(self._waiting, capacity, limits.held - rooms[False], limits.held_large - rooms[True])

    async def run(self, work: Callable[[], _T], *, large: bool = False) -> _T:
        """The result of ``work``, done in a thread. Raises :class:`Problem` (``overloaded``) when too many wait."""
        if self._waiting >= self._limits.waiting + self._limits.workers:
            raise Problem("overloaded", "too many requests are waiting")
        self._waiting += 1
        try:
            async with self._large if large else nullcontext():
                return await self._workers.run(work)
        finally:
            self._waiting -= 1

    async def message(
        self,
        request: Request,
        work: Callable[[bytes], _T],
        *,
        kind: str = OCTETS,
        limit: int | None = None,
        at_once: Callable[[bytes], _T | None] | None = None,
    ) -> _T:
        """Read the whole body, hand it to ``work`` in a thread, and return the result.

        With ``at_once`` a small one is first handed to that, here and now: handing it to a thread and back may take as
        long as the work. What it does not do (None) is left to the thread.

        The body is of media type ``kind`` and has at most ``limit`` bytes, those of a message unless given.
        Raises :class:`Problem`: ``body-…`` for what is wrong with the body, ``overloaded``.
        """
        announced = self._check_head(request, kind)
        with _Held(self._limits, self._rooms, announced, self._limits.body if limit is None else limit) as held:
            parts = await self._body(request, held)
            if not parts:
                raise Problem("body-empty", "a message has at least one byte")
            if at_once is not None and held.size <= _SMALL and (done := at_once(_joined(parts, keep=True))) is not None:
                return done
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


def _joined(parts: list[bytes], *, keep: bool = False) -> bytes:
    """All of them in one, which is then the only one unless they are to be kept."""
    body = b"".join(parts)
    if not keep:
        parts.clear()
    return body


class _Held:
    """The bytes of one body that are in memory; gives them back at the end.

    They count as they arrive: who announces much and sends nothing takes no room from others. What is announced is
    refused at once if there is no room for it now.
    """

    def __init__(self, limits: Limits, rooms: dict[bool, int], announced: int, most: int) -> None:
        self._limits = limits
        self._most = most
        self._rooms = rooms
        self.size = 0
        self.large = announced > limits.large
        self._check(announced, announced)

    def add(self, size: int) -> None:
        """``size`` more bytes have arrived. Raises :class:`Problem`: ``body-too-large``, ``overloaded``."""
        total = self.size + size
        if total > self._limits.large and not self.large:  # a chunked one does not say it before
            self._rooms[False] += self.size
            self._rooms[True] -= self.size
            self.large = True
        self._check(total, size)
        self.size = total
        self._rooms[self.large] -= size

    def _check(self, total: int, more: int) -> None:
        if total > self._most:
            raise Problem("body-too-large", f"at most {self._most} bytes are taken")
        if more > self._rooms[self.large]:
            raise Problem("overloaded", f"too many {'large ' if self.large else ''}messages are on their way in")

    def __enter__(self) -> _Held:
        return self

    def __exit__(self, *_: object) -> None:
        self._rooms[self.large] += self.size


class Rate:
    """How often each address may do something: ``burst`` times at once, and once more every ``seconds``.

    Remembers at most 4096 addresses, those seen last; belongs to one event loop. ``clock`` gives seconds.
    """

    def __init__(self, burst: int, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._span, self._seconds, self._clock = burst * seconds, seconds, clock
        self._full_at: OrderedDict[str, float] = OrderedDict()  # when each address may do all of it again

    def spend(self, request: Request) -> None:
        """Count one. Raises :class:`Problem` (``rate-limited``)."""
        address, now = _network(request.client.host if request.client else ""), self._clock()
        full_at = max(self._full_at.get(address, now), now) + self._seconds
        if full_at > now + self._span:
            raise Problem("rate-limited", f"one more is possible every {self._seconds:g} seconds")
        self._full_at[address] = full_at
        self._full_at.move_to_end(address)
        while len(self._full_at) > _MAX_ADDRESSES:
            self._full_at.popitem(last=False)


def _network(address: str) -> str:
    """A single IPv4 address, or the 64 bits of an IPv6 address that one customer usually has."""
    try:
        found = ip_address(address)
    except ValueError:
        return address
    return str(found) if found.version == 4 else str(ip_network(f"{found}/64", strict=False))
