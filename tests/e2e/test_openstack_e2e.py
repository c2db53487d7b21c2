"""``bin/openstack-e2e``: every act in a real OpenStack ends as it must, and nothing is left running."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
REASONS = {
    "good-launch": "nothing: this is how it should be",
    "forced-migration": "the hook on cmp1: ",
    "stop-and-start": "the hook: ",
    "hard-reboot": "the hook: ",
    "rescue": "the agent: launch-detour: ",
    "rebuild": "the agent: token-used-up: ",
    "rebuild-same-image": "the agent: token-used-up: ",
    "filter": "the scheduler's filter",
    "forced-zone": "V4 launch-refused, E2 stack-none",
    "filter-removed": "V4 launch-refused, E2 stack-none",
    "metadata-edited": "the agent: token-unopenable: ",
    "image-swapped": "the agent: inputs-differ: ",
    "leaks": "nothing to find in ",
}


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, for namespaces")
def test_every_act_ends_as_it_must() -> None:
    done = subprocess.run(
        ["bin/openstack-e2e", "--json"], cwd=ROOT, capture_output=True, timeout=3600, check=False,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-8000:]
    report = json.loads(done.stdout.splitlines()[-1])
    stopped_by = {act["act"]: act["stopped_by"] for act in report["acts"]}
    assert list(stopped_by) == list(REASONS)
    assert {name: text for name, text in stopped_by.items() if not text.startswith(REASONS[name])} == {}
    assert report["right"]
    assert all(act["right"] for act in report["acts"])
    left = subprocess.run(["pgrep", "-f", f"{ROOT}/.e2e/openstack/"], capture_output=True, text=True, check=False)
    assert left.stdout == ""
