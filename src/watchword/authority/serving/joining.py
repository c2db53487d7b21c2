"""A transport that sends what is written in one turn of the event loop as one piece.

The server writes an answer's head and its body one after the other; over TLS each would be a record and a system call
of its own.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

__all__ = ["JoiningTransport"]

_MOST: Final = 1 << 16  # bytes that wait; more is sent at once


class JoiningTransport(asyncio.Transport):
    """Passes everything on to ``transport``, writes at the end of the turn."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._transport, self._loop = transport, loop
        self._parts: list[bytes] = []
        self._size = 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send ``data`` soon, behind what was written before."""
        if not self._parts:
            self._loop.call_soon(self._flush)
        self._parts.append(bytes(data))
        self._size += len(data)
        if self._size >= _MOST:
            self._flush()

    def _flush(self) -> None:
        if self._parts:
            data = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
            self._parts, self._size = [], 0
            self._transport.write(data)

    def close(self) -> None:
        """Close when everything was sent."""
        self._flush()
        self._transport.close()

    def abort(self) -> None:
        """Close at once; what waits is not sent."""
        self._parts, self._size = [], 0
        self._transport.abort()

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._transport.get_extra_info(name, default)

    def pause_reading(self) -> None:
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        self._transport.resume_reading()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._transport.set_protocol(protocol)
