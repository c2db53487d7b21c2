"""Two benches: one that many attacks share, and a fresh one for attacks that change the world."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from watchword.authority.store import DatabaseUrl
from watchword.testing.farm import have_swtpm
from watchword.testing.world import World

from .helpers import Bench

WAYS = ("direct", "relayed")


def _bench(boots: Path, way: str, database: DatabaseUrl | None = None) -> Iterator[Bench]:
    if not have_swtpm():
        pytest.skip("swtpm is not installed: attacks need real emulated TPMs")
    with World(boots, relayed=way == "relayed", database=database) as world:
        yield Bench(world, honest=world.host(), evil=world.host())


@pytest.fixture(scope="module", params=WAYS)
def bench(request: pytest.FixtureRequest, boots: Path) -> Iterator[Bench]:
    """For attacks that leave the authority, its clock and both hosts' software as they are."""
    yield from _bench(boots, request.param)


@pytest.fixture(params=WAYS)
def fresh(request: pytest.FixtureRequest, boots: Path) -> Iterator[Bench]:
    """For attacks that need a world of their own."""
    yield from _bench(boots, request.param)


@pytest.fixture
def lone(boots: Path) -> Iterator[Bench]:
    """A world of its own, reached by a call: for attacks in which no exchange plays a part."""
    yield from _bench(boots, "direct")


@pytest.fixture
def stored(boots: Path, database: DatabaseUrl | None) -> Iterator[Bench]:
    """The same on each database: for attacks that end in a transaction."""
    yield from _bench(boots, "direct", database)
