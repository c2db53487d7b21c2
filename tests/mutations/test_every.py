"""What the search for checks finds, and that its list of survivors fits the sources."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from .every import LIST, found, listed, modules
from .sites import REMOVES, changes, mutated

ROOT = Path(__file__).resolve().parents[2]

SOURCE = """
def f(a, b):
    if a < 1 or not (b and a):
        raise ValueError
    if a:
        return 1
    raise KeyError

class C:
    def g(self, r):
        if 0 <= r <= 9:
            pass
        elif not 0 <= r <= 9:
            fail("r")
        _check_it(r)
        r.finish()
        return parse_whole(r, "r", C.g)
"""


def test_what_is_found() -> None:
    assert [(change.kind, change.function, change.text) for change in changes(ast.parse(SOURCE))] == [
        ("removed", "f", "a < 1 or not (b and a)"),
        ("operand", "f", "a < 1 or not (b and a) without a < 1"),
        ("operand", "f", "a < 1 or not (b and a) without not (b and a)"),
        ("boundary", "f", "a < 1 or not (b and a) -> a <= 1"),
        ("operand", "f", "a < 1 or not (b and a) without b"),
        ("operand", "f", "a < 1 or not (b and a) without a"),
        ("removed", "f", "a"),
        ("removed", "C.g", "not 0 <= r <= 9"),
        ("operand", "C.g", "not 0 <= r <= 9 without 0 <= r"),
        ("operand", "C.g", "not 0 <= r <= 9 without r <= 9"),
        ("boundary", "C.g", "not 0 <= r <= 9 -> 0 < r <= 9"),
        ("boundary", "C.g", "not 0 <= r <= 9 -> 0 <= r < 9"),
        ("call", "C.g", "_check_it(r)"),
        ("finish", "C.g", "r.finish()"),
        ("finish", "C.g", "parse_whole(r, 'r', C.g)"),
    ]


@pytest.mark.parametrize(
    ("number", "line"),
    [
        (0, "if False:"),
        (1, "if not (b and a):"),
        (2, "if a < 1:"),
        (3, "if a <= 1 or not (b and a):"),
        (4, "if a < 1 or not a:"),
        (6, "if True:"),
        (9, "elif not 0 <= r:"),
        (11, "elif not 0 <= r < 9:"),
        (12, "pass"),
        (14, "return C.g(__import__('watchword.wire.reader', fromlist=['Reader']).Reader(r, 'r'))"),
    ],
)
def test_what_is_done(number: int, line: str) -> None:
    before = ast.unparse(mutated(SOURCE, -1)).splitlines()
    after = ast.unparse(mutated(SOURCE, number)).splitlines()
    assert [text.strip() for old, text in zip(before, after, strict=True) if old != text] == [line]


def test_every_module_can_be_mutated() -> None:
    for file in modules(ROOT / "src", ()):
        source = (ROOT / "src/watchword" / file).read_text()
        unchanged = ast.dump(ast.parse(source))
        for number, change in list(enumerate(found(ROOT / "src", file)))[::10]:  # all would take long
            assert ast.dump(mutated(source, number)) != unchanged, (file, change.text)


def test_what_is_listed_is_there() -> None:
    entries = listed(LIST.read_text())
    known = {
        (file, change.function, change.text)
        for file in modules(ROOT / "src", ())
        for change in found(ROOT / "src", file)
        if change.kind in REMOVES
    }
    assert entries
    assert entries - known == set()
