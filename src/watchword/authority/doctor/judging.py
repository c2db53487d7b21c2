"""Whether hosts can be judged: stacks in force, profiles that they satisfy, hosts that come, lists that are current."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from watchword.authority.acts.admission import check_rule, counted_signers
from watchword.authority.doctor.report import Report, Subject
from watchword.authority.store import StackRow, Store
from watchword.authority.store.survey import Survey
from watchword.errors import Rejected
from watchword.policy.offer import unreachable
from watchword.policy.profile import Profile
from watchword.policy.release import StackRelease
from watchword.policy.stack import CompiledStack

__all__ = ["check_crls", "check_hosts", "check_profiles", "check_stacks", "in_force"]

_DAY: Final = 86400


def in_force(store: Store, now: int) -> list[tuple[StackRow, StackRelease]]:
    """The releases that a host can match at ``now`` (Unix seconds)."""
    found = []
    for row in store.stacks():
        stack = CompiledStack.parse(row.document)
        release = StackRelease(stack, row.digest, row.endorsed_by, row.state.value, row.retire_at)
        ended = stack.not_after is not None and now >= stack.not_after
        if release.in_force(now) and not ended:
            found.append((row, release))
    return found


def check_stacks(
    subject: Subject, store: Store, current: Sequence[tuple[StackRow, StackRelease]], report: Report
) -> None:
    """There is a release in force; none ends unnoticed; each is signed by those whom today's rules ask for."""
    if not current:
        text = "no stack is in force: every launch is refused"
        report.problem("stack-none-active", text, "watchword authority stack activate NAME@VERSION")
    rules, endorsers = store.stack_rules(), store.endorsers()
    for row, release in current:
        label, end = release.stack.label, min(filter(None, (row.retire_at, release.stack.not_after)), default=None)
        if end is not None and end - subject.now < _DAY:
            text = f"{label} ends in {(end - subject.now) // 60} minutes"
            report.warning("stack-ends", text, "Hosts that still run it: watchword authority watch hosts.")
        try:
            check_rule(release.stack, counted_signers(release.stack, row.endorsed_by, endorsers), rules)
        except Rejected as rejected:
            report.warning("stack-endorsers-few", f"{label}: {rejected.findings[0].message}", rejected.hint)


def check_profiles(
    subject: Subject, store: Store, current: Sequence[tuple[StackRow, StackRelease]], report: Report
) -> None:
    """Every level of the operator's and of the watched profiles can be reached by some release in force."""
    watched = store.watched()
    for row in store.profiles():
        if row.published and row.id not in watched:
            continue  # a tenant's own affair
        profile = Profile.parse(row.document)
        for level, findings in unreachable(profile, [release for _, release in current], subject.now):
            text = f"no stack in force can reach level {level} of profile {row.name} ({row.id.hex()[:16]})"
            report.warning("profile-unsatisfied", text, f"The nearest stack: {findings[0]}")


def check_hosts(found: Survey, report: Report) -> None:
    """Hosts come in time, and are good enough."""
    for counted in found.hosts:
        who = f"{counted.hosts} host{'s' if counted.hosts > 1 else ''}"
        by = f"profile {counted.profile_id.hex()[:16]}"
        hint = f"Which, and why: watchword authority watch hosts --profile {counted.profile_id.hex()[:16]}"
        if counted.standing == "failed":
            report.warning("hosts-failed", f"{who} reached no level of {by}", hint)
        if counted.standing == "stale":
            report.warning("hosts-stale", f"{who} did not attest in time by {by}", hint)


def check_crls(subject: Subject, found: Survey, report: Report) -> None:
    """Revocation lists are current: below an issuer whose list ran out no host can be enrolled."""
    for issuer, until in found.crls.items():
        if until - subject.now < 7 * _DAY:
            days = (until - subject.now) // _DAY
            text = f"the revocation list of issuer {issuer} runs out in {days} days"
            report.warning("crl-ends", text, "Give the issuer's next list: watchword authority crl add FILE")
