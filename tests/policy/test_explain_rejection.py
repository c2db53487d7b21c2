"""Explanations: every code has advice, and real refusals name the event, the component and the nearest stack."""

from __future__ import annotations

import ast
import importlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import watchword
from watchword.errors import Finding, Rejected
from watchword.policy.advice import ADVICE, advice_for
from watchword.policy.appraise import Appraisal, appraise
from watchword.policy.explain_rejection import Explanation, Place, explain, place_of
from watchword.policy.profile import Profile
from watchword.policy.release import StackRelease
from watchword.policy.stack import CompiledStack
from watchword.testing.documents import encode
from watchword.testing.recorded import RecordedHost
from watchword.testing.soft_tpm import SoftTpm
from watchword.verify.host import VerifiedHost

MAKE_FINDINGS = ("Finding", "Rejected", "MalformedError", "NoReturn")
SOURCE = Path(watchword.__file__).parent
NOW = 1_800_000_000

Host = Callable[..., VerifiedHost]
Stack = Callable[..., dict[str, Any]]


# Every code has advice


def raised(module: Path) -> Iterator[tuple[str, int]]:
    """Every code that ``module`` puts into a finding or a MalformedError, with its line; "?" when it cannot be told."""
    tree = ast.parse(module.read_text())
    takes_code = {"Finding": 1}  # callable -> where its code stands
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and getattr(node.returns, "id", "") in MAKE_FINDINGS:
            names = [argument.arg for argument in node.args.args]
            if "code" in names:
                takes_code[node.name] = names.index("code")
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = getattr(node.func, "id", "")
        named = next((k.value for k in node.keywords if k.arg == "code"), None)
        if name in takes_code:
            positional = node.args[takes_code[name]] if len(node.args) > takes_code[name] else None
            value = positional if named is None else named
        elif name == "MalformedError" and named is not None:
            value = named
        else:
            continue
        if isinstance(value, ast.Constant):
            yield str(value.value), node.lineno
        elif isinstance(value, ast.Name) and value.id != "code":  # a constant of the module
            name = ".".join(module.relative_to(SOURCE.parent).with_suffix("").parts)
            yield getattr(importlib.import_module(name), value.id), node.lineno
        elif not isinstance(value, ast.Name | ast.Attribute):
            yield "?", node.lineno


@pytest.mark.parametrize("layer", ["verify", "policy", "launch", "crypto", "tenant", "authority", "agent"])
def test_every_code_has_advice(layer: str) -> None:
    missing = {
        f"{code} ({module.name}:{line})"
        for module in sorted((SOURCE / layer).rglob("*.py"))
        for code, line in raised(module)
        if code not in ADVICE
    }
    assert not missing, f"no advice in policy/advice.py for: {', '.join(sorted(missing))}"


def test_the_search_for_codes_finds_them() -> None:
    found = {
        code for layer in ("verify", "policy") for file in (SOURCE / layer).rglob("*.py") for code, _ in raised(file)
    }
    assert {"quote-signature", "ek-certificate-padding", "boot-log-data", "stack-none", "runtime-file"} <= found


def test_advice_is_a_sentence() -> None:
    for code, advice in ADVICE.items():
        assert advice == advice.strip(), code
        assert advice.endswith((".", "FILE.", "FOLDER.")), code
        assert advice[0].isupper(), code
        assert advice.isprintable(), code
        assert len(advice) <= 400, code
    assert "no advice" in advice_for("not-a-code")


def test_nothing_to_do_is_said_of_notes_only() -> None:
    idle = {code for code, advice in ADVICE.items() if advice.startswith("Nothing to do")}
    calls = [
        node
        for file in (SOURCE / "verify").rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Finding"
    ]
    for call in calls:
        if isinstance(call.args[1], ast.Constant) and call.args[1].value in idle:
            assert [k.value.value for k in call.keywords if k.arg == "fatal"] == [False], call.args[1].value


def test_no_advice_is_left_over() -> None:
    files = [file for file in SOURCE.rglob("*.py") if "testing" not in file.parts]
    assert set(ADVICE) - {code for file in files for code, _ in raised(file)} == set()


# Where it is


def test_numbers_of_events_are_said_as_the_finding_has_them() -> None:
    assert str(Place(pcr=4, position=2, event=22)) == "PCR 4, event 2 of that PCR, log event 22"


@pytest.mark.parametrize(
    ("subject", "place"),
    [
        (
            "pcr 9 event 1 (log event 57), component image",
            Place(pcr=9, position=1, event=57, component="image", stack="compute 1.0"),
        ),
        ("pcr 9 event 1", Place(pcr=9, position=1, stack="compute 1.0")),
        ("pcr 7 event 12 type EV_SEPARATOR", Place(pcr=7, event=12, type="EV_SEPARATOR", stack="compute 1.0")),
        ("pcr 4", Place(pcr=4, stack="compute 1.0")),
        ("entry 5", Place(entry=5, stack="compute 1.0")),
        ("file /usr/bin/a b", Place(file="/usr/bin/a b", stack="compute 1.0")),
        ("stack other 2", Place(stack="other 2")),
        ("pcr " + "9" * 5000, Place(stack="compute 1.0")),
        ("something else", Place(stack="compute 1.0")),
        ("", Place(stack="compute 1.0")),
    ],
)
def test_the_place_is_read_from_the_subject(subject: str, place: Place) -> None:
    finding = Finding("E2", "stack-none", "the log ends before stack compute 1.0 does", subject=subject)
    assert place_of(finding) == place


# Real refusals


