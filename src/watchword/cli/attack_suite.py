"""``watchword attack-suite``: what a verifier makes of known attacks."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from watchword.cli.output import emit, json_option, note, printable
from watchword.conformance.external import Verifier
from watchword.conformance.own import judge
from watchword.conformance.scenario import Scenario, load_suite
from watchword.conformance.score import Outcome, Result, count, rate

__all__ = ["attack_suite"]

_SUITE = Path("vectors") / "attacks"
_NOT_PROVEN, _REFUSED = 2, 3  # exit statuses

_suite = click.option(
    "--suite",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    default=_SUITE,
    show_default=True,
    metavar="FOLDER",
    help="Where the scenarios are.",
)
_names = click.argument("names", nargs=-1, metavar="[NAME]...")


@click.group("attack-suite")
def attack_suite() -> None:
    """Try a verifier against known attacks on evidence.

    A scenario is one piece of evidence with one thing broken, and the answer that it must get; controls have nothing
    broken. NAME may have * and ?. The format, and how to point another verifier at it: docs/reference/attack-suite.md.

    \b
    Example:
      watchword attack-suite run
      watchword attack-suite run --verifier ./my-verifier 'quote-*'
    """


@attack_suite.command("list")
@_names
@_suite
@json_option
def list_scenarios(names: tuple[str, ...], suite: Path, as_json: bool) -> None:
    """List scenarios, what is broken in each and which answer is right.

    \b
    Example:
      watchword attack-suite list 'boot-*'
    """
    scenarios = load_suite(suite, names)
    emit({"scenarios": [_described(each) for each in scenarios]}, "\n".join(map(_line, scenarios)), as_json=as_json)


@attack_suite.command()
@_names
@click.option("--verifier", metavar="COMMAND", help="Try this program instead of Watchword's own verifier.")
@click.option(
    "--timeout", type=click.FloatRange(0.1, 3600), default=60.0, show_default=True, help="Its seconds for a scenario."
)
@_suite
@json_option
def run(names: tuple[str, ...], verifier: str | None, timeout: float, suite: Path, as_json: bool) -> None:
    """Ask a verifier about every scenario and compare its answers with the right ones.

    Of Watchword's own verifier the reasons have to be right as well. Exit status 3 when an unmistakable attack was
    accepted, or our own verifier was wrong in any way; 2 when another verifier gave no answer to something.

    \b
    Example:
      watchword attack-suite run --verifier 'python3 adapter.py' 'quote-*'
    """
    ask = Verifier(verifier, timeout).judge if verifier else judge
    results = [rate(each, ask(each), reasons=verifier is None) for each in load_suite(suite, names)]
    document = {"counts": count(results), "results": [_judged(each) for each in results]}
    emit(document, _table(results), as_json=as_json)
    click.get_current_context().exit(_status(results, own=verifier is None))


def _status(results: Sequence[Result], *, own: bool) -> int:
    worst = [each.scenario.name for each in results if each.unmistakable]
    if worst:
        note(f"accepted although nobody can have a reason to: {', '.join(worst)}")
    if worst or (own and any(each.outcome is not Outcome.RIGHT for each in results)):
        return _REFUSED
    return _NOT_PROVEN if any(each.outcome is Outcome.FAILED for each in results) else 0


def _table(results: Sequence[Result]) -> str:
    lines = [_row(each) for each in results]
    lines.append("")
    lines += [f"{number:4} {outcome}" for outcome, number in count(results).items() if number]
    return "\n".join(lines)


def _row(result: Result) -> str:
    answer = result.answer
    said = f"{answer.clause} {answer.code}".strip() or re.sub(r"\s+", " ", answer.reason)[:60]
    return f"{result.outcome.value:16} {result.scenario.name:40} {answer.verdict:11} {printable(said)}".rstrip()


def _line(scenario: Scenario) -> str:
    expected = scenario.expected
    what = f"{expected.clause} {expected.code}" if expected.code else expected.verdict
    return f"{scenario.name:40} {what:32} {scenario.broken.text if scenario.broken else scenario.title}"


def _described(scenario: Scenario) -> dict[str, Any]:
    expected = scenario.expected
    return {
        "name": scenario.name,
        "title": scenario.title,
        "attack": scenario.attack,
        "kind": scenario.kind,
        "control": scenario.control,
        "broken": scenario.broken.text if scenario.broken else None,
        "verdict": expected.verdict,
        "clause": expected.clause,
        "code": expected.code,
        "unmistakable": expected.unmistakable,
    }


def _judged(result: Result) -> dict[str, Any]:
    answer = result.answer
    return {
        "name": result.scenario.name,
        "outcome": result.outcome.value,
        "unmistakable": result.unmistakable,
        "verdict": answer.verdict,
        "clause": answer.clause,
        "code": answer.code,
        "reason": answer.reason,
    }
