"""What ``bin/`` runs imports: nobody finds out that a command is broken by calling it."""

from __future__ import annotations

import importlib
import sys

import pytest
from tests.conftest import ROOT

APART = {"bench.keylime_side", "bench.__main__", "demo.__main__", "faults.__main__"}
APART |= {"e2e.compose.__main__", "e2e.openstack.__main__"}
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for folder in ("bench", "demo", "e2e", "faults")
    for path in (ROOT / folder).rglob("*.py")
)


@pytest.mark.parametrize("name", [name for name in MODULES if name not in APART and not name.endswith("__init__")])
def test_it_imports(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [name])
    importlib.import_module(name)
