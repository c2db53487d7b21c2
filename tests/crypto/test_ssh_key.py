from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from watchword.crypto.ssh_key import derive

KEY = derive(b"s" * 32, b"l" * 16)


def test_the_key_is_a_function_of_secret_and_launch() -> None:
    assert derive(b"s" * 32, b"l" * 16).public_openssh == KEY.public_openssh
    others = {derive(b"t" * 32, b"l" * 16).fingerprint, derive(b"s" * 32, b"m" * 16).fingerprint}
    assert len({KEY.fingerprint, *others}) == 3


def test_the_key_has_not_moved() -> None:
    assert KEY.fingerprint == "SHA256:EOska56uNKQ+QglUfUmCCweP5tX3RO356JTS65cVipk"


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="ssh-keygen is not installed")
def test_openssh_reads_the_private_key_and_agrees(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.touch(0o600)
    path.write_bytes(KEY.private_openssh)
    public = subprocess.run(["ssh-keygen", "-y", "-f", path], check=True, capture_output=True, text=True).stdout
    assert public.split()[:2] == KEY.public_openssh.split()[:2]
    shown = subprocess.run(["ssh-keygen", "-lf", path], check=True, capture_output=True, text=True).stdout
    assert KEY.fingerprint in shown


def test_the_private_key_is_not_shown() -> None:
    assert "PRIVATE" not in repr(KEY)
