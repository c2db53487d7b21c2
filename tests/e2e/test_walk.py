"""``bin/try-guides``: every line that the walk types is on the page; and, slow, the walk itself on real machines."""

from __future__ import annotations

import ast
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from e2e.guides import walk
from e2e.openstack.guide import Guide
from tests.conftest import ROOT

GUIDE = Guide(ROOT)


def lines() -> Iterator[tuple[str, str]]:
    """Page and part of a line, of every call of ``type`` in the walk; loops over lines are unrolled."""
    for function in ast.walk(ast.parse(Path(walk.__file__).read_text())):
        if not isinstance(function, ast.FunctionDef):
            continue
        loops = [node for node in ast.walk(function) if isinstance(node, ast.For)]
        for call in ast.walk(function):
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "type":
                page, part = call.args[1:3]
                assert isinstance(page, ast.Name)
                parts = [part.value] if isinstance(part, ast.Constant) else list(_looped(loops, call))
                yield from ((getattr(walk, page.id), str(each)) for each in parts)


def _looped(loops: list[ast.For], call: ast.Call) -> Iterator[object]:
    [loop] = [loop for loop in loops if call in list(ast.walk(loop))]
    for item in ast.literal_eval(loop.iter):
        yield item[-1] if isinstance(item, tuple) else item


@pytest.mark.parametrize(("page", "part"), sorted(set(lines())))
def test_every_line_that_is_typed_is_on_its_page(page: str, part: str) -> None:
    _, command = GUIDE.typed(page, part)
    assert part in command


def test_there_are_lines() -> None:
    assert len(set(lines())) > 30


def test_a_line_that_a_page_has_twice_is_not_typed() -> None:
    with pytest.raises(LookupError):
        GUIDE.typed("run-an-authority", "sudo")
    with pytest.raises(LookupError):
        GUIDE.typed("run-an-authority", "no such line")


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to build the machines")
def test_the_guides_do_what_they_say() -> None:
    done = subprocess.run(
        ["bin/try-guides", "--json"], cwd=ROOT, capture_output=True, timeout=3 * 3600, check=False,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    report = json.loads(done.stdout.splitlines()[-1])
    assert done.returncode == 0, report["error"]
    assert report["found"]["doctor"].startswith("ready: yes")
    assert report["found"]["verify"].startswith("TRUSTED: web1")
