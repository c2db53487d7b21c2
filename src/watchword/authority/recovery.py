"""After the store was put back: going on when it is the newest, or beginning a new epoch when nobody can know.

In a new epoch every token that was sealed before is void, so that no lost count can matter. Hosts notice nothing: what
they seal with the old keys still opens.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from watchword.authority.admin import Admin
from watchword.authority.data import DataDirectory
from watchword.authority.high_water import HOLD, HighWater, Hold, read_hold
from watchword.authority.keyring import Keyring
from watchword.errors import Unavailable, UsageError
from watchword.verify.log import verify_checkpoint

__all__ = ["EPOCH", "Recovery", "Standing"]

EPOCH = "epoch-open"


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
