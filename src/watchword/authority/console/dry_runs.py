"""Dry runs that a page asks for: one at a time, in a thread of its own, for so long and no longer.

Whatever a page shows of one is kept in this process only, and only the newest few.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from watchword.authority.serving.problems import Problem
from watchword.errors import WatchwordError
from watchword.policy.dry_run import HostChange, Summary

__all__ = ["DryRun", "DryRuns"]

SECONDS: Final = 120.0  # that one may take; the command line has no such bound
KEPT: Final = 16
_log = logging.getLogger("watchword.authority")


@dataclass(slots=True)
class DryRun:
    """One dry run: ``title`` says of what, ``done`` of ``total`` hosts were looked at; ``ended`` when nothing follows.

    ``cut`` when its time was over before every host was looked at; ``fault`` says why it failed, if it did.
    """

    id: str
    title: str
    total: int
    done: int = 0
    summary: Summary = field(default_factory=Summary)
    ended: bool = False
    cut: bool = False
    fault: str = ""


class DryRuns:
    """Starts and remembers them; for any number of threads."""

    def __init__(self, seconds: float = SECONDS) -> None:
        self._seconds = seconds
        self._lock = threading.Lock()
        self._runs: OrderedDict[str, DryRun] = OrderedDict()
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()

    def start(self, title: str, total: int, changes: Callable[[], Iterator[HostChange]]) -> DryRun:
        """Begin to count ``changes``. Raises :class:`Problem` (``overloaded``) while another is under way."""
        with self._lock:
            if self._thread is not None and self._thread.is_alive():
                raise Problem("overloaded", "another dry run is under way: look again when it is done")
            run = DryRun(secrets.token_hex(8), title, total)
            self._runs[run.id] = run
            while len(self._runs) > KEPT:
                self._runs.popitem(last=False)
            self._thread = threading.Thread(target=self._work, args=(run, changes), name="dry-run", daemon=True)
            self._thread.start()
        return run

    def get(self, run_id: str) -> DryRun | None:
        """The one with this id, if it is still remembered."""
        with self._lock:
            return self._runs.get(run_id)

    def stop(self) -> None:
        """End what is under way: the service stops."""
        self._stop.set()
        thread = self._thread
        if thread is not None:
            thread.join()

    def _work(self, run: DryRun, changes: Callable[[], Iterator[HostChange]]) -> None:
        end = time.monotonic() + self._seconds
        try:
            for change in changes():
                run.summary.add(change)
                run.done += 1
                if self._stop.is_set() or time.monotonic() > end:
                    run.cut = run.done < run.total
                    break
        except WatchwordError as error:
            _log.error("dry run: %s: %s", error.code, error.message)
            run.fault = error.message
        finally:
            run.ended = True
