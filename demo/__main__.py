"""``bin/demo``: plays every act, says what happens while it happens, and ends with a table."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from demo.acts import ACTS, Outcome
from demo.stage import Stage


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="bin/demo",
        description="A trusted launch on real parts, and then everything a malicious provider might try. "
        "Exit status 0 only when every act ended as it must.",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document at the end, progress on stderr")
    options = parser.parse_args(arguments)
    console = Console(stderr=options.json, highlight=False)
    start = time.monotonic()
    outcomes: list[Outcome] = []
    try:
        with Stage(lambda text: console.print(f"  [dim]{text}[/dim]")) as stage:
            for number in range(len(ACTS)):
                outcomes.append(_play(console, stage, number))
    except KeyboardInterrupt:
        console.print("interrupted; everything that was started is stopped")
        return 130
    right = len(outcomes) == len(ACTS) and all(outcome.right for outcome in outcomes)
    seconds = time.monotonic() - start
    if options.json:
        json.dump({"right": right, "seconds": round(seconds, 1), "acts": [_document(o) for o in outcomes]}, sys.stdout)
        print()
    else:
        _summary(console, outcomes, right, seconds)
    return 0 if right else 3


def _play(console: Console, stage: Stage, number: int) -> Outcome:
    act = ACTS[number]
    start = time.monotonic()
    with console.status(f"{number}. {(act.__doc__ or '').splitlines()[0]}"):
        outcome = act(stage)
    outcome.seconds = time.monotonic() - start
    mark = "[green]✔[/green]" if outcome.right else "[red]✘[/red]"
    console.print(f"\n{mark} [bold]{number}. {outcome.title}[/bold]  [dim]{outcome.seconds:.1f} s[/dim]")
    console.print(f"    tried:      the provider {outcome.tried}", soft_wrap=True)
    for line in outcome.shown:
        console.print(f"      {line}", soft_wrap=True, markup=False, style="cyan" if line.startswith("$") else None)
    console.print(f"    stopped by: {outcome.stopped_by}", soft_wrap=True, markup=False)
    console.print(f"    the tenant: {outcome.tenant_saw}", soft_wrap=True, markup=False)
    if not outcome.right:
        console.print(f"    details:    {json.dumps(outcome.details)[:4000]}", soft_wrap=True, markup=False)
    return outcome


def _summary(console: Console, outcomes: Sequence[Outcome], right: bool, seconds: float) -> None:
    table = Table(title="\nWhat the provider tried", title_justify="left")
    for column in ("", "act", "stopped by", ""):
        table.add_column(column)
    for number, outcome in enumerate(outcomes):
        table.add_row(str(number), outcome.title, outcome.stopped_by, "right" if outcome.right else "WRONG")
    console.print(table)
    verdict = "Every act ended as it must" if right else "Something did not end as it must"
    console.print(f"{verdict}. {seconds:.0f} s; everything that was started is stopped.")


def _document(outcome: Outcome) -> dict[str, object]:
    return {
        "act": outcome.title,
        "tried": outcome.tried,
        "stopped_by": outcome.stopped_by,
        "tenant_saw": outcome.tenant_saw,
        "right": outcome.right,
        "seconds": round(outcome.seconds, 2),
        "details": outcome.details,
    }


sys.exit(main())
