"""The SSH host key as cloud-init vendor data: nothing has to be installed in the image for it.

Source: cloud-init reference, module "SSH" (``ssh_deletekeys``, ``ssh_keys``) and "Vendor-data". User-data may override
vendor data; it is the tenant's own, and the token binds its digest.
"""

from __future__ import annotations

import json

from watchword.crypto.ssh_key import SshHostKey

__all__ = ["vendor_data", "vendor_data_json"]

_TEMPLATE = """\
#cloud-config
ssh_deletekeys: true
ssh_keys:
  ed25519_private: |
{private}
  ed25519_public: {public}
"""


def vendor_data(key: SshHostKey) -> str:
    """The ``#cloud-config`` document that makes ``key`` the machine's only SSH host key.

    A YAML literal block keeps the private key's line ends; the public half is written as a JSON string, which is
    YAML too. Contains the private key: never log it.
    """
    lines = key.private_openssh.decode("ascii").rstrip("\n").split("\n")
    private = "\n".join(f"    {line}" for line in lines)
    return _TEMPLATE.format(private=private, public=json.dumps(key.public_openssh))


def vendor_data_json(key: SshHostKey) -> bytes:
    """:func:`vendor_data` in the shape of OpenStack's dynamic vendor data: ``{"cloud-init": "#cloud-config…"}``."""
    return json.dumps({"cloud-init": vendor_data(key)}).encode()
