"""The demonstration is the full launch with QEMU: an honest provider, then everything a cheating one tries."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
NEEDED = ("qemu-system-x86_64", "swtpm", "objcopy", "apt-get")

EXPECTED = {
    "An honest provider": "nothing: this is how it should be",
    "A host with another kernel": "E2 stack-none",
    "A TPM nobody vouches for": "A1 ek-chain at enrolment; B4 quote-signature",
    "The verdict ignored": "the SSH handshake: ssh-host-key",
    "The token used twice": "F4 token-used-up",
    "Another image": "L2 inputs-differ, by the host's agent",
    "A reboot at the right moment": "the TPM: tpm-wrong-boot",
    "A machine in the middle": "the SSH handshake: ssh-host-key",
}


@pytest.mark.vm
@pytest.mark.skipif(any(shutil.which(name) is None for name in NEEDED), reason=f"needs {', '.join(NEEDED)}")
def test_every_act_ends_as_it_must() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "demo", "--json"], cwd=ROOT, capture_output=True, timeout=900, check=False
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    report = json.loads(done.stdout)
    assert {act["act"]: act["stopped_by"] for act in report["acts"]} == EXPECTED
    assert all(act["right"] for act in report["acts"])
    assert "level full" in report["acts"][0]["tenant_saw"]
    # Everything it started is stopped: the folder that every process worked in is gone, and so are they.
    left = subprocess.run(["pgrep", "-f", "watchword-demo-"], capture_output=True, text=True, check=False).stdout
    assert left == ""
