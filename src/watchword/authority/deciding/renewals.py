"""What attestations that show nothing new leave behind, written together: a commit for hundreds of hosts, not for one.

Nothing that anybody has to believe waits here. A renewal moves times that end by themselves; one that is lost with the
process ends earlier than it might have (docs/adr/0041-attestations-that-change-nothing.md).
"""

from __future__ import annotations

import threading
from itertools import islice
from typing import Final

from watchword.authority.store import Renewal, Store
from watchword.errors import WatchwordError
from watchword.launch.attest import check_new
from watchword.verify.quote import LastSeen

__all__ = ["FLUSH_SECONDS", "Renewals"]

FLUSH_SECONDS: Final = 0.5
_MOST: Final = 8192  # that wait; what comes beyond is written at once
_BATCH: Final = 1024  # in one transaction, so that decisions do not wait for long
_SOONEST: Final = 30  # seconds: what ends sooner is written at once, so that nobody finds it ended


class Renewals:
    """Keeps renewals until :meth:`flush`, which somebody must call every half a second; for any number of threads."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._waiting: dict[bytes, Renewal] = {}
        self._leaving: dict[bytes, Renewal] = {}  # being written
        self._failed = False

    def last(self, host_id: bytes) -> LastSeen | None:
        """The newest quote of a host among what waits."""
        found = self._waiting.get(host_id) or self._leaving.get(host_id)
        return found.last if found is not None else None

    def newest(self, host_id: bytes, on_file: LastSeen | None) -> LastSeen | None:
        """The newest quote of a host: what waits, or ``on_file`` when another process has seen a newer one."""
        waiting = self.last(host_id)
        if waiting is None or on_file is None:
            return waiting or on_file
        return max(waiting, on_file, key=lambda seen: (seen.reset_count, seen.restart_count, seen.clock))

    def put(self, renewal: Renewal, ends: int) -> bool:
        """Whether ``renewal`` of what ``ends`` at that time (Unix seconds) is kept here; else the caller writes it.

        Raises Rejected (W2) when newer evidence of that host waits.
        """
        with self._lock:
            if self._failed or ends - renewal.time < _SOONEST or len(self._waiting) >= _MOST:
                return False
            check_new(renewal.last, self.last(renewal.host_id))
            self._waiting[renewal.host_id] = renewal
            return True

    def flush(self) -> None:
        """Write all that waits now.

        Raises :class:`Unavailable`; what was not written then waits on, and no more is taken until it is.
        """
        with self._lock:
            self._leaving, self._waiting = self._waiting, {}
        while self._leaving:
            batch = list(islice(self._leaving.values(), _BATCH))
            try:
                with self._store.transaction() as tx:
                    tx.renew(batch)
            except WatchwordError:
                with self._lock:
                    self._waiting = self._leaving | self._waiting
                    self._leaving, self._failed = {}, True
                raise
            with self._lock:
                for renewal in batch:
                    del self._leaving[renewal.host_id]
        self._failed = False
