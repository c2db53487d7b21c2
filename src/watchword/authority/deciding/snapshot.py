"""What the authority believes at one moment, parsed and compiled once and shared by all requests.

Rebuilt only when the store's generation number has moved, so a stack of 100,000 paths costs its compilation once and
no memory per host.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass

from watchword.authority.store import StackRow, Store
from watchword.launch.enrol import Trusted
from watchword.policy.profile import Profile
from watchword.policy.release import StackRelease, known_bad
from watchword.policy.stack import CompiledStack
from watchword.policy.teach import teach
from watchword.verify.known_files import KnownFiles
from watchword.verify.roots import IntermediatePool
from watchword.wire.tpm.algorithms import Alg

__all__ = ["Snapshot", "Snapshots"]

_MAX_PROFILES = 1024  # parsed profiles kept


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Whose TPMs are believed, stack releases, the ids of watched profiles, at one ``generation`` of the store.

    ``nonce_era`` is the era of nonces, see ``launch.challenge``.
    """

    generation: int
    trusted: Trusted
    releases: tuple[StackRelease, ...]
    watched: tuple[bytes, ...]
    nonce_era: bytes

    def judges(self, judge: bytes, now: int) -> bool:
        """Whether what is remembered as judged by ``judge`` would be judged alike at ``now`` (Unix seconds)."""
        bad = known_bad(self.releases, now)
        return any(bad.judge_id(r.digest) == judge for r in self.releases if r.state in ("active", "retiring"))


class Snapshots:
    """The current :class:`Snapshot`, and profiles by id; for any number of threads."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._snapshot: Snapshot | None = None
        self._pool: tuple[tuple[bytes, ...], IntermediatePool] = ((), IntermediatePool.of(()))
        self._profiles: OrderedDict[bytes, Profile] = OrderedDict()
        self._files: dict[Alg, tuple[int, KnownFiles]] = {}

    def current(self) -> Snapshot:
        """The snapshot of the store as it is now."""
        return self.at(self._store.generation())

    def at(self, generation: int) -> Snapshot:
        """The snapshot at ``generation``, which the caller has just read from the store."""
        if (snapshot := self.at_hand(generation)) is not None:
            return snapshot
        with self._lock:
            self._snapshot = Snapshot(
                generation=generation,
                trusted=self._read_trusted(),
                releases=self._compile(),
                watched=self._store.watched(),
                nonce_era=self._store.nonces().era,
            )
            self._profiles.clear()  # one may have been removed
            return self._snapshot

    def at_hand(self, generation: int) -> Snapshot | None:
        """The same if it is known already, without a wait."""
        snapshot = self._snapshot
        return snapshot if snapshot is not None and snapshot.generation == generation else None

    def warm(self, now: int) -> None:
        """Compile what is on file (``now``: Unix seconds), so that the first host need not wait for it."""
        snapshot = self.current()
        profiles = (self.profile(identity) for identity in snapshot.watched)
        for bank in {profile.bank for profile in profiles if profile is not None}:
            self.known_files(snapshot, bank, now)

    def profile(self, profile_id: bytes) -> Profile | None:
        """The profile with this 32-byte id. A profile never changes, so it is parsed once."""
        if (known := self.profile_at_hand(profile_id)) is not None:
            return known
        document = self._store.profile(profile_id)
        if document is None:
            return None
        profile = Profile.parse(document)
        with self._lock:
            self._profiles[profile_id] = profile
            while len(self._profiles) > _MAX_PROFILES:
                self._profiles.popitem(last=False)
        return profile

    def profile_at_hand(self, profile_id: bytes) -> Profile | None:
        """The same if it is known already, without a wait."""
        return self._profiles.get(profile_id)

    def known_files(self, snapshot: Snapshot, bank: Alg, now: int) -> KnownFiles:
        """What the stacks of ``snapshot`` list, as kernels measure it into ``bank``; shared by all hosts.

        What is known to be bad at ``now`` (Unix seconds) is left out.
        """
        with self._lock:
            kept = self._files.get(bank)
            if kept is None or kept[0] != snapshot.generation:
                known, bad = KnownFiles(bank), known_bad(snapshot.releases, now)
                for release in snapshot.releases:
                    teach(known, release.stack, bad=bad)
                kept = self._files[bank] = (snapshot.generation, known)
            return kept[1]

    def _read_trusted(self) -> Trusted:
        ders = self._store.intermediates()
        if self._pool[0] != ders:
            self._pool = ders, IntermediatePool.of(ders)
        return Trusted(
            anchors=tuple(row.anchor for row in self._store.anchors()),
            pins={pin.host_id: pin.ek_class for pin in self._store.pins()},
            intermediates=self._pool[1],
            crls=tuple(row.crl for row in self._store.crls()),
        )

    def _compile(self) -> tuple[StackRelease, ...]:
        before = {r.digest: r.stack for r in self._snapshot.releases} if self._snapshot else {}
        return tuple(_release(row, before.get(row.digest)) for row in self._store.stacks())


def _release(row: StackRow, compiled: CompiledStack | None) -> StackRelease:
    return StackRelease(
        stack=compiled or CompiledStack.parse(row.document),
        digest=row.digest,
        endorsed_by=row.endorsed_by,
        state=row.state.value,
        retire_at=row.retire_at,
    )
