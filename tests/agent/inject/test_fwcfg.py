"""The credential is a file in memory with the key in it."""

from __future__ import annotations

import os

from watchword.agent.inject.fwcfg import NAME, credential_file
from watchword.crypto.ssh_key import SshHostKey


def test_the_credential_is_the_private_key(host_key: SshHostKey) -> None:
    fd = credential_file(host_key)
    try:
        assert os.read(fd, 1 << 16) == host_key.private_openssh
        assert os.readlink(f"/proc/self/fd/{fd}").startswith("/memfd:")
    finally:
        os.close(fd)


def test_the_name_is_one_that_systemd_imports() -> None:
    # QEMU's limit for a name is 55 characters (FW_CFG_MAX_FILE_PATH with its NUL).
    assert NAME.startswith("opt/io.systemd.credentials/")
    assert len(NAME) <= 55
