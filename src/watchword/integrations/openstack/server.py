"""The agent's loopback HTTP service for nova's dynamic vendor data.

Everything is bounded: connections, sizes, the time that one answer takes. What nova does with an answer decides its
form: 200 goes onto the config drive, anything else makes it try another host and, in the end, fail. So what no other
host would do better is a 200 that says no (or a 403, as configured), and this host's own failure is a 5xx.
"""

from __future__ import annotations

import json
import re
import socket
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any, ClassVar

from watchword.errors import Unavailable, WatchwordError
from watchword.integrations.openstack.peer import Peers
from watchword.integrations.openstack.request import MAX_REQUEST

__all__ = ["Answer", "AgentServer", "problem"]

ROUTE, HEALTH = "/v1/vendordata", "/v1/health"
_JSON, _PROBLEM = "application/json", "application/problem+json"
_MAX_CONNECTIONS = 64
_WORKERS = 16
_IDLE = 15  # seconds without a byte
_LENGTH = re.compile(r"[0-9]{1,8}\Z")


@dataclass(frozen=True, slots=True)
class Answer:
    """``status`` of HTTP, the ``body``, and the reason ``code`` when there is one."""

    status: HTTPStatus
    body: bytes
    code: str = ""


def problem(status: HTTPStatus, code: str, detail: str) -> Answer:
    """A problem document (RFC 9457)."""
    document = {"type": f"urn:watchword:problem:{code}", "title": status.phrase, "status": status, "detail": detail}
    return Answer(status, json.dumps(document).encode(), code)


class AgentServer(ThreadingHTTPServer):
    """Listens on ``address`` and ``port`` (0: any free one) and has ``answer(body, token)`` answer nova.

    ``token`` is the ``X-Auth-Token`` ("" when there was none); ``health()`` says whether this host could launch;
    ``deadline`` is in seconds for a whole answer. Raises :class:`Unavailable` (``listen``).
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self,
        address: str,
        port: int,
        answer: Callable[[bytes, str], Answer],
        health: Callable[[], dict[str, Any]],
        peers: Peers,
        deadline: float,
    ) -> None:
        self.answer = answer
        self.health = health
        self.peers = peers
        self.deadline = deadline
        self.workers = ThreadPoolExecutor(_WORKERS, thread_name_prefix="answer")
        self._room = threading.BoundedSemaphore(_MAX_CONNECTIONS)
        self.address_family = socket.AF_INET6 if ":" in address else socket.AF_INET
        try:
            super().__init__((address, port), _Handler)
        except OSError as error:
            raise Unavailable("listen", f"cannot listen on {address} port {port}: {error.strerror or error}") from None

    def server_bind(self) -> None:
        """Bind without the base class's look-up of our own name, which can take long."""
        TCPServer.server_bind(self)

    @property
    def url(self) -> str:
        """The address of the service."""
        host = str(self.server_address[0])
        return f"http://{f'[{host}]' if ':' in host else host}:{self.server_address[1]}"

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._room.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        # A socket's time-out starts anew with every byte; this one does not.
        timer = threading.Timer(self.deadline + _IDLE, _hang_up, [request])
        timer.daemon = True
        timer.start()
        try:
            super().process_request_thread(request, client_address)
        finally:
            timer.cancel()
            self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is no news."""

    def server_close(self) -> None:
        super().server_close()
        self.workers.shutdown(wait=False, cancel_futures=True)


def _hang_up(request: socket.socket) -> None:
    try:
        request.shutdown(socket.SHUT_RDWR)
    except OSError:
        return


class _Handler(BaseHTTPRequestHandler):
    server: AgentServer
    timeout = _IDLE
    server_version, sys_version = "watchword-agent", ""
    protocol_version: ClassVar[str] = "HTTP/1.1"  # type: ignore[misc]  # not a ClassVar in the base class

    def do_GET(self) -> None:
        self.close_connection = True
        if self.path != HEALTH:
            self._send(problem(HTTPStatus.NOT_FOUND, "agent-route", f"GET {HEALTH} and POST {ROUTE} are here"))
            return
        state = self.server.health()
        status = HTTPStatus.OK if state.get("ready") else HTTPStatus.SERVICE_UNAVAILABLE
        self._send(Answer(status, json.dumps(state).encode()))

    def do_POST(self) -> None:
        self.close_connection = True
        refusal, size = self._refusal()
        if refusal is not None:
            self._send(refusal)
            return
        body = self.rfile.read(size)
        if len(body) != size:
            self._send(problem(HTTPStatus.BAD_REQUEST, "agent-short", "the request ended early"))
            return
        self._send(self._in_time(body))

    def _refusal(self) -> tuple[Answer | None, int]:
        """Why this request is not read, or its size."""
        if self.path.rstrip("/") != ROUTE:
            return problem(HTTPStatus.NOT_FOUND, "agent-route", f"GET {HEALTH} and POST {ROUTE} are here"), 0
        if not self.server.peers.allows(self.client_address[0], self.client_address[1]):
            return problem(HTTPStatus.FORBIDDEN, "agent-peer", "this user may not ask; see [serve] users"), 0
        lengths = self.headers.get_all("content-length", [])
        if len(lengths) != 1 or not _LENGTH.match(lengths[0]) or "transfer-encoding" in self.headers:
            return problem(HTTPStatus.LENGTH_REQUIRED, "agent-length", "send the length of the request, once"), 0
        size = int(lengths[0])
        if not 0 < size <= MAX_REQUEST:
            return problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "agent-size", f"1 to {MAX_REQUEST} bytes"), 0
        return None, size

    def _in_time(self, body: bytes) -> Answer:
        token = self.headers.get("x-auth-token", "")
        try:
            future: Future[Answer] = self.server.workers.submit(self.server.answer, body, token)
            return future.result(self.server.deadline)
        except FutureTimeout:
            return problem(HTTPStatus.GATEWAY_TIMEOUT, "answer-late", "this host did not answer in time")
        except RuntimeError:  # the pool is shut down
            return problem(HTTPStatus.SERVICE_UNAVAILABLE, "agent-stopping", "the agent is being stopped")

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        self.close_connection = True
        self._send(problem(HTTPStatus(code), "agent-request", HTTPStatus(code).description))

    def _send(self, answer: Answer) -> None:
        kind = _JSON if answer.status == HTTPStatus.OK else _PROBLEM
        self.request_version = self.protocol_version
        self.send_response(answer.status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(answer.body)))
        self.send_header("cache-control", "no-store")
        if answer.code:
            self.send_header("x-watchword-code", answer.code)
        self.send_header("connection", "close")
        self.end_headers()
        self.wfile.write(answer.body)

    def log_message(self, format: str, *args: Any) -> None:
        """Not the base class's log: it writes what strangers send."""


def log(event: str, **about: object) -> None:
    """One line for the journal: an event and public facts, as JSON."""
    print(f"watchword: {event} {json.dumps(about)}", file=sys.stderr, flush=True)


def log_error(event: str, error: WatchwordError, **about: object) -> None:
    """:func:`log` with an error, and what to do about it."""
    log(event, **about, code=error.code, message=error.message, hint=error.hint)
