"""Fixtures that every test may use."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from watchword.authority.store import DatabaseUrl
from watchword.testing.postgresql import Cluster, binaries

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


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A PostgreSQL server for all tests of a session, each of which takes a database of its own."""
    programs = binaries()
    if programs is None:
        pytest.skip("PostgreSQL is not installed (Debian: postgresql): what needs a server is left out")
    with Cluster.running(programs) as running:
        yield running


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> DatabaseUrl | None:
    """An empty database, or None for a file; who takes this fixture is run once for each."""
    if request.param == "sqlite":
        return None
    cluster: Cluster = request.getfixturevalue("cluster")
    return cluster.new_database()


@pytest.fixture
def where(database: DatabaseUrl | None, tmp_path: Path) -> Path | DatabaseUrl:
    """Where a new store goes; who takes this fixture is run once for each database."""
    return database or tmp_path / "store.sqlite3"


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
