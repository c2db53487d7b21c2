"""Disks with partitions, squashfs, and images that are not read."""

from __future__ import annotations

import shutil
import struct
import uuid
import zlib
from pathlib import Path

import pytest
from tests.reference.files.artifacts import ESP, ROOT, disk, expected, ext4, listed, squashfs, tool

from watchword.cli.main import run
from watchword.errors import MalformedError, UsageError


@pytest.fixture
def two(tree: Path) -> Path:
    """A disk with a small first partition and ext4 in the second."""
    first = tree.parent / "esp"
    first.write_bytes(b"not a file system".ljust(1 << 20, b"."))
    return disk((ESP, "boot", first), (ROOT, "system", ext4(tree)))


@pytest.mark.parametrize("partition", [2, "2", "root", "system"])
def test_a_partition_of_a_disk(two: Path, partition: str | int) -> None:
    assert listed(two, partition=partition, at="/sysroot").listing() == expected("/sysroot")


def test_a_disk_with_sectors_of_4096_bytes(tree: Path) -> None:
    image = ext4(tree).read_bytes()
    first, last = 256, 256 + len(image) // 4096 - 1
    entry = uuid.UUID(ROOT).bytes_le + bytes(16) + struct.pack("<QQQ", first, last, 0) + "system".encode("utf-16-le")
    table = entry.ljust(128 * 128, b"\0")
    tail = struct.pack("<QQQQ16sQIII", 1, 9999, 6, 9998, bytes(16), 2, 128, 128, zlib.crc32(table))
    head = b"EFI PART" + struct.pack("<II", 0x10000, 92)
    header = head + struct.pack("<II", zlib.crc32(head + bytes(8) + tail), 0) + tail
    made = tree.parent / "4k.img"
    made.write_bytes((bytes(4096) + header.ljust(4096, b"\0") + table).ljust(first * 4096, b"\0") + image)
    assert listed(made, partition="root").listing() == expected()


@pytest.mark.parametrize(
    ("partition", "why"),
    [(None, "a disk with partitions"), (3, "no partition is 3"), ("usr", "no partition is usr"), (1, "no file system")],
)
def test_no_such_partition(two: Path, partition: str | int | None, why: str) -> None:
    with pytest.raises(UsageError, match=rf"disk\.img.*{why}") as refused:
        listed(two, partition=partition)
    if partition != 1:
        assert refused.value.hint.endswith("it has 1 (boot), 2 (root, system)")


def test_a_name_that_two_partitions_have(tree: Path) -> None:
    image = ext4(tree)
    made = disk((ROOT, "a", image), (ROOT, "b", image))
    with pytest.raises(UsageError, match="more than one partition is root"):
        listed(made, partition="root")
    assert listed(made, partition="b").listing() == expected()


@pytest.mark.parametrize("place", [512 + 40, 1024 + 5])
def test_a_changed_partition_table(two: Path, place: int) -> None:
    data = bytearray(two.read_bytes())
    data[place] ^= 1
    two.write_bytes(data)
    with pytest.raises(MalformedError, match=r"disk\.img: its partition table has .*wrong checksum"):
        listed(two, partition=2)


@pytest.mark.parametrize(("first", "last"), [(2048, 2050), (1 << 40, (1 << 40) + 9), (6000, 5000)])
def test_partitions_that_overlap_or_leave_the_disk(two: Path, first: int, last: int) -> None:
    data = bytearray(two.read_bytes())
    entry = 1024 + 128  # the second
    data[entry + 32 : entry + 48] = first.to_bytes(8, "little") + last.to_bytes(8, "little")
    data[512 + 88 : 512 + 92] = zlib.crc32(data[1024 : 1024 + 128 * 128]).to_bytes(4, "little")
    data[512 + 16 : 512 + 20] = bytes(4)
    data[512 + 16 : 512 + 20] = zlib.crc32(data[512 : 512 + 92]).to_bytes(4, "little")
    two.write_bytes(data)
    with pytest.raises(MalformedError, match="overlaps another, or is not inside"):
        listed(two, partition=2)


def test_a_file_system_that_is_larger_than_its_partition(tree: Path) -> None:
    image = ext4(tree)
    whole = image.stat().st_size
    made = disk((ROOT, "a", image))
    tool("sfdisk", "-q", "--delete", made, 1)
    tool("sfdisk", "-q", "-N", "1", made, input=f"start=2048, size={whole // 1024}, type={ROOT}\n".encode())
    with pytest.raises(MalformedError, match="does not end within"):
        listed(made, partition=1)


def test_an_image_that_was_cut_off(tree: Path) -> None:
    image = ext4(tree)
    image.write_bytes(image.read_bytes()[: 12 << 20])
    with pytest.raises(MalformedError, match="was cut off"):
        listed(image)


@pytest.mark.parametrize("compression", ["gzip", "xz", "zstd", "lz4"])
def test_squashfs(tree: Path, compression: str) -> None:
    image = squashfs(tree, "-comp", compression)
    assert listed(image).listing() == expected()
    first = tree.parent / "esp"
    first.write_bytes(bytes(1 << 20))
    assert listed(disk((ESP, "boot", first), (ROOT, "system", image)), partition=2).listing() == expected()


def test_a_broken_squashfs(tree: Path) -> None:
    image = squashfs(tree, "-noF")
    data = image.read_bytes()
    image.write_bytes(data[:50_000])
    with pytest.raises(MalformedError, match=r"root\.squashfs.*broken"):
        listed(image)
    image.write_bytes(data[:96] + bytes(len(data) - 96))
    with pytest.raises(MalformedError, match=r"root\.squashfs"):
        listed(image)


def test_a_squashfs_that_is_a_bomb(tree: Path) -> None:
    with (tree / "zeros").open("wb") as file:
        file.truncate(200 << 20)
    with pytest.raises(MalformedError, match="bomb"):
        listed(squashfs(tree))


def test_a_missing_tool(tree: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    image = squashfs(tree)
    monkeypatch.setenv("PATH", str(tree))
    assert run(["stack", "files", str(image), "-o", str(tree.parent / "out")]) == 2
    assert "apt install squashfs-tools-ng" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("kind", "says"), [("qcow2", "qemu-img convert -O raw"), ("vmdk", "qemu-img"), ("vdi", "qemu-img"), ("vhdx", "raw")]
)
def test_an_image_of_a_virtual_machine(tree: Path, kind: str, says: str) -> None:
    out = tree.parent / f"root.{kind}"
    tool("qemu-img", "convert", "-O", kind, ext4(tree), out)
    with pytest.raises(UsageError, match="which is not read") as refused:
        listed(out)
    assert says in refused.value.hint


def test_a_partition_of_what_has_none(tree: Path) -> None:
    for source in (tree, ext4(tree)):
        with pytest.raises(UsageError, match="partition"):
            listed(source, partition=1)


def test_nothing_is_left_in_the_temporary_folder(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scratch = tree.parent / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    first = tree.parent / "esp"
    first.write_bytes(bytes(1 << 20))
    listed(disk((ESP, "boot", first), (ROOT, "system", squashfs(tree))), partition=2)
    assert list(scratch.iterdir()) == []
    shutil.rmtree(scratch)
