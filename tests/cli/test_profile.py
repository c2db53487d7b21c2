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
