"""``bin/bench``: medians of what matters, as a table or as JSON."""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Iterable, Mapping
from itertools import chain
from types import MappingProxyType

from bench import against_keylime, files, fleet, growth, launching, parts, release, service
from bench.measure import Figure


def main() -> None:
    parser = argparse.ArgumentParser(prog="bin/bench", description=__doc__)
    parser.add_argument(
        "what",
        nargs="?",
        choices=["fleet", "growth", "launching", "files", "release"],
        help="in place of the rest: a fleet that attests, how its cost grows, launches while it attests, "
        "reference values of an image, a release of one",
    )
    parser.add_argument("--of", action="append", choices=list(growth.GROWTHS), help="one growth; may be repeated")
    parser.add_argument("--files", type=int, default=100_000, help="how many files the image has")
    parser.add_argument("--hosts", type=int, default=200, help="how many hosts the fleet has")
    parser.add_argument("--store", choices=["sqlite", "postgresql"], default="sqlite", help="of the fleet's authority")
    parser.add_argument("--json", action="store_true", help="one JSON document")
    parser.add_argument("--launches", type=int, default=300, help="releases to measure end to end")
    parser.add_argument("--against", choices=["keylime"], help="compare the appraisal of logs with another verifier")
    options = parser.parse_args()
    if options.against:
        sys.exit(against_keylime.main(options.json))
    if options.what == "files":
        emit(options.json, show(files.run(options.files), options.json))
        return
    if options.what == "release":
        emit(options.json, show(release.run(options.files), options.json))
        return
    if options.what == "fleet":
        emit(options.json, show(fleet.run(options.hosts, store=options.store), options.json))
        return
    if options.what == "growth":
        emit(options.json, show(growth.run(options.of or ()), options.json))
        return
    if options.what == "launching":
        emit(options.json, show(launching.run(), options.json))
        return
    figures = show(chain(parts.run(), service.run(options.launches)), options.json)
    by_name = {figure.name: figure.median_us for figure in figures}
    ratios = {
        "quote verify / bare signature check": by_name["quote verify"] / by_name["bare signature check"],
        "IMA parse and verify / bare hash chain": (
            (by_name["IMA parse, per entry"] + by_name["IMA verify, per entry"]) / by_name["IMA floor, per entry"]
        ),
    }
    emit(options.json, figures, ratios)
    if not options.json:
        for name, value in ratios.items():
            print(f"{name:45} {value:6.2f}")


def show(figures: Iterable[Figure], as_json: bool) -> list[Figure]:
    """Print each figure as it comes, unless all of them come as JSON in the end."""
    found = []
    for figure in figures:
        found.append(figure)
        if not as_json:
            print(f"{figure.name:28} {figure.median_us:10.2f} µs   {figure.note}", flush=True)
    return found


def emit(as_json: bool, figures: list[Figure], ratios: Mapping[str, float] = MappingProxyType({})) -> None:
    """One JSON document, if that was asked for."""
    if not as_json:
        return
    document = {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "figures": [figure.document() for figure in figures],
        "ratios": {name: round(value, 3) for name, value in ratios.items()},
    }
    json.dump(document, sys.stdout, indent=1)
    print()


main()
