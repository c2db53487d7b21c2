"""After the store was put back: going on when it is the newest, or beginning a new epoch when nobody can know.

And after the clock was ahead: making every challenge void, so that what was forgotten by that clock cannot matter.

In a new epoch every token that was sealed before is void, so that no lost count can matter. Hosts notice nothing: what
they seal with the old keys still opens.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from watchword.authority.acts.admin import Admin
from watchword.authority.data import DataDirectory
from watchword.authority.keys.high_water import HOLD, HighWater, Hold, read_hold
from watchword.authority.keys.keyring import Keyring
from watchword.errors import Unavailable, UsageError
from watchword.verify.log import verify_checkpoint

__all__ = ["BLOCKED", "EPOCH", "MAX_CLOCK_ERROR", "Recovery", "Standing"]

EPOCH = "epoch-open"
BLOCKED = "launches-blocked"
MAX_CLOCK_ERROR: Final = 60  # seconds between this machine's clock and the one that the operator looked at


@dataclass(frozen=True, slots=True)
class Standing:
    """``problem`` is the code of what keeps the authority from deciding, empty when nothing does."""

    problem: str
    message: str
    hold: Hold | None
    entries: int
    marked: int | None


@dataclass(frozen=True, slots=True)
class Recovery:
    """What an operator can do about it, as :class:`Admin` in the record."""

    directory: DataDirectory
    admin: Admin

    def standing(self) -> Standing:
        """How things stand now."""
        ring, water = self.directory.keyring, HighWater(self.directory.store)
        problem = message = ""
        try:
            water.check(ring)
        except Unavailable as error:
            problem, message = error.code, error.message
        try:
            marked = water.mark(ring).size
        except Unavailable:
            marked = None
        nonces = self.directory.store.nonces()
        if not problem and nonces.blocks(self.admin.now):
            problem, message = BLOCKED, f"every nonce counts as used until {nonces.forgotten} (Unix time)"
        return Standing(problem, message, read_hold(ring.directory), self.directory.store.head().seq, marked)

    def resume(self, checkpoint: bytes, reason: str) -> None:
        """Go on: the log continues ``checkpoint``, which the operator says is the newest that anybody has.

        Raises MalformedError, :class:`Rejected` (T1), :class:`UsageError` (``recovery-not-held``,
        ``recovery-behind``), :class:`Unavailable` (``high-water-missing``, ``store-rolled-back``).
        """
        ring, store, water = self.directory.keyring, self.directory.store, HighWater(self.directory.store)
        if read_hold(ring.directory) is None:
            raise UsageError("recovery-not-held", "nothing holds this authority")
        known = verify_checkpoint(checkpoint, ring.key_list)
        then = store.head_at(known.size)
        if then is None or then.root != known.root:
            raise UsageError(
                "recovery-behind",
                f"the log does not continue that checkpoint of {known.size} entries: it has {store.head().seq}",
                hint="this is not the newest store; find a newer copy, or begin a new epoch: … recovery open-epoch",
            )
        water.check_mark(ring)
        self.admin.record("recovery-resume", ring.fingerprint, entries=known.size, root=known.root.hex(), reason=reason)
        os.unlink(ring.directory / HOLD)

    def void_challenges(self, time: int, reason: str) -> None:
        """Begin a new era of nonces, once the clock is right again: ``time`` (Unix seconds) is that of another clock.

        Raises :class:`UsageError` (``clock-disagrees``, ``launches-not-blocked``).
        """
        now, ring = self.admin.now, self.directory.keyring
        if abs(time - now) > MAX_CLOCK_ERROR:
            raise UsageError(
                "clock-disagrees",
                f"this machine's clock and yours are {abs(time - now)} seconds apart",
                hint="set the clock first (timedatectl): with one that is behind, what has expired is good again",
            )
        with self.directory.store.transaction() as tx:
            nonces = tx.nonces()
            if not nonces.blocks(now):
                raise UsageError("launches-not-blocked", "nonces that are given out now are good: there is no need")
            tx.begin_era()
            details = {"forgotten": nonces.forgotten, "reason": reason}
            tx.append_act(now, "challenges-void", ring.fingerprint, by=self.admin.actor, **details)

    def open_epoch(self, ring: Keyring, reason: str, *, requested: bool) -> Keyring:
        """Make every token void that was sealed until now, and go on from the log as it is.

        With the root elsewhere (``requested``) this only prepares it; :meth:`settle` follows the installation.
        """
        details = self._lost(reason)
        changed = self.admin.change_keys(EPOCH, ring, ring.open_epoch, requested=requested, **details)
        if not requested:
            self.settle(changed)
        return changed

    def _lost(self, reason: str) -> dict[str, Any]:
        """What the log says about the epoch: how far the old one is known to have gone."""
        head = self.directory.store.head()
        details: dict[str, Any] = {"entries": head.seq, "reason": reason}
        try:
            mark = HighWater(self.directory.store).mark(self.directory.keyring)
        except Unavailable:
            return details
        return details | {"known_entries": mark.size, "known_root": mark.root.hex()}

    def settle(self, ring: Keyring) -> None:
        """The keys of the new epoch are in force: nothing holds it any more."""
        HighWater(self.directory.store).reset(ring)
        with suppress(FileNotFoundError):
            os.unlink(ring.directory / HOLD)
