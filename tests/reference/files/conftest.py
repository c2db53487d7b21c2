"""A small tree with hard and symbolic links, and what must be listed for it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.reference.files.artifacts import FILES


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    for name, content in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    os.link(root / "bin/old", root / "bin/same")
    (root / "bin/link").symlink_to("old")
    return root
