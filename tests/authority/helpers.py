"""What several tests of the authority need."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from watchword.authority.store import Host
from watchword.verify.ek import EkClass

NOW = 1_800_000_000


def entry(text: str = "x", *, time: int = NOW, launch: bytes = b"") -> bytes:
    """A small decision entry."""
    document = {"time": time, "text": text} | ({"launch": launch.hex()} if launch else {})
    return json.dumps(document).encode()


def host(number: int = 1, *, ak: bytes = b"", time: int = NOW) -> Host:
    """A host whose keys are mere placeholders: the store does not look into them."""
    return Host(
        host_id=bytes([number]) * 32,
        ek_public=b"ek %d" % number,
        ak_public=ak or b"ak %d" % number,
        ek_class=EkClass.VIRTUAL,
        enrolled_at=time,
    )


def start_child(*arguments: str) -> subprocess.Popen[str]:
    """Start ``child.py``."""
    program = Path(__file__).with_name("child.py")
    return subprocess.Popen([sys.executable, str(program), *arguments], stdout=subprocess.PIPE, text=True)
