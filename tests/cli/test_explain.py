"""``watchword explain`` and ``watchword ear``: kept refusals, and real evidence of emulated hosts."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from watchword.cli.ear import ear as ear_command
from watchword.cli.explain import explain as explain_command
from watchword.cli.explain_input import read_findings
from watchword.cli.main import run
from watchword.crypto import dsse
from watchword.errors import Finding, MalformedError, Rejected, UsageError
from watchword.launch.receipt import Decision, FindingRecord
from watchword.policy import ear
from watchword.policy.advice import ADVICE
from watchword.policy.stack import PAYLOAD_TYPE
from watchword.policy.trustworthiness import Claim, Tier
from watchword.testing.documents import encode
from watchword.testing.emulated import EmulatedHost
from watchword.testing.farm import SwTpm, have_swtpm
from watchword.testing.memory_log import MemoryLog
from watchword.testing.signed_authority import SignedAuthority

KEY = Ed25519PrivateKey.generate()
FINDING = Finding("D5", "runtime-file", "a file ran", "", "sha256:" + "ab" * 32, "file /usr/bin/tool")
PCRS = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]

Explain = Callable[..., dict[str, Any]]


@pytest.fixture
def explain(capsys: pytest.CaptureFixture[str]) -> Explain:
    """Run the command with --json; its document."""

    def make(*arguments: object) -> dict[str, Any]:
        capsys.readouterr()
        explain_command.main([*map(str, arguments), "--json"], standalone_mode=False)
        document: dict[str, Any] = json.loads(capsys.readouterr().out)
        return document

    return make


def decision(*findings: Finding) -> Decision:
    outcome = "refused" if findings else "released"
    text: dict[str, Any] = dict.fromkeys(
        ("launch", "token", "instance", "profile", "inputs", "level", "host", "evidence"), "ab"
    )
    numbers: dict[str, Any] = dict.fromkeys(("time", "rank", "required", "releases", "allowed", "lease"), 0)
    records = tuple(FindingRecord.of(finding) for finding in findings)
    return Decision(outcome=outcome, stack=None, findings=records, **text, **numbers)


def receipt(*findings: Finding) -> bytes:
    return MemoryLog("auditor").receipt(decision(*findings).encode(), bytes(32), KEY)


def result(*findings: Finding) -> bytes:
    return ear.from_appraisal(findings, ear.VerifierId("d", "b"), int(time.time()))


# Refusals that were kept


def test_every_form_of_a_refusal_is_taken() -> None:
    record = json.loads(decision(FINDING).encode())["findings"]
    forms = [
        decision(FINDING).encode(),
        receipt(FINDING),
        receipt() + b"\n" + receipt(FINDING) + b"\n",
        encode({"error": {"code": "x", "message": "y", "hint": "", "findings": record}}),
        encode({"verified": True, "receipts": [{"findings": []}, {"findings": record}]}),
        encode({"verdict": "trusted", "refused": [{"findings": record}]}),
        encode({"findings": record}),
    ]
    for form in forms:
        assert read_findings(form) == (FINDING,)
    for form in (result(FINDING), ear.sign(result(FINDING), KEY)):
        (found,) = read_findings(form)
        assert (found.code, found.subject) == ("runtime-file", "file /usr/bin/tool")


def test_an_error_without_findings_is_its_code() -> None:
    (found,) = read_findings(encode({"error": {"code": "tls-untrusted", "message": "no", "hint": "h"}}))
    assert (found.code, found.message) == ("tls-untrusted", "no")
    (found,) = read_findings(encode({"type": "urn:watchword:problem:overloaded", "detail": "wait"}))
    assert (found.code, found.message) == ("overloaded", "wait")


def test_a_release_needs_no_explanation(tmp_path: Path, explain: Explain) -> None:
    (tmp_path / "r").write_bytes(receipt())
    assert explain(tmp_path / "r") == {"refused": False, "findings": []}


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"hello", b"\xff\n\xff", b'{"error": 1}', b"[" * 100_000])
def test_something_else_is_the_callers_mistake(data: bytes) -> None:
    with pytest.raises((UsageError, MalformedError)):
        read_findings(data)


@pytest.mark.parametrize(
    "data",
    [
        b"a.b.c",
        encode({"error": {"code": 1}}),
        encode({"findings": [1]}),
        encode({"findings": {"code": "x"}}),
        encode({"findings": [{"code": "x" * 10_000}]}),
        encode({"format": "watchword-decision/1"}),
    ],
)
def test_a_damaged_record_is_malformed(data: bytes) -> None:
    with pytest.raises(MalformedError):
        read_findings(data)


def test_the_text_tells_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "r").write_bytes(receipt(FINDING))
    explain_command.main([str(tmp_path / "r")], standalone_mode=False)
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "refused: [D5] runtime-file",
        "  a file ran: /usr/bin/tool",
        f"    found      sha256:{'ab' * 32}",
        "  what to do: " + ADVICE["runtime-file"],
    ]


def test_options_are_for_folders(tmp_path: Path, explain: Explain) -> None:
    (tmp_path / "r").write_bytes(receipt(FINDING))
    with pytest.raises(UsageError, match="not a folder"):
        explain(tmp_path / "r", "--level", "gold")
    with pytest.raises(UsageError, match="profile"):
        explain(tmp_path)


# Evidence of emulated hosts


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, boots: Path) -> Iterator[Callable[[str], Path]]:
    """The folder that ``watchword agent evidence`` writes on a host in the state of a recording."""
    if not have_swtpm():
        pytest.skip("swtpm is not installed: tests with a TPM are left out")
    base = tmp_path_factory.mktemp("evidence")
    tpm = SwTpm().start()

    def make(boot: str) -> Path:
        folder = base / boot
        if not folder.exists():
            host = EmulatedHost(tpm, boots / boot)
            logs = ["--event-log", str(host.event_log_path), "--runtime-log", str(host.ima_log_path)]
            state = ["--tpm", host.tpm_address, "--state", str(base / "state")]
            assert run(["agent", "evidence", str(folder), *state, *logs]) == 0
        return folder

    yield make
    tpm.stop()


@pytest.fixture
def documents(tmp_path: Path, boots: Path) -> list[str]:
    """The options that name a profile and the stack of the recording "good"."""
    rules = {"identity": ["virtual"], "covers": [4, 9], "stacks": ["compute"], "runtime": "ignored"}
    strict = {**rules, "runtime": "listed", "endorsers": {"keys": ["11" * 32], "threshold": 1}}
    levels = [{"name": "low", "rules": rules}, {"name": "high", "rules": strict}]
    profile = {"format": "watchword-profile/1", "name": "p", "bank": "sha256", "pcrs": PCRS, "levels": levels}
    (tmp_path / "profile.json").write_bytes(encode(profile))
    logs = ["--eventlog", str(boots / "good/eventlog.bin"), "--ima", str(boots / "good/ima.bin")]
    stack = ["--name", "compute", "--version", "1.0", "-o", str(tmp_path / "stack.json")]
    pcrs = ["--component", "firmware=0,2,3", "--component", "image=4,9"]
    assert run(["stack", "capture", *logs, *stack, *pcrs]) == 0
    return ["--profile", str(tmp_path / "profile.json"), "--stack", str(tmp_path / "stack.json")]


def test_a_good_host_reaches_the_highest_level(
    folders: Callable[[str], Path], documents: list[str], explain: Explain
) -> None:
    found = explain(folders("good"), *documents)
    assert (found["refused"], found["level"], found["offline"]) == (False, "high", True)
    assert any("when the evidence was collected" in text for text in found["not_checked"])


def test_another_kernel_is_explained(folders: Callable[[str], Path], documents: list[str], explain: Explain) -> None:
    found = explain(folders("kernel"), *documents)
    (miss,) = (item for item in found["findings"] if item["code"] == "stack-none")
    assert (miss["place"]["component"], miss["place"]["pcr"]) == ("image", 4)
    assert found["nearest"] == "compute 1.0"


def test_an_altered_program_is_explained(
    folders: Callable[[str], Path], documents: list[str], explain: Explain
) -> None:
    found = explain(folders("altered-binary"), *documents)
    assert found["level"] == "low"
    assert {item["code"] for item in found["findings"] if item["fatal"]} == {"runtime-file"}
    assert not explain(folders("altered-binary"), *documents, "--level", "low")["refused"]


def test_the_class_of_the_tpm_is_taken_for_granted(
    folders: Callable[[str], Path], documents: list[str], explain: Explain
) -> None:
    found = explain(folders("good"), *documents, "--ek-class", "firmware")
    assert {item["code"] for item in found["findings"]} == {"identity-class"}


def test_an_endorsed_stack_is_taken_too(
    folders: Callable[[str], Path], documents: list[str], tmp_path: Path, explain: Explain
) -> None:
    envelope = dsse.sign((tmp_path / "stack.json").read_bytes(), PAYLOAD_TYPE, [KEY])
    (tmp_path / "stack.json").write_bytes(envelope)
    assert explain(folders("good"), *documents)["level"] == "high"
    (tmp_path / "stack.json").write_bytes(dsse.sign(b"{}", "application/other", [KEY]))
    with pytest.raises(MalformedError, match="not a stack"):
        explain(folders("good"), *documents)


def altered(folder: Path, copy: Path, name: str, change: Callable[[bytes], bytes]) -> Path:
    copy.mkdir()
    for file in folder.iterdir():
        data = file.read_bytes()
        (copy / file.name).write_bytes(change(data) if file.name == name else data)
    return copy


@pytest.mark.parametrize(
    ("name", "change", "code"),
    [
        ("nonce", lambda data: bytes(32), "quote-binding"),
        ("quote.attest", lambda data: data + b"\0", "quote-malformed"),
        ("quote.signature", lambda data: data[:-1] + bytes([data[-1] ^ 1]), "quote-signature"),
        ("pcrs.json", lambda data: data.replace(b'"7": "', b'"7": "00'), "quote-pcr-digest"),
        ("event.log", lambda data: data[:-40], "evidence-malformed"),
        ("ima.log", lambda data: data[:-1], "evidence-malformed"),
        ("ak.public", lambda data: data[:-1], "evidence-malformed"),
    ],
)
def test_altered_evidence_is_explained(
    folders: Callable[[str], Path],
    documents: list[str],
    explain: Explain,
    tmp_path: Path,
    name: str,
    change: Callable[[bytes], bytes],
    code: str,
) -> None:
    found = explain(altered(folders("good"), tmp_path / "altered", name, change), *documents)
    assert [item["code"] for item in found["findings"]] == [code]
    assert found["findings"][0]["advice"] == ADVICE[code]
    assert "level" not in found


def test_other_pcrs_are_explained_with_the_command_to_run(
    folders: Callable[[str], Path], documents: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "profile.json"
    path.write_bytes(path.read_bytes().replace(encode(PCRS), encode([*PCRS, 11])))
    explain_command.main([str(folders("good")), *documents], standalone_mode=False)
    told = capsys.readouterr()
    assert "quote-selection" in told.out
    assert "--pcrs sha256:0,1,2,3,4,5,6,7,8,9,10,11" in told.err


def test_an_incomplete_folder_is_the_callers_mistake(
    folders: Callable[[str], Path], documents: list[str], tmp_path: Path, explain: Explain
) -> None:
    copy = altered(folders("good"), tmp_path / "altered", "", bytes)
    (copy / "ak.public").unlink()
    with pytest.raises(UsageError, match=r"ak\.public"):
        explain(copy, *documents)
    for name, data in (("nonce", b"short"), ("pcrs.json", b"[]"), ("pcrs.json", b'{"md5": {}}')):
        other = altered(folders("good"), tmp_path / (name + str(len(data))), name, lambda _, data=data: data)
        with pytest.raises(MalformedError):
            explain(other, *documents)
    with pytest.raises(UsageError, match="no level"):
        explain(folders("good"), *documents, "--level", "platinum")


# watchword ear


@pytest.fixture
def signed(tmp_path: Path) -> Iterator[Callable[..., list[str]]]:
    """A result signed by an authority, in a file, with the options that verify it."""
    with SignedAuthority() as authority:
        (tmp_path / "keys.json").write_bytes(authority.key_document())

        def make(claims: bytes, key: Ed25519PrivateKey | None = None) -> list[str]:
            (tmp_path / "host.ear").write_bytes(ear.sign(claims, key or authority.signing) + b"\n")
            options = ["--keys", str(tmp_path / "keys.json"), "--fingerprint", authority.fingerprint]
            return [str(tmp_path / "host.ear"), *options]

        yield make


def affirming() -> bytes:
    module = ear.Submodule(Tier.AFFIRMING, {Claim.EXECUTABLES: 2})
    return ear.Ear(int(time.time()), ear.VerifierId("d", "b"), {"host": module}).encode()


def test_a_signed_result_is_verified_and_shown(
    signed: Callable[..., list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = signed(affirming())
    ear_command.main(["verify", *arguments], standalone_mode=False)
    assert "host: affirming\n  executables: 2 (affirming)" in capsys.readouterr().out
    ear_command.main(["show", arguments[0], "--json"], standalone_mode=False)
    told = capsys.readouterr()
    assert json.loads(told.out)["verified"] is False
    assert "nothing was verified" in told.err


def test_a_result_that_does_not_affirm_is_refused(signed: Callable[..., list[str]]) -> None:
    with pytest.raises(Rejected, match="ear-status"):
        ear_command.main(["verify", *signed(result(FINDING))], standalone_mode=False)
    with pytest.raises(Rejected, match="jwt-key"):
        ear_command.main(["verify", *signed(affirming(), KEY)], standalone_mode=False)
    with pytest.raises(UsageError, match="--keys"):
        ear_command.main(["verify", signed(affirming())[0]], standalone_mode=False)


@pytest.mark.parametrize("command", [explain_command, ear_command, *ear_command.commands.values()])
def test_every_help_page_ends_with_an_example(command: click.Command, capsys: pytest.CaptureFixture[str]) -> None:
    command.main(["--help"], prog_name="watchword", standalone_mode=False)
    assert "Example:\n    watchword e" in capsys.readouterr().out
