"""What agents refused, told to the provider's status service, so that a tenant can read why there is no machine.

It is the provider's word and nobody's proof: whoever reaches the status service can write it. The tenant's verdict
does not use it, ``watchword openstack verify`` prints it apart.
"""

from __future__ import annotations

import json
import queue
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any
from uuid import UUID

from watchword.errors import MalformedError, UsageError, WatchwordError
from watchword.integrations.openstack.server import log_error
from watchword.integrations.reasons import reason
from watchword.tenant.http import exchange, web_context

__all__ = ["ROUTE", "Refusal", "Refusals", "Reporter"]

ROUTE = "/v1/refusals"
_MAX_REPORT = 2048  # bytes
_MAX_TEXT = 200  # characters
_MAX_KEPT = 4096
_WAITING = 64
_TIMEOUT = 5.0


@dataclass(frozen=True, slots=True)
class Refusal:
    """``instance`` is nova's id of the server, ``message`` one printable line."""

    instance: str
    code: str
    message: str

    @classmethod
    def reported(cls, body: bytes) -> Refusal:
        """Read what an agent reports: as :meth:`parse`, and nothing else in it. Raises :class:`MalformedError`."""
        found = cls.parse(body)
        if set(json.loads(body)) != set(asdict(found)):
            raise MalformedError("refusal: an instance, a code and a message, and nothing else")
        return found

    @classmethod
    def parse(cls, body: bytes) -> Refusal:
        """Read a refusal of at most 2048 bytes; it may say more. Raises :class:`MalformedError`."""
        try:
            if len(body) > _MAX_REPORT:
                raise ValueError
            found = json.loads(body)
            instance, code, message = str(UUID(found["instance"])), found["code"], found["message"]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise MalformedError("refusal: an instance, a code and a message are needed") from None
        if not _printable(code, 64) or not _printable(message, _MAX_TEXT):
            raise MalformedError("refusal: code and message are short printable ASCII texts")
        return cls(instance, code, message)


def _printable(text: object, size: int) -> bool:
    return isinstance(text, str) and 0 < len(text) <= size and text.isascii() and text.isprintable()


class Refusals:
    """The newest refusal of each server, 4096 at most, in memory; ``clock`` is Unix time."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._kept: OrderedDict[str, dict[str, Any]] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, refusal: Refusal) -> None:
        """Remember it in place of the one before."""
        with self._lock:
            self._kept.pop(refusal.instance, None)
            self._kept[refusal.instance] = {**asdict(refusal), "time": int(self._clock())}
            while len(self._kept) > _MAX_KEPT:
                self._kept.popitem(last=False)

    def of(self, instance: str) -> Mapping[str, Any] | None:
        """What was said last about the server, with the ``time`` at which it was said."""
        with self._lock:
            return self._kept.get(instance)

    def all(self) -> list[Mapping[str, Any]]:
        """What was said last about every server, oldest first."""
        with self._lock:
            return list(self._kept.values())


class Reporter:
    """Tells the status service at ``url``, one after the other and never in anybody's way; "" tells nobody.

    What does not get through is logged and dropped, like what comes when 64 wait. Raises :class:`UsageError`.
    """

    def __init__(self, url: str) -> None:
        if url and not url.startswith(("http://", "https://")):
            raise UsageError("config", f"[status] report is not a web address: {url[:80]!r}")
        self._url = url.rstrip("/") + ROUTE if url else ""
        self._waiting: queue.Queue[Refusal] = queue.Queue(_WAITING)
        if self._url:
            threading.Thread(target=self._run, name="reporter", daemon=True).start()

    def report(self, instance: str, error: WatchwordError) -> None:
        """Tell that the server did not get its secret, or did not start, because of ``error``."""
        if not self._url or not instance:
            return
        try:
            self._waiting.put_nowait(Refusal(instance, error.code, reason(error)))
        except queue.Full:
            log_error("report-dropped", error, instance=instance)

    def _run(self) -> None:
        context = web_context()
        while True:
            refusal = self._waiting.get()
            try:
                exchange("POST", self._url, context, body=json.dumps(asdict(refusal)).encode(), timeout=_TIMEOUT)
            except WatchwordError as error:
                log_error("report-failed", error, instance=refusal.instance)
