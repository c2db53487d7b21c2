"""Faults done to a real authority; ``bin/faults`` does more of them, and others."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from faults.judge import look_at_log, violations
from faults.load import Token
from faults.outcome import Outcome, Unable
from faults.service import Service
from tests.conftest import ROOT

from faults import database, environment, killing

QUICK = [
    (killing.at_any_moment, 2),
    (database.restarted, 2),
    (database.killed, 2),
    (database.failed_over, 1),
    (environment.disk_full, 1),
    (environment.clock_jumps, 1),
]


@pytest.mark.parametrize(("fault", "times"), QUICK)
def test_every_promise_is_kept(fault: Callable[[Path, int], Outcome], times: int, tmp_path: Path) -> None:
    try:
        outcome = fault(tmp_path, times)
    except Unable as error:
        pytest.skip(str(error))
    assert outcome.times == times
    assert not outcome.broken
    assert any(name.endswith(("released", "release")) for name in outcome.said)


def test_broken_promises_are_noticed(tmp_path: Path) -> None:
    """Nothing is wrong with this authority: that one more release arrived than it counted is made up."""
    service = Service(tmp_path, hosts=1)
    try:
        token = Token.seal(service)
        seen = look_at_log(service, None)
        assert violations(service, [token], {token.id: 1}, seen) == ["1 releases arrived and 0 were counted"]
        with service.store() as store, store.transaction() as tx:
            tx.count_release(token.id)
            tx.count_release(token.id)
        assert violations(service, [token], {}, seen) == [
            "2 releases of 1 were counted",
            "2 releases were counted and 0 recorded",
        ]
        service.kill()
        assert "afterwards a launch was no answer" in violations(service, [], {}, seen)
    finally:
        service.close()


def test_the_command_reports_in_json() -> None:
    command = [sys.executable, "-m", "faults", "--only", "killed-at-any-moment", "--times", "1", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["killed-at-any-moment"]
    assert (found["times"], found["broken"]) == (1, {})
    assert found["said"]["released"] > 0
