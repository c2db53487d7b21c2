"""The fleet by state and level, and the list of hosts, a page at a time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlencode

from watchword.authority.console.page import Ask, Page
from watchword.authority.console.params import chosen_profile, host_range, identity, word
from watchword.authority.deciding.watch import standing_now
from watchword.authority.serving.problems import Problem
from watchword.authority.store import FleetFilter, FleetHost

__all__ = ["STANDINGS", "fleet"]

STANDINGS: Final = ("trusted", "degraded", "failed", "stale", "unknown")
MEANINGS: Final[Mapping[str, str]] = {
    "trusted": "as good as it ever was",
    "degraded": "acceptable, but it was better before",
    "failed": "reaches no level, or was revoked",
    "stale": "has not attested in time",
    "unknown": "has never attested",
}
PAGE: Final = 50  # hosts


def fleet(ask: Ask) -> Page:
    """The page."""
    store = ask.services.store
    profiles, profile = chosen_profile(store, ask.query)
    by = profile.id if profile else b""
    wanted, prefix = _filter(ask)
    counts = store.fleet_counts(by, ask.now)
    hosts, older, newer = _hosts(ask, by, wanted)
    labels = {row.digest: row.label for row in store.stack_infos()}
    link = _Links(ask, profile.id.hex() if profile and ask.query.get("profile") else "", wanted, prefix)
    return Page(
        "fleet.html",
        {
            "profiles": profiles,
            "profile": profile,
            "tiles": _tiles(counts, link),
            "levels": sorted({level for _, level in counts if level}),
            "total": sum(counts.values()),
            "wanted": wanted,
            "prefix": prefix,
            "standings": STANDINGS,
            "hosts": [_row(host, labels, ask.now) for host in hosts],
            "next": link.page(after=hosts[-1].host_id.hex()) if older else "",
            "previous": link.page(before=hosts[0].host_id.hex()) if newer else "",
            "everything": link.tile("", ""),
        },
    )


def _filter(ask: Ask) -> tuple[FleetFilter, str]:
    standing, (prefix, low, high) = word(ask.query, "state"), host_range(ask.query)
    if standing is not None and standing not in STANDINGS:
        raise Problem("query-malformed", f"state is one of {', '.join(STANDINGS)}")
    return FleetFilter(standing, word(ask.query, "level"), low, high), prefix


def _hosts(ask: Ask, profile: bytes, wanted: FleetFilter) -> tuple[tuple[FleetHost, ...], bool, bool]:
    """A page of hosts, and whether there are more after and before it."""
    page, before = ask.services.store.fleet_page, ask.query.get("before", "")
    if before and (found := page(profile, ask.now, wanted, PAGE + 1, before=identity(before, "host"))):
        return found[-PAGE:], True, len(found) > PAGE
    start = identity(ask.query["after"], "host") if ask.query.get("after") and not before else b""
    found = page(profile, ask.now, wanted, PAGE + 1, after=start)
    return found[:PAGE], len(found) > PAGE, bool(start) and bool(found)


class _Links:
    """Addresses of this page with something else asked for."""

    def __init__(self, ask: Ask, profile: str, wanted: FleetFilter, prefix: str) -> None:
        self._base = {"profile": profile, "host": prefix}
        self._filter = {"state": wanted.standing or "", "level": wanted.level or ""}

    def page(self, **place: str) -> str:
        return self._address({**self._base, **self._filter, **place})

    def tile(self, standing: str, level: str) -> str:
        return self._address({**self._base, "host": "", "state": standing, "level": level})

    @staticmethod
    def _address(values: Mapping[str, str]) -> str:
        query = urlencode({name: value for name, value in values.items() if value})
        return "/console" + (f"?{query}" if query else "")


def _tiles(counts: Mapping[tuple[str, str], int], link: _Links) -> list[dict[str, Any]]:
    total = sum(counts.values()) or 1
    tiles, start = [], 0.0
    for standing in STANDINGS:
        levels = sorted((level, count) for (name, level), count in counts.items() if name == standing)
        count = sum(count for _, count in levels)
        share = 100 * count / total
        tiles.append(
            {
                "name": standing,
                "meaning": MEANINGS[standing],
                "count": count,
                "link": link.tile(standing, ""),
                "start": f"{start:.3f}",
                "share": f"{share:.3f}",
                "levels": [(level, number, link.tile(standing, level)) for level, number in levels if level],
            }
        )
        start += share
    return tiles


def _row(host: FleetHost, labels: Mapping[bytes, str], now: int) -> dict[str, Any]:
    state = host.state
    standing, reason = standing_now(state, now, revoked=host.revoked)
    good = standing in ("trusted", "degraded")
    return {
        "id": host.host_id.hex(),
        "standing": standing,
        "revoked": host.revoked,
        "level": state.level if state and good else "",
        "since": state.since if state else None,
        "until": state.until if state else None,
        "stack": labels.get(state.stack, "") if state else "",
        "stack_id": state.stack.hex() if state and state.stack in labels else "",
        "reason": reason,
    }
