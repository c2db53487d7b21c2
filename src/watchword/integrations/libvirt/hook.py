#!/usr/bin/python3 -I
"""A libvirt hook: asks the Watchword agent before a machine starts. Standard library only; copied, not imported.

libvirt calls it as ``hook GUEST OPERATION SUB-OPERATION EXTRA`` with the domain's XML on stdin. A status other than
zero ends the start, and stderr is what the user reads. It never calls libvirt, which waits for it.
Source: https://libvirt.org/hooks.html, "/etc/libvirt/hooks/qemu".
"""

import json
import re
import socket
import sys
import time

SOCKET = "/run/watchword/agent.sock"
SECONDS = 45.0  # for the whole answer
MAX_XML = 1 << 20
ASKED = {("prepare", "begin"), ("started", "begin"), ("stopped", "end"), ("release", "end")}
MAX_DRIVE = 128 << 20


def main(arguments: "list[str]") -> int:
    """Ask, and say no if the agent says so, or if it does not answer about a machine that has a token."""
    operation, sub = [*arguments[2:4], "", ""][:2]
    if (operation, sub) not in ASKED:
        return 0
    xml = sys.stdin.buffer.read(MAX_XML + 1)
    try:
        answer = ask(operation, sub, xml)
    except (OSError, ValueError) as error:
        if operation != "prepare" or not may_have_token(xml):
            return 0
        return refuse(f"the agent of this host does not answer: {error}")
    if answer.get("allow") is True:
        return 0
    return refuse(str(answer.get("reason", ""))[:600])


def refuse(reason: str) -> int:
    """The reason in one line, on stderr."""
    print("watchword: this machine must not start here: " + " ".join(reason.split()), file=sys.stderr)
    return 1


def ask(operation: str, sub: str, xml: bytes) -> dict:  # type: ignore[type-arg]
    """The agent's answer. Raises OSError or ValueError."""
    end = time.monotonic() + SECONDS
    question = {"operation": operation, "sub": sub, "xml": xml.decode("utf-8", "replace")}
    with socket.socket(socket.AF_UNIX) as agent:
        agent.settimeout(SECONDS)
        agent.connect(SOCKET)
        agent.sendall(json.dumps(question).encode() + b"\n")
        answer = b""
        while not answer.endswith(b"\n"):
            agent.settimeout(max(0.1, end - time.monotonic()))
            piece = agent.recv(65536)
            if not piece or len(answer) > 65536 or time.monotonic() > end:
                raise ValueError("the answer is not complete")
            answer += piece
    found = json.loads(answer)
    if not isinstance(found, dict):
        raise ValueError("the answer is not an object")
    return found


def may_have_token(xml: bytes) -> bool:
    """Whether a config drive of the machine has what looks like a launch token; True when that cannot be told."""
    for path in re.findall(rb"""<source file=['"]([^'"]*disk\.config[^'"]*)['"]""", xml):
        try:
            with open(path, "rb") as drive:
                content = drive.read(MAX_DRIVE)
                if b"WWT1" in content or not any(content):  # the target of a live migration has no content yet
                    return True
        except FileNotFoundError:
            continue
        except OSError:
            return True
    return False


if __name__ == "__main__":
    sys.exit(main(sys.argv))
