"""``bin/faults``: what was done to an authority, how often, and what came of it."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

from faults import crowds, database, environment, killing
from faults.outcome import Outcome, Unable

FAULTS: Final[dict[str, tuple[Callable[[Path, int], Outcome], int]]] = {
    "killed-at-any-moment": (killing.at_any_moment, 50),
    "killed-at-every-call": (killing.at_every_call, 2),
    "database-restarted": (database.restarted, 10),
    "database-killed": (database.killed, 10),
    "database-failed-over": (database.failed_over, 3),
    "disk-full": (environment.disk_full, 5),
    "clock-jumps": (environment.clock_jumps, 10),
    "overload": (crowds.overload, 2),
    "slow-clients": (crowds.trickle, 1),
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="bin/faults", description=__doc__)
    parser.add_argument("--only", action="append", choices=list(FAULTS), help="one kind of fault; may be repeated")
    parser.add_argument("--times", type=int, help="how often each is done, in place of its own number")
    parser.add_argument("--json", action="store_true", help="one JSON document")
    options = parser.parse_args()
    found = {}
    for name in options.only or FAULTS:
        action, times = FAULTS[name]
        print(f"{name} …", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory(prefix="watchword-faults-") as folder:
            try:
                found[name] = action(Path(folder), options.times or times)
            except Unable as error:
                print(f"{name}: left out: {error}", file=sys.stderr)
                continue
        if not options.json:
            print(_text(name, found[name]), flush=True)
    if options.json:
        print(json.dumps({name: vars(outcome) for name, outcome in found.items()}, indent=2))
    return 3 if any(outcome.broken for outcome in found.values()) else 0


def _text(name: str, outcome: Outcome) -> str:
    lines = [f"{name}: {outcome.times} times; {(FAULTS[name][0].__doc__ or '').splitlines()[0]}"]
    lines += [f"  {count:7} {said}" for said, count in outcome.said.most_common()]
    lines += [f"  {note}" for note in outcome.notes]
    if outcome.longest:
        lines.append(f"  the longest request took {outcome.longest:.1f} s")
    lines += [f"  BROKEN {count} times: {text}" for text, count in outcome.broken.items()]
    return "\n".join(lines if outcome.broken else [*lines, "  every promise was kept"])


if __name__ == "__main__":
    sys.exit(main())
