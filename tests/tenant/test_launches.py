"""Tokens and the records of launches: what the tenant keeps, and what it never keeps."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from watchword.crypto.ssh_key import derive
from watchword.crypto.token import open_token, sealing_key_id
from watchword.errors import UsageError
from watchword.policy.profile import Profile
from watchword.tenant import launches
from watchword.testing.signed_authority import SignedAuthority
from watchword.wire.inputs import inputs_digest
from watchword.wire.token import token_id

NOW = 1_700_000_000


def _make(authority: SignedAuthority, profile: Profile, **changes):
    arguments = {"name": "web1", "rank": 2, "releases": 1, "inputs": {"disk": bytes(32)}, **changes}
    return launches.create(authority="a", keys=authority.keys, profile=profile, now=NOW, lifetime=60, **arguments)


@pytest.fixture
def authority() -> SignedAuthority:
    running = SignedAuthority()
    running._server.server_close()
    return running


def test_the_token_holds_what_the_record_demands(authority: SignedAuthority, profile: Profile) -> None:
    text, record = _make(authority, profile)
    body = open_token(text, {sealing_key_id(authority.sealing.public_key()): authority.sealing})
    assert len(text) <= 255
    assert record.token == token_id(text).hex()
    assert (body.launch_id.hex(), body.profile.hex(), body.inputs.hex(), body.level, body.releases, body.expires) == (
        record.launch_id,
        record.profile,
        record.inputs,
        record.rank,
        record.releases,
        record.expires,
    )
    assert body.inputs == inputs_digest({"disk": bytes(32)})
    assert record.ssh_public_key == derive(body.secret, body.launch_id).public_openssh


def test_no_file_and_no_text_has_the_secret(authority: SignedAuthority, profile: Profile, home: Path) -> None:
    secret = bytes(range(100, 132))
    _, record = _make(authority, profile, secret=secret)
    launches.save(record)
    files = [path for path in home.rglob("*") if path.is_file()]
    assert [path.name for path in files] == ["web1.json"]
    stored = files[0].read_bytes()
    private = derive(secret, bytes.fromhex(record.launch_id)).private_openssh
    assert secret.hex().encode() not in stored
    assert secret not in stored
    assert private.splitlines()[2] not in stored
    assert stat.S_IMODE(files[0].stat().st_mode) == 0o600
    assert launches.load("web1") == record


def test_two_launches_share_nothing(authority: SignedAuthority, profile: Profile) -> None:
    (_, first), (_, second) = _make(authority, profile, name=None), _make(authority, profile, name=None)
    assert first.name != second.name
    assert first.launch_id != second.launch_id
    assert first.ssh_public_key != second.ssh_public_key


def test_a_record_is_not_overwritten(authority: SignedAuthority, profile: Profile) -> None:
    launches.save(_make(authority, profile)[1])
    with pytest.raises(UsageError) as caught:
        launches.save(_make(authority, profile)[1])
    assert caught.value.code == "launch-exists"


@pytest.mark.parametrize(("level", "rank"), [("boot", 1), ("full", 2), ("1", 1), ("2", 2), (None, 2)])
def test_levels_by_name_and_rank(profile: Profile, level: str | None, rank: int) -> None:
    assert launches.profile_rank(profile, level) == rank


@pytest.mark.parametrize("level", ["gold", "0", "3", "-1", "", "²", "9" * 5000])
def test_levels_that_the_profile_does_not_have(profile: Profile, level: str) -> None:
    with pytest.raises(UsageError) as caught:
        launches.profile_rank(profile, level)
    assert caught.value.code == "bad-level"


@pytest.mark.parametrize("content", [bytes(range(32)), bytes(range(32)).hex().encode() + b"\n"])
def test_secret_files(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "s").write_bytes(content)
    assert launches.read_secret(tmp_path / "s") == bytes(range(32))


@pytest.mark.parametrize("content", [b"", b"x" * 31, b"z" * 64, b"0" * 62, b"0" * 1000])
def test_bad_secret_files_are_refused_without_showing_them(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "s").write_bytes(content)
    with pytest.raises(UsageError) as caught:
        launches.read_secret(tmp_path / "s")
    assert not content or content.decode() not in str(caught.value)


def test_unknown_launch() -> None:
    with pytest.raises(UsageError) as caught:
        launches.load("nothing")
    assert caught.value.code == "launch-unknown"
