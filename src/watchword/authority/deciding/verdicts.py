"""The verdicts that this process came to, by host: what an attestation that shows the same need not be judged for."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Final

from watchword.launch.renewal import Verdict

__all__ = ["Verdicts"]

_MOST: Final = 131_072  # hosts, those that were judged last; about half a KiB each


class Verdicts:
    """Remembers the newest verdict on each host; for any number of threads."""

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._verdicts: OrderedDict[bytes, Verdict] = OrderedDict()

    def get(self, host_id: bytes) -> Verdict | None:
        """What is remembered of the host with this 32-byte id."""
        return self._verdicts.get(host_id)

    def put(self, host_id: bytes, verdict: Verdict | None) -> None:
        """Remember ``verdict`` in place of an older one, or forget the host."""
        with self._lock:
            self._verdicts.pop(host_id, None)
            if verdict is not None:
                self._verdicts[host_id] = verdict
            if len(self._verdicts) > self._most:
                self._verdicts.popitem(last=False)
