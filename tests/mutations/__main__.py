"""Delete each check once: a test must fail. ``bin/mutations [--list] [--jobs N] [CLAUSE or FILE …]``.

With ``--every`` the checks are found in the syntax trees of the sources: see ``every``.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from .catalogue import MUTATIONS
from .mutation import Mutation

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT = 600  # seconds for the tests of one mutation, or for all of them without any
PASSED, FAILED = 0, 1  # what pytest exits with; anything else means that the tests did not run


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="bin/mutations", description="Delete each check once: a test must fail.")
    parser.add_argument("only", nargs="*", help="clauses (B7) or parts of file names (quote) to limit this to")
    parser.add_argument("--list", action="store_true", help="print the mutations and run nothing")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="how many at the same time")
    parser.add_argument("--source", type=Path, default=ROOT / "src", help="the sources to start from")
    options = parser.parse_args(arguments)
    chosen = [m for m in MUTATIONS if not options.only or any(o == m.clause or o in m.file for o in options.only)]
    if options.list:
        print(*chosen, sep="\n")
        return 0
    tests = sorted({test for mutation in chosen for test in mutation.tests})
    with tempfile.TemporaryDirectory(prefix="ww-mutations-") as folder:
        # One copy for all of it: the checkout may be worked on meanwhile.
        original = copy(options.source, Path(folder))
        if problem := unmutated(original, tests):
            print(f"these tests must pass without any mutation, and do not:\n{problem}", file=sys.stderr)
            return 2
        with ThreadPoolExecutor(max(options.jobs, 1)) as pool:
            results = list(pool.map(lambda mutation: run(original, mutation), chosen))
    survivors = [mutation for mutation, caught in zip(chosen, results, strict=True) if not caught]
    print(f"{len(chosen)} mutations, {len(survivors)} survived")
    for mutation in survivors:
        print(f"  survived: {mutation}")
    return 1 if survivors else 0


def unmutated(source: Path, tests: Sequence[str]) -> str:
    """What goes wrong in a copy that nothing was changed in; also shows that it is the copy that is tested."""
    code = "import watchword, sys; sys.exit(not watchword.__file__.startswith(sys.argv[1]))"
    where = subprocess.run([sys.executable, "-c", code, str(source)], env=environment(source), check=False)
    if where.returncode:
        return "the copy is not what is imported"
    done = pytest(source, tests)
    return "" if done.returncode == PASSED else done.stdout[-4000:]


def run(original: Path, mutation: Mutation) -> bool:
    """True when the mutation is caught."""
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="ww-mutation-") as folder:
        source = copy(original, Path(folder))
        path = source / "watchword" / mutation.file
        path.write_text(mutation.apply(path.read_text()))
        try:
            done = pytest(source, mutation.tests)
        except subprocess.TimeoutExpired:
            print(f"  too slow  {mutation}", flush=True)
            return False
    word = {PASSED: "SURVIVED", FAILED: "caught"}.get(done.returncode, "did not run")
    print(f"{word:>11} {time.monotonic() - start:5.1f} s  {mutation}", flush=True)
    if done.returncode not in (PASSED, FAILED):
        print(done.stdout[-800:], file=sys.stderr)
    return done.returncode == FAILED


def copy(original: Path, folder: Path) -> Path:
    """A copy of the sources that a mutation may be applied to."""
    source = folder / "src"
    shutil.copytree(original, source, ignore=shutil.ignore_patterns("__pycache__"))
    return source


def environment(source: Path) -> dict[str, str]:
    # Python puts PYTHONPATH before site-packages and its .pth files, so the copy wins over an editable installation.
    return {**os.environ, "PYTHONPATH": str(source), "PYTHONDONTWRITEBYTECODE": "1"}


def pytest(source: Path, tests: Sequence[str], seconds: int = TIMEOUT) -> subprocess.CompletedProcess[str]:
    """Run ``tests`` until the first failure."""
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests],
        cwd=ROOT,
        env=environment(source),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=seconds,
        check=False,
    )


if __name__ == "__main__":
    if "--every" in sys.argv[1:]:
        from .every import main as every

        sys.exit(every([argument for argument in sys.argv[1:] if argument != "--every"]))
    sys.exit(main(sys.argv[1:]))
