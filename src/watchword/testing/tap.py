"""Somebody on the wire between an agent and its TPM: reads everything, and may act between two commands."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from watchword.agent.tpm.transport import Transport

__all__ = ["Tap"]

#: Called before a command goes out, with its command code and the transport itself.
Before: TypeAlias = Callable[[int, Transport], None]
#: Called with the command code and the response; what it returns is what the agent gets.
After: TypeAlias = Callable[[int, bytes], bytes]


class Tap:
    """A transport around a transport. ``wire`` has every byte of both directions that went through."""

    def __init__(self, inner: Transport, *, before: Before | None = None, after: After | None = None) -> None:
        self.wire = bytearray()
        self.codes: list[int] = []
        self._inner = inner
        self._before = before
        self._after = after

    def send(self, command: bytes) -> bytes:
        code = int.from_bytes(command[6:10], "big")
        if self._before is not None:
            self._before(code, self._inner)
        response = self._inner.send(command)
        self.wire += command + response
        self.codes.append(code)
        return response if self._after is None else self._after(code, response)

    def close(self) -> None:
        self._inner.close()
