"""Running the application: TLS, a socket whose port may be chosen by the system, patience with limits, a calm end."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from asyncio import TimerHandle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Final, cast

import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from watchword.authority.access.certificate import tls_extension
from watchword.authority.keys import tls
from watchword.authority.keys.keyring import Keyring
from watchword.authority.serving.joining import JoiningTransport
from watchword.authority.serving.problems import MEDIA_TYPE, raw_problem
from watchword.authority.serving.readiness import Readiness
from watchword.authority.serving.systemd import Notifier
from watchword.errors import Unavailable, UsageError

__all__ = ["Address", "bind", "make_server", "run"]

MAX_CONNECTIONS: Final = 1024
HEAD_SECONDS: Final = 15.0  # for the request line and all headers to arrive
IDLE_SECONDS: Final = 30  # between two requests on one connection
DRAIN_SECONDS: Final = 10  # for requests that are being answered when the service is told to stop
MAX_HEAD: Final = 16 * 1024  # bytes of request line and headers


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen: a host name or IP address, and a port (0: any that is free)."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read ``HOST:PORT``, IPv6 addresses in brackets. Raises :class:`UsageError` (``listen-address``)."""
        host, colon, port = text.rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
        if not colon or not host or not (port.isascii() and port.isdigit()) or int(port) > 65535:
            raise UsageError("listen-address", f"{text!r} is not HOST:PORT", hint="for example 127.0.0.1:8443")
        return cls(host, int(port))

    @property
    def url(self) -> str:
        return f"https://[{self.host}]:{self.port}" if ":" in self.host else f"https://{self.host}:{self.port}"


def bind(address: Address) -> tuple[socket.socket, Address]:
    """A listening socket and its real address. Raises :class:`Unavailable` (``listen-failed``)."""
    try:
        info = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = socket.create_server(info[4][:2], family=info[0], backlog=512)
    except OSError as error:
        where = f"{address.host}:{address.port}"
        raise Unavailable("listen-failed", f"cannot listen on {where}: {error.strerror or error}") from error
    return listener, Address(address.host, listener.getsockname()[1])


def make_server(
    app: Starlette,
    ring: Keyring,
    ready: Callable[[], None],
    *,
    drain_seconds: float = 0.0,
    client_ca: Path | None = None,
) -> uvicorn.Server:
    """The server of ``app``; ``ready`` is called once connections are accepted, ``should_exit`` ends it.

    A signal first makes it not ready, and ends it ``drain_seconds`` later; a second one ends it at once. People may
    show certificates below those in ``client_ca``. Raises :class:`UsageError` (``client-ca``).
    """
    context = tls.server_context(*ring.tls_files, ring.passphrase, client_ca)
    config = uvicorn.Config(
        app,
        http=_PatientProtocol,
        ws="none",
        lifespan="on",
        log_config=None,
        log_level="error",
        access_log=False,
        server_header=False,
        proxy_headers=False,  # nothing here depends on who the client says it is
        timeout_keep_alive=IDLE_SECONDS,
        timeout_graceful_shutdown=DRAIN_SECONDS,
        ssl_context_factory=lambda _config, _default: context,
    )
    return _Server(config, ready, app.state.readiness, drain_seconds)


def run(
    app: Starlette,
    ring: Keyring,
    listener: socket.socket,
    ready: Callable[[], None],
    *,
    drain_seconds: float = 0.0,
    client_ca: Path | None = None,
) -> None:
    """Answer requests on ``listener`` until SIGTERM or SIGINT, ``drain_seconds`` longer, then finish what was begun."""
    server = make_server(app, ring, ready, drain_seconds=drain_seconds, client_ca=client_ca)
    with asyncio.Runner(loop_factory=server.config.get_loop_factory()) as runner:
        runner.run(server.serve(sockets=[listener]))


class _Server(uvicorn.Server):
    def __init__(
        self, config: uvicorn.Config, ready: Callable[[], None], readiness: Readiness, drain_seconds: float
    ) -> None:
        super().__init__(config)
        self._ready, self._readiness, self._drain_seconds = ready, readiness, drain_seconds
        self._systemd = Notifier.from_environment(os.environ, os.getpid())
        self._stop_at: float | None = None
        self._told_stopping = False

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready()
        self._systemd.ready()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._readiness.stop()
        if self._stop_at is None and self._drain_seconds:
            self._captured_signals.append(sig)
            self._stop_at = time.monotonic() + self._drain_seconds
        else:
            super().handle_exit(sig, frame)

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second, from the event loop: a loop that hangs gives no sign of life."""
        self._systemd.alive()
        if self._stop_at is not None and time.monotonic() >= self._stop_at:
            self.should_exit = True
        if (self.should_exit or self._stop_at is not None) and not self._told_stopping:
            self._told_stopping = True
            self._systemd.stopping()
        return await super().on_tick(counter)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        with super().capture_signals():
            yield
            self._captured_signals.clear()  # being told to stop, and stopping, is a success


class _PatientProtocol(HttpToolsProtocol):
    """uvicorn's protocol with the limits that it lacks: on connections, on the size of a head, and on its arrival.

    It also tells the application about the client's certificate, as the ASGI TLS extension says.
    """

    _head_timer: TimerHandle | None = None
    _head_size = 0
    _tls: dict[str, Any] | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
        super().connection_made(JoiningTransport(transport, self.loop))
        if len(self.connections) > MAX_CONNECTIONS:
            transport.abort()
            return
        self._tls = tls_extension(transport.get_extra_info("ssl_object"))
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_arrived()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if (self.cycle is None or self.cycle.response_complete) and not self.transport.is_closing():
            self._expect_head()

    def on_message_begin(self) -> None:
        self._head_size = 0
        super().on_message_begin()
        cast("dict[str, Any]", self.scope)["extensions"] = {"tls": self._tls}

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._head_arrived()
        if self.parser.get_http_version() not in ("1.0", "1.1"):
            raise ValueError("HTTP/1.1 is spoken here")  # the parser takes a line without a version for HTTP/0.9
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        status, body = raw_problem("http-malformed", msg)
        head = f"HTTP/1.1 {status} Bad Request\r\nContent-Type: {MEDIA_TYPE}\r\nContent-Length: {len(body)}\r\n"
        self.transport.write(head.encode() + b"Connection: close\r\n\r\n" + body)
        self.transport.close()

    def _count(self, size: int) -> None:
        self._head_size += size
        if self._head_size > MAX_HEAD:
            raise ValueError("the request line and headers are too long")  # the parser turns this into a 400

    def _expect_head(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(HEAD_SECONDS, self._give_up)

    def _head_arrived(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _give_up(self) -> None:
        self._head_timer = None
        self.transport.abort()
