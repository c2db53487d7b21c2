"""Ordering a machine from a provider. Nothing that a provider answers is believed: ``watchword verify`` decides."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import quote, urlsplit

import msgspec

from watchword.errors import MalformedError, Unavailable, UsageError
from watchword.tenant.http import exchange, web_context

__all__ = ["HttpLauncher", "Launcher", "Order", "Server", "await_server"]

_MAX_ANSWER = 256 * 1024  # bytes
_POLL_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Order:
    """What is asked for: the ``image`` by the provider's name, ``user_data`` bytes, ``metadata`` with the token."""

    name: str
    image: str
    user_data: bytes
    metadata: Mapping[str, str] = field(repr=False)


class Server(msgspec.Struct, frozen=True):
    """What the provider says about a machine: ``status`` is BUILD, ACTIVE or ERROR; ``fault`` why it did not start.

    ``reason`` is what the provider's agents said last about a launch or a start that they refused.
    """

    id: str
    status: str
    address: str = ""
    port: int = 0
    fault: str = ""
    reason: str = ""


class Launcher(Protocol):
    """A provider, as far as a launch needs it. Both calls raise :class:`Unavailable`."""

    def create(self, order: Order) -> Server:
        """Order a machine; it need not be running yet."""

    def get(self, server_id: str) -> Server:
        """The present state of a machine."""


class HttpLauncher:
    """The plain provider API of ``docs/reference/provider-api.md``, at ``url``."""

    def __init__(self, url: str) -> None:
        try:
            parts = urlsplit(url)
            good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            good = False
        if not good:
            raise UsageError(
                "bad-url", f"{url[:100]!r} is not the address of a provider", hint="write https://HOST[:PORT]"
            )
        self.url = url.rstrip("/")
        self._context = web_context()

    def create(self, order: Order) -> Server:
        body = {
            "name": order.name,
            "image": order.image,
            "user_data": base64.b64encode(order.user_data).decode(),
            "metadata": dict(order.metadata),
        }
        return self._ask("POST", f"{self.url}/v1/servers", msgspec.json.encode(body))

    def get(self, server_id: str) -> Server:
        return self._ask("GET", f"{self.url}/v1/servers/{quote(server_id, safe='')}", None)

    def _ask(self, method: str, url: str, body: bytes | None) -> Server:
        answer = exchange(method, url, self._context, body=body, limit=_MAX_ANSWER)
        if not 200 <= answer.status < 300:
            raise Unavailable("provider-refused", f"the provider answered {answer.status}{_fault(answer.body)}")
        try:
            server = msgspec.json.decode(answer.body, type=Server)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise MalformedError(f"provider: {error}") from None
        if not 0 < len(server.id) <= 255 or not 0 <= server.port < 65536:
            raise MalformedError("provider: a server has no usable id or port")
        return server


class _Fault(msgspec.Struct):
    fault: str = ""


def _fault(body: bytes) -> str:
    try:
        fault = msgspec.json.decode(body, type=_Fault).fault
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""
    return f": {fault[:300]}" if fault else ""


def await_server(
    launcher: Launcher, server: Server, timeout: float, progress: Callable[[Server], None] = lambda _: None
) -> Server:
    """Wait until the provider calls the machine ACTIVE; ``progress`` is told each state, ``timeout`` is in seconds.

    Raises :class:`Unavailable`: ``launch-failed`` with the provider's own words, ``launch-timeout``.
    """
    deadline = time.monotonic() + timeout
    while server.status != "ACTIVE":
        progress(server)
        if server.status == "ERROR":
            said = server.fault[:400] or "no reason"
            raise Unavailable(
                "launch-failed",
                f"the provider did not start the machine: {said}",
                hint="'watchword verify', with the name of the launch, shows what the authority decided, signed",
            )
        if time.monotonic() >= deadline:
            raise Unavailable("launch-timeout", f"the machine was not running within {timeout:g} seconds")
        time.sleep(_POLL_SECONDS)
        server = launcher.get(server.id)
    return server
