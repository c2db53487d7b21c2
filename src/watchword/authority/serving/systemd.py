"""Telling systemd how the service is: the protocol of sd_notify(3), one datagram for each message."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping
from typing import Self

from watchword.authority.telemetry import journal
from watchword.authority.telemetry.events import FailureEvent

__all__ = ["Notifier"]


class Notifier:
    """Sends to the socket ``address``, to nobody when it is empty; a failure is logged and changes nothing.

    ``watchdog_seconds`` is how long systemd waits for a sign of life, 0 for ever; ``clock`` gives seconds.
    """

    def __init__(self, address: str, watchdog_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._every, self._clock = watchdog_seconds / 3, clock
        self._next = 0.0

    @classmethod
    def from_environment(cls, environment: Mapping[str, str], pid: int) -> Self:
        """What ``NOTIFY_SOCKET``, ``WATCHDOG_USEC`` and ``WATCHDOG_PID`` say (sd_watchdog_enabled(3))."""
        period, whose = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", str(pid))
        ours = whose == str(pid) and period.isascii() and period.isdigit()
        return cls(environment.get("NOTIFY_SOCKET", ""), int(period) / 1e6 if ours else 0.0)

    def ready(self) -> None:
        """The service answers."""
        self._send("READY=1")

    def stopping(self) -> None:
        """The service has begun to end."""
        self._send("STOPPING=1")

    def alive(self) -> None:
        """A sign of life: call it often, it is sent three times in each period of the watchdog."""
        if self._every and self._clock() >= self._next:
            self._next = self._clock() + self._every
            self._send("WATCHDOG=1")

    def _send(self, state: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
                client.setblocking(False)
                client.sendto(state.encode(), os.fsencode(self._address))
        except OSError as error:
            journal.tell(FailureEvent("systemd", "", f"cannot tell systemd {state}: {error.strerror or error}"))
