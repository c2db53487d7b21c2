"""The few words of QEMU's machine protocol that are needed, over a socket pair that only QEMU and we hold.

Source: QEMU ``docs/interop/qmp-spec`` (greeting, ``qmp_capabilities``, ``return`` and ``error``, events).
"""

from __future__ import annotations

import json
import socket

from watchword.errors import Unavailable

__all__ = ["Qmp"]

_MAX_LINE = 1024 * 1024


class Qmp:
    """One connection. Replies are waited for at most ``timeout`` seconds; all failures are :class:`Unavailable`."""

    def __init__(self, connection: socket.socket, timeout: float) -> None:
        connection.settimeout(timeout)
        self._connection = connection
        self._lines = connection.makefile("rb")

    def greet(self) -> None:
        """Wait for QEMU's main loop: it answers only when every device was made and every file was opened."""
        if "QMP" not in self._next():
            raise Unavailable("qemu-protocol", "QEMU did not greet as expected")
        self.execute("qmp_capabilities")

    def execute(self, command: str) -> None:
        """Run a command without arguments and wait for its reply, passing over events."""
        try:
            self._connection.sendall(json.dumps({"execute": command}).encode() + b"\n")
        except OSError as error:
            raise Unavailable("qemu-gone", f"QEMU does not take commands any more: {error}") from None
        while "return" not in (reply := self._next()):
            if "error" in reply:
                raise Unavailable("qemu-protocol", f"QEMU refused {command}")

    def _next(self) -> dict[str, object]:
        try:
            line = self._lines.readline(_MAX_LINE)
            message = json.loads(line) if line else None
        except (OSError, ValueError, RecursionError) as error:
            raise Unavailable("qemu-protocol", f"QEMU does not answer: {error}") from None
        if not isinstance(message, dict):
            raise Unavailable("qemu-gone", "QEMU ended before the machine started")
        return message

    def close(self) -> None:
        """Hang up; the machine goes on."""
        self._lines.close()
        self._connection.close()
