"""Who is at the other end of a connection on loopback: the user that the kernel says owns the socket.

A port on 127.0.0.1 is open to every process of the host, a user-mode network of a guest included. An answer may hold a
machine's key, so the kernel is asked. Source: proc_net_tcp(5), ``/proc/net/tcp`` and ``tcp6``.
"""

from __future__ import annotations

import pwd
import socket
import struct
from pathlib import Path

from watchword.errors import UsageError

__all__ = ["Peers", "owner_of"]

_MAX_TABLE = 16 << 20
_ESTABLISHED = "01"


def owner_of(address: str, port: int) -> int | None:
    """The user id that owns the local socket bound to ``address`` and ``port``; None when there is no such socket."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    wanted = f"{_as_kernel(family, address)}:{port:04X}"
    table = Path("/proc/net/tcp6" if family == socket.AF_INET6 else "/proc/net/tcp")
    with table.open("rb") as file:
        text = file.read(_MAX_TABLE).decode("ascii", "replace")
    for line in text.splitlines()[1:]:
        columns = line.split()
        if len(columns) > 7 and columns[1] == wanted and columns[3] == _ESTABLISHED:
            return int(columns[7])
    return None


def _as_kernel(family: socket.AddressFamily, address: str) -> str:
    """Words of four bytes in the order of this machine, in hex."""
    packed = socket.inet_pton(family, address)
    return "".join(f"{word:08X}" for word in struct.unpack(f"={len(packed) // 4}I", packed))


class Peers:
    """The users that may ask, by name; ``*`` is everybody. Raises :class:`UsageError` (``user-unknown``) for nobody."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self._everybody = "*" in names
        self._uids = {uid for name in names if (uid := _uid(name)) is not None}
        if not self._everybody and not self._uids:
            raise UsageError("user-unknown", f"none of these users exists here: {', '.join(names)[:200]}")

    def allows(self, address: str, port: int) -> bool:
        """Whether the connection that comes from ``address`` and ``port`` is one of theirs."""
        return self._everybody or owner_of(address, port) in self._uids


def _uid(name: str) -> int | None:
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        return None
