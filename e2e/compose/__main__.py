"""``bin/compose-e2e``: builds the image, starts the composition, plays the acts, and takes everything down again."""

from __future__ import annotations

import argparse
import json
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rich.console import Console

from e2e.compose import images
from e2e.compose.acts import ACTS, Run
from e2e.compose.engine import ROOT, SERVICES, Engine
from e2e.compose.fleet import Fleet, build_guest


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    console = Console(stderr=options.json, highlight=False)
    start = time.monotonic()

    def say(text: str) -> None:
        console.print(f"  [dim]{time.monotonic() - start:6.1f} s[/dim]  {text}", soft_wrap=True, markup=True)

    state = ROOT / ".e2e" / "compose"
    state.mkdir(parents=True, exist_ok=True)
    variables = {"DATABASE_PASSWORD": secrets.token_hex(24), "AUTHORITY_NAME": "authority.example"}
    engine = Engine(state, variables)
    found: list[dict[str, Any]] = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ww-compose-")))
        try:
            engine.prepare()
            images.make(engine, pull=options.pull, say=say)
            say("the tenant's guest")
            build_guest(folder, state / "guest")
            engine.leave_the_network()
            stack.callback(engine.close)
            engine.wipe()
            engine.watch_health()
            fleet = Fleet(engine, folder)
            stack.callback(fleet.close)
            run = Run(engine, fleet)
            for name, act in ACTS.items():
                begin = time.monotonic()
                say(f"{name}: {(act.__doc__ or '').splitlines()[0]}")
                seen = act(run)
                found.append({"act": name, "seen": seen, "seconds": round(time.monotonic() - begin, 1)})
                console.print(f"           [green]✔[/green] {seen}", soft_wrap=True)
        except (RuntimeError, OSError) as error:
            console.print(f"[red]✘[/red] {error}", markup=True, soft_wrap=True)
        _keep_logs(engine, state / "logs")
        say(f"logs are in {state / 'logs'}")
    right = len(found) == len(ACTS)
    if options.json:
        stand_ins = {} if options.pull else images.STAND_INS
        print(json.dumps({"right": right, "acts": found, "stand_ins": stand_ins}))
    elif right:
        console.print(f"Every act ended as it must. {time.monotonic() - start:.0f} s; everything is stopped.")
    return 0 if right else 3


def _keep_logs(engine: Engine, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for service in SERVICES:
        (folder / service).write_text(engine.logs(service))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bin/compose-e2e",
        description="The composition of packaging/compose in real containers: built, used, broken, stopped. Exit "
        "status 0 only when every act ended as it must.",
        epilog="Example: sudo bin/compose-e2e",
    )
    parser.add_argument(
        "--pull", action="store_true", help="the images of the registry, in place of the stand-ins that are made here"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document at the end, progress on stderr")
    return parser


sys.exit(main())
