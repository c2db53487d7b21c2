"""An untrusted carrier: takes sealed requests from hosts, passes them to one authority, brings back sealed replies.

It has no keys and needs none. It cannot read or alter what it carries, it keeps nothing, and it logs nothing but sizes
and status numbers. Everything is bounded: connections, sizes, and the whole time that one exchange may take.
"""

from __future__ import annotations

import ssl
import sys
from http import HTTPStatus

import httpx2

from watchword.errors import UsageError
from watchword.net.server import PROBLEM, BoundedHandler, BoundedServer, Refused
from watchword.wire.messages import MAX_REQUEST

__all__ = ["Relay"]

_ROUTE = "/v1/messages"
_BINARY = "application/octet-stream"
_MAX_REPLY = 128 * 1024
_CHUNK = 64 * 1024
_TIMEOUT = 60.0  # seconds for a whole exchange with one host
_UPSTREAM_TIMEOUT = 25.0  # shorter than what a host waits, so that it hears why


class Relay(BoundedServer):
    """Listens on ``address`` and ``port`` (0: any free one) and carries to the authority at ``authority`` (a URL).

    ``ca`` is the PEM text of the authority's TLS certificate authority; without it the relay does not check whom it
    talks to, which costs nothing but availability: the messages are sealed. ``verbose`` writes one line per exchange
    to stderr. Raises :class:`UsageError` (``authority-url``) and :class:`Unavailable` (``listen``).
    """

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
        # Before binding: when that fails, the base class calls server_close().
        self.client = httpx2.Client(verify=_context(ca), timeout=_UPSTREAM_TIMEOUT, trust_env=False)
        super().__init__(address, port, _Handler, timeout)

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


class _Handler(BoundedHandler):
    server: Relay
    prefix = "relay"
    server_version = "watchword-relay"

    def do_POST(self) -> None:
        try:
            self.answer(*self._carry(self._request()))
        except Refused as refusal:
            self.answer_refused(refusal)

    def _request(self) -> int:
        """The size of the sealed request."""
        if self.path != _ROUTE:
            raise self.refused(HTTPStatus.NOT_FOUND, "route", f"a relay carries POST {_ROUTE} and nothing else")
        if self.headers.get_content_type() != _BINARY:
            raise self.refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "type", f"a sealed request is {_BINARY}")
        return self.body_size(MAX_REQUEST)

    def _carry(self, size: int) -> tuple[int, str, bytes]:
        try:
            with self.server.client.stream(
                "POST",
                self.server.upstream,
                content=self.pieces(size),
                headers={"content-type": _BINARY, "content-length": str(size), "accept-encoding": "identity"},
            ) as response:
                body = bytearray()
                for piece in response.iter_raw(_CHUNK):
                    body += piece
                    if len(body) > _MAX_REPLY:
                        raise self.refused(HTTPStatus.BAD_GATEWAY, "reply", "the authority sends too much")
        except httpx2.TimeoutException:
            raise self.refused(HTTPStatus.GATEWAY_TIMEOUT, "slow", "the authority did not answer in time") from None
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
            text = f"the authority cannot be reached ({type(error).__name__})"  # nothing about where it is
            raise self.refused(HTTPStatus.BAD_GATEWAY, "upstream", text) from None
        return response.status_code, _BINARY if response.status_code == HTTPStatus.OK else PROBLEM, bytes(body)

    def answer(self, status: int, kind: str, body: bytes, **headers: str) -> None:
        if self.server.verbose:
            print(f"watchword: relayed: status {int(status)}, {len(body)} bytes back", file=sys.stderr, flush=True)
        super().answer(status, kind, body, **headers)
