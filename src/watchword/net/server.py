"""A threaded HTTP/1.1 server in which everything is bounded, and which says nothing about who asks.

For the relay, the compute host's agent and the provider's status service: few clients, one request each. The authority
has a server of its own.
"""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any, ClassVar, Final

from watchword.errors import Unavailable

__all__ = ["PROBLEM", "BoundedHandler", "BoundedServer", "Refused", "problem_document"]

PROBLEM: Final = "application/problem+json"
MAX_CONNECTIONS: Final = 64
_LENGTH: Final = re.compile(r"[0-9]{1,8}\Z")
_CHUNK: Final = 64 * 1024


def problem_document(status: HTTPStatus, code: str, detail: str) -> dict[str, Any]:
    """The members of a problem document (RFC 9457)."""
    return {"type": f"urn:watchword:problem:{code}", "title": status.phrase, "status": status, "detail": detail}


class Refused(Exception):
    """The request is answered with a problem document of this status, ``code`` and ``detail``."""

    def __init__(self, status: HTTPStatus, code: str, detail: str) -> None:
        super().__init__(detail)
        self.status, self.code, self.detail = status, code, detail


class BoundedServer(ThreadingHTTPServer):
    """Listens on ``address`` and ``port`` (0: any free one); each of at most 64 connections ends after ``seconds``.

    A connection beyond those is closed unheard. Raises :class:`Unavailable` (``listen``).
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: str, port: int, handler: type[BoundedHandler], seconds: float) -> None:
        self._seconds = seconds
        self._room = threading.BoundedSemaphore(MAX_CONNECTIONS)
        self.address_family = socket.AF_INET6 if ":" in address else socket.AF_INET
        try:
            super().__init__((address, port), handler)
        except OSError as error:
            raise Unavailable("listen", f"cannot listen on {address} port {port}: {error.strerror or error}") from None

    def server_bind(self) -> None:
        """Bind without the base class's look-up of our own name, which can take long."""
        TCPServer.server_bind(self)

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self.server_address[1])

    @property
    def url(self) -> str:
        """The address of the service."""
        host = str(self.server_address[0])
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"

    def process_request(self, request: Any, client_address: Any) -> None:
        """One thread for each connection, as long as there is room; each ends when its time is over."""
        if not self._room.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        # A socket's time-out starts anew with every byte; this one does not.
        timer = threading.Timer(self._seconds, _hang_up, [request])
        timer.daemon = True
        timer.start()
        try:
            super().process_request_thread(request, client_address)
        finally:
            timer.cancel()
            self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is no news."""


def _hang_up(request: socket.socket) -> None:
    try:
        request.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # it was faster


class BoundedHandler(BaseHTTPRequestHandler):
    """Answers one request for each connection; ``prefix`` begins the codes of what is refused here."""

    prefix: ClassVar[str] = "http"
    timeout = 20  # seconds without a byte
    sys_version = ""
    protocol_version: ClassVar[str] = "HTTP/1.1"  # type: ignore[misc]  # not a ClassVar in the base class

    def body_size(self, largest: int) -> int:
        """The size of the body, which must be told: too much is refused before it is read. Raises :class:`Refused`."""
        lengths = self.headers.get_all("content-length", [])
        if len(lengths) != 1 or not _LENGTH.match(lengths[0]) or "transfer-encoding" in self.headers:
            raise self.refused(HTTPStatus.LENGTH_REQUIRED, "length", "send the length of the request, once")
        size = int(lengths[0])
        if not 0 < size <= largest:
            raise self.refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "size", f"between 1 and {largest} bytes")
        return size

    def pieces(self, size: int) -> Iterator[bytes]:
        """``size`` bytes of the body as they arrive. Raises :class:`Refused` when it ends early."""
        while size:
            try:
                piece = self.rfile.read1(min(size, _CHUNK))
            except OSError:  # it was silent for too long, or hung up
                piece = b""
            if not piece:
                raise self.refused(HTTPStatus.BAD_REQUEST, "short", "the request ended early")
            size -= len(piece)
            yield piece

    def refused(self, status: HTTPStatus, what: str, detail: str) -> Refused:
        """A refusal whose code is the handler's prefix and ``what``."""
        return Refused(status, f"{self.prefix}-{what}", detail)

    def answer(self, status: int, kind: str, body: bytes, **headers: str) -> None:
        """Send a whole answer of the media type ``kind``, and close; ``headers`` have ``_`` for ``-``."""
        self.close_connection = True
        self.request_version = self.protocol_version  # after an unreadable request it would be 0.9: no head at all
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def answer_refused(self, refusal: Refused) -> None:
        """Send the problem document."""
        self.answer(
            refusal.status, PROBLEM, json.dumps(problem_document(refusal.status, refusal.code, refusal.detail)).encode()
        )

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What the base class refuses by itself (methods, long lines) is a problem document too."""
        self.answer_refused(self.refused(HTTPStatus(code), "request", HTTPStatus(code).description))

    def log_message(self, format: str, *args: Any) -> None:
        """Not the base class's log: it writes what strangers send."""
