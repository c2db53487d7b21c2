"""Serves the metrics on a listener of its own, never on the public port: ``GET /metrics``, and nothing else.

It runs in threads beside the service, so that it still answers when the service's event loop does not. Bounded: four
connections, each for five seconds in all; more are closed at once.
"""

from __future__ import annotations

import socket
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, ClassVar, Final, Self

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

__all__ = ["Exporter"]

ROUTE: Final = "/metrics"
_MAX_CONNECTIONS: Final = 4
_SECONDS: Final = 5.0


class Exporter(ThreadingHTTPServer):
    """Answers scrapes of ``registry`` on ``listener`` while it is used as a context manager."""

    daemon_threads = True

    def __init__(self, listener: socket.socket, registry: CollectorRegistry) -> None:
        super().__init__(listener.getsockname()[:2], _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self.registry = registry
        self._room = threading.BoundedSemaphore(_MAX_CONNECTIONS)
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

    def process_request(self, request: Any, client_address: Any) -> None:
        """One thread for each connection, as long as there is room."""
        if not self._room.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        timer = threading.Timer(_SECONDS, _hang_up, [request])  # a socket's own time-out starts anew with every byte
        timer.daemon = True
        timer.start()
        try:
            super().process_request_thread(request, client_address)
        finally:
            timer.cancel()
            self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Whoever scrapes and hangs up is no news."""


def _hang_up(request: socket.socket) -> None:
    try:
        request.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # it was faster


class _Handler(BaseHTTPRequestHandler):
    server: Exporter
    timeout = _SECONDS
    server_version, sys_version = "watchword-metrics", ""
    protocol_version: ClassVar[str] = "HTTP/1.1"  # type: ignore[misc]  # not a ClassVar in the base class

    def do_GET(self) -> None:
        if self.path.partition("?")[0] != ROUTE:
            self._answer(HTTPStatus.NOT_FOUND, "text/plain; charset=utf-8", b"only /metrics is here\n")
            return
        self._answer(HTTPStatus.OK, CONTENT_TYPE_LATEST, generate_latest(self.server.registry))

    def _answer(self, status: HTTPStatus, kind: str, body: bytes) -> None:
        self.close_connection = True
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.send_header("connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: a scrape is no news either."""
