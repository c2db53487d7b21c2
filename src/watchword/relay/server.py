"""An untrusted carrier: takes sealed requests from hosts, passes them to one authority, brings back sealed replies.

It has no keys and needs none. It cannot read or alter what it carries, it keeps nothing, and it logs nothing but sizes
and status numbers. Everything is bounded: connections, sizes, and the whole time that one exchange may take.
"""

from __future__ import annotations

import json
import re
import socket
import ssl
import sys
import threading
from collections.abc import Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any, ClassVar

import httpx2

from watchword.errors import Unavailable, UsageError
from watchword.wire.messages import MAX_REQUEST

__all__ = ["Relay"]

_ROUTE = "/v1/messages"
_BINARY = "application/octet-stream"
_PROBLEM = "application/problem+json"
_MAX_REPLY = 128 * 1024
_CHUNK = 64 * 1024
_TIMEOUT = 60.0  # seconds for a whole exchange with one host
_UPSTREAM_TIMEOUT = 25.0  # shorter than what a host waits, so that it hears why
_MAX_CONNECTIONS = 64
_LENGTH = re.compile(r"[0-9]{1,8}\Z")


class Relay(ThreadingHTTPServer):
    """Listens on ``address`` and ``port`` (0: any free one) and carries to the authority at ``authority`` (a URL).

    ``ca`` is the PEM text of the authority's TLS certificate authority; without it the relay does not check whom it
    talks to, which costs nothing but availability: the messages are sealed. ``verbose`` writes one line per exchange
    to stderr. Raises :class:`UsageError` (``authority-url``) and :class:`Unavailable` (``listen``).
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self,
        address: str,
        port: int,
        authority: str,
        *,
        ca: str | None = None,
        verbose: bool = False,
        timeout: float = _TIMEOUT,
    ) -> None:
        if not authority.startswith(("https://", "http://")):
            raise UsageError(
                "authority-url", f"the authority's address must start with https://, not {authority[:80]!r}"
            )
        self.upstream = authority.rstrip("/") + _ROUTE
        self.verbose = verbose
        self.limit = timeout
        self._room = threading.BoundedSemaphore(_MAX_CONNECTIONS)
        self.address_family = socket.AF_INET6 if ":" in address else socket.AF_INET
        # Before binding: when that fails, the base class calls server_close().
        self.client = httpx2.Client(verify=_context(ca), timeout=_UPSTREAM_TIMEOUT, trust_env=False)
        try:
            super().__init__((address, port), _Handler)
        except OSError as error:
            raise Unavailable("listen", f"cannot listen on {address} port {port}: {error.strerror or error}") from None

    def server_bind(self) -> None:
        """Bind without the base class's look-up of our own name, which can take long."""
        TCPServer.server_bind(self)

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self.server_address[1])

    def process_request(self, request: Any, client_address: Any) -> None:
        """One thread for each connection, as long as there is room; each ends when its time is over."""
        if not self._room.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        # Socket time-outs start anew with every byte; this one does not.
        timer = threading.Timer(self.limit, _hang_up, [request])
        timer.daemon = True
        timer.start()
        try:
            super().process_request_thread(request, client_address)
        finally:
            timer.cancel()
            self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A host that hangs up is no news."""

    def server_close(self) -> None:
        super().server_close()
        self.client.close()


def _context(ca: str | None) -> ssl.SSLContext:
    if ca is not None:
        try:
            return ssl.create_default_context(cadata=ca)
        except (ssl.SSLError, ValueError) as error:
            raise UsageError("authority-ca", f"the certificate cannot be used: {error}") from None
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _hang_up(request: socket.socket) -> None:
    try:
        request.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # it was faster


class _Refused(Exception):
    """This request is answered with a problem document."""

    def __init__(self, status: HTTPStatus, code: str, detail: str) -> None:
        super().__init__(detail)
        self.status, self.code, self.detail = status, code, detail


def _problem(status: HTTPStatus, code: str, detail: str) -> bytes:
    """A problem document (RFC 9457) in the form that the authority uses."""
    document = {"type": f"urn:watchword:problem:{code}", "title": status.phrase, "status": status, "detail": detail}
    return json.dumps(document).encode()


class _Handler(BaseHTTPRequestHandler):
    server: Relay
    timeout = 20  # seconds without a byte
    server_version, sys_version = "watchword-relay", ""
    protocol_version: ClassVar[str] = "HTTP/1.1"  # type: ignore[misc]  # not a ClassVar in the base class

    def do_POST(self) -> None:
        self.close_connection = True
        try:
            status, kind, body = self._carry(self._request())
        except _Refused as refusal:
            status, kind, body = refusal.status, _PROBLEM, _problem(refusal.status, refusal.code, refusal.detail)
        self._answer(status, kind, body)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What the base class refuses by itself (methods, long lines) is a problem document too."""
        self.close_connection = True
        self._answer(code, _PROBLEM, _problem(HTTPStatus(code), "relay-request", HTTPStatus(code).description))

    def _request(self) -> int:
        """The size of the sealed request, which must be told: too much is refused before it is read."""
        if self.path != _ROUTE:
            raise _Refused(HTTPStatus.NOT_FOUND, "relay-route", f"a relay carries POST {_ROUTE} and nothing else")
        if self.headers.get_content_type() != _BINARY:
            raise _Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "relay-type", f"a sealed request is {_BINARY}")
        lengths = self.headers.get_all("content-length", [])
        if len(lengths) != 1 or not _LENGTH.match(lengths[0]) or "transfer-encoding" in self.headers:
            raise _Refused(HTTPStatus.LENGTH_REQUIRED, "relay-length", "send the length of the request, once")
        size = int(lengths[0])
        if not 0 < size <= MAX_REQUEST:
            raise _Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "relay-size", f"between 1 and {MAX_REQUEST} bytes")
        return size

    def _pieces(self, size: int) -> Iterator[bytes]:
        """The sealed request as it arrives: a large one is never in memory as a whole."""
        while size:
            try:
                piece = self.rfile.read1(min(size, _CHUNK))
            except OSError:  # it was silent for too long, or hung up
                piece = b""
            if not piece:
                raise _Refused(HTTPStatus.BAD_REQUEST, "relay-short", "the request ended early")
            size -= len(piece)
            yield piece

    def _carry(self, size: int) -> tuple[int, str, bytes]:
        try:
            with self.server.client.stream(
                "POST",
                self.server.upstream,
                content=self._pieces(size),
                headers={"content-type": _BINARY, "content-length": str(size), "accept-encoding": "identity"},
            ) as response:
                body = bytearray()
                for piece in response.iter_raw(_CHUNK):
                    body += piece
                    if len(body) > _MAX_REPLY:
                        raise _Refused(HTTPStatus.BAD_GATEWAY, "relay-reply", "the authority sends too much")
        except httpx2.TimeoutException:
            raise _Refused(HTTPStatus.GATEWAY_TIMEOUT, "relay-slow", "the authority did not answer in time") from None
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
            text = f"the authority cannot be reached ({type(error).__name__})"  # nothing about where it is
            raise _Refused(HTTPStatus.BAD_GATEWAY, "relay-upstream", text) from None
        return response.status_code, _BINARY if response.status_code == HTTPStatus.OK else _PROBLEM, bytes(body)

    def _answer(self, status: int, kind: str, body: bytes) -> None:
        if self.server.verbose:
            print(f"watchword: relayed: status {int(status)}, {len(body)} bytes back", file=sys.stderr, flush=True)
        self.request_version = self.protocol_version  # after an unreadable request it would be 0.9: no head at all
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.send_header("connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Not the base class's log: it writes what strangers send."""
