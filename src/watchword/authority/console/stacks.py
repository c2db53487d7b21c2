"""Stacks and where they are in their life, one release with what it consists of, and what a change would do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Final
from urllib.parse import parse_qs

from starlette.requests import Request

from watchword.authority.access import PERMISSIONS, permit
from watchword.authority.console.page import Ask, Page
from watchword.authority.console.params import identity
from watchword.authority.deciding.dry_run import Plan, dry_run
from watchword.authority.serving.problems import Problem
from watchword.authority.store import StackInfo, StackRule, StackState
from watchword.policy.explain import explain_stack
from watchword.policy.profile import Profile
from watchword.policy.release import StackRelease
from watchword.policy.stack import CompiledStack

__all__ = ["dry_run_page", "stack", "stacks", "start_dry_run"]

MAX_EVENTS: Final = 200  # of one component, shown
MAX_FORM: Final = 1024  # bytes
_D, _A, _E, _V = StackState.DRAFT, StackState.ACTIVE, StackState.RETIRING, StackState.REVOKED
# What can be tried with a release: the state it is in, and the words for it.
CHANGES: Final = {
    "activate": (frozenset({_D, _E, _V}), "were active"),
    "end": (frozenset({_A, _E}), "had retired"),
    "revoke": (frozenset({_D, _A, _E}), "were revoked"),
}


def stacks(ask: Ask) -> Page:
    """The list."""
    store = ask.services.store
    compiled = {release.digest: release.stack for release in ask.snapshots.current().releases}
    rules, first = store.stack_rules(), next(iter(store.watched()), None)
    running = store.hosts_by_stack(first, ask.now) if first is not None else {}
    rows = [
        {
            "info": info,
            "id": info.digest.hex(),
            "signed": _signed(info, rules),
            "stack": compiled.get(info.digest),
            "hosts": running.get(info.digest, 0),
        }
        for info in reversed(store.stack_infos())
    ]
    rows.sort(key=lambda row: (row["info"].name, row["info"].pool, row["info"].channel))
    return Page("stacks.html", {"stacks": rows, "rules": rules, "names": _names(ask), "watched": first is not None})


def _signed(info: StackInfo, rules: Sequence[StackRule]) -> dict[str, Any]:
    """How many signatures count, and how many are needed: by the rule for its name and pool, else any one."""
    rule = next((rule for rule in rules if (rule.name, rule.pool) == (info.name, info.pool)), None)
    counted = info.endorsed_by & rule.keys if rule else info.endorsed_by
    needed, of = (rule.threshold, len(rule.keys)) if rule else (1, None)
    return {"have": len(counted), "needed": needed, "of": of, "enough": len(counted) >= needed}


def _names(ask: Ask) -> dict[str, str]:
    return {each.key_id: each.name for each in ask.services.store.endorsers()}


def stack(ask: Ask) -> Page:
    """One release."""
    store, digest = ask.services.store, identity(ask.path["digest"], "stack")
    info = next((each for each in store.stack_infos() if each.digest == digest), None)
    release = next((each for each in ask.snapshots.current().releases if each.digest == digest), None)
    if info is None or release is None:
        raise Problem("not-found", "no stack with this digest is on file here")
    rules, first = store.stack_rules(), next(iter(store.watched()), None)
    rule = next((rule for rule in rules if (rule.name, rule.pool) == (info.name, info.pool)), None)
    running = store.hosts_by_stack(first, ask.now) if first is not None else {}
    may = bool(ask.caller.roles & PERMISSIONS["dry-run"])
    words = explain_stack(release.stack)
    return Page(
        "stack.html",
        {
            "id": digest.hex(),
            "info": info,
            "stack": release.stack,
            "signed": _signed(info, rules),
            "signers": _signers(info, rule, _names(ask)),
            "history": store.stack_history(digest),
            "words": [line for line in words[1:] if not line.startswith("  - ")],
            "components": list(_components(release.stack)),
            "hosts": running.get(digest, 0),
            "watched": first is not None,
            "changes": [name for name, (states, _) in CHANGES.items() if info.state in states] if may else [],
        },
    )


def _signers(info: StackInfo, rule: StackRule | None, names: dict[str, str]) -> list[dict[str, Any]]:
    """Who signed, and whoever else the rule names."""
    asked = rule.keys if rule else frozenset()
    return [
        {
            "key": key,
            "name": names.get(key, "no longer an endorser"),
            "signed": key in info.endorsed_by,
            "counts": rule is None or key in asked,
        }
        for key in sorted(info.endorsed_by | asked, key=lambda key: names.get(key, ""))
    ]


def _components(compiled: CompiledStack) -> Iterator[dict[str, Any]]:
    bank = min(compiled.banks)
    for component in compiled.components:
        events = [(variant.name, event) for variant in component.variants for event in variant.events]
        shown = [
            {"variant": name, "pcr": event.pcr, "digest": event.digests[bank].hex(), "note": event.note}
            for name, event in events[:MAX_EVENTS]
        ]
        yield {"name": component.name, "variants": len(component.variants), "events": shown, "all": len(events)}


# -- dry runs ------------------------------------------------------------------------------------------------------


async def start_dry_run(request: Request, ask: Ask) -> str:
    """Begin one, as a form asks. Raises :class:`Problem`."""
    await permit(request, "dry-run")
    form = await request.app.state.intake.message(
        request, _form, kind="application/x-www-form-urlencoded", limit=MAX_FORM
    )
    run = await request.app.state.intake.run(lambda: _start(ask, form))
    return f"/console/dry-runs/{run.id}"


def _form(body: bytes) -> dict[str, str]:
    try:
        found = parse_qs(body.decode("ascii"), strict_parsing=True, max_num_fields=2)
    except ValueError:
        raise Problem("body-malformed", "not the form of this page") from None
    return {name: values[0] for name, values in found.items()}


def _start(ask: Ask, form: dict[str, str]) -> Any:
    what, store = form.get("change", ""), ask.services.store
    digest = identity(form.get("stack", ""), "stack")
    release = next((each for each in ask.snapshots.current().releases if each.digest == digest), None)
    watched = next(iter(store.watched()), None)
    if what not in CHANGES or release is None:
        raise Problem("body-malformed", "not a change of a stack on file")
    if watched is None:
        raise Problem("profile-unknown", "hosts are judged by no profile yet: watchword authority watch add PROFILE")
    today = Profile.parse(store.profile(watched))
    total = store.counts().hosts - store.counts().hosts_revoked
    title = f"as if {release.stack.label} {CHANGES[what][1]}"
    plan = _plan(what, release)
    return ask.dry_runs.start(title, total, lambda: dry_run(store, plan, today, ask.now, snapshots=ask.snapshots))


def _plan(what: str, release: StackRelease) -> Plan:
    if what == "activate":
        return Plan(activate=(replace(release, state="active", retire_at=None),))
    only = frozenset({release.digest})
    return Plan(revoke=only) if what == "revoke" else Plan(end=only)


def dry_run_page(ask: Ask) -> Page:
    """How far one is, and what it found."""
    run = ask.dry_runs.get(str(ask.path["run_id"]))
    if run is None:
        detail = "this dry run is not remembered: it was an earlier one, or another process of the service did it"
        raise Problem("not-found", detail)
    moves = sorted(run.summary.moves.items(), key=lambda move: -move[1]) if run.ended else []
    reasons = run.summary.reasons() if run.ended else ()
    content = {"run": run, "effects": run.summary.counts(), "moves": moves, "reasons": reasons}
    return Page("dry_run.html", content, refresh=0 if run.ended else 2)
