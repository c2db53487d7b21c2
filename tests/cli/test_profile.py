from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from watchword.cli.main import run
from watchword.policy.profile import MAX_PROFILE_SIZE
from watchword.testing.documents import PROFILE, changed, encode


@pytest.fixture
def profile(tmp_path: Path) -> Path:
    path = tmp_path / "gold.json"
    path.write_bytes(encode(PROFILE))
    return path


def test_check_says_what_it_means(profile: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["profile", "check", str(profile)]) == 0
    assert "Level 2, gold, is reached when" in capsys.readouterr().out
    assert run(["profile", "check", str(profile), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["levels"] == ["silver", "gold"]


def test_id_is_the_digest_of_the_file(profile: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["profile", "id", str(profile)]) == 0
    assert capsys.readouterr().out.strip() == hashlib.sha256(profile.read_bytes()).hexdigest()


def test_a_profile_that_accepts_everything(profile: Path, capsys: pytest.CaptureFixture[str]) -> None:
    profile.write_bytes(changed(PROFILE, "levels", 0, "rules", "stacks", value=...))
    for command in ("check", "id"):
        assert run(["profile", command, str(profile)]) == 3
        told = capsys.readouterr()
        assert "would accept anybody's software" in told.err
        assert told.out == ""


def test_a_file_that_is_too_long(profile: Path, capsys: pytest.CaptureFixture[str]) -> None:
    profile.write_bytes(b" " * (MAX_PROFILE_SIZE + 1))
    assert run(["profile", "check", str(profile), "--json"]) == 3
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "file-too-large"


def test_a_file_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["profile", "check", str(tmp_path / "none.json")]) == 1
    assert "no such file" in capsys.readouterr().err


def test_diff(profile: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "other.json"
    other.write_bytes(changed(PROFILE, "levels", 1, "rules", "runtime", value="ignored"))
    assert run(["profile", "diff", str(profile), str(other)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "- level gold: every file in the quoted part of the runtime log is listed by the stack;",
        "+ level gold: what runs after the boot is ignored;",
    ]
    other.write_bytes(changed(PROFILE, "levels", 1, value=...))
    assert run(["profile", "diff", str(profile), str(other), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert ["levels", "silver, gold"] in document["gone"]
    assert document["new"] == [["levels", "silver"]]
    assert run(["profile", "diff", str(profile), str(profile)]) == 0
    assert capsys.readouterr().out == "both demand the same\n"


def test_every_rule_has_words(profile: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rules = {
        "pools": (["special"], "the stack is of pool special and channel stable;"),
        "variants": ({"firmware": ["a", "b"]}, "its firmware is of variant a or b;"),
        "tpm_firmware": (["0" * 16], "the TPM's firmware is version 0000000000000000;"),
        "secure_boot_keys": ({"db": ["11" * 32]}, "Secure Boot's db are known, and none but 1111111111111111…;"),
        "command_line": ({"require": ["ro"], "forbid": ["init"]}, "known and does not have init;"),
        "lockdown": ("integrity", "the kernel was started with lockdown=integrity, or a stricter mode;"),
        "ima_policy": (["tcb"], "IMA began with the policy tcb, and its log belongs to this boot;"),
    }
    document = json.loads(changed(PROFILE, "pcrs", value=[0, 4, 7, 8, 9, 10, 12]))
    document["levels"][1]["rules"] |= {name: value for name, (value, _) in rules.items()}
    profile.write_bytes(encode(document))
    assert run(["profile", "check", str(profile)]) == 0
    told = capsys.readouterr().out
    for name, (_, words) in rules.items():
        assert words in told, name
