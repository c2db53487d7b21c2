"""``bin/bench``: medians of what matters, as a table or as JSON."""

from __future__ import annotations

import argparse
import json
import platform
import sys

from bench import against_keylime, parts, service


def main() -> None:
    parser = argparse.ArgumentParser(prog="bin/bench", description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON document")
    parser.add_argument("--launches", type=int, default=300, help="releases to measure end to end")
    parser.add_argument("--against", choices=["keylime"], help="compare the appraisal of logs with another verifier")
    options = parser.parse_args()
    if options.against:
        sys.exit(against_keylime.main(options.json))
    figures = []
    for figure in (*parts.run(), *service.run(options.launches)):
        figures.append(figure)
        if not options.json:
            print(f"{figure.name:26} {figure.median_us:10.2f} µs   {figure.note}", flush=True)
    by_name = {figure.name: figure.median_us for figure in figures}
    ratios = {
        "quote verify / bare signature check": by_name["quote verify"] / by_name["bare signature check"],
        "IMA parse and verify / bare hash chain": (
            (by_name["IMA parse, per entry"] + by_name["IMA verify, per entry"]) / by_name["IMA floor, per entry"]
        ),
    }
    if options.json:
        document = {
            "python": platform.python_version(),
            "machine": platform.machine(),
            "figures": [figure.document() for figure in figures],
            "ratios": {name: round(value, 3) for name, value in ratios.items()},
        }
        json.dump(document, sys.stdout, indent=1)
        print()
        return
    for name, value in ratios.items():
        print(f"{name:45} {value:6.2f}")


main()
