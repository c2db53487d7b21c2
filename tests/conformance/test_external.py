"""A verifier behind a command line: what it is told, and what becomes of every way to answer."""

from __future__ import annotations

import json
import re
import sys
import time
from pathlib import Path

import pytest
from tests.conftest import ROOT

from watchword.conformance.external import Verifier
from watchword.conformance.own import Answer
from watchword.conformance.scenario import Scenario
from watchword.conformance.score import Outcome, rate
from watchword.errors import UsageError

PAGE = ROOT / "docs" / "reference" / "attack-suite.md"


@pytest.fixture
def command(tmp_path: Path):
    """Make a command out of a Python program."""

    def make(program: str) -> str:
        path = tmp_path / "verifier.py"
        path.write_text(program)
        return f"{sys.executable} {path}"

    return make


def test_it_sees_the_inputs_and_not_the_answer(suite: dict[str, Scenario], command, tmp_path: Path) -> None:
    program = f"""import sys; open({str(tmp_path / "seen")!r}, "w").write(sys.stdin.read())
print('{{"verdict": "accept"}}')"""
    scenario = suite["runtime-dropped"]
    assert Verifier(command(program), 20).judge(scenario).verdict == "accept"
    seen = json.loads((tmp_path / "seen").read_text())
    assert set(seen) == {"format", "kind", "inputs"}
    assert isinstance(seen["inputs"]["evidence"]["ima_log"], str)
    text = json.dumps(seen)
    assert scenario.broken is not None
    for hidden in (scenario.name, scenario.broken.text, scenario.expected.code, "unmistakable"):
        assert hidden not in text


@pytest.mark.parametrize(
    ("program", "verdict", "reason"),
    [
        ("""print('{"verdict": "reject", "reason": "no", "more": 1}')""", "reject", "no"),
        ("""print('{"verdict": "unsupported"}')""", "unsupported", ""),
        ("""print('{"verdict": "fine"}')""", "failed", "not an answer"),
        ("print('accept')", "failed", "not an answer"),
        ("pass", "failed", "not an answer"),
        ("print('{' * 70000)", "failed", "65536 bytes"),
        ("""print('{"verdict": "accept"}'); raise SystemExit(4)""", "failed", "status 4"),
    ],
)
def test_answers(suite: dict[str, Scenario], command, program: str, verdict: str, reason: str) -> None:
    answer = Verifier(command(program), 20).judge(suite["good-boot"])
    assert answer.verdict == verdict
    assert reason in answer.reason


def test_one_that_does_not_end_is_ended_with_its_children(suite: dict[str, Scenario], command) -> None:
    program = "import subprocess; subprocess.run(['sleep', '60'])"
    start = time.monotonic()
    answer = Verifier(command(program), 0.5).judge(suite["good-boot"])
    assert (answer.verdict, answer.reason) == ("failed", "no answer within 0.5 seconds")
    assert time.monotonic() - start < 20


@pytest.mark.parametrize("text", ["", "no-such-program-anywhere", "'unbalanced"])
def test_a_command_must_be_one(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        Verifier(text, 1)
    assert caught.value.code == "verifier-command"


@pytest.mark.parametrize(
    ("name", "verdict", "outcome"),
    [
        ("good-boot", "accept", Outcome.RIGHT),
        ("good-boot", "reject", Outcome.WRONGLY_REJECTED),
        ("quote-magic", "accept", Outcome.WRONGLY_ACCEPTED),
        ("quote-magic", "unsupported", Outcome.LEFT_OUT),
        ("quote-magic", "failed", Outcome.FAILED),
    ],
)
def test_what_an_answer_is_worth(
    suite: dict[str, Scenario], command, name: str, verdict: str, outcome: Outcome
) -> None:
    result = rate(suite[name], Answer(verdict), reasons=False)
    assert result.outcome is outcome
    assert result.unmistakable is (outcome is Outcome.WRONGLY_ACCEPTED)


# --- the example of the documentation -------------------------------------------------------------------------------

JUDGED = (
    "good-two-banks", "good-p256", "quote-magic", "quote-type", "quote-trailing", "quote-replayed", "quote-relabelled",
    "quote-pcr-boundary", "quote-zero-signature", "quote-other-host", "quote-sha1-only",
)  # fmt: skip


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Verifier:
    source = re.search(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert source is not None
    path = tmp_path_factory.mktemp("adapter") / "adapter.py"
    path.write_text(source[1])
    return Verifier(f"{sys.executable} {path}", 60)


@pytest.mark.parametrize("name", JUDGED)
def test_the_adapter_of_the_documentation_is_right(suite: dict[str, Scenario], adapter: Verifier, name: str) -> None:
    answer = adapter.judge(suite[name])
    assert rate(suite[name], answer, reasons=False).outcome is Outcome.RIGHT, answer


@pytest.mark.parametrize("name", ["good-rsassa", "good-enrolment", "quote-clock"])
def test_the_adapter_says_what_it_does_not_judge(suite: dict[str, Scenario], adapter: Verifier, name: str) -> None:
    assert adapter.judge(suite[name]).verdict == "unsupported"
