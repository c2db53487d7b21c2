"""The fleet that every test of the console looks at."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from watchword.testing.farm import have_swtpm

from .scene import Scene, scene


@pytest.fixture(scope="session")
def console(boots: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    if not have_swtpm():
        pytest.skip("swtpm is not installed: the hosts are real emulated TPMs")
    with scene(boots, tmp_path_factory.mktemp("people")) as made:
        yield made
