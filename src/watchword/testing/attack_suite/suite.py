"""All scenarios, in the order in which they can be made."""

from __future__ import annotations

from pathlib import Path

from watchword.conformance.scenario import Scenario
from watchword.testing.attack_suite.bench import Bench
from watchword.testing.attack_suite.boot import add_boot
from watchword.testing.attack_suite.controls import add_controls
from watchword.testing.attack_suite.identity import add_identity
from watchword.testing.attack_suite.quotes import add_missing_bank, add_quotes
from watchword.testing.attack_suite.runtime import add_runtime

__all__ = ["make"]


def make(boots: Path) -> list[Scenario]:
    """Make every scenario from the recordings in ``boots``. Takes seconds; needs swtpm."""
    with Bench(boots) as bench:
        for add in (add_controls, add_identity, add_quotes, add_boot, add_runtime, add_missing_bank):
            add(bench)
        return bench.scenarios
