"""How often one host may have its evidence judged, so that one that has gone wild takes no turns from the others.

A host is charged only for what it alone can have sent: evidence that its TPM quoted for a challenge that was not used
before, and an enrolment that its TPM took part in. Whoever merely names its id, or sends again what it once sent,
charges nothing, and so keeps nobody out. What a host is asked before that is free: only the answer of its TPM shows
who asks.
"""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from watchword.authority.serving.problems import Problem

__all__ = ["HostRates", "Spending"]

ENROL_A_MINUTE: Final = 6
_MINUTE: Final = 60.0
_MAX_HOSTS: Final = 65_536


class Spending:
    """``a_minute`` at once, and from then on as many in a minute; 0 for no limit. For any number of threads.

    Remembers at most 65536 hosts, those that were charged last. ``clock`` gives seconds.
    """

    def __init__(self, a_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._each = _MINUTE / a_minute if a_minute else 0.0
        self._clock = clock
        self._lock = threading.Lock()
        self._free_at: OrderedDict[bytes, float] = OrderedDict()  # when each host may do all of it again

    def check(self, host_id: bytes) -> None:
        """Raises :class:`Problem` (``rate-limited``) when ``host_id`` has nothing left to spend now."""
        if not self._each:
            return
        wait = self._free_at.get(host_id, 0.0) + self._each - self._clock() - _MINUTE
        if wait > 1e-6:
            raise Problem(
                "rate-limited",
                f"this host asked for more than {_MINUTE / self._each:g} in a minute",
                headers={"Retry-After": str(math.ceil(wait))},
            )

    def charge(self, host_id: bytes) -> None:
        """Count one; the caller knows that it was this host."""
        if not self._each:
            return
        now = self._clock()
        with self._lock:
            self._free_at[host_id] = max(self._free_at.get(host_id, now), now) + self._each
            self._free_at.move_to_end(host_id)
            if len(self._free_at) > _MAX_HOSTS:
                self._free_at.popitem(last=False)


@dataclass(frozen=True, slots=True)
class HostRates:
    """What one host may do: have ``evidence`` judged, and enrol (``enrolments``). No limit unless one is given."""

    evidence: Spending = field(default_factory=lambda: Spending(0))
    enrolments: Spending = field(default_factory=lambda: Spending(0))

    @classmethod
    def of(cls, evidence_a_minute: int) -> HostRates:
        """So much evidence in a minute (0: no limit), and 6 enrolments."""
        return cls(Spending(evidence_a_minute), Spending(ENROL_A_MINUTE if evidence_a_minute else 0))
