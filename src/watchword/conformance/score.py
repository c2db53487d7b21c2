"""What the answers of a verifier are worth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from watchword.conformance.own import Answer
from watchword.conformance.scenario import Scenario

__all__ = ["Outcome", "Result", "count", "rate"]


class Outcome(StrEnum):
    """How an answer compares with what was expected."""

    RIGHT = "right"
    WRONGLY_ACCEPTED = "wrongly accepted"
    WRONGLY_REJECTED = "wrongly rejected"
    WRONG_REASON = "wrong reason"
    FAILED = "failed"
    LEFT_OUT = "left out"


@dataclass(frozen=True, slots=True)
class Result:
    """One scenario, what the verifier answered, and what that is worth."""

    scenario: Scenario
    answer: Answer
    outcome: Outcome

    @property
    def unmistakable(self) -> bool:
        """It accepted what no verifier can have a reason to accept."""
        return self.outcome is Outcome.WRONGLY_ACCEPTED and self.scenario.expected.unmistakable


def rate(scenario: Scenario, answer: Answer, *, reasons: bool) -> Result:
    """Compare ``answer`` with what is expected; with ``reasons`` clause and code have to be the same too."""
    return Result(scenario, answer, _outcome(scenario, answer, reasons))


def _outcome(scenario: Scenario, answer: Answer, reasons: bool) -> Outcome:
    expected = scenario.expected
    if answer.verdict == "unsupported":
        return Outcome.LEFT_OUT
    if answer.verdict == "failed":
        return Outcome.FAILED
    if answer.verdict != expected.verdict:
        return Outcome.WRONGLY_ACCEPTED if answer.verdict == "accept" else Outcome.WRONGLY_REJECTED
    if reasons and (answer.clause, answer.code) != (expected.clause, expected.code):
        return Outcome.WRONG_REASON
    return Outcome.RIGHT


def count(results: Sequence[Result]) -> dict[str, int]:
    """How many results there are of each outcome, in a fixed order."""
    found = Counter(result.outcome for result in results)
    return {outcome.value: found[outcome] for outcome in Outcome}
