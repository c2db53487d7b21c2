"""``docs/explanation/what-the-authority-keeps.md`` has every column, field and label, no more and no less."""

from __future__ import annotations

import dataclasses
import re

import pytest
from tests.conftest import ROOT

from watchword.authority.store import schema
from watchword.authority.telemetry.events import EVENTS, Cost, Event
from watchword.launch.receipt import Decision, FindingRecord, LogPosition, StackRecord

PAGE = (ROOT / "docs" / "explanation" / "what-the-authority-keeps.md").read_text()
_SOURCE = ROOT / "src" / "watchword" / "authority" / "telemetry"
_NAME = re.compile(r"`([a-z_]+)`")


def section(title: str) -> str:
    """The text under a heading of any depth, up to the next one."""
    found = re.search(rf"^#+ {re.escape(title)}$(.*?)(?=^#|\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert found, f"there is no section {title}"
    return found[1]


def rows(title: str) -> list[list[str]]:
    """The cells of the table under a heading, its head left out."""
    lines = [line for line in section(title).splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:]]


def named(title: str) -> list[str]:
    """What the first column of that table names."""
    return [name for row in rows(title) for name in _NAME.findall(row[0])]


def test_every_table_has_a_section() -> None:
    assert sorted(re.findall(r"^### `(\w+)`$", PAGE, re.MULTILINE)) == sorted(schema.metadata.tables)


@pytest.mark.parametrize("table", sorted(schema.metadata.tables))
def test_every_column_is_listed(table: str) -> None:
    assert sorted(named(f"`{table}`")) == sorted(schema.metadata.tables[table].columns.keys())


@pytest.mark.parametrize("table", sorted(schema.metadata.tables))
def test_every_column_has_a_reason_and_an_end(table: str) -> None:
    assert all(len(row) == 4 and all(row) for row in rows(f"`{table}`"))


def test_every_field_of_a_receipt_is_listed() -> None:
    fields = {*Decision.__struct_fields__, *FindingRecord.__struct_fields__, *StackRecord.__struct_fields__}
    fields |= set(LogPosition.__struct_fields__)
    assert sorted(named("Receipts")) == sorted(fields)


def fields_of(kind: type[Event]) -> list[str]:
    """The members of the line for an event, beside those that every line has."""
    found: list[str] = []
    for field in dataclasses.fields(kind):
        found += [each.name for each in dataclasses.fields(Cost)] if field.name == "cost" else [field.name]
    return found


def test_every_line_of_the_log_is_listed() -> None:
    listed = {row[0].strip("`"): _NAME.findall(row[1]) for row in rows("The service's log")}
    expected = {kind.NAME: fields_of(kind) for kind in EVENTS}
    expected["every line"] = ["time", "severity", "event"]
    expected["library"] = ["message", "logger", "error", "frames"]
    assert listed == expected


def test_every_label_is_listed() -> None:
    text = "".join(path.read_text() for path in _SOURCE.glob("*.py"))
    labels = {name for found in re.findall(r"\[((?:\"\w+\"(?:, )?)+)\](?:, |,\s+)(?:buckets|registry)", text)
              for name in re.findall(r"\w+", found)}  # fmt: skip
    labels |= {name for found in re.findall(r"_gauge\([^)]*?, \(((?:\"\w+\",? ?)+)\)\)", text, re.DOTALL)
               for name in re.findall(r"\w+", found)}  # fmt: skip
    assert sorted(named("Metrics")) == sorted(labels)
