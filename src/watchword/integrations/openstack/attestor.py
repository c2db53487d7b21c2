"""Keeps the authority's opinion of this host fresh, and asks for it when a machine is started."""

from __future__ import annotations

import threading
import time

from watchword.agent.attest import attest
from watchword.errors import Finding, Rejected, Unavailable, WatchwordError
from watchword.integrations.openstack.builds import Deadline, HostOpener
from watchword.integrations.openstack.server import log, log_error
from watchword.integrations.openstack.settings import StatusSettings
from watchword.wire.messages import Attested

__all__ = ["Attestor"]

_FRESH = 10.0  # seconds that a verdict is shared by starts that come together
_EXCHANGE = 60.0
_PATIENCE = 5.0  # seconds that a start waits for a verdict that is on its way, when there is another that counts
_RETRY = 30.0
_GOOD = ("trusted", "degraded")


class Attestor:
    """Shows this host's state to the authority, by the profile that the authority watches hosts by."""

    def __init__(self, opener: HostOpener, settings: StatusSettings) -> None:
        self._opener, self._settings = opener, settings
        self._lock = threading.Lock()
        self._found: Attested | None = None
        self._asked = float("-inf")
        self._stop = threading.Event()

    @property
    def active(self) -> bool:
        """Whether starts need a level."""
        return self._settings.rank > 0

    def check(self, seconds: float) -> Attested:
        """The verdict about this host, asked for now; an older one (``max_age``) when the authority cannot be asked.

        Raises :class:`Rejected` (``host-level``, or the authority's reason) when the host may not start machines that
        have a launch token, :class:`Unavailable` when nobody could tell in ``seconds``.
        """
        deadline = Deadline(seconds)
        # A slow authority must not hold a start for longer than one that is down.
        if self._lock.acquire(timeout=min(deadline.left, _PATIENCE) if self._still_counts() else deadline.left):
            try:
                if self._found is None or time.monotonic() - self._asked > _FRESH:
                    self._refresh(deadline, keep=True)
                found = self._found
            finally:
                self._lock.release()
        else:
            found = self._found if self._still_counts() else None
        if found is None:
            raise Unavailable("agent-busy", "the authority is still being asked about this host")
        if found.state not in _GOOD or found.rank < self._settings.rank:
            why = f"{found.state}, rank {found.rank} {found.code} {found.reason}".strip()
            raise Rejected(
                Finding("O2", "host-level", "this host does not reach the level that its machines need",
                        f"rank {self._settings.rank}", why)
            )  # fmt: skip
        return found

    def run(self) -> None:
        """Attest until :meth:`stop`."""
        while not self._stop.is_set():
            wait = float(self._settings.interval)
            try:
                with self._lock:
                    self._refresh(Deadline(_EXCHANGE), keep=False)
            except WatchwordError as error:
                log_error("attest-failed", error)
                wait = min(wait, _RETRY)
            self._stop.wait(wait)

    def stop(self) -> None:
        """End :meth:`run` soon."""
        self._stop.set()

    def _still_counts(self) -> bool:
        """Whether the last verdict may stand in for a new one: young enough for us, and for the authority too."""
        found = self._found
        if found is None or time.monotonic() - self._asked >= self._settings.max_age:
            return False
        return time.time() < found.until

    def _refresh(self, deadline: Deadline, *, keep: bool) -> None:
        try:
            with self._opener(deadline.left) as (host, host_id):
                found = attest(host, host_id)
        except Rejected:
            self._found = None  # whatever was said before, the authority does not accept this host's evidence now
            raise
        except WatchwordError:
            if keep and self._still_counts():
                return
            raise
        self._found, self._asked = found, time.monotonic()
        log("attested", state=found.state, level=found.level, rank=found.rank, reason=found.reason)
