"""Run as a program: moves a store, and is killed on the way.

    move_child.py DATA URL MODULE ATTRIBUTE before|after

SIGKILL strikes before or after the first call of that function: no clean-up, no flush, as when the power goes.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
from pathlib import Path
from typing import Any

from watchword.authority.keys.keyring import Keyring
from watchword.authority.store import DatabaseUrl
from watchword.authority.upkeep.moving import Move

NOW = 1_800_000_000


def strike(module: str, attribute: str, when: str) -> None:
    """Be killed at that function."""
    holder: Any = importlib.import_module(f"watchword.authority.{module}")
    *inner, name = attribute.split(".")
    for each in inner:
        holder = getattr(holder, each)
    call = getattr(holder, name)

    def die(*arguments: Any, **named: Any) -> Any:
        if when == "after":
            call(*arguments, **named)
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(holder, name, die)


def main(data: str, url: str, module: str, attribute: str, when: str) -> None:
    ring = Keyring.load(Path(data) / "keyring")
    strike(module, attribute, when)
    Move(Path(data), ring, DatabaseUrl.parse(url), NOW, "local:test").run(lambda total: lambda what, rows: None)


if __name__ == "__main__":
    main(*sys.argv[1:])
