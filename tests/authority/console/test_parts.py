"""What pages are made of: text made harmless, counts and pages in the database, dry runs with a bound."""

from __future__ import annotations

import itertools
import re
import threading
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import pytest
from jinja2 import Environment, UndefinedError
from markupsafe import Markup

from watchword.authority.console import render
from watchword.authority.console.dry_runs import DryRuns
from watchword.authority.deciding.watch import standing_now
from watchword.authority.serving.problems import Problem
from watchword.authority.store import DatabaseUrl, FleetFilter, Store
from watchword.errors import Finding, Rejected
from watchword.launch.attest import HostState, Standing
from watchword.policy.dry_run import Effect, HostChange

from ..helpers import NOW, entry, host

PROFILE, STACK = b"p" * 32, b"s" * 32


# -- text ----------------------------------------------------------------------------------------------------------


def shown(value: object) -> str:
    environment: Environment = render._environment()
    return environment.from_string("{{ value }}").render(value=value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a<b>&'\"", "a&lt;b&gt;&amp;&#39;&#34;"),
        ("evil\u202etxt.exe", r"evil\u202etxt.exe"),
        ("\x1b[31m\r\n\u2028\x00\u200b", r"\x1b[31m\r\n\u2028\x00\u200b"),
        ("\ud800\udcff", r"\ud800\udcff"),
        ("é 漢 – ordinary", "é 漢 – ordinary"),
        (None, "–"),
        (Markup("<b>ours</b>"), "<b>ours</b>"),
    ],
)
def test_what_is_shown_is_visible_and_inert(value: object, expected: str) -> None:
    assert shown(value) == expected


def test_what_is_shown_is_bounded() -> None:
    assert shown("x" * 5000) == "x" * render.MAX_TEXT + "… and 3000 more characters"


def test_a_name_that_is_not_there_is_our_own_bug() -> None:
    with pytest.raises(UndefinedError):
        render._environment().from_string("{{ nothing }}").render()


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "now"), (-1, "1 second ago"), (59, "in 59 seconds"), (-3600, "1 hour ago"), (200_000, "in 2 days")],
)
def test_times_are_told_from_now(seconds: int, words: str) -> None:
    assert render.ago(NOW + seconds, NOW) == words


def test_a_time_beyond_the_calendar_is_told_in_seconds() -> None:
    assert render.moment(1 << 60) == f"second {1 << 60}"


# -- the fleet in the database -------------------------------------------------------------------------------------


@pytest.fixture
def store(where: Path | DatabaseUrl) -> Iterator[Store]:
    with Store.open(where) as made:
        yield made


def state(standing: Standing, *, until: int = NOW + 1, checked: int = NOW, level: str = "full") -> HostState:
    return HostState(standing, level, 1, 1, NOW - 5, checked, until, 1, STACK, "code", "reason")


def test_the_database_says_how_hosts_stand_as_the_service_does(store: Store) -> None:
    times = [(NOW, NOW + 1), (NOW - 9, NOW), (NOW + 1, NOW + 9)]
    states = [state(standing, checked=c, until=u) for standing in (Standing.TRUSTED, Standing.DEGRADED,
              Standing.FAILED) for c, u in times]  # fmt: skip
    cases = list(itertools.product([*states, None], (False, True)))
    expected: dict[bytes, str] = {}
    with store.transaction() as tx:
        for number, (known, revoked) in enumerate(cases, 1):
            row = host(number)
            tx.put_host(row)
            if known is not None:
                tx.put_state(row.host_id, PROFILE, known)
            if revoked:
                tx.revoke_host(row.host_id, "x", NOW)
            expected[row.host_id] = standing_now(known, NOW, revoked=revoked)[0]
    counts = store.fleet_counts(PROFILE, NOW)
    for standing in ("trusted", "degraded", "failed", "stale", "unknown"):
        wanted = {host_id for host_id, found in expected.items() if found == standing}
        page = store.fleet_page(PROFILE, NOW, FleetFilter(standing), 100)
        assert {each.host_id for each in page} == wanted
        assert sum(count for (name, _), count in counts.items() if name == standing) == len(wanted)
    assert {key for key in counts if key[1]} == {("trusted", "full"), ("degraded", "full")}
    assert store.hosts_by_stack(PROFILE, NOW) == {STACK: 2}
    assert store.fleet_counts(b"q" * 32, NOW) == {("unknown", ""): 10, ("failed", ""): 10}


