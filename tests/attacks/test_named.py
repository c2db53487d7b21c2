"""The table of ``docs/spec/attacks.md`` and the tests must name the same attacks."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).parent
PAGE = ROOT / "docs/spec/attacks.md"
ROW = re.compile(
    r"^\| (?P<attack>[^|]+) \| (?P<clause>[^|]+) \| (?P<codes>[^|]+) \| (?P<tests>[^|]+) \|$", re.MULTILINE
)
NAMED = [
    "untrusted-host launch",
    "replayed evidence",
    "replayed token",
    "token on a second instance",
    "more releases than allowed",
    "expired token",
    "swapped image",
    "swapped user-data",
    "rescue with another image",
    "rebuild/evacuate reuse",
    "profile softened",
    "old stack after revocation",
    "mixed stack (two good halves)",
    "quote relabelled (values presented for PCRs that were not signed)",
    "quote over debug PCRs",
    "quote over a missing bank",
    "SHA-1-only quote",
    "extra or trailing bytes in the quote",
    "other host's quote",
    "other host's EK",
    "AK without restricted",
    "emulated TPM posing as hardware",
    "EK certificate of a CA that may not sign",
    "event data that does not match its digest",
    "event type rewritten",
    "events after the separator",
    "duplicate separator",
    "log cut short",
    "log ahead of the quote by more than allowed",
    "IMA entry altered",
    "IMA entry dropped",
    "IMA entry reordered",
    "file name with a newline",
    "violation hidden",
    "reboot into another system between quote and unseal",
    "PCR extended between quote and unseal",
    "TPM cleared",
    "clock rolled back",
    "blob moved to another host",
    "lease expired",
    "relay reads or alters evidence or release",
    "relayed challenge (two VMs, one genuine)",
    "man in the middle of the SSH verification",
    "forged receipt",
    "forked log",
    "dropped entry",
    "authority database stolen",
    "authority killed at every step",
    "two authorities racing for the last release",
    "pool confusion",
    "release signed by the wrong key",
    "rollback",
    "known-bad component",
]


def rows() -> list[re.Match[str]]:
    return [row for row in ROW.finditer(PAGE.read_text()) if row["attack"] not in ("attack", "---")]


def functions(path: Path) -> dict[str, str]:
    """Test functions with their docstrings, one line."""
    tree = ast.parse(path.read_text())
    found = {node.name: ast.get_docstring(node) or "" for node in tree.body if isinstance(node, ast.FunctionDef)}
    return {name: " ".join(text.split()) for name, text in found.items() if name.startswith("test_")}


@pytest.mark.parametrize("attack", NAMED)
def test_every_named_attack_is_in_the_table(attack: str) -> None:
    assert any(row["attack"] == attack or row["attack"].startswith(f"{attack}: ") for row in rows())


@pytest.mark.parametrize("row", rows(), ids=lambda row: row["attack"])
def test_the_tests_of_a_row_exist_and_name_it(row: re.Match[str]) -> None:
    attack = row["attack"].partition(":")[0]
    for test in re.findall(r"`([^`]+)`", row["tests"]):
        file, _, name = test.partition("::")
        path = (ROOT if file.startswith("tests/") else HERE) / file
        found = functions(path)
        assert name in found, test
        if path.parent == HERE:
            assert attack.lower() in found[name].lower(), f"{test} does not say that it is: {attack}"
