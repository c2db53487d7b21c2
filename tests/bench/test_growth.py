"""The figures that grow, made small: what they measure is hosts that are trusted, or they end with an error."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from bench.measure import Figure
from bench.synthetic import boot_of

from bench import growth, launching
from watchword.testing.farm import have_swtpm


def names(figures: Iterable[Figure]) -> list[str]:
    return [figure.name for figure in figures]


@pytest.mark.slow
def test_hosts() -> None:
    found = names(growth.hosts((2, 6), attesting=2))
    assert found == ["2 hosts, first", "2 hosts, again", "6 hosts, first", "6 hosts, again"]


def test_boot_logs() -> None:
    assert names(growth.boot_logs((12,), count=2)) == ["boot log 12 kB, first", "boot log 12 kB, again"]
    first, second = boot_of(12_000), boot_of(12_000)
    assert first.event_log != second.event_log
    assert all(12_000 <= len(boot.event_log) < 13_000 for boot in (first, second))


def test_runtime_logs() -> None:
    found = names(growth.runtime_logs({30: 2}))
    assert found == ["runtime log 30, first", "runtime log 30, again", "runtime log 30, 10 new"]


@pytest.mark.slow
def test_policies() -> None:
    assert names(growth.policies((50,), count=2)) == ["policy 50, first", "policy 50, again"]


@pytest.mark.skipif(not have_swtpm(), reason="swtpm is not installed")
def test_launches_while_hosts_attest() -> None:
    found = names(launching.run((0, 0.5), hosts=4, seconds=1, calibrate=0.5))
    assert found == ["launch at 0%", "of that the authority at 0%", "launch at 50%", "of that the authority at 50%"]
