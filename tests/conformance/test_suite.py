"""What is kept in ``vectors/attacks`` holds: answers, differences, names, size, and that it can be made again."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest
from tests.conftest import ROOT

from watchword.conformance.own import judge
from watchword.conformance.scenario import Scenario, load_suite
from watchword.conformance.score import Outcome, rate
from watchword.conformance.things import THINGS, differences
from watchword.testing.attack_suite.suite import make
from watchword.testing.attack_suite.writer import write
from watchword.testing.farm import have_swtpm

NAMES = sorted(path.stem for path in (ROOT / "vectors" / "attacks").glob("*.json"))
NAMED_ATTACKS = (
    "replayed evidence", "quote relabelled", "quote over debug PCRs", "quote over a missing bank", "SHA-1-only quote",
    "extra or trailing bytes in the quote", "other host's quote", "other host's EK", "AK without restricted",
    "emulated TPM posing as hardware", "EK certificate of a CA that may not sign",
    "event data that does not match its digest", "event type rewritten", "events after the separator",
    "duplicate separator", "log cut short", "log ahead of the quote by more than allowed", "IMA entry altered",
    "IMA entry dropped", "IMA entry reordered", "file name with a newline", "violation hidden", "TPM cleared",
    "clock rolled back",
)  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_our_verifier_gives_the_answer_that_is_stated(suite: dict[str, Scenario], name: str) -> None:
    answer = judge(suite[name])
    assert rate(suite[name], answer, reasons=True).outcome is Outcome.RIGHT, answer


@pytest.mark.parametrize("name", [name for name in NAMES if not name.startswith("good-")])
def test_an_attack_differs_from_its_control_in_one_named_thing(suite: dict[str, Scenario], name: str) -> None:
    attack = suite[name]
    assert attack.broken is not None
    control = suite[attack.control or ""]
    assert control.expected.verdict == "accept"
    assert control.kind == attack.kind
    found = differences(attack.inputs, control.inputs)
    assert found
    assert found <= THINGS[attack.broken.thing]
    assert attack.expected.verdict == "reject"
    assert attack.expected.clause
    assert attack.attack


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("good-")])
def test_a_control_has_nothing_broken(suite: dict[str, Scenario], name: str) -> None:
    control = suite[name]
    assert (control.broken, control.control, control.attack) == (None, None, "")
    assert (control.expected.verdict, control.expected.clause, control.expected.unmistakable) == ("accept", "", False)


def test_every_named_attack_on_evidence_is_there(suite: dict[str, Scenario]) -> None:
    tried = {scenario.attack for scenario in suite.values()}
    assert [name for name in NAMED_ATTACKS if not any(attack.startswith(name) for attack in tried)] == []


def test_no_two_scenarios_are_the_same(suite: dict[str, Scenario]) -> None:
    questions = {hashlib.sha256(scenario.question()).digest() for scenario in suite.values()}
    assert len(questions) == len(suite)


def test_what_takes_memory_or_a_policy_is_not_called_unmistakable(suite: dict[str, Scenario]) -> None:
    wanted = {"last-seen", "runtime-seen", "firmware-allowed", "selection", "time"}
    marked = {s.broken.thing for s in suite.values() if s.expected.unmistakable and s.broken is not None}
    assert marked.isdisjoint(wanted)
    assert {"quote", "ek-certificate", "ak", "event-log", "ima-log"} <= marked


def test_blobs_are_all_used_and_the_suite_is_small(suite_folder: Path) -> None:
    text = "".join(path.read_text() for path in suite_folder.glob("*.json"))
    assert {path.name for path in (suite_folder / "blobs").iterdir()} == set(re.findall(r'"sha256": "(\w{64})"', text))
    assert sum(path.stat().st_size for path in suite_folder.rglob("*") if path.is_file()) < 4 << 20


@pytest.mark.skipif(not have_swtpm(), reason="swtpm is not installed: the suite is made with real emulated TPMs")
def test_the_suite_can_be_made_again(suite: dict[str, Scenario], boots: Path, tmp_path: Path) -> None:
    (tmp_path / "old.json").write_text("{}")
    write(tmp_path, make(boots))
    again = load_suite(tmp_path)
    assert {each.name: (each.title, each.control, each.broken, each.expected) for each in again} == {
        each.name: (each.title, each.control, each.broken, each.expected) for each in suite.values()
    }
    wrong = [each.name for each in again if rate(each, judge(each), reasons=True).outcome is not Outcome.RIGHT]
    assert wrong == []
