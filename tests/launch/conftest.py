from __future__ import annotations

from pathlib import Path

import pytest

from .helpers import Case


@pytest.fixture
def case(boots: Path) -> Case:
    return Case(boots)
