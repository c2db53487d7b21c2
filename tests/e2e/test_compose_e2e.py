"""``bin/compose-e2e``: the composition in real containers."""

from __future__ import annotations

import json
import os
import subprocess

import pytest
from e2e.compose.acts import ACTS
from tests.conftest import ROOT


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, for namespaces and containers")
def test_every_act_ends_as_it_must() -> None:
    done = subprocess.run(
        ["bin/compose-e2e", "--json"], cwd=ROOT, capture_output=True, timeout=3600, check=False,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-8000:]
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["right"]
    assert [act["act"] for act in report["acts"]] == list(ACTS)
    left = subprocess.run(["pgrep", "-f", f"{ROOT}/.e2e/compose/"], capture_output=True, text=True, check=False)
    assert left.stdout == ""
