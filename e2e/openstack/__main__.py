"""``bin/openstack-e2e``: brings the cloud up, plays every act, and ends with a table."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from e2e.openstack.acts import ACTS, Outcome, Play
from e2e.openstack.cloud import Cloud, checkout
from e2e.openstack.processes import processor_seconds
from e2e.openstack.settings import Places
from e2e.openstack.spaces import HIDDEN, fresh
from e2e.openstack.trust import Trust

BAD, GOOD = "cmp1", "cmp2"


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    if options.list:
        print("\n".join(ACTS))
        return 0
    unknown = set(options.only) - set(ACTS)
    if unknown:
        print(f"bin/openstack-e2e: error: no act is called {sorted(unknown)}; --list names them", file=sys.stderr)
        return 1
    state = (options.state or checkout() / ".e2e" / "openstack").resolve()
    if any(state.is_relative_to(folder) for folder in HIDDEN):
        print(f"bin/openstack-e2e: error: --state cannot be below {', '.join(HIDDEN)}", file=sys.stderr)
        return 1
    console = Console(stderr=options.json, highlight=False)
    start = time.monotonic()
    outcomes: list[Outcome] = []

    def say(text: str) -> None:
        console.print(f"  [dim]{time.monotonic() - start:6.1f} s  {text}[/dim]")

    places = Places(fresh(state / "run"), checkout(), checkout() / ".venv-openstack")
    cloud = Cloud(places, state / "cache", say)
    trust = Trust(cloud, GOOD)
    say(f"everything is kept in {places.state}, logs in {cloud.logs}")
    say("neutron is a stand-in of ours; everything else of OpenStack is real")
    status = 3
    try:
        say("namespaces and configuration")
        cloud.prepare(GOOD)
        cloud.start(lambda: _trust(trust, options.image, say))
        say("the guest image goes to Glance")
        play = Play(cloud, trust, options.image, GOOD, BAD, say)
        play.prepare()
        say("the cloud is up")
        for number, name in enumerate(options.only or ACTS, 1):
            outcomes.append(_play(console, play, number, name))
        right = all(outcome.right for outcome in outcomes)
        status = 0 if right else 3
        used = processor_seconds()
        say(f"{used:.0f} s of processor time so far, load {', '.join(f'{load:.1f}' for load in os.getloadavg())}")
        _finish(console, outcomes, right, time.monotonic() - start, used, as_json=options.json)
    except KeyboardInterrupt:
        console.print("interrupted")
        status = 130
    except Exception as error:  # noqa: BLE001  # whatever went wrong: say it, and take everything down
        console.print(f"[red]✘[/red] {type(error).__name__}: {error}", markup=True, soft_wrap=True)
        if options.debug:
            console.print_exception()
    finally:
        if options.keep and status != 130:
            _hold(console, cloud)
        trust.stop()
        cloud.stop()
        say("everything that was started is stopped")
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bin/openstack-e2e",
        description="A trusted launch in a real OpenStack, and then what its provider might try. Exit status 0 only "
        "when every act ended as it must.",
        epilog="Example: bin/openstack-e2e --only good-launch --keep",
    )
    parser.add_argument(
        "--only", action="append", default=[], metavar="NAME", help="play this act; may be repeated, in any order"
    )
    parser.add_argument("--list", action="store_true", help="print the names of the acts")
    parser.add_argument("--keep", action="store_true", help="leave the cloud running until Enter or Ctrl-C")
    parser.add_argument("--json", action="store_true", help="print one JSON document at the end, progress on stderr")
    parser.add_argument(
        "--state", type=Path, metavar="FOLDER", help="for the run and its cache (default: .e2e/openstack)"
    )
    parser.add_argument("--debug", action="store_true", help="print where an error happened")
    parser.add_argument("--image", type=Path, help=argparse.SUPPRESS)
    return parser


def _trust(trust: Trust, image: Path, say: Callable[[str], None]) -> None:
    say("authority, relay, two TPMs, two agents, hooks")
    trust.start({BAD: "kernel", GOOD: "good"}, image)


def _play(console: Console, play: Play, number: int, name: str) -> Outcome:
    act = ACTS[name]
    begin = time.monotonic()
    title = (act.__doc__ or "").splitlines()[0]
    with console.status(f"{number}. {name}: {title}"):
        try:
            outcome = act(play)
        except RuntimeError as error:
            outcome = Outcome(title, "the act could not be played", stopped_by=str(error)[:300])
    outcome.name, outcome.seconds = name, time.monotonic() - begin
    mark = "[green]✔[/green]" if outcome.right else "[red]✘[/red]"
    console.print(f"\n{mark} [bold]{number}. {name}[/bold]  [dim]{outcome.seconds:.1f} s[/dim]")
    for label, text in (("tried", outcome.tried), ("stopped by", outcome.stopped_by), ("nova says", outcome.nova_said),
                        ("host says", outcome.host_said), ("the tenant", outcome.tenant_saw)):  # fmt: skip
        if text:
            console.print(f"    {label + ':':12}{text}", soft_wrap=True, markup=False)
    if not outcome.right:
        console.print(
            f"    details:    {json.dumps(outcome.details, default=str)[:4000]}", soft_wrap=True, markup=False
        )
    return outcome


def _finish(
    console: Console, outcomes: Sequence[Outcome], right: bool, seconds: float, used: float, *, as_json: bool
) -> None:
    if as_json:
        report = {"right": right, "seconds": round(seconds, 1), "processor_seconds": round(used, 1)}
        json.dump(report | {"acts": [outcome.document() for outcome in outcomes]}, sys.stdout)
        print()
        return
    table = Table(title="\nWhat the provider tried", title_justify="left")
    for column in ("", "act", "stopped by", "s", ""):
        table.add_column(column)
    for number, outcome in enumerate(outcomes, 1):
        verdict = "right" if outcome.right else "WRONG"
        table.add_row(str(number), outcome.name, outcome.stopped_by, f"{outcome.seconds:.0f}", verdict)
    console.print(table)
    verdict = "Every act ended as it must" if right else "Something did not end as it must"
    console.print(f"{verdict}. {seconds:.0f} s.")


def _hold(console: Console, cloud: Cloud) -> None:
    openrc = cloud.places.state / "openrc"
    lines = [f"export {key}='{value}'" for key, value in cloud.environment.items() if key.startswith(("OS_", "PATH"))]
    openrc.write_text("\n".join(lines) + "\n")
    console.print("kept until Enter. In another shell, as root:", markup=False)
    console.print("  nsenter -a -t $(pgrep -n -f 'e2e[.]openstack --image') bash", markup=False)
    console.print(f"  . {openrc}", markup=False, soft_wrap=True)
    try:
        input()
    except (EOFError, KeyboardInterrupt):
        pass


sys.exit(main())
