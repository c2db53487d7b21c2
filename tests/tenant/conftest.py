"""A tenant with files of its own, and an authority that signs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from watchword.policy.profile import Profile
from watchword.testing.signed_authority import SignedAuthority


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path


@pytest.fixture
def authority() -> Iterator[SignedAuthority]:
    with SignedAuthority() as running:
        yield running


@pytest.fixture
def profile() -> Profile:
    rules = {"identity": ["virtual"], "covers": [4], "stacks": ["compute"], "runtime": "ignored"}
    levels = [{"name": name, "rules": rules} for name in ("boot", "full")]
    document = {"format": "watchword-profile/1", "name": "p", "bank": "sha256", "pcrs": [4], "levels": levels}
    return Profile.parse(json.dumps(document).encode())
