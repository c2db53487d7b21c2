"""A machine in the middle: it answers SSH itself and has a connection to the genuine machine open behind it.

It can pass on everything a user would type, but it must prove to the user that it holds the host key, and it does not.
"""

from __future__ import annotations

import asyncio
import threading

import asyncssh

__all__ = ["Interceptor"]

_START_SECONDS = 20


class _Front(asyncssh.SSHServer):
    """Takes every user, so that nothing but the host key stands between the tenant and a wrong machine."""

    def __init__(self, owner: Interceptor) -> None:
        self._owner = owner

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._owner.connections += 1

    def begin_auth(self, username: str) -> bool:
        return False


class Interceptor:
    """Listens on loopback (``address``, ``port``) in front of an SSH server at ``host``, ``host_port``.

    Use as a context manager; ``connections`` counts who was taken in so far.
    """

    def __init__(self, host: str, host_port: int) -> None:
        self._behind = (host, host_port)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self.address = "127.0.0.1"
        self.port = 0
        self.connections = 0

    def __enter__(self) -> Interceptor:
        self._thread.start()
        try:
            asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(_START_SECONDS)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(_START_SECONDS)
        self._end()

    async def _start(self) -> None:
        host, port = self._behind
        # The genuine machine is reachable from here; logging in is not needed to be in the middle.
        _, self._genuine = await asyncio.open_connection(host, port)
        key = asyncssh.generate_private_key("ssh-ed25519")
        self._server = await asyncssh.listen(
            self.address, 0, server_host_keys=[key], server_factory=lambda: _Front(self)
        )
        self.port = self._server.get_port()

    async def _stop(self) -> None:
        self._server.close()
        self._genuine.close()
        await self._server.wait_closed()

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
