"""Watchword and Keylime on the same logs, in the same run, by turns: ratios of CPU time.

Keylime runs in an environment of its own, which ``../shared/bench/keylime/setup.sh`` makes in a scratch folder (about
two minutes, once). Each side's figure is the least CPU time of several calls, since the machine has other things to do.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.measure import Figure
from bench.runtime import BOOT_LOG, ENTRIES, NEW, Runtime, boot_figure

__all__ = ["Comparison", "MissingError", "run"]

SCRIPTS = Path(__file__).resolve().parent.parent.parent / "shared" / "bench" / "keylime"
ROUNDS = 3


class MissingError(Exception):
    """What the comparison needs and this machine does not have."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """One line: microseconds of CPU on both sides (or KiB), and how many times less ours is."""

    name: str
    ours: float
    theirs: float
    wanted: float
    unit: str = "µs"

    @property
    def ratio(self) -> float:
        return self.theirs / self.ours

    def document(self) -> dict[str, object]:
        values = {"ours": round(self.ours, 3), "keylime": round(self.theirs, 3), "unit": self.unit}
        return {"name": self.name, **values, "ratio": round(self.ratio, 2), "wanted": self.wanted}

    def line(self) -> str:
        return (
            f"{self.name:44} {self.ours:10.2f} {self.unit:4} Keylime {self.theirs:12.2f} {self.unit:4}"
            f" {self.ratio:9.1f}x   (wanted {self.wanted:g}x)"
        )


def run(report: Callable[[str], None]) -> tuple[list[Comparison], list[Figure]]:
    """Both sides by turns, ``report`` being told how it goes. Raises MissingError."""
    folder = _environment(report)
    data = folder / "bench" / "data"
    runtime = Runtime(data)
    ours: dict[str, float] = {}
    theirs: dict[str, float] = {}
    figures: dict[str, Figure] = {}
    for number in range(1, ROUNDS + 1):
        report(f"round {number} of {ROUNDS}")
        for name, seconds in _keylime(folder).items():
            theirs[name] = min(theirs.get(name, seconds), seconds)
        for figure in (boot_figure(data / BOOT_LOG), *runtime.figures()):
            figures[figure.name] = figure
            ours[figure.name] = min(ours.get(figure.name, figure.min_us), figure.min_us)
    part, whole = ours["IMA, 10 new entries"], theirs["runtime"] * 1e6
    found = [
        Comparison("boot log, parsed and appraised", ours["boot log"], theirs["boot"] * 1e6, 25),
        Comparison("IMA per entry, first host", ours["IMA, taught"], whole, 8),
        Comparison("  with the stack sorted by path", ours["IMA, taught, sorted"], whole, 8),
        Comparison("  with nothing known of any file", ours["IMA, nothing known"], whole, 1),
        Comparison("IMA per entry, second host", ours["IMA, second host"], whole, 15),
        Comparison("  in another order by blocks of 20", ours["IMA, second host, mixed"], whole, 8),
        Comparison("  in another order altogether", ours["IMA, second host, shuffled"], whole, 4),
        Comparison(f"{NEW} new entries, {ENTRIES} paths", part, theirs["part"] * 1e6, 1000),
        Comparison("memory per further host", runtime.memory_kib(), _keylime_memory(folder), 200, "KiB"),
    ]
    floors = [Figure(name, ours[name], ours[name], ours[name], figures[name].calls) for name in runtime.floors]
    return found, floors


def _environment(report: Callable[[str], None]) -> Path:
    """The folder with Keylime in it, made if need be."""
    chosen = os.environ.get("WATCHWORD_BENCH_KEYLIME")
    folder = Path(chosen or Path(tempfile.gettempdir()) / f"watchword-bench-keylime-{os.getuid()}")
    if not (folder / "ready").exists() and not (folder / "bench" / "data" / "quotes").is_dir():
        if not (SCRIPTS / "setup.sh").exists():
            raise MissingError(f"there is no {SCRIPTS.name}/setup.sh in {SCRIPTS.parent}: it makes Keylime's side")
        report("setting up Keylime, about two minutes")
        made = subprocess.run([SCRIPTS / "setup.sh", folder], capture_output=True, text=True, check=False)
        if made.returncode:
            raise MissingError(f"Keylime could not be set up: {made.stderr.strip()[-500:]}")
        (folder / "ready").touch()
    for needed in ("venv/bin/python", f"bench/data/{BOOT_LOG}", "bench/data/mbpolicy-sb.json"):
        if not (folder / needed).exists():
            raise MissingError(f"Keylime's environment in {folder} has no {needed}: remove the folder and try again")
    return folder


def _keylime(folder: Path) -> dict[str, float]:
    """Seconds of CPU per call, by what was measured."""
    script = Path(__file__).with_name("keylime_side.py")
    answer = _child(folder, [str(script), str(folder / "bench"), str(ENTRIES)])
    document: dict[str, float] = json.loads(answer)
    return document


def _keylime_memory(folder: Path) -> float:
    """KiB per agent in Keylime's cache of policies, for agents that share one policy."""
    answer = _child(folder, [str(folder / "bench" / "bench_policycache.py"), str(ENTRIES), "10"])
    found = re.search(r"([0-9.]+) MiB per agent", answer)
    if found is None:
        raise MissingError("Keylime's side did not tell its memory")
    return float(found[1]) * 1024


def _child(folder: Path, arguments: list[str]) -> str:
    done = subprocess.run(
        [folder / "venv" / "bin" / "python", *arguments], capture_output=True, text=True, check=False, timeout=1200
    )
    if done.returncode:
        raise MissingError(f"Keylime's side failed: {done.stderr.strip()[-500:]}")
    return done.stdout


def main(as_json: bool) -> int:
    """What ``bin/bench --against keylime`` prints; 1 when something is missing."""
    try:
        found, floors = run(lambda text: print(text, file=sys.stderr, flush=True))
    except MissingError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    if as_json:
        document = {
            "comparisons": [each.document() for each in found],
            "floors": [each.document() for each in floors],
        }
        print(json.dumps(document, indent=1))
        return 0
    for each in found:
        print(each.line())
    for floor in floors:
        print(f"{floor.name:44} {floor.min_us:10.2f} µs")
    return 0
