"""The check inside a machine, as the script that is copied there."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from watchword.cli.main import cli
from watchword.crypto.ssh_key import derive
from watchword.integrations.guest.self_check import check

KEY = derive(bytes(32), bytes(16)).public_openssh


@pytest.mark.parametrize(
    ("about", "key", "status"),
    [
        ({"released": True, "ssh_host_key": KEY}, KEY + " root@vm", 0),
        ({"released": True, "ssh_host_key": KEY}, derive(bytes(32), b"x" * 16).public_openssh, 3),
        ({"released": True}, KEY, 3),
        ({"released": False, "code": "token-used-up", "message": "no"}, KEY, 3),
        ({"released": "yes", "ssh_host_key": KEY}, KEY, 3),
        ([], KEY, 2),
        (None, KEY, 2),
        ({"released": True, "ssh_host_key": KEY}, None, 2),
    ],
)
def test_what_it_says(tmp_path: Path, about: object, key: str | None, status: int) -> None:
    launch, host_key = tmp_path / "launch.json", tmp_path / "key.pub"
    if about is not None:
        launch.write_text(json.dumps(about))
    if key is not None:
        host_key.write_text(key + "\n")
    assert check(str(launch), str(host_key))[0] == status


def test_the_script_stands_alone(tmp_path: Path) -> None:
    done = CliRunner().invoke(cli, ["guest", "self-check", "--script"], standalone_mode=False)
    script = tmp_path / "self-check.py"
    script.write_text(done.stdout)
    ran = subprocess.run([sys.executable, "-I", "-S", str(script)], capture_output=True, text=True, check=False)
    assert ran.returncode in (0, 2, 3)
    assert ran.stdout
