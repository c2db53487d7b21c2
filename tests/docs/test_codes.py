"""``docs/reference/codes.md`` has every reason code of the source, no more and no less."""

from __future__ import annotations

import re

import pytest
from tests.conftest import ROOT
from tests.docs.source import errors, findings

PAGE = ROOT / "docs" / "reference" / "codes.md"
_SECTION = re.compile(r"^## (\w+): .*?$(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
_ROW = re.compile(r"^\| `([a-z0-9-]+)` \| (.*) \|$", re.MULTILINE)
KINDS = ("UsageError", "Unavailable", "TpmError", "MalformedError", "Rejected")


def listed() -> dict[str, list[str]]:
    """The codes of every section, by the class that it is about."""
    return {kind: [code for code, _ in _ROW.findall(body)] for kind, body in _SECTION.findall(PAGE.read_text())}


def raised(kind: str) -> set[str]:
    if kind == "Rejected":
        return {each.code for each in findings()}
    return {each.code for each in errors() if each.kind == kind}


@pytest.mark.parametrize("kind", KINDS)
def test_every_code_of_the_source_is_listed(kind: str) -> None:
    assert raised(kind) - set(listed()[kind]) == set()


@pytest.mark.parametrize("kind", KINDS)
def test_every_code_listed_is_in_the_source(kind: str) -> None:
    assert set(listed()[kind]) - raised(kind) == set()


@pytest.mark.parametrize("kind", KINDS)
def test_codes_are_listed_once_and_in_order(kind: str) -> None:
    codes = listed()[kind]
    assert codes == sorted(set(codes))


def test_rejections_name_their_clauses() -> None:
    expected: dict[str, set[str]] = {}
    for each in findings():
        expected.setdefault(each.code, set()).add(each.kind)
    section = dict(_SECTION.findall(PAGE.read_text()))["Rejected"]
    found = {code: set(rest.partition(" | ")[0].split(", ")) for code, rest in _ROW.findall(section)}
    assert found == expected


def test_nothing_is_left_without_advice() -> None:
    for _, body in _SECTION.findall(PAGE.read_text()):
        for code, rest in _ROW.findall(body):
            assert rest.rpartition("| ")[2].strip().endswith((".", "?")), code


def test_codes_are_words() -> None:
    codes = {each.code for each in (*errors(), *findings())}
    assert [code for code in codes if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", code)] == []
