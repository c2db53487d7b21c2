"""What was hashed is what is handed on."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from watchword.agent.inputs import MAX_USER_DATA, HeldDisk, check_inputs, digest_of, read_user_data
from watchword.errors import Rejected, UsageError
from watchword.wire.inputs import inputs_digest

CONTENT = os.urandom(3 * 1024 * 1024 + 5)  # more than two chunks


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    path.write_bytes(CONTENT)
    return path


def content(held: HeldDisk) -> bytes:
    return os.pread(held.fd, len(CONTENT) + 1, 0)


@pytest.mark.parametrize("limit", [len(CONTENT), len(CONTENT) - 1], ids=["copy", "descriptor"])
def test_the_digest_is_of_the_whole_content(disk: Path, limit: int) -> None:
    with HeldDisk(disk, copy_limit=limit) as held:
        assert held.digest == hashlib.sha256(CONTENT).digest()
        assert held.size == len(CONTENT)
        assert held.copied is (limit == len(CONTENT))
        assert content(held) == CONTENT
        assert os.lseek(held.fd, 0, os.SEEK_CUR) == 0


@pytest.mark.parametrize("limit", [1 << 30, 0], ids=["copy", "descriptor"])
def test_another_file_at_the_same_path_changes_nothing(disk: Path, limit: int) -> None:
    with HeldDisk(disk, copy_limit=limit) as held:
        other = disk.with_name("other")
        other.write_bytes(b"evil" + CONTENT[4:])
        other.replace(disk)
        assert content(held) == CONTENT


def test_writing_into_the_file_does_not_reach_the_copy(disk: Path) -> None:
    with HeldDisk(disk) as held:
        with disk.open("r+b") as file:
            file.write(b"evil")
        assert content(held) == CONTENT


def test_nobody_can_write_into_the_copy(disk: Path) -> None:
    with HeldDisk(disk) as held:
        with pytest.raises(OSError, match="not permitted"):
            os.close(os.open(f"/proc/self/fd/{held.fd}", os.O_WRONLY | os.O_TRUNC))
        fd = os.open(f"/proc/self/fd/{held.fd}", os.O_RDWR)
        with pytest.raises(OSError, match="not permitted"):
            os.write(fd, b"evil")
        os.close(fd)


def test_writing_into_a_held_file_is_noticed(disk: Path) -> None:
    with HeldDisk(disk, copy_limit=0) as held:
        held.check_unchanged()
        with disk.open("r+b") as file:
            file.write(b"evil")
        with pytest.raises(Rejected) as refused:
            held.check_unchanged()
    assert (refused.value.clause, refused.value.code) == ("L2", "disk-changed")


def test_growing_while_it_is_hashed_is_noticed(disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = os.pread

    def pread_and_grow(fd: int, size: int, offset: int) -> bytes:
        with disk.open("ab") as file:
            file.write(b"x")
        return read(fd, size, offset)

    monkeypatch.setattr(os, "pread", pread_and_grow)
    with pytest.raises(Rejected, match="disk-changed"):
        HeldDisk(disk)


def test_a_pipe_a_folder_and_a_device_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, Path("/dev/null")):
        with pytest.raises(UsageError) as refused:
            HeldDisk(path)
        assert refused.value.code == "disk-type"


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as refused:
        HeldDisk(tmp_path / "none")
    assert refused.value.code == "disk-unreadable"


@pytest.mark.parametrize("limit", [1 << 30, 0])
def test_a_format_that_can_name_a_second_file_is_refused(tmp_path: Path, limit: int) -> None:
    (tmp_path / "image").write_bytes(b"QFI\xfb" + bytes(1000))
    with pytest.raises(UsageError) as refused:
        HeldDisk(tmp_path / "image", copy_limit=limit)
    assert refused.value.code == "disk-format"


def test_nothing_stays_open(disk: Path, tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for limit in (0, 1 << 30):
        with HeldDisk(disk, copy_limit=limit):
            pass
        with pytest.raises(UsageError):
            HeldDisk(tmp_path, copy_limit=limit)
    assert len(os.listdir("/proc/self/fd")) == before


def test_an_empty_disk_has_the_digest_of_nothing(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    with HeldDisk(tmp_path / "empty") as held:
        assert held.digest == hashlib.sha256(b"").digest()


def test_the_digest_is_the_tenants(disk: Path) -> None:
    used = {"disk": hashlib.sha256(b"d").digest(), "user-data": hashlib.sha256(b"u").digest()}
    assert digest_of(used, None) == inputs_digest(used)
    assert digest_of(used, ("disk", "user-data")) == inputs_digest(used)


def test_an_input_in_use_that_is_not_named_is_a_difference() -> None:
    """user-data slipped into a launch whose token names a disk only"""
    with pytest.raises(Rejected) as refused:
        digest_of({"disk": bytes(32), "user-data": bytes(32)}, ("disk",))
    assert (refused.value.clause, refused.value.code) == ("L2", "inputs-differ")


def test_a_named_input_that_is_not_there_is_a_difference() -> None:
    with pytest.raises(Rejected) as refused:
        digest_of({"disk": bytes(32)}, ("disk", "user-data"))
    assert (refused.value.clause, refused.value.code) == ("L2", "inputs-differ")
    assert refused.value.findings[0].expected == "user-data"


def test_other_inputs_are_refused() -> None:
    check_inputs(bytes(32), bytes(32))
    with pytest.raises(Rejected) as refused:
        check_inputs(bytes(32), bytes(31) + b"\1")
    assert (refused.value.clause, refused.value.code) == ("L2", "inputs-differ")


def test_user_data_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "user-data"
    path.write_bytes(b"x" * MAX_USER_DATA)
    assert read_user_data(path) == b"x" * MAX_USER_DATA
    path.write_bytes(b"x" * (MAX_USER_DATA + 1))
    with pytest.raises(UsageError, match="larger than"):
        read_user_data(path)
    with pytest.raises(UsageError, match="cannot be read"):
        read_user_data(tmp_path)
