"""``watchword attack-suite``: lists, tables and exit statuses."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tests.conftest import ROOT

from watchword.cli.attack_suite import attack_suite
from watchword.errors import UsageError

SUITE = ROOT / "vectors" / "attacks"


def call(*arguments: str) -> Result:
    name, *rest = arguments
    return CliRunner().invoke(attack_suite, [name, "--suite", str(SUITE), *rest], catch_exceptions=False)


@pytest.fixture
def always(tmp_path: Path):
    """A verifier that always says the same."""

    def make(verdict: str) -> str:
        path = tmp_path / "always.py"
        path.write_text(f'print(\'{{"verdict": "{verdict}", "reason": "as\\\\u001b[31m ever"}}\')')
        return f"{sys.executable} {path}"

    return make


def test_our_own_verifier_is_right_about_all_of_it() -> None:
    done = call("run", "--json")
    counts = json.loads(done.stdout)["counts"]
    assert done.exit_code == 0
    assert counts.pop("right") == len(list(SUITE.glob("*.json")))
    assert set(counts.values()) == {0}


def test_the_table_names_reason_and_sum() -> None:
    done = call("run", "quote-magic", "good-boot")
    assert "quote-magic" in done.stdout
    assert "B1 quote-magic" in done.stdout
    assert done.stdout.rstrip().endswith("2 right")


def test_accepting_the_unmistakable_is_exit_status_3(always) -> None:
    done = call("run", "--verifier", always("accept"), "quote-magic", "quote-clock", "good-boot")
    assert done.exit_code == 3
    assert "quote-magic" in done.stderr
    assert "quote-clock" not in done.stderr
    assert "2 wrongly accepted" in done.stdout
    assert "\x1b" not in done.stdout


def test_accepting_what_a_policy_forbids_is_only_reported(always) -> None:
    done = call("run", "--json", "--verifier", always("accept"), "quote-clock")
    assert done.exit_code == 0
    result = json.loads(done.stdout)["results"][0]
    assert (result["outcome"], result["unmistakable"]) == ("wrongly accepted", False)


def test_rejecting_everything_is_wrong_too(always) -> None:
    done = call("run", "--verifier", always("reject"), "good-boot")
    assert done.exit_code == 0
    assert "1 wrongly rejected" in done.stdout


def test_no_answer_is_exit_status_2(always) -> None:
    done = call("run", "--verifier", always("perhaps"), "good-boot")
    assert done.exit_code == 2
    assert "1 failed" in done.stdout


def test_our_own_verifier_has_to_give_the_reason(tmp_path: Path) -> None:
    document = json.loads((SUITE / "identity-altered.json").read_text())
    document["expected"]["code"] = "ek-revoked"
    (tmp_path / "identity-altered.json").write_text(json.dumps(document))
    done = CliRunner().invoke(attack_suite, ["run", "--suite", str(tmp_path)], catch_exceptions=False)
    assert done.exit_code == 3
    assert "1 wrong reason" in done.stdout


def test_the_list_says_what_is_broken() -> None:
    done = call("list", "--json", "boot-header")
    (only,) = json.loads(done.stdout)["scenarios"]
    assert (only["clause"], only["code"], only["control"]) == ("C1", "boot-log-registers", "good-boot")
    assert only["broken"] in call("list", "boot-header").stdout
    assert len(call("list").stdout.splitlines()) == len(list(SUITE.glob("*.json")))


def test_a_name_that_there_is_not() -> None:
    with pytest.raises(UsageError):
        call("list", "nothing")