def test_pages_follow_each_other_both_ways_and_miss_nobody(store: Store) -> None:
    with store.transaction() as tx:
        for number in range(1, 24):
            tx.put_host(host(number))
    everybody = FleetFilter()
    pages, after = [], b""
    while page := store.fleet_page(PROFILE, NOW, everybody, 5, after=after):
        pages.append([each.host_id for each in page])
        after = pages[-1][-1]
    assert [id_ for page in pages for id_ in page] == [bytes([number]) * 32 for number in range(1, 24)]
    back = store.fleet_page(PROFILE, NOW, everybody, 5, before=pages[2][0])
    assert [each.host_id for each in back] == pages[1]
    some = FleetFilter(low=bytes([3]) + bytes(31), high=bytes([4]) + b"\xff" * 31)
    assert [each.host_id[0] for each in store.fleet_page(PROFILE, NOW, some, 5)] == [3, 4]


def test_newest_entries_come_first(store: Store) -> None:
    with store.transaction() as tx:
        for number in range(6):
            launch = b"l" * 32 if number % 2 else b""
            tx.append_decision(NOW, launch, entry(str(number), launch=launch))
    assert [each.seq for each in store.newest_decisions(3)] == [6, 5, 4]
    assert [each.seq for each in store.newest_decisions(9, before=3)] == [2, 1]
    assert [each.seq for each in store.newest_acts(2)] == [5, 3]
    assert store.decision(7) is None


# -- dry runs ------------------------------------------------------------------------------------------------------


def changes(count: int) -> Iterator[HostChange]:
    for number in range(count):
        yield HostChange(bytes([number]) * 32, Effect.SAME, "full", "full")


def wait(runs: DryRuns) -> None:
    thread = runs._thread
    assert thread
    thread.join(10)


def test_a_dry_run_counts_every_host() -> None:
    runs = DryRuns()
    run = runs.start("x", 3, lambda: changes(3))
    wait(runs)
    assert (run.ended, run.cut, run.fault, run.done) == (True, False, "", 3)
    assert run.summary.effects[Effect.SAME] == 3
    assert runs.get(run.id) is run
    assert runs.get("other") is None


def test_a_dry_run_ends_when_its_time_is_over() -> None:
    runs = DryRuns(seconds=-1)
    run = runs.start("x", 3, lambda: changes(3))
    wait(runs)
    assert (run.ended, run.cut, run.done) == (True, True, 1)


def test_one_dry_run_at_a_time_and_the_service_can_stop_it() -> None:
    going, runs = threading.Event(), DryRuns()

    def slow() -> Iterator[HostChange]:
        for change in changes(200):
            going.wait(0.05)
            yield change

    run = runs.start("x", 200, slow)
    with pytest.raises(Problem, match="another dry run"):
        runs.start("y", 1, lambda: changes(1))
    runs.stop()
    assert (run.ended, run.cut) == (True, True)


def test_a_dry_run_that_fails_says_why() -> None:
    def failing() -> Iterator[HostChange]:
        raise Rejected(Finding("E3", "x", "this is why"))
        yield

    runs = DryRuns()
    run = runs.start("x", 1, failing)
    wait(runs)
    assert run.ended
    assert "this is why" in run.fault


def test_only_the_newest_dry_runs_are_remembered() -> None:
    runs = DryRuns()
    started = []
    for _ in range(18):
        started.append(runs.start("x", 1, lambda: changes(1)))
        wait(runs)
    assert [runs.get(run.id) is not None for run in started] == [False] * 2 + [True] * 16


# -- colours -------------------------------------------------------------------------------------------------------


def palettes() -> dict[str, dict[str, str]]:
    """The colours of the style sheet by name, of the light and the dark palette."""
    style = (files("watchword.authority.console") / "static" / "console.css").read_text()
    light, dark = style.split("@media (prefers-color-scheme: dark)")[:2]
    return {name: dict(re.findall(r"--([a-z]+): (#[0-9a-f]{6});", text)) for name, text in
            (("light", light), ("dark", dark.partition("}")[0]))}  # fmt: skip


def luminance(colour: str) -> float:
    """WCAG 2.2, relative luminance."""
    parts = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("palette", ["light", "dark"])
def test_every_colour_can_be_read_on_every_ground(palette: str) -> None:
    """WCAG 2.2 AA: 4.5 to 1 for text, 3 to 1 for the edges of fields and the mark of the focus."""
    colours = palettes()[palette]
    inks = {"ink", "quiet", "accent", "trusted", "degraded", "failed", "stale", "unknown"}
    wanted = dict.fromkeys(inks, 4.5) | {"field": 3.0, "focus": 3.0}
    assert set(colours) == {*wanted, "ground", "sheet", "tint", "rule"}
    for ground in ("ground", "sheet", "tint"):
        for name, ratio in wanted.items():
            pair = sorted((luminance(colours[ground]), luminance(colours[name])))
            assert (pair[1] + 0.05) / (pair[0] + 0.05) >= ratio, (name, ground)
