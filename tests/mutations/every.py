"""Take away every check of ``wire`` to ``launch`` that the syntax tree shows: ``bin/mutations --every``.

The catalogue names the checks that clauses ask for; this finds the others. A mutant that removes a check must be
caught, or be listed with the reason in docs/reference/mutations.md.
"""

from __future__ import annotations

import argparse
import ast
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from . import __main__ as catalogue
from .sites import KINDS, REMOVES, Change, changes, mutated

PACKAGES = ("verify", "policy", "wire", "launch")
AGAIN = 120  # seconds for the second try of a mutant: one that loops for ever is not one that was caught
BESIDE = {"launch": ("authority",)}  # where a package is tested too, on real stores and emulated TPMs
LIST = catalogue.ROOT / "docs" / "reference" / "mutations.md"
_ENTRY = re.compile(r"^- `(\S+\.py)`\s+`(\S+)`:\s+``(.+?)``$", re.M | re.S)


@dataclass(frozen=True)
class Mutant:
    """The change ``number`` of ``file``, and what became of it."""

    file: str
    number: int
    change: Change
    status: str

    @property
    def key(self) -> tuple[str, str, str]:
        """What the list knows it by: no line numbers, which move."""
        return self.file, self.change.function, self.change.text

    def __str__(self) -> str:
        return f"{self.change.kind:8} {self.status:9} - `{self.file}` `{self.change.function}`: ``{self.change.text}``"


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="bin/mutations --every", description="Take away every check once.")
    parser.add_argument("only", nargs="*", help="packages (verify) or files (verify/quote.py) to limit this to")
    parser.add_argument("--list", action="store_true", help="print the mutants and run nothing")
    parser.add_argument("--seconds", type=int, default=40, help="how long the tests of one mutant may take")
    parser.add_argument("--tests", action="append", default=[], help="a folder or file of tests to limit them to")
    parser.add_argument("--source", type=Path, default=catalogue.ROOT / "src", help="the sources to start from")
    options = parser.parse_args(arguments)
    files = list(modules(options.source, options.only))
    if options.list:
        print(*(f"{file} {c.kind}: {c.text}" for file in files for c in found(options.source, file)), sep="\n")
        return 0
    with tempfile.TemporaryDirectory(prefix="ww-mutations-") as folder:
        original = catalogue.copy(options.source.resolve(), Path(folder).resolve())
        mutants = list(run(original, files, options.seconds, options.tests))
        # What the quick way did not catch is tried again in a copy of its own, in a process of its own.
        survivors = [mutant for mutant in mutants if mutant.status != "caught" and not caught(original, mutant)]
    return report(mutants, survivors)


def modules(source: Path, only: Sequence[str]) -> Iterator[str]:
    """The files to go through, as paths below ``src/watchword``."""
    root = source / "watchword"
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            name = path.relative_to(root).as_posix()
            if not only or any(name == each or name.startswith(f"{each}/") for each in only):
                yield name


def found(source: Path, file: str) -> list[Change]:
    return changes(ast.parse((source / "watchword" / file).read_text()))


def run(original: Path, files: Sequence[str], seconds: int, tests: Sequence[str] = ()) -> Iterator[Mutant]:
    """All mutants of ``files``, tried in children of one process. Raises SystemExit when the tests fail unmutated."""
    known = {file: found(original, file) for file in files}
    command = [
        sys.executable,
        "-m",
        "tests.mutations.forked",
        str(original),
        str(seconds),
        *files,
        *(f"--{test}" for test in tests),
    ]
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            command,
            cwd=catalogue.ROOT,
            env=catalogue.environment(original),
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        assert process.stdout is not None
        seen = 0
        for line in process.stdout:
            row = json.loads(line)
            if "problem" in row:
                sys.exit(f"{row['file']}: {row['problem']}")
            seen += 1
            mutant = Mutant(row["file"], row["number"], known[row["file"]][row["number"]], row["status"])
            print(f"{row['seconds']:5.1f} s  {mutant}", flush=True)
            yield mutant
        process.wait()
        errors.seek(0)
        if seen != sum(map(len, known.values())):
            sys.exit(f"only {seen} mutants were tried; these tests must pass:\n{errors.read()[-4000:]}")


def caught(original: Path, mutant: Mutant) -> bool:
    """Whether the tests of the module, and those beside it that import it, notice ``mutant`` in a real copy."""
    with tempfile.TemporaryDirectory(prefix="ww-mutation-") as folder:
        source = Path(folder).resolve() / "src"
        shutil.copytree(original, source, ignore=shutil.ignore_patterns("__pycache__"))
        path = source / "watchword" / mutant.file
        path.write_text(ast.unparse(mutated(path.read_text(), mutant.number)))
        code = "import watchword, sys; sys.exit(not watchword.__file__.startswith(sys.argv[1]))"
        subprocess.run([sys.executable, "-c", code, str(source)], env=catalogue.environment(source), check=True)
        try:
            return catalogue.pytest(source, mirrored(mutant.file), AGAIN).returncode == catalogue.FAILED
        except subprocess.TimeoutExpired:
            return False


def mirrored(file: str) -> list[str]:
    """The test files of a module in its own package, or beside it: of its name or importing it; else all."""
    path = Path(file)
    dotted = f"watchword.{'.'.join(path.with_suffix('').parts)}"
    chosen = []
    for folder in (path.parts[0], *BESIDE.get(path.parts[0], ())):
        for test in sorted((catalogue.ROOT / "tests" / folder).rglob("test_*.py")):
            if path.stem in test.stem or dotted in test.read_text():
                chosen.append(test.relative_to(catalogue.ROOT).as_posix())
    return chosen or [f"tests/{path.parts[0]}"]


def report(mutants: Iterable[Mutant], survivors: Sequence[Mutant]) -> int:
    """Print the figures; 1 when a mutant that removes a check survives and is not listed."""
    total, left = Counter(m.change.kind for m in mutants), Counter(m.change.kind for m in survivors)
    for kind in KINDS:
        print(f"{kind:9} {total[kind]:4} mutants, {left[kind]:3} survived")
    known = listed(LIST.read_text())
    bad = [mutant for mutant in survivors if mutant.change.kind in REMOVES and mutant.key not in known]
    for mutant in survivors:
        word = "NOT LISTED" if mutant in bad else "listed" if mutant.key in known else "counted"
        print(f"  {word}: {mutant}")
    return 1 if bad else 0


def listed(text: str) -> frozenset[tuple[str, str, str]]:
    """The survivors that the document gives a reason for."""
    return frozenset((match[1], match[2], " ".join(match[3].split())) for match in _ENTRY.finditer(text))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
