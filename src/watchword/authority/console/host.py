"""One host: how it stands, what its newest evidence shows when it is judged again, and what happened to it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from watchword.authority.console.page import Ask, Page
from watchword.authority.console.params import chosen_profile, identity, word
from watchword.authority.deciding.on_file import verify_kept
from watchword.authority.deciding.watch import standing_now
from watchword.authority.serving.problems import Problem
from watchword.authority.store import Decision, Host, KeptEvidence, ProfileRow
from watchword.errors import Finding, Rejected
from watchword.launch.attest import HostState
from watchword.policy.appraise import Appraisal, appraise, covers
from watchword.policy.explain_rejection import by_code
from watchword.policy.explain_rejection import explain as explain_findings
from watchword.policy.profile import Profile

__all__ = ["host"]

MAX_ACTS: Final = 2000  # newest acts of the record that are searched for this host
MAX_ITEMS: Final = 20  # findings of one code


def host(ask: Ask) -> Page:
    """The page."""
    store = ask.services.store
    host_id = identity(ask.path["host_id"], "host")
    row = store.host(host_id)
    if row is None:
        raise Problem("not-found", "no host with this id is enrolled here")
    states, kept = store.states(host_id), store.evidence_of(host_id)
    profiles, profile = chosen_profile(store, ask.query)
    profile = profile or next((p for p in profiles if p.id in states), next(iter(profiles), None))
    labels = {each.digest: each.label for each in store.stack_infos()}
    acts, searched = _acts(ask, host_id)
    return Page(
        "host.html",
        {
            "id": host_id.hex(),
            "host": row,
            "standings": list(_standings(row, states, profiles, labels, ask.now)),
            "profiles": [p for p in profiles if p.id in states or p is profile],
            "profile": profile,
            "kept_at": kept.time if kept else None,
            "refused_since": _refused_since(states.get(profile.id) if profile else None, kept),
            "judged": _judged(ask, row, kept, profile) if kept and profile else None,
            "acts": acts,
            "searched": searched,
        },
    )


def _standings(
    row: Host, states: Mapping[bytes, HostState], profiles: Sequence[ProfileRow], labels: Mapping[bytes, str], now: int
) -> Iterator[dict[str, Any]]:
    names = {profile.id: profile.name for profile in profiles}
    for profile_id, state in sorted(states.items(), key=lambda item: names.get(item[0], "")):
        standing, reason = standing_now(state, now, revoked=row.revoked)
        yield {
            "profile": names.get(profile_id, "removed"),
            "profile_id": profile_id.hex(),
            "standing": standing,
            "state": state,
            "stack": labels.get(state.stack, ""),
            "stack_id": state.stack.hex(),
            "code": state.code if reason == state.reason else "",
            "reason": reason,
        }


def _refused_since(state: HostState | None, kept: KeptEvidence | None) -> HostState | None:
    """The state, when it follows from newer evidence than that on file: refused evidence is not kept."""
    return state if state and kept and state.standing == "failed" and state.checked > kept.time else None


def _judged(ask: Ask, row: Host, kept: KeptEvidence, chosen: ProfileRow) -> dict[str, Any]:
    """The newest evidence by ``chosen``, as if it were fresh: how old it is, the lease tells."""
    snapshot, profile = ask.snapshots.current(), Profile.parse(chosen.document)
    known = ask.snapshots.known_files(snapshot, profile.bank, ask.now)
    try:
        verified = verify_kept(row, kept, known)
    except Rejected as refusal:
        return _explained(refusal.findings, None, ask, profile, "")
    if not covers(verified.pcrs.selections, profile):
        missing = Finding("E5", "profile-level", "the evidence on file does not cover the PCRs of the profile")
        return _explained((missing,), None, ask, profile, "")
    appraisal = appraise(verified, profile, snapshot.releases, ask.now, challenged_at=ask.now)
    name = word(ask.query, "level") or profile.levels[-1].name
    rank = profile.rank_of(name)
    if rank is None:
        raise Problem("not-found", f"the profile {profile.name} has no level {name}")
    findings = (*appraisal.levels[rank - 1].findings, *appraisal.notes)
    return _explained(findings, appraisal, ask, profile, name)


def _explained(
    findings: Sequence[Finding], appraisal: Appraisal | None, ask: Ask, profile: Profile, level: str
) -> dict[str, Any]:
    document = explain_findings(findings, appraisal, ask.snapshots.current().releases).document
    groups = by_code(document["findings"])
    runtime = appraisal.host.runtime if appraisal else None
    releases, nearest = ask.snapshots.current().releases, document.get("nearest", "")
    return {
        "level": level,
        "reached": appraisal.level if appraisal else None,
        "levels": list(reversed(document.get("levels", ()))),
        "nearest": nearest,
        "nearest_id": next((each.digest.hex() for each in releases if each.stack.label == nearest), ""),
        "release": appraisal.release if appraisal else None,
        "variants": appraisal.variants if appraisal else (),
        "first": next((item for group in groups for item in group if item["code"] == "stack-none"), None),
        "groups": [{"head": group[0], "items": group[:MAX_ITEMS], "more": len(group[MAX_ITEMS:])} for group in groups],
        "boot_events": len(appraisal.host.boot.events) if appraisal else None,
        "entries": runtime.seen.entries if runtime else None,
    }


def _acts(ask: Ask, host_id: bytes) -> tuple[list[dict[str, Any]], int]:
    """What the newest acts of the record say of this host, and how many acts were searched."""
    newest: tuple[Decision, ...] = ask.services.store.newest_acts(MAX_ACTS)
    needle, found = host_id.hex().encode(), []
    for entry in newest:
        if needle in entry.entry:
            act = json.loads(entry.entry)
            details = {name: value for name, value in act.get("details", {}).items() if value not in (None, "", False)}
            details.pop("profile", None)
            words = [name if value is True else f"{name}: {value}" for name, value in details.items()]
            found.append({"seq": entry.seq, "time": entry.time, "act": act.get("act"), "by": act.get("by"),
                          "details": ", ".join(words)})  # fmt: skip
    return found, len(newest)
