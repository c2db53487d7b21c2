"""What is known of a host when its evidence arrives: its file, the rules, and both together as it is judged by them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from watchword.authority.deciding.renewals import Renewals
from watchword.authority.deciding.snapshot import Snapshot, Snapshots
from watchword.authority.store import HostFile, Store
from watchword.launch.attest import OnFile
from watchword.policy.profile import Profile
from watchword.verify.ak import restore_ak
from watchword.verify.known_files import KnownFiles
from watchword.wire.tpm.algorithms import Alg

__all__ = ["Look", "Looks"]


@dataclass(frozen=True, slots=True)
class Look:
    """One host at one moment: ``on_file`` is everything that an appraisal of it needs."""

    file: HostFile
    snapshot: Snapshot
    on_file: OnFile

    @property
    def profiles(self) -> Sequence[Profile]:
        """What it is judged by: those for all hosts, then those of launches on this one."""
        return self.on_file.profiles


class Looks:
    """Looks at hosts; for any number of threads. What waits in ``renewals`` counts as on file."""

    def __init__(self, store: Store, snapshots: Snapshots, renewals: Renewals | None) -> None:
        self._store, self._snapshots, self._renewals = store, snapshots, renewals

    def profiles(self, snapshot: Snapshot, interests: Iterable[bytes]) -> list[Profile]:
        """Those for all hosts, then those in ``interests``; a profile that was removed is left out."""
        ids = _ids(snapshot, interests)
        return [profile for identity in ids if (profile := self._snapshots.profile(identity)) is not None]

    def look(self, host_id: bytes, now: int) -> Look:
        """At the host with this 32-byte id, at ``now`` (Unix seconds)."""
        file = self._store.host_file(host_id)
        snapshot = self._snapshots.at(file.generation)
        profiles = self.profiles(snapshot, file.interests)
        bank = profiles[0].bank if profiles else Alg.SHA256
        return self._look(file, snapshot, profiles, now, self._snapshots.known_files(snapshot, bank, now))

    def at_hand(self, host_id: bytes, now: int) -> Look | None:
        """The same if reading a row is all that has to be waited for; else None.

        Without the files that stacks list, which no renewal asks for.
        """
        file = self._store.host_file(host_id)
        snapshot = self._snapshots.at_hand(file.generation)
        if snapshot is None:
            return None
        ids = _ids(snapshot, file.interests)
        profiles = [profile for identity in ids if (profile := self._snapshots.profile_at_hand(identity)) is not None]
        if len(profiles) < len(ids):
            return None  # the host must be judged by the others, too
        return self._look(file, snapshot, profiles, now, None)

    def _look(
        self, file: HostFile, snapshot: Snapshot, profiles: Sequence[Profile], now: int, files: KnownFiles | None
    ) -> Look:
        host = file.host
        if host is None:
            return Look(file, snapshot, OnFile(None, False, None, None, profiles, snapshot.releases))
        ak = restore_ak(host.host_id, host.ek_public, host.ak_public, host.ek_class)
        state = host.runtime_state
        continues = state is not None and snapshot.judges(state.stack, now)
        last = self._renewals.newest(host.host_id, host.last) if self._renewals is not None else host.last
        on_file = OnFile(
            ak, host.revoked, last, host.runtime, profiles, snapshot.releases, files, state, continues
        )  # fmt: skip
        return Look(file, snapshot, on_file)


def _ids(snapshot: Snapshot, interests: Iterable[bytes]) -> Collection[bytes]:
    return dict.fromkeys((*snapshot.watched, *interests))
