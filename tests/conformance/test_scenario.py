"""A file that is not exactly a scenario is not read as one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from watchword.conformance.own import judge
from watchword.conformance.scenario import MAX_FILE, Scenario, load_suite, read_scenario
from watchword.errors import MalformedError, UsageError

Change = Callable[[dict[str, Any]], object]


@pytest.fixture
def copied(suite_folder: Path, tmp_path: Path) -> Path:
    """A folder with one scenario, free to be changed."""
    shutil.copytree(suite_folder / "blobs", tmp_path / "blobs")
    return Path(shutil.copy(suite_folder / "good-p256.json", tmp_path))


def rewrite(path: Path, change: Change) -> None:
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


CHANGES: dict[str, Change] = {
    "another format": lambda d: d.update(format="watchword-attack/2"),
    "another name": lambda d: d.update(name="good-p384"),
    "an unknown member": lambda d: d["inputs"].update(trust_me=True),
    "an unknown verdict": lambda d: d["expected"].update(verdict="maybe"),
    "no evidence": lambda d: d["inputs"].update(evidence=None),
    "evidence in an enrolment": lambda d: d.update(kind="enrolment"),
    "a blob that is a path": lambda d: d["inputs"]["evidence"].update(event_log={"sha256": "../good-p256.json"}),
    "not base64": lambda d: d["inputs"]["evidence"].update(attest="%%%"),
    "a short question": lambda d: d["inputs"]["request"].update(qualifying_data="AAAA"),
    "PCR 24": lambda d: d["inputs"]["request"]["selection"][0].update(pcrs=[24]),
    "a PCR value that is not hex": lambda d: d["inputs"]["evidence"]["pcrs"]["sha256"].update({"0": "xy"}),
    "no class": lambda d: d["inputs"].update(classes=[]),
}


def test_the_copy_is_read(copied: Path, suite: dict[str, Scenario]) -> None:
    assert read_scenario(copied) == suite["good-p256"]


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_file_is_refused(copied: Path, change: str) -> None:
    rewrite(copied, CHANGES[change])
    with pytest.raises(MalformedError):
        read_scenario(copied)


def test_a_blob_must_have_the_content_it_is_named_for(copied: Path) -> None:
    reference = json.loads(copied.read_text())["inputs"]["evidence"]["event_log"]["sha256"]
    (copied.parent / "blobs" / reference).write_bytes(b"something else")
    with pytest.raises(MalformedError, match="another content"):
        read_scenario(copied)


def test_a_file_has_a_largest_size(copied: Path) -> None:
    copied.write_text(" " * (MAX_FILE + 1))
    with pytest.raises(MalformedError) as caught:
        read_scenario(copied)
    assert caught.value.code == "file-too-large"


def test_patterns_choose_and_must_choose_something(suite_folder: Path) -> None:
    assert [each.name for each in load_suite(suite_folder, ["quote-m*", "good-p?56"])] == [
        "good-p256", "quote-magic", "quote-missing-bank", "quote-more-pcrs",
    ]  # fmt: skip
    with pytest.raises(UsageError) as caught:
        load_suite(suite_folder, ["good-p256", "nothing-*"])
    assert caught.value.code == "scenario-unknown"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda d: d["inputs"].update(ak_public="AAAA"), ("A1", "malformed")),
        (lambda d: d["inputs"]["ek"].update(certificate="AAAA"), ("A1", "ek-certificate-malformed")),
        (lambda d: d["inputs"]["evidence"]["pcrs"].update(sha256={"zero": ""}), ("C1", "evidence-malformed")),
    ],
)
def test_malformed_inputs_are_refused_and_not_an_error(copied: Path, change: Change, reason: tuple[str, str]) -> None:
    rewrite(copied, change)
    answer = judge(read_scenario(copied))
    assert (answer.verdict, answer.clause, answer.code) == ("reject", *reason)
