"""What the agent answers to nova: a ``#cloud-config`` text, which nova files under its target's name, ``cloud-init``.

User-data may override it, and is bound by the token. The key pair that nova was given is not: whoever runs nova
chooses it. So a machine that gets a secret takes no keys from the metadata, unless its user-data says so.
Source: cloud-init reference, modules "SSH" and "Write Files"; Nova administrator guide, "Vendordata".
"""

from __future__ import annotations

import json

from watchword.agent.inject.cloudinit import vendor_data
from watchword.crypto.ssh_key import SshHostKey
from watchword.errors import WatchwordError

__all__ = ["LAUNCH_FILE", "refused", "released"]

LAUNCH_FILE = "/etc/watchword/launch.json"
_CLIP = 400


def released(key: SshHostKey, instance: str) -> bytes:
    """The answer for a machine that got its secret, as JSON. Contains the private key: never log it."""
    about = {"released": True, "instance": instance, "ssh_host_key": key.public_openssh}
    return json.dumps(vendor_data(key) + "allow_public_ssh_keys: false\n" + _file(about)).encode()


def refused(error: WatchwordError, instance: str) -> bytes:
    """The answer for a machine that boots without a secret: it says so inside, and it has no key of this launch."""
    about = {
        "released": False,
        "instance": instance,
        "code": error.code,
        "message": error.message[:_CLIP],
        "hint": error.hint[:_CLIP],
    }
    return json.dumps("#cloud-config\n" + _file(about)).encode()


def _file(about: dict[str, object]) -> str:
    content = json.dumps(about) + "\n"
    # JSON is YAML, and leaves no way for a message to end its text early.
    return "write_files: " + json.dumps([{"path": LAUNCH_FILE, "permissions": "0644", "content": content}]) + "\n"
