#!/usr/bin/env python3
"""Does this machine hold the key of its launch? One file, standard library only; run it inside the machine, as root.

It reads what the host's agent left (``/etc/watchword/launch.json``) and compares the SSH host key there with the one in
``/etc/ssh``. It helps the machine to notice that it was started without its secret, say before it opens a service; it
proves nothing to anybody outside: only the tenant's ``watchword verify`` does. A machine on a host that lies sees lies.

Exit status: 0 it has its key, 3 it has not, 2 nothing can be told.
"""

import json
import sys

LAUNCH = "/etc/watchword/launch.json"
HOST_KEY = "/etc/ssh/ssh_host_ed25519_key.pub"
MAX_FILE = 65536


def check(launch: str = LAUNCH, host_key: str = HOST_KEY) -> "tuple[int, str]":
    """Exit status and a sentence."""
    try:
        about = json.loads(_read(launch))
        released = about["released"]
    except OSError:
        return 2, f"there is no {launch}: no launch token, or cloud-init has not run yet"
    except (ValueError, KeyError, TypeError):
        return 2, f"{launch} cannot be read"
    if released is not True:
        return 3, f"this machine has no key: {about.get('code', '')}: {about.get('message', '')}"
    try:
        actual = _read(host_key).split()[:2]
    except OSError as error:  # cloud-init of Debian 12 lets root alone read the public half
        return 2, f"the SSH host key at {host_key} cannot be read: {error.strerror}"
    if actual != str(about.get("ssh_host_key", "")).split()[:2]:
        return (
            3,
            "the SSH host key is not the one of the launch: replaced, or rotated after the verification",
        )
    return 0, "this machine has the key of its launch"


def _read(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read(MAX_FILE)


def main() -> int:
    """Say it, and return the exit status."""
    status, sentence = check()
    print(sentence)
    return status


if __name__ == "__main__":
    sys.exit(main())
