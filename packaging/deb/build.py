#!/usr/bin/env python3
"""Build Watchword's Debian packages from a checkout: the same commit gives the same bytes.

Called by bin/deb. Python distributions come as locked wheels, compiled here, so that nothing is compiled on a host.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import tempfile
import time
import tomllib
from pathlib import Path
from typing import Any

from archive import Package, build
from closure import closure, locked
from stage import Stage

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
NOVA = "python3-watchword-nova"


def git(*arguments: str) -> str:
    """What git says about the checkout; empty when it is none."""
    command = ["git", "-C", str(ROOT), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


def moment() -> int:
    """Seconds of everything in the packages: SOURCE_DATE_EPOCH, else the time of the commit."""
    given = os.environ.get("SOURCE_DATE_EPOCH") or git("log", "-1", "--format=%ct")
    if not given.isdigit():
        raise SystemExit("error: not a git checkout\nhint: set SOURCE_DATE_EPOCH")
    return int(given)


def version(epoch: int) -> str:
    """Ours at a release's tag; between releases the time of the commit follows, so that a later one is newer."""
    [ours] = re.findall(r'^version = "([^"]+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    if git("tag", "--points-at", "HEAD", f"v{ours}"):
        return ours
    return f"{ours}+git{time.strftime('%Y%m%d.%H%M%S', time.gmtime(epoch))}"


def python(stage: Stage, about: dict[str, Any], earlier: set[str]) -> None:
    """The locked distributions of the package that no ``earlier`` one has, and our own code in the first."""
    names = closure(about["extras"]) - earlier
    folder = f"usr/lib/watchword/{about['folder']}"
    stage.install(folder, locked(ROOT / "requirements.lock", names))
    if not earlier:
        for name in git("ls-files", "src/watchword").splitlines():
            if not name.startswith("src/watchword/testing/"):
                stage.copy(ROOT / name, f"{folder}/{name.removeprefix('src/')}")
    stage.compile(folder)


def host(stage: Stage) -> None:
    """What only the package ``watchword`` has: the command, the manual pages, the folder of settings."""
    stage.copy(HERE / "launcher", "usr/bin/watchword", 0o755)
    for page in sorted((ROOT / "docs" / "man").glob("*.1")):
        stage.compressed(page, f"usr/share/man/man1/{page.name}.gz")
    (stage.root / "etc/watchword").mkdir(parents=True)


def nova(stage: Stage) -> None:
    """The scheduler's filter and weigher for nova's own Python, and the modules that they import."""
    for name in ("__init__", "integrations/__init__", "integrations/openstack/__init__"):
        stage.copy(ROOT / f"src/watchword/{name}.py", f"usr/lib/python3/dist-packages/watchword/{name}.py")
    for name in ("nova_scheduler", "trust_query"):
        path = f"watchword/integrations/openstack/{name}.py"
        stage.copy(ROOT / "src" / path, f"usr/lib/python3/dist-packages/{path}")


def fill(stage: Stage, name: str, about: dict[str, Any], earlier: set[str]) -> None:
    """Put everything of package ``name`` into ``stage``."""
    if name == NOVA:
        nova(stage)
    else:
        python(stage, about, earlier)
    if not earlier and name != NOVA:
        host(stage)
    for unit in about.get("units", []):
        stage.copy(ROOT / "packaging" / unit, f"lib/systemd/system/{unit}")
    for example in about.get("examples", []):
        stage.example(ROOT / "packaging" / example, name)
    for kind in ("sysusers", "tmpfiles"):
        if kind in about:
            stage.text(f"usr/lib/{kind}.d/{name}.conf", about[kind] + "\n")
    stage.documents(name, ROOT)
    stage.copy(HERE / "lintian-overrides", f"usr/share/lintian/overrides/{name}")


def main() -> None:
    """Build the packages into the folder named on the command line, and print their paths."""
    packages = tomllib.loads((HERE / "packages.toml").read_text())
    parser = argparse.ArgumentParser(prog="bin/deb", description=__doc__)
    parser.add_argument("out", type=Path, metavar="OUT", help="folder for the packages")
    parser.add_argument("--only", action="append", choices=packages, help="this package, and what else is named so")
    parser.add_argument("--uncompressed", action="store_true", help="be quick: larger packages, with other bytes")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    epoch, first = moment(), closure(packages["watchword"]["extras"])
    for name in arguments.only or packages:
        with tempfile.TemporaryDirectory() as folder:
            stage = Stage(Path(folder, "root"), epoch)
            fill(stage, name, packages[name], set() if name == "watchword" else first)
            package = Package(name, version(epoch), packages[name])
            compression = "none" if arguments.uncompressed else "xz"
            print(build(package, stage, HERE / "scripts", arguments.out, compression), flush=True)


if __name__ == "__main__":
    main()
