"""Serves the metrics on a listener of its own, never on the public port: ``GET /metrics``, and nothing else.

It runs in threads beside the service, so that it still answers when the service's event loop does not.
"""

from __future__ import annotations

import threading
from http import HTTPStatus
from types import TracebackType
from typing import Final, Self

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from watchword.net.server import BoundedHandler, BoundedServer

__all__ = ["Exporter"]

_SECONDS: Final = 10.0  # for one scrape


class Exporter(BoundedServer):
    """Answers scrapes of ``registry`` on ``address`` and ``port`` while it is used as a context manager.

    Raises :class:`Unavailable` (``listen``).
    """

    def __init__(self, address: str, port: int, registry: CollectorRegistry, seconds: float = _SECONDS) -> None:
        super().__init__(address, port, _Handler, seconds)
        self.registry = registry
        self._thread = threading.Thread(target=self.serve_forever, args=(0.5,), name="metrics", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()


class _Handler(BoundedHandler):
    server: Exporter
    prefix = "metrics"
    server_version = "watchword-metrics"

    def do_GET(self) -> None:
        if self.path.partition("?")[0] == "/metrics":
            self.answer(HTTPStatus.OK, CONTENT_TYPE_LATEST, generate_latest(self.server.registry))
        else:
            self.answer(HTTPStatus.NOT_FOUND, "text/plain; charset=utf-8", b"only /metrics is here\n")
