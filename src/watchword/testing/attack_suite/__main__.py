"""``python -m watchword.testing.attack_suite OUT``: make the attack suite again.

Every run has fresh TPMs, keys and signatures; what is broken, and what must come of it, is the same each time.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from watchword.testing.attack_suite.suite import make
from watchword.testing.attack_suite.writer import write

_FOLDER = click.Path(path_type=Path, file_okay=False)


@click.command()
@click.argument("out", type=_FOLDER)
@click.option("--boots", type=_FOLDER, default=Path("vectors") / "boots", show_default=True, help="Recorded boots.")
def main(out: Path, boots: Path) -> None:
    """Write the scenarios to OUT. Needs swtpm."""
    scenarios = make(boots)
    write(out, scenarios)
    click.echo(f"{len(scenarios)} scenarios in {out}", err=True)


if __name__ == "__main__":
    sys.exit(main())
