"""``docs/spec/clauses.md`` says what the source does, no more and no less."""

from __future__ import annotations

import re
from collections import defaultdict

from tests.conftest import ROOT
from tests.docs.source import SOURCE, findings

PAGE = ROOT / "docs" / "spec" / "clauses.md"
_ROW = re.compile(r"^\| ([A-Z][0-9]{1,2}) \| (.+?) \| (.+?) \| (.+?) \|$", re.MULTILINE)
_QUOTED = re.compile(r"`([^`]+)`")
_CLAUSES = {
    *(f"A{number}" for number in range(1, 6)),
    *(f"B{number}" for number in range(1, 11)),
    *(f"C{number}" for number in range(1, 7)),
    *(f"D{number}" for number in range(1, 7)),
    *(f"E{number}" for number in range(1, 6)),
    *(f"F{number}" for number in range(1, 6)),
    *(f"V{number}" for number in range(1, 6)),
    *("L1", "L2", "S1", "S2", "K1", "K2", "O1", "O2", "R1", "R2", "R3", "W1", "W2", "W4", "W5"),
    *(f"T{number}" for number in range(1, 8)),
}  # fmt: skip
# Clauses whose failure has another clause's code: a profile that does not parse, a receipt with a bad signature.
_ELSEWHERE = {"E1", "V2"}


def rows() -> list[tuple[str, str, frozenset[str]]]:
    """Clause, code and functions of every row."""
    return [
        (clause, code, frozenset(_QUOTED.findall(functions)))
        for clause, _, codes, functions in _ROW.findall(PAGE.read_text())
        if clause not in _ELSEWHERE
        for code in _QUOTED.findall(codes)
    ]


def raised() -> dict[tuple[str, str], set[str]]:
    """Clause and code to functions; what ``watchword inspect`` repeats of a check is left out."""
    found: dict[tuple[str, str], set[str]] = defaultdict(set)
    for each in findings():
        found[each.kind, each.code].add(each.function)
    for functions in found.values():
        checking = {name for name in functions if not name.startswith("cli.")}
        functions &= checking or functions
    return found


def test_every_clause_and_code_of_the_source_is_in_the_page() -> None:
    assert set(raised()) - {(clause, code) for clause, code, _ in rows()} == set()


def test_every_clause_and_code_of_the_page_is_in_the_source() -> None:
    assert {(clause, code) for clause, code, _ in rows()} - set(raised()) == set()


def test_no_clause_and_code_has_two_rows() -> None:
    found = [(clause, code) for clause, code, _ in rows()]
    assert len(found) == len(set(found))


def test_the_page_names_the_functions() -> None:
    source = raised()
    expected = {key: ", ".join(f"`{name}`" for name in sorted(names)) for key, names in source.items()}
    wrong = {row[:2]: expected.get(row[:2]) for row in rows() if row[2] != source.get(row[:2])}
    assert wrong == {}, "the last column should be as shown"


def test_all_clauses_are_there() -> None:
    assert _CLAUSES - {row[0] for row in _ROW.findall(PAGE.read_text())} == set()


def test_functions_of_clauses_without_a_code_exist() -> None:
    for clause, _, _, functions in _ROW.findall(PAGE.read_text()):
        for name in _QUOTED.findall(functions) if clause in _ELSEWHERE else ():
            module, _, function = name.partition(":")
            text = (SOURCE / f"{module.replace('.', '/')}.py").read_text()
            assert f"def {function.rpartition('.')[2]}(" in text, name
