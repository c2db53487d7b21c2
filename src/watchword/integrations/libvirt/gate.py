"""The door that every start of a machine passes: the libvirt hook asks here, over a Unix socket.

Nova asks for vendor data once; a machine is started many times: power-on, hard reboot, incoming migration. Each time
this host must still be good, if the machine has a launch token. The token is found on its config drive, which travels
with it.
"""

from __future__ import annotations

import json
import os
import re
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingMixIn, UnixStreamServer
from typing import Any

from watchword.errors import MalformedError, Rejected, Unavailable, UsageError, WatchwordError
from watchword.integrations.libvirt.domain import MAX_XML, Domain

__all__ = ["Gate", "GateServer", "has_token"]

_MAX_DRIVE = 128 << 20  # bytes of a config drive; nova's are half a megabyte to 64 MiB
_TOKEN = re.compile(rb'"watchword"\s*:\s*"WWT1[A-Za-z0-9_-]{40,}')
_OVERLAP = 4096
_CHUNK = 1 << 20
_CHECKED = frozenset({("prepare", "begin")})
_STARTED = frozenset({("started", "begin")})
_ENDED = frozenset({("stopped", "end"), ("release", "end")})
_SECONDS = 30.0  # for one question, the reading included


class Gate:
    """Decides about one call of the hook.

    ``check()`` raises unless this host may start machines with a token; ``first(domain)`` raises unless a machine that
    waits for its first start boots what was measured; ``started(uuid)`` and ``ended(uuid)`` clean up after it;
    ``report(uuid, error)`` is told of a start that is refused.
    """

    def __init__(
        self,
        check: Callable[[], object],
        first: Callable[[Domain], None],
        started: Callable[[str], None],
        ended: Callable[[str], None],
        report: Callable[[str, WatchwordError], None],
    ) -> None:
        self._check, self._first, self._started, self._ended = check, first, started, ended
        self._report = report

    def decide(self, operation: str, sub: str, xml: bytes) -> str:
        """What the hook says to libvirt: an empty text, or why the machine must not start."""
        step = (operation, sub)
        if step not in _CHECKED | _STARTED | _ENDED:
            return ""
        uuid = ""
        try:
            domain = Domain.parse(xml)
            uuid = domain.uuid
            if step in _STARTED:
                self._started(domain.uuid)
            elif step in _ENDED:
                self._ended(domain.uuid)
            elif has_token(domain):
                self._first(domain)
                self._check()
        except WatchwordError as error:
            if step not in _CHECKED:
                return ""
            self._report(uuid, error)
            return error.message if isinstance(error, Rejected) else f"{error.code}: {error.message}"
        return ""


def has_token(domain: Domain) -> bool:
    """Whether the machine's config drive has a launch token in its metadata. Raises :class:`Unavailable` (``drive``).

    What looks like one but is not costs a check of the host and nothing else. A drive without content counts as one
    with a token: nobody can tell yet.
    """
    path = domain.config_drive
    if path is None:
        return False
    try:
        return _find(path)
    except FileNotFoundError:
        return False  # removed by its owner: there is nothing to learn from it any more
    except OSError as error:
        raise Unavailable("drive", f"the config drive {path} cannot be read: {error.strerror}") from None


def _find(path: Path) -> bool:
    before, left, blank = b"", _MAX_DRIVE, True
    with path.open("rb") as file:
        while left > 0 and (piece := file.read(_CHUNK)):
            if _TOKEN.search(before + piece):
                return True
            before, left, blank = piece[-_OVERLAP:], left - len(piece), blank and not any(piece)
    # On the target of a live migration nova made the file, and QEMU copies the content after the machine's start.
    return blank


class GateServer(ThreadingMixIn, UnixStreamServer):
    """Answers one JSON line with one, for root only: ``{"operation", "sub", "xml"}`` with ``{"allow", "reason"}``.

    Raises :class:`UsageError` (``socket``).
    """

    daemon_threads = True

    def __init__(self, path: Path, gate: Gate) -> None:
        self.gate = gate
        self.path = path
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _remove_stale(path)
            super().__init__(str(path), _Handler)
            path.chmod(0o600)
        except OSError as error:
            raise UsageError("socket", f"cannot listen on {path}: {error.strerror or error}") from None

    def server_close(self) -> None:
        super().server_close()
        self.path.unlink(missing_ok=True)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A hook that gave up is no news."""


def _remove_stale(path: Path) -> None:
    """The socket of an agent that ended without cleaning up; never that of one that listens."""
    if not path.is_socket():
        return
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(path))
        except OSError:
            path.unlink()
            return
    raise OSError(98, os.strerror(98))


class _Handler(StreamRequestHandler):
    server: GateServer
    timeout = 10

    def handle(self) -> None:
        timer = threading.Timer(_SECONDS * 2, self.request.close)
        timer.daemon = True
        timer.start()
        try:
            reason = self._decide(self.rfile.readline(2 * MAX_XML))
        finally:
            timer.cancel()
        self.wfile.write(json.dumps({"allow": not reason, "reason": reason}).encode() + b"\n")

    def _decide(self, line: bytes) -> str:
        try:
            asked = json.loads(line)
            operation, sub, xml = str(asked["operation"]), str(asked["sub"]), str(asked["xml"]).encode()
        except (ValueError, KeyError, TypeError, RecursionError):
            raise MalformedError("hook: the question is not JSON") from None
        return self.server.gate.decide(operation, sub, xml)
