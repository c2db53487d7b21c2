"""What is believed is compiled once, and before the first host comes."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

import pytest

from watchword.authority.deciding import snapshot
from watchword.authority.deciding.snapshot import Snapshots
from watchword.policy.stack import CompiledStack
from watchword.testing.world import World


def test_what_is_on_file_is_compiled_before_it_is_needed(boots: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def late(*_: object, **__: object) -> NoReturn:
        raise AssertionError("a host waits for this")

    with World(boots) as world:
        world.watch()
        snapshots = Snapshots(world.store)
        snapshots.warm(world.now)
        monkeypatch.setattr(CompiledStack, "parse", late)
        monkeypatch.setattr(snapshot, "teach", late)
        found = snapshots.current()
        assert [release.digest for release in found.releases] == [world.stack.digest]
        assert snapshots.known_files(found, world.profile.bank, world.now).bank is world.profile.bank
        profile = snapshots.profile(world.profile.id)
        assert profile is not None
        assert profile.id == world.profile.id


def test_nothing_on_file_is_no_reason_not_to_start(boots: Path) -> None:
    with World(boots) as world:
        Snapshots(world.store).warm(world.now)
