"""SSH servers on loopback that hold a host key, or only pretend to."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from typing import Any

import asyncssh

__all__ = ["SshServer", "public_half_only"]

_SECONDS = 20


class _Watched(asyncssh.SSHServer):
    def __init__(self, connections: list[asyncssh.SSHServerConnection]) -> None:
        self._connections = connections

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._connections.append(conn)


class SshServer:
    """Completes key exchanges with ``host_keys`` and lets nobody in; a context manager with ``host`` and ``port``."""

    def __init__(self, host_keys: Sequence[Any], port: int = 0) -> None:
        self._keys = list(host_keys)
        self._wanted_port = port
        self._connections: list[asyncssh.SSHServerConnection] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self.host = "127.0.0.1"
        self.port = 0

    def __enter__(self) -> SshServer:
        self._thread.start()
        self._acceptor = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(_SECONDS)
        self.port = self._acceptor.get_port()
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(_SECONDS)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_SECONDS)
        self._loop.close()

    async def _listen(self) -> asyncssh.SSHAcceptor:
        def watch() -> asyncssh.SSHServer:
            return _Watched(self._connections)

        return await asyncssh.create_server(
            watch, self.host, self._wanted_port, server_host_keys=self._keys, config=None, agent_forwarding=False
        )

    async def _stop(self) -> None:
        self._acceptor.close()
        await self._acceptor.wait_closed()
        for connection in self._connections:
            connection.abort()
        await asyncio.sleep(0.02)  # transports close in the next turns of the loop
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await asyncio.get_running_loop().shutdown_default_executor()


def public_half_only(public_openssh: str) -> asyncssh.SSHKeyPair:
    """A host key that shows the given public key but can sign only with another one."""
    pair = asyncssh.load_keypairs(asyncssh.generate_private_key("ssh-ed25519"))[0]
    pair.public_data = asyncssh.import_public_key(public_openssh).public_data
    return pair
