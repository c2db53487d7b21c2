"""The scenarios that are kept, each read once."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.conftest import ROOT

from watchword.conformance.scenario import Scenario, load_suite

SUITE = ROOT / "vectors" / "attacks"


@pytest.fixture(scope="session")
def suite_folder() -> Path:
    return SUITE


@pytest.fixture(scope="session")
def suite() -> dict[str, Scenario]:
    return {scenario.name: scenario for scenario in load_suite(SUITE)}
