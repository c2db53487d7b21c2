"""Keeps the authorities' opinions of this host fresh, and asks for them when a machine is started."""

from __future__ import annotations

import random
import threading
import time

from watchword.agent.attest import Follower
from watchword.errors import Finding, Rejected, Unavailable, UsageError, WatchwordError
from watchword.integrations.openstack.builds import Deadline, HostOpener
from watchword.integrations.openstack.server import log, log_error
from watchword.integrations.openstack.settings import StatusSettings
from watchword.wire.messages import Attested

__all__ = ["Attestor", "Attestors"]

_FRESH = 10.0  # seconds that a verdict is shared by starts that come together
_EXCHANGE = 60.0
_PATIENCE = 5.0  # seconds that a start waits for a verdict that is on its way, when there is another that counts
_RETRY = 30.0
_JITTER = 0.2  # part of a wait that chance decides, so that hosts that began together do not stay together
_GOOD = ("trusted", "degraded")


class Attestor:
    """Shows this host's state to one authority, ``number`` in the settings, by the profile that it watches hosts by."""

    def __init__(self, opener: HostOpener, settings: StatusSettings, number: int = 0) -> None:
        self._opener, self._settings, self._number = opener, settings, number
        self._lock = threading.Lock()
        self._found: Attested | None = None
        self._follower: Follower | None = None
        self._name = ""
        self._asked = float("-inf")
        self._stop = threading.Event()

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
            why = f"{self._name}: {found.state}, rank {found.rank} {found.code} {found.reason}".strip()
            raise Rejected(
                Finding("O2", "host-level", "this host does not reach the level that its machines need",
                        f"rank {self._settings.rank}", why)
            )  # fmt: skip
        return found

    def run(self) -> None:
        """Attest until :meth:`stop`."""
        failures = 0
        while not self._stop.is_set():
            wait = float(self._settings.interval)
            try:
                with self._lock:
                    self._refresh(Deadline(_EXCHANGE), keep=False)
                failures = 0
            except WatchwordError as error:
                log_error("attest-failed", error, authority=self._name)
                wait = min(wait, _RETRY * (1 << min(failures, 8)))  # one that hangs keeps others from the TPM meanwhile
                failures += 1
            self._stop.wait(wait * (1 - _JITTER / 2 + _JITTER * random.random()))  # noqa: S311 - guards nothing

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
                link = host.links[self._number]
                self._name = link.keys.authority
                follower = self._follower = self._follower or Follower(host_id, time.time)
                found = follower.attest(host.towards(link))
        except Rejected:
            self._found = None  # whatever was said before, the authority does not accept this host's evidence now
            raise
        except WatchwordError:
            if keep and self._still_counts():
                return
            raise
        self._found, self._asked = found, time.monotonic()
        log(
            "attested", authority=self._name, state=found.state, level=found.level, rank=found.rank, reason=found.reason
        )


class Attestors:
    """One :class:`Attestor` for each of ``count`` authorities, and how many of them must find this host good."""

    def __init__(self, opener: HostOpener, settings: StatusSettings, count: int) -> None:
        """Raises :class:`UsageError` (``config``) when more are needed than there are."""
        if settings.needed > count:
            text = f"[status] needed is {settings.needed}, and there are {count} sections [[authority]]"
            raise UsageError("config", text)
        self.each = tuple(Attestor(opener, settings, number) for number in range(count))
        self._needed = settings.needed or count
        self.active = settings.rank > 0  # whether starts need a level

    def check(self, seconds: float) -> None:
        """That enough authorities find this host good now; each is given its part of ``seconds``.

        Raises what :meth:`Attestor.check` raised for the first authority that did not; before that, for one that
        refused.
        """
        deadline, good, failed = Deadline(seconds), 0, list[WatchwordError]()
        for asked, attestor in enumerate(self.each):
            try:
                attestor.check(deadline.left / (len(self.each) - asked))
                good += 1
            except WatchwordError as error:
                failed.append(error)
            if good == self._needed:
                return
        raise next((error for error in failed if isinstance(error, Rejected)), failed[0])

    def start(self) -> None:
        """Attest to each until :meth:`stop`, in threads that take turns at the TPM."""
        for number, attestor in enumerate(self.each):
            threading.Thread(target=attestor.run, name=f"attestor-{number}", daemon=True).start()

    def stop(self) -> None:
        """End it soon."""
        for attestor in self.each:
            attestor.stop()
