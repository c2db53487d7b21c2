"""What nova's scheduler asks the status service, and how a demand is compared with the answer. Standard library only.

It runs in nova's own environment. One scheduler worker waits for it, so the question has a short time-out and the
answer is kept for seconds; a host whose state has expired, or of which nothing is known, has no level at all.
"""

from __future__ import annotations

import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from typing import Any

__all__ = ["EXTRA_SPEC", "HINT", "Hosts", "StatusClient", "demands", "satisfies"]

EXTRA_SPEC = "trust:level"  # of a flavor
HINT = "watchword_level"  # of a request
_MAX_ANSWER = 8 << 20
_KEPT = 5.0  # seconds
_TRUSTED = "trusted"


class Hosts:
    """The ranks of hosts by name at one moment, and the names of the ranks, lowest first."""

    def __init__(self, document: Mapping[str, Any] | None = None) -> None:
        found = document or {}
        self.levels: Sequence[str] = [str(name) for name in found.get("levels", ())]
        self._hosts: Mapping[str, Any] = found.get("hosts", {})

    def rank(self, name: str, now: float) -> int:
        """The level that the host ``name`` has at ``now`` (Unix time), counted from 1; 0 is none."""
        entry = self._hosts.get(name) or {}
        try:
            rank, expires = int(entry["rank"]), float(entry["expires"])
        except (KeyError, TypeError, ValueError):
            return 0
        return rank if rank > 0 and now < expires else 0


class StatusClient:
    """Asks the status service at ``url``; ``timeout`` in seconds. When it does not answer, what is known expires."""

    def __init__(self, url: str, timeout: float = 2.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._url = url.rstrip("/") + "/v1/hosts"
        self._timeout = timeout
        self._clock = clock
        self._lock = threading.Lock()
        self._asked = float("-inf")
        self._hosts = Hosts()

    def hosts(self) -> Hosts:
        """The hosts as of a few seconds ago at most; older when the service does not answer. Never raises."""
        with self._lock:
            if self._clock() - self._asked > _KEPT:
                self._hosts = self._fetch() or self._hosts
                self._asked = self._clock()
            return self._hosts

    def _fetch(self) -> Hosts | None:
        if not self._url.startswith(("http://", "https://")):
            return None
        try:
            with urllib.request.urlopen(self._url, timeout=self._timeout) as answer:  # noqa: S310
                document = json.loads(answer.read(_MAX_ANSWER))
        except (OSError, urllib.error.URLError, ValueError, RecursionError):
            return None
        return Hosts(document) if isinstance(document, dict) and isinstance(document.get("hosts"), dict) else None


def demands(extra_specs: Mapping[str, str] | None, hints: Mapping[str, Any] | None) -> tuple[str, ...]:
    """The levels that a request asks for: the flavor's and the tenant's own. None: any host will do."""
    found = []
    if extra_specs and extra_specs.get(EXTRA_SPEC):
        found.append(str(extra_specs[EXTRA_SPEC]))
    hint = (hints or {}).get(HINT)
    values = hint if isinstance(hint, (list, tuple)) else [hint]
    found += [str(value) for value in values if value]
    return tuple(found)


def satisfies(rank: int, demand: str, levels: Sequence[str]) -> bool:
    """Whether a host of ``rank`` will do for ``demand``: a rank, a level's name, or "trusted" for any level."""
    if demand == _TRUSTED:
        return rank >= 1
    if demand.isascii() and demand.isdigit():
        return rank >= max(1, int(demand[:6]))
    # A level that nobody knows is reached by no host.
    return demand in levels and rank >= list(levels).index(demand) + 1
