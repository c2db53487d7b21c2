"""A config drive: the ISO 9660 volume ``config-2`` in OpenStack's layout, made in memory.

Source: OpenStack Nova user guide, "Config drives"; cloud-init data source "Config drive" version 2. QEMU gets it as
a descriptor of a sealed memory file, so the key in it never lies on the host's disk.
"""

from __future__ import annotations

import json

from watchword.agent.inject.cloudinit import vendor_data_json
from watchword.agent.inject.iso9660 import build
from watchword.agent.memory import sealed_file
from watchword.crypto.ssh_key import SshHostKey

__all__ = ["LABEL", "config_drive", "config_drive_file"]

LABEL = "config-2"
_LATEST = "openstack/latest/"


def config_drive(instance: str, hostname: str, user_data: bytes | None, key: SshHostKey | None) -> bytes:
    """The image: ``meta_data.json``, ``user_data`` when there is any, ``vendor_data.json`` and ``vendor_data2.json``.

    ``instance`` is the machine's identifier, ``hostname`` its name, ``user_data`` at most 64 KiB. Without ``key``
    both vendor data documents are empty. Dynamic vendor data belongs in the second one; cloud-init before 21.1 reads
    only the first. Contains the private key: never store it.
    """
    meta_data = {"uuid": instance, "name": hostname, "hostname": hostname, "launch_index": 0, "meta": {}}
    vendor = vendor_data_json(key) if key is not None else b"{}"
    files = {
        _LATEST + "meta_data.json": json.dumps(meta_data).encode(),
        _LATEST + "vendor_data.json": vendor,
        _LATEST + "vendor_data2.json": vendor,
    }
    if user_data is not None:
        files[_LATEST + "user_data"] = user_data
    return build(files, LABEL)


def config_drive_file(instance: str, hostname: str, user_data: bytes | None, key: SshHostKey | None) -> int:
    """:func:`config_drive` as a read-only descriptor of a sealed memory file; the caller closes it."""
    return sealed_file("config-drive", [config_drive(instance, hostname, user_data, key)])
