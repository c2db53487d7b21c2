"""Keeps what fuzzing found worth keeping: the smallest inputs of ``.fuzz/`` that reach something the seeds do not.

.venv/bin/python fuzz/keep_seeds.py [HARNESS ...]; after bin/fuzz. What it adds came out of our own seeds: nothing else
is read. Another parser's evidence has no place here.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MOST = 60  # grown seeds of a harness
LONGEST = 2048  # bytes of one


def merged(name: str, out: Path) -> list[Path]:
    """The inputs that libFuzzer keeps: one for each thing that no smaller one reaches."""
    folders = [ROOT / "fuzz" / "seeds" / name, ROOT / ".fuzz" / name / "corpus"]
    # To survive an input that ends it, the merging process starts what it was started as again: that must be a program.
    program = out.parent / name
    source = f"exec(compile(open({str(ROOT / 'fuzz' / f'{name}.py')!r}).read(), 'harness', 'exec'))"
    program.write_text(f"#!{ROOT}/.fuzz/env/bin/python\n{source}\n")
    program.chmod(0o700)
    subprocess.run(
        [program, "-merge=1", "-timeout=5", "-max_len=65536", out, *folders],
        cwd=out.parent,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=True,
    )
    return list(out.iterdir())


def keep(name: str) -> None:
    seeds = ROOT / "fuzz" / "seeds" / name
    seeds.mkdir(parents=True, exist_ok=True)
    there = {hashlib.sha256(path.read_bytes()).hexdigest() for path in seeds.iterdir()}
    with tempfile.TemporaryDirectory() as folder:
        (out := Path(folder) / "merged").mkdir()
        inputs = sorted((path.read_bytes() for path in merged(name, out)), key=lambda data: (len(data), data))
    new = [data for data in inputs if hashlib.sha256(data).hexdigest() not in there and len(data) <= LONGEST]
    for data in new[:MOST]:
        (seeds / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)
    print(f"{name}: {len(there)} seeds, {len(inputs)} inputs in all reach everything, {len(new[:MOST])} added")


if __name__ == "__main__":
    for harness in sys.argv[1:] or sorted(path.stem for path in (ROOT / "fuzz").glob("fuzz_*.py")):
        keep(harness)
