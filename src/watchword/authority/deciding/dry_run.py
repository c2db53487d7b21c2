"""The fleet under other rules: nothing is changed, and nobody notices."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from watchword.authority.acts.admission import counted_signers
from watchword.authority.acts.endorsement import endorser_keys, open_stack
from watchword.authority.deciding.on_file import verify_kept
from watchword.authority.deciding.snapshot import Snapshots
from watchword.authority.store import Host, KeptEvidence, Store
from watchword.errors import Finding, Rejected, UsageError
from watchword.policy.dry_run import HostChange, Rules, compare, unknown
from watchword.policy.profile import Profile
from watchword.policy.release import StackRelease
from watchword.policy.stack import CompiledStack
from watchword.verify.known_files import KnownFiles

__all__ = ["Plan", "dry_run", "open_release", "rules_of"]


@dataclass(frozen=True, slots=True)
class Plan:
    """A change to try: releases that become active, digests (32 bytes) of those that are revoked, or retire and are
    over; and the profile that takes the place of the one that hosts are judged by."""

    activate: tuple[StackRelease, ...] = ()
    revoke: frozenset[bytes] = frozenset()
    end: frozenset[bytes] = frozenset()
    profile: Profile | None = None


def open_release(store: Store, envelope: bytes, *, endorsed: bool) -> StackRelease:
    """The release in a file, with those of its endorsers that ``store`` knows. Raises MalformedError, Rejected."""
    document, signers = envelope, frozenset[str]()
    if endorsed:
        document, signers = open_stack(envelope, endorser_keys(store.endorsers()))
    stack = CompiledStack.parse(document)
    return StackRelease(stack, stack.digest, counted_signers(stack, signers, store.endorsers()))


def rules_of(plan: Plan, profile: Profile, releases: Sequence[StackRelease], now: int) -> tuple[Rules, Rules]:
    """What hosts are judged by now, and what they would be judged by. Raises UsageError for an unknown release."""
    on_file = {release.digest for release in releases}
    for digest in (*plan.revoke, *plan.end):
        if digest not in on_file:
            raise UsageError("stack-unknown", f"there is no stack {digest.hex()} on file")
    changed = [_changed(release, plan, now) for release in releases]
    added = {release.digest: replace(release, state="active", retire_at=None) for release in plan.activate}
    after = [added.pop(release.digest, release) for release in changed] + list(added.values())
    return Rules(profile, releases), Rules(plan.profile or profile, tuple(after))


def _changed(release: StackRelease, plan: Plan, now: int) -> StackRelease:
    if release.digest in plan.revoke:
        return replace(release, state="revoked", retire_at=None)
    if release.digest in plan.end:
        return replace(release, state="retiring", retire_at=now)
    return release


def dry_run(
    store: Store,
    plan: Plan,
    profile: Profile,
    now: int,
    progress: Callable[[int], None] = lambda done: None,
    snapshots: Snapshots | None = None,
) -> Iterator[HostChange]:
    """What ``plan`` does to each host that is enrolled and not revoked, at ``now`` (Unix seconds), one after the other.

    ``profile`` is what hosts are judged by today; ``progress`` is told how many hosts were looked at.
    Hosts of which there is no evidence are reported as unknown.
    """
    snapshots = snapshots or Snapshots(store)
    snapshot = snapshots.current()
    before, after = rules_of(plan, profile, snapshot.releases, now)
    known = snapshots.known_files(snapshot, profile.bank, now)
    hosts = {host.host_id: host for host in store.hosts() if not host.revoked}
    for done, kept in enumerate(store.evidence(), 1):
        host = hosts.pop(kept.host_id, None)
        if host is not None:
            yield _try(host, kept, before, after, now, known)
        progress(done)
    missing = Finding("A4", "evidence-none", "there is no evidence of this host on file")
    for identity in hosts:
        yield unknown(identity, Rejected(missing))


def _try(host: Host, kept: KeptEvidence, before: Rules, after: Rules, now: int, known: KnownFiles) -> HostChange:
    try:
        verified = verify_kept(host, kept, known)
    except Rejected as refusal:
        return unknown(host.host_id, refusal)
    return compare(verified, before, after, now)
