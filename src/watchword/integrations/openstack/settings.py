"""The agent's settings as a service: the sections [serve] and [status] of its TOML file.

[serve]
listen = "127.0.0.1:8449"                      # loopback only
socket = "/run/watchword/agent.sock"           # for the libvirt hook; "" for none
libvirt = "qemu:///system"                     # where virsh finds the domains
base = "/var/lib/nova/instances/_base"         # nova's image cache
deadline = 50                                  # seconds for one whole answer; below nova's read timeout
on_refusal = "boot"                            # a refused launch boots visibly untrusted; "fail": it does not boot
users = ["root", "nova"]                       # local users that may ask; "*" is anybody
keystone = ""                                  # identity endpoint; with it every request must have a valid token
keystone_user = "nova"

[status]
rank = 1                                       # the level that a start needs, from 1, the lowest; 0: not checked
needed = 0                                     # of several authorities, how many must say so; 0: all
interval = 120                                 # seconds between two attestations
max_age = 600                                  # seconds that one counts at a start
report = ""                                    # the status service, to be told of every refusal
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, fields
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from watchword.agent.config import DEFAULT_FILE
from watchword.errors import UsageError

__all__ = ["ServeSettings", "StatusSettings", "load_sections"]

_MAX_FILE = 64 * 1024
_REFUSALS = ("boot", "fail")


@dataclass(frozen=True, slots=True)
class ServeSettings:
    """Section [serve]; times in seconds."""

    listen: str = "127.0.0.1:8449"
    socket: Path = Path("/run/watchword/agent.sock")
    libvirt: str = "qemu:///system"
    base: Path = Path("/var/lib/nova/instances/_base")
    deadline: int = 50
    on_refusal: str = "boot"
    users: tuple[str, ...] = ("root", "nova")
    keystone: str = ""
    keystone_user: str = "nova"

    @property
    def address(self) -> tuple[str, int]:
        """Where to listen. Raises :class:`UsageError` (``listen``) for anything but a loopback address."""
        host, colon, port = self.listen.rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
        try:
            if colon and port.isascii() and port.isdigit() and int(port) < 65536 and ip_address(host).is_loopback:
                return host, int(port)
        except ValueError:
            pass
        raise UsageError(
            "listen",
            f"{self.listen[:80]!r} is not an address and port of this host alone",
            hint="Whoever can ask can have machines' keys: write 127.0.0.1:PORT.",
        )


@dataclass(frozen=True, slots=True)
class StatusSettings:
    """Section [status]; with ``rank`` 0 the host is not attested but for launches.

    The level that a token asks for is sealed for the authority, so the host's own operator says what later starts need.
    """

    rank: int = 1
    needed: int = 0
    interval: int = 120
    max_age: int = 600
    report: str = ""


def load_sections(path: Path | None) -> tuple[ServeSettings, StatusSettings]:
    """Both sections of the agent's file (default: /etc/watchword/agent.toml). Raises :class:`UsageError` (``config``).

    Only these sections are looked at: ``agent.config.load`` reads and checks the others.
    """
    source = path or DEFAULT_FILE
    try:
        document = tomllib.loads(source.read_bytes()[: _MAX_FILE + 1].decode())
    except FileNotFoundError:
        if path is None:
            return ServeSettings(), StatusSettings()
        raise UsageError("file-unreadable", f"{source} cannot be read: it does not exist") from None
    except OSError as error:
        raise UsageError("file-unreadable", f"{source} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError("config", f"{source}: {error}") from None
    serve = ServeSettings(**_section(source, document, "serve", ServeSettings))
    status = StatusSettings(**_section(source, document, "status", StatusSettings))
    _choice(source, "on_refusal", serve.on_refusal, _REFUSALS)
    if not serve.deadline or not status.interval:
        raise UsageError("config", f"{source}: [serve] deadline and [status] interval are at least one second")
    return serve, status


def _section(source: Path, document: dict[str, Any], name: str, kind: type) -> dict[str, Any]:
    content = document.get(name, {})
    if not isinstance(content, dict):
        raise UsageError("config", f"{source}: [{name}] is not a section")
    known = {field.name: getattr(kind(), field.name) for field in fields(kind)}
    values: dict[str, Any] = {}
    for key, value in content.items():
        if key not in known:
            raise UsageError("config", f"{source}: [{name}] has no setting {key!r}")
        values[key] = _value(f"{source}: [{name}] {key}", known[key], value)
    return values


def _value(where: str, default: object, value: object) -> object:
    """``value`` in the type that ``default`` has."""
    if isinstance(default, tuple):
        if isinstance(value, list) and all(isinstance(item, str) and item for item in value):
            return tuple(value)
        raise UsageError("config", f"{where} must be a list of texts")
    if isinstance(default, int):
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 86400:
            return value
        raise UsageError("config", f"{where} must be a number, 0 to 86400")
    if not isinstance(value, str):
        raise UsageError("config", f"{where} must be a text")
    return Path(value) if isinstance(default, Path) and value else value


def _choice(source: Path, name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise UsageError("config", f"{source}: [serve] {name} must be one of {', '.join(allowed)}")
