"""``watchword stack measure`` and ``watchword stack sheet``."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from tests.reference import machines

from watchword.cli.main import run
from watchword.errors import MalformedError
from watchword.policy.stack import CompiledStack
from watchword.reference.boot.sheet import Sheet
from watchword.wire.tpm.algorithms import Alg

RELEASE = machines.HEADER + '[secure-boot]\nstate = "off"\n[[boot]]\nkind = "uki"\nimage = "compute.efi"\n'


@pytest.fixture
def release(tmp_path: Path) -> Path:
    (tmp_path / "compute.efi").write_bytes(machines.good().uki)
    path = tmp_path / "release.toml"
    path.write_text(RELEASE)
    return path


def sheet(boots: Path, output: Path, *more: str) -> int:
    log = str(boots / "good" / "eventlog.bin")
    return run(
        ["stack", "sheet", "--eventlog", log, "--model", "q35", "--version", "2022.11", "-o", str(output), *more]
    )


def test_measure(release: Path, boots: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = release.parent / "compute.json"
    assert run(["stack", "measure", str(release), "-o", str(output), "--pcrs"]) == 0
    told = capsys.readouterr()
    assert "any firmware is accepted" in told.err
    real = json.loads((boots / "good" / "pcrs.json").read_text())["sha256"]
    for pcr in ("4", "7", "9", "11"):
        assert f"sha256 pcr {int(pcr):2} {real[pcr]}" in told.out
    assert "section .linux" in told.out
    assert CompiledStack.parse(output.read_bytes()).origin == "computed"
    assert [path.name for path in release.parent.iterdir() if path.name.startswith(".")] == []


def test_files_that_may_run(release: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = release.parent / "root/usr/bin"
    folder.mkdir(parents=True)
    (folder / "tool").write_bytes(b"#!/bin/sh\n")
    release.write_text(RELEASE + '[runtime]\ndirectories = [{path = "root", at = "/"}]\n')
    output = release.parent / "compute.json"
    assert run(["stack", "measure", str(release), "-o", str(output), "--json"]) == 0
    told = capsys.readouterr()
    assert json.loads(told.out)["files"] == {"paths": 1, "counts": {"files": 1}}
    assert "files: 1 files" in told.err
    stack = CompiledStack.parse(output.read_bytes())
    assert stack.files == {b"/usr/bin/tool": frozenset({(Alg.SHA256, hashlib.sha256(b"#!/bin/sh\n").digest())})}
    output.unlink()
    release.write_text(RELEASE + '[runtime]\ndirectory = ["root"]\n')
    assert run(["stack", "measure", str(release), "-o", str(output)]) == 3
    assert "`directory`; is directories meant?" in capsys.readouterr().err
    assert not output.exists()


def test_sheets_become_variants(release: Path, boots: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sheet(boots, release.parent / "a.json", "--json") == 0
    assert json.loads(capsys.readouterr().out)["pcrs"] == [0, 2, 3]
    other = json.loads((release.parent / "a.json").read_text()) | {"model": "r750"}
    (release.parent / "b.json").write_text(json.dumps(other))
    release.write_text(RELEASE.replace("[secure-boot]", '[firmware]\nsheets = ["a.json", "b.json"]\n[secure-boot]'))
    output = release.parent / "compute.json"
    assert run(["stack", "measure", str(release), "-o", str(output), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["components"] == {"firmware": ["q35-2022.11", "r750-2022.11"], "secure-boot": ["off"], "boot": ["uki"]}
    assert [p["variants"]["firmware"] for p in told["predictions"]] == told["components"]["firmware"]
    real = json.loads((boots / "good" / "pcrs.json").read_text())["sha256"]
    assert {pcr: real[pcr] for pcr in ("0", "2", "3", "4", "7", "9", "11")} == told["predictions"][0]["pcrs"]["sha256"]
    assert CompiledStack.parse(output.read_bytes()).pcrs == (0, 2, 3, 4, 7, 8, 9, 11, 12, 13, 14)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"format": "x"}, "format"),
        ({"origin": "computed"}, "origin"),
        ({"extra": 1}, "extra"),
        ({"log": "sha256:00"}, "log"),
        ({"model": "a b"}, "model"),
        ({"pcrs": [3, 2, 0]}, "pcrs"),
        ({"pcrs": [0, 2, 10]}, "pcrs"),
        ({"pcrs": [0, 2]}, "not among the pcrs"),
        ({"events": []}, "events"),
        ({"events": [{"pcr": 0, "digests": {"sha1": "00"}}]}, "is not one of"),
        ({"events": [{"pcr": 0, "digests": {"sha256": "00"}}]}, "64 hex digits"),
        ({"events": [{"pcr": 0, "digests": {"sha256": "0" * 64}, "note": "\x1b"}]}, "control characters"),
    ],
)
def test_sheets_are_read_strictly(boots: Path, tmp_path: Path, change: dict[str, object], why: str) -> None:
    assert sheet(boots, tmp_path / "a.json") == 0
    document = json.loads((tmp_path / "a.json").read_text()) | change
    with pytest.raises(MalformedError, match=why):
        Sheet.parse(json.dumps(document).encode())


def test_sheets_that_do_not_fit(release: Path, boots: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = RELEASE.replace("[secure-boot]", '[firmware]\nsheets = ["a.json", "b.json"]\n[secure-boot]')
    output = release.parent / "compute.json"
    for more, why in ((("--pcr", "0"), "other PCRs"), (("--pcr", "0", "--pcr", "4"), "computed from the release")):
        assert sheet(boots, release.parent / "a.json", *more) == 0
        assert sheet(boots, release.parent / "b.json", *(more if "computed" in why else ())) == 0
        release.write_text(text)
        assert run(["stack", "measure", str(release), "-o", str(output)]) == 1
        assert why in capsys.readouterr().err
    document = json.loads((release.parent / "a.json").read_text())
    for event in document["events"]:
        del event["digests"]["sha384"]
    document["pcrs"] = [0]
    document["events"] = [event for event in document["events"] if event["pcr"] == 0]
    (release.parent / "a.json").write_text(json.dumps(document))
    release.write_text(text.replace(', "b.json"', "").replace("serial = 1", 'serial = 1\nbanks = ["sha384"]'))
    assert run(["stack", "measure", str(release), "-o", str(output)]) == 1
    assert "no digests for sha384" in capsys.readouterr().err


def test_nothing_is_written_when_something_is_wrong(release: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = release.parent / "compute.json"
    output.write_text("old")
    (release.parent / "compute.efi").write_bytes(b"MZ")
    assert run(["stack", "measure", str(release), "-o", str(output), "--json"]) == 3
    assert "compute.efi: not a PE file" in json.loads(capsys.readouterr().out)["error"]["message"]
    assert output.read_text() == "old"
    assert run(["stack", "measure", str(release), "-o", str(release.parent / "none" / "x")]) in (1, 3)
