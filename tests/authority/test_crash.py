"""kill -9 at every step: no release beyond the count, none without its decision, nothing half done."""

from __future__ import annotations

import json
import os
import signal
from itertools import pairwise
from pathlib import Path

import pytest

from watchword.authority.keys.keyring import Keyring
from watchword.authority.store import DatabaseUrl, Store

from .helpers import NOW, location, start_child

TOKEN = b"t" * 32
ALLOWED = 3
POINTS = {
    "after_begin": 0,
    "after_use_nonce": 0,
    "after_count_release": 0,
    "after_append_decision": 0,
    "before_commit": 0,
    "after_commit": 1,  # counted and recorded, and never left: the safe side to err on
}


def child(*arguments: str) -> tuple[int, list[int]]:
    """Exit status, and the numbers of the releases that left the child."""
    process = start_child(*arguments)
    printed, _ = process.communicate(timeout=60)
    return process.returncode, [int(line.split()[1]) for line in printed.splitlines()]


def recorded(store: Store) -> list[int]:
    return [json.loads(decision.entry)["release"] for decision in store.decisions()]


@pytest.mark.parametrize(("point", "counted"), POINTS.items())
def test_killed_while_releasing(where: Path | DatabaseUrl, point: str, counted: int) -> None:
    status, left = child("release", location(where), str(ALLOWED), "1", point)
    assert (status, left) == (-signal.SIGKILL, [])
    with Store.open(where) as store:
        assert store.releases(TOKEN) == counted
        assert recorded(store) == list(range(1, counted + 1))
        assert store.verify_decisions().seq == counted
    status, left = child("release", location(where), str(ALLOWED), "10", "")
    assert status == 0
    assert left == list(range(counted + 1, ALLOWED + 1))
    with Store.open(where) as store:
        assert store.releases(TOKEN) == ALLOWED
        assert recorded(store) == [1, 2, 3]
        assert store.verify_decisions().seq == ALLOWED


def test_killed_at_random_among_others(where: Path | DatabaseUrl) -> None:
    """Two children that are killed and one that is not share a store; what left never exceeds what was recorded."""
    children = [start_child("release", location(where), "40", "40", "") for _ in range(3)]
    head = [process.stdout.readline() for process in children if process.stdout]
    for process in children[:2]:
        os.kill(process.pid, signal.SIGKILL)
    rest = [process.communicate(timeout=60)[0] for process in children]
    left = sorted(int(line.split()[1]) for line in "\n".join(head + rest).splitlines() if line.startswith("released "))
    with Store.open(where) as store:
        assert store.releases(TOKEN) == 40
        assert recorded(store) == list(range(1, 41))
        assert len(set(left)) == len(left)
        assert set(left) <= set(recorded(store))
        assert store.verify_decisions().seq == 40


@pytest.mark.parametrize("kind", ["signing", "sealing", "log", "root"])
def test_killed_while_rotating(tmp_path: Path, kind: str) -> None:
    """Before each rename, fsync and unlink of a rotation, until one runs to its end."""
    old = Keyring.create(tmp_path / "keyring", authority="test", now=NOW)
    printed, _ = start_child("rotate", str(tmp_path / "keyring"), kind).communicate(timeout=60)
    *killed, last = [json.loads(line) for line in printed.splitlines()]
    assert len(killed) >= 5
    assert last[0] == 0
    versions = [1]
    for status, version, fingerprint, sealing in killed:
        assert status == -signal.SIGKILL
        assert fingerprint == old.fingerprint
        assert {name.hex() for name in old.sealing_keys} <= set(sealing)
        versions.append(version)
    versions.append(last[1])
    assert all(new - old in (0, 1) for old, new in pairwise(versions))
    assert versions[-1] > versions[0]
    ring = Keyring.load(tmp_path / "keyring")
    files = {path.name for path in (tmp_path / "keyring").iterdir()}
    assert files == {"keyring.json", ".lock", "high-water", *ring._manifest.files()}
