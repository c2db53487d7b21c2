"""Fixtures that every test may use."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def corpus() -> Path:
    """The shared collection of other people's evidence, beside the checkout; it is never part of the repository."""
    path = ROOT.parent / "shared" / "corpus"
    if not path.is_dir():
        pytest.skip("no ../shared/corpus beside this checkout: tests on other people's evidence are left out")
    return path


@pytest.fixture(scope="session")
def boots() -> Path:
    """Our own recordings of measured boots."""
    return ROOT / "vectors" / "boots"


def pytest_make_parametrize_id(config: pytest.Config, val: object, argname: str) -> str | None:
    """Names of rows must be the same in every worker: bytes and long texts may hold fresh keys and signatures."""
    if isinstance(val, bytes) or (isinstance(val, str) and len(val) > 40):
        return argname
    return None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests marked ``slow`` run only when they are asked for: ``-m slow``."""
    if "slow" not in config.option.markexpr:
        for item in items:
            if "slow" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="slow: run it with -m slow"))
