"""``bin/try-guides``: makes the machines, walks through the guides on them, and says what came of it."""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from e2e.guides.image import COMPUTE, PLAIN, disk
from e2e.guides.machine import Machine
from e2e.guides.walk import Walk
from e2e.openstack.guide import Guide

ROOT = Path(__file__).resolve().parents[2]


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the machines end with the run
    console, start = Console(stderr=options.json, highlight=False), time.monotonic()

    def say(text: str) -> None:
        console.print(f"  {time.monotonic() - start:6.0f} s  {text}", markup=False, soft_wrap=True)

    state = (options.state or ROOT / ".e2e" / "guides").resolve()
    shutil.rmtree(state, ignore_errors=True)
    state.mkdir(parents=True)
    debs = options.debs or _debs(state / "debs")
    network = _free_port()
    authority = Machine("authority", "192.0.2.10", disk("plain", PLAIN), state / "authority", network)
    host = Machine("cmp1", "192.0.2.31", disk("compute", COMPUTE), state / "cmp1", network, memory=3072)
    controller = Machine(
        "controller", "192.0.2.20", disk("compute", COMPUTE), state / "controller", network, memory=1536
    )
    walk = Walk(Guide(ROOT), debs, _guest(state), state, authority, host, controller, say)
    found: dict[str, object] = {}
    error = ""
    try:
        walk.all(found)
    except (RuntimeError, LookupError, subprocess.SubprocessError) as problem:
        error = str(problem)
        console.print(error, style="red", markup=False)
    except KeyboardInterrupt:
        error = "interrupted"
    finally:
        for machine in (controller, host, authority):
            machine.stop()
    report = {"steps": [asdict(step) for step in walk.steps], "found": found, "error": error}
    (state / "report.json").write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    if options.json:
        print(json.dumps(report))
    else:
        console.print(
            f"{len(walk.steps)} lines typed, {time.monotonic() - start:.0f} s, {error or 'all as the pages say'}"
        )
    return 3 if error else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bin/try-guides", description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout at the end")
    parser.add_argument("--state", type=Path, help="folder for machines and logs (default: .e2e/guides)")
    parser.add_argument("--debs", type=Path, help="packages that bin/deb built (default: build them)")
    return parser


def _debs(folder: Path) -> Path:
    subprocess.run([ROOT / "bin" / "deb", folder], check=True, stdout=sys.stderr)
    return folder


def _guest(state: Path) -> Path:
    subprocess.run([ROOT / "images" / "guest" / "build", state], check=True, stdout=sys.stderr)
    return state / "guest.img"


def _free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


if __name__ == "__main__":
    sys.exit(main())
