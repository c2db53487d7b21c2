"""The SSH host key as a systemd credential through QEMU's firmware configuration device: it never becomes a disk.

Source: systemd.exec(5) and systemd-creds(1), "System Credentials" (``opt/io.systemd.credentials/NAME``, systemd 252
and later); QEMU ``docs/specs/fw_cfg``. The content does not migrate with the machine.
"""

from __future__ import annotations

from watchword.agent.memory import sealed_file
from watchword.crypto.ssh_key import SshHostKey

__all__ = ["NAME", "credential_file"]

NAME = "opt/io.systemd.credentials/watchword.ssh-host-key"


def credential_file(key: SshHostKey) -> int:
    """The OpenSSH private key as a read-only descriptor of a sealed memory file; the caller closes it.

    QEMU is given ``file=/dev/fd/N``: with ``string=`` the key would show in the process list.
    """
    return sealed_file("credential", [key.private_openssh])
