"""The score: what of other people's evidence is read, and is as its own source says, by kind."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.fixture
def show(capsys: pytest.CaptureFixture[str]) -> Any:
    """Print a line of the score, whatever pytest captures."""

    def line(kind: str, right: int, of: int, remark: str = "") -> None:
        with capsys.disabled():
            print(f"\n  corpus: {kind:<44} {right:>3} of {of:<3} {remark}", end="")

    return line