def judged(host: VerifiedHost, *documents: dict[str, Any], **rules: Any) -> tuple[Appraisal, list[StackRelease]]:
    rules = {"identity": ["virtual"], "covers": [4, 9], "stacks": ["compute"], "runtime": "listed", **rules}
    levels = [{"name": "low", "rules": {**rules, "runtime": "ignored"}}, {"name": "high", "rules": rules}]
    profile = {
        "format": "watchword-profile/1",
        "name": "p",
        "bank": "sha256",
        "pcrs": list(range(13)),
        "levels": levels,
    }
    stacks = [CompiledStack.parse(encode(document)) for document in documents]
    releases = [StackRelease(stack, stack.digest, frozenset()) for stack in stacks]
    return appraise(host, Profile.parse(encode(profile)), releases, NOW, challenged_at=NOW), releases


def refused(appraisal: Appraisal, releases: list[StackRelease]) -> Explanation:
    with pytest.raises(Rejected) as caught:
        appraisal.approve(2)
    return explain(caught.value.findings, appraisal, releases)


def test_another_kernel_is_located(host: Host, stack: Stack) -> None:
    explanation = refused(*judged(host("kernel"), stack("good")))
    (item,) = (i for i in explanation.document["findings"] if i["code"] == "stack-none")
    assert explanation.refused
    assert item["place"]["component"] == "image"
    assert item["place"]["stack"] == "compute good"
    assert item["place"]["pcr"] == 4
    event = item["event"]
    assert item["actual"].startswith(event["digest"])
    assert item["expected"][:64] != event["digest"]
    assert explanation.document["nearest"] == "compute good"
    assert explanation.document["levels"][0] == {"name": "low", "holds": False, "codes": ["stack-none"]}
    text = "\n".join(explanation.lines)
    for part in ("component  image of stack compute good", "expected", "found", "what to do: If the boot is", "PCR 4"):
        assert part in text
    assert text.index("stack-none") < text.index("profile-level")


def test_the_release_that_has_the_event_is_named(host: Host, stack: Stack) -> None:
    appraisal, _ = judged(host("good"), stack("kernel"))
    _, others = judged(host("good"), stack("good"))
    items = explain(appraisal.levels[0].findings, appraisal, others).document["findings"]
    assert [item["known_in"] for item in items] == [["component image, variant captured of stack compute good"]]


def test_an_altered_file_is_named(host: Host, stack: Stack) -> None:
    explanation = refused(*judged(host("altered-binary"), stack("good")))
    items = [item for item in explanation.document["findings"] if item["code"] == "runtime-file"]
    assert items
    assert all(item["place"]["file"].startswith("/") for item in items)
    assert all(item["actual"].startswith("sha256:") for item in items)
    assert explanation.document["level"] == "low"
    assert "level reached: low (rank 1)" in explanation.lines
    assert sum("what to do: Find out which package" in line for line in explanation.lines) == 1


def test_a_file_under_another_name_is_recognised(host: Host, stack: Stack) -> None:
    document = stack("good")
    path, digests = next((p, d) for p, d in document["runtime"]["files"].items() if p.startswith("/"))
    moved = {**document["runtime"]["files"], "/elsewhere": digests}
    del moved[path]
    document["runtime"]["files"] = moved
    items = refused(*judged(host("good"), document)).document["findings"]
    known = {item["place"]["file"]: item["known_in"] for item in items if item["code"] == "runtime-file"}
    assert "file /elsewhere of stack compute good" in known[path]


def test_a_refusal_without_an_appraisal(boots: Path) -> None:
    mine, other = (RecordedHost(boots / "good", SoftTpm.create()) for _ in range(2))
    with pytest.raises(Rejected) as caught:
        mine.verify(signature=other.arguments()["signature"])
    explanation = explain(caught.value.findings)
    assert explanation.lines[0] == "refused: [B4] quote-signature"
    assert explanation.lines[-1] == "  what to do: " + ADVICE["quote-signature"]
    assert explanation.document["findings"][0]["event"] is None


def test_a_good_host_needs_no_explanation(host: Host, stack: Stack) -> None:
    appraisal, releases = judged(host("good"), stack("good"))
    explanation = explain(appraisal.levels[1].findings, appraisal, releases)
    assert not explanation.refused
    assert "  high: holds" in explanation.lines


def test_many_findings_of_one_code_are_summed_up() -> None:
    findings = [Finding("D5", "runtime-file", "text", subject=f"file /{i}") for i in range(25)]
    explanation = explain(findings)
    assert len(explanation.document["findings"]) == 25
    assert "  and 15 more; --json shows all of them" in explanation.lines
    assert len(explanation.lines) < 20


def test_notes_come_last_and_refuse_nothing() -> None:
    notes = [Finding("C1", "boot-log-padding", "text", fatal=False)]
    assert explain(notes).lines[0].startswith("note:")
    assert not explain(notes).refused
    mixed = explain([*notes, Finding("D5", "runtime-file", "text")])
    assert mixed.lines[0] == "refused: [D5] runtime-file"
    assert explain([]).lines == ("nothing was found: there is nothing to explain",)


@settings(max_examples=100)
@given(st.text(), st.text(), st.text(), st.text(), st.text(), st.text(), st.booleans())
def test_findings_from_anywhere_are_explained(
    clause: str, code: str, message: str, expected: str, actual: str, subject: str, fatal: bool
) -> None:
    explanation = explain([Finding(clause, code, message, expected, actual, subject, fatal)])
    assert all(line.isprintable() for line in explanation.lines)
    json.dumps(explanation.document)
