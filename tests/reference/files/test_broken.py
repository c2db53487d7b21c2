"""Artifacts that are broken or made to deceive: each is refused, and named."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import re
import struct
import subprocess
import tarfile
from pathlib import Path

import pytest
import zstandard
from tests.reference.files.artifacts import deb, expected, ext4, listed, rpm, tar

from watchword.errors import MalformedError, UsageError
from watchword.reference.files import Options
from watchword.reference.files.compression import Slice, decompressed
from watchword.reference.files.cpio import cpio_members
from watchword.reference.files.member import Link, Member, Skipped

PACK = {
    "gz": gzip.compress,
    "xz": lzma.compress,
    "lzma": lambda data: lzma.compress(data, lzma.FORMAT_ALONE),
    "bz2": bz2.compress,
    "zst": zstandard.ZstdCompressor(write_checksum=True).compress,
}


def refused(source: Path, why: str) -> None:
    with pytest.raises(MalformedError, match=why) as error:
        listed(source)
    assert str(source) in error.value.message
    assert error.value.code == "reference-artifact"


@pytest.mark.parametrize("kind", PACK)
def test_compressed_data_that_was_cut_off_changed_or_goes_on(tree: Path, kind: str) -> None:
    plain = tar(tree).read_bytes()
    packed = PACK[kind](plain)
    out = tree.parent / f"root.tar.{kind}"
    out.write_bytes(packed)
    assert listed(out).listing() == expected()
    for length in (len(packed) // 2, len(packed) - 1):
        out.write_bytes(packed[:length])
        refused(out, "its compressed data is broken")
    changed = bytearray(packed)
    changed[len(packed) // 2] ^= 0x55
    out.write_bytes(changed)
    refused(out, "broken|cut off|sound|end")
    out.write_bytes(packed + b"garbage")
    refused(out, "broken|data after")


@pytest.mark.parametrize("kind", ["gz", "xz", "lzma", "bz2", "zst"])
def test_bombs(tree: Path, kind: str) -> None:
    out = tree.parent / f"root.tar.{kind}"
    block = bytes(1 << 20)
    with tarfile.open(tree.parent / "zeros.tar", "w") as archive:
        info = tarfile.TarInfo("zeros")
        info.size = 160 << 20
        archive.addfile(info, io.BytesIO(block * 160))
    out.write_bytes(PACK[kind]((tree.parent / "zeros.tar").read_bytes()))
    if out.stat().st_size * 1000 > 160 << 20:
        assert listed(out).counts["files"] == 1  # this format cannot do a thousandfold
    else:
        refused(out, "decompression bomb")


@pytest.mark.parametrize("kind", ["xz", "zst"])
def test_windows_that_need_too_much_memory(kind: str) -> None:
    if kind == "xz":
        data = lzma.compress(b"x", filters=[{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 30}])
    else:
        data = b"\x28\xb5\x2f\xfd" + bytes((0x00, 20 << 3)) + b"\x01\x00\x00"  # a window of 1 GiB
    stream = decompressed("it", Slice(io.BytesIO(data), len(data)))
    with pytest.raises(MalformedError, match="it: its compressed data is broken"):
        stream.read(10)


def test_sparse_files_and_hard_links_in_tar(tree: Path) -> None:
    with (tree / "sparse").open("wb") as file:
        file.write(b"start")
        file.truncate(5 << 20)
        file.seek(3 << 20)
        file.write(b"middle")
    found = listed(tar(tree, "--sparse")).listing()
    assert found == listed(tree).listing()
    for flag in ("--format=pax", "--format=gnu"):
        assert listed(tar(tree, "--sparse", flag)).listing() == found


def with_member(tree: Path, name: str, kind: bytes, target: str = "") -> Path:
    out = tree.parent / "made.tar"
    with tarfile.open(out, "w") as archive:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, target
        archive.addfile(info)
    return out


def test_a_hard_link_to_nothing(tree: Path) -> None:
    refused(with_member(tree, "a", tarfile.LNKTYPE, "none"), "/a: .*hard link to a file that the artifact does not")


@pytest.mark.parametrize("name", ["a/../b", "../b", "./../b", "x" * 5000])
def test_names_that_lead_elsewhere(tree: Path, name: str) -> None:
    refused(with_member(tree, name, tarfile.REGTYPE), r"climbs out|more than 4095")


def test_devices_are_counted_not_listed(tree: Path) -> None:
    found = listed(with_member(tree, "dev", tarfile.CHRTYPE))
    assert found.files == {}
    assert found.counts == {"special": 1, "files": 0}


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        (b"debian-binary   ", b"debian-bimary   ", "debian-binary"),
        (b"2.0\n", b"3.0\n", "debian-binary 2"),
        (b"control.tar", b"cantrol.tar", r"control\.tar must be"),
        (b"data.tar", b"dada.tar", r"data\.tar must be"),
        (b"`\n", b"``", "ar header"),
    ],
)
def test_a_debian_package_that_is_none(tree: Path, old: bytes, new: bytes, why: str) -> None:
    package = deb(tree)
    package.write_bytes(package.read_bytes().replace(old, new, 1))
    refused(package, why)


def test_a_debian_package_with_more_or_less(tree: Path) -> None:
    package = deb(tree)
    whole = package.read_bytes()
    header = f"{{:16}}{0:<12}{0:<6}{0:<6}{100644:<8}{{:<10}}`\n"
    package.write_bytes(whole + header.format("_gpgorigin", 2).encode() + b"ab")
    assert listed(package, Options(usrmerge="split")).listing() == expected()  # a signature, as debsigs appends it
    for tail in (header.format("data.tar", 2).encode() + b"ab", header.format("_gpg", 9).encode() + b"ab", b"x"):
        package.write_bytes(whole + tail)
        refused(package, "has more than|was cut off")
    for length in (len(whole) - 2, len(whole) // 2, 100, 8):
        package.write_bytes(whole[:length])
        refused(package, "cut off|broken|sound|end")


def test_an_rpm_whose_payload_is_not_what_the_header_says(tree: Path) -> None:
    package = rpm(tree, "w0.gzdio")
    whole = package.read_bytes()
    packed_at = whole.index(b"\x1f\x8b")
    payload = gzip.decompress(whole[packed_at:])
    other = payload.replace(b"read me", b"READ me")
    assert other != payload
    package.write_bytes(whole[:packed_at] + gzip.compress(other))
    refused(package, "/readme: its content does not have the sha256 digest")
    package.write_bytes(whole[:packed_at] + gzip.compress(payload.replace(b"tool/readme", b"tool/README")))
    refused(package, "/README: is in the payload, but the header does not list it")
    package.write_bytes(
        whole[:packed_at] + gzip.compress(b"07070100000000" + b"0" * 80 + b"0000000b00000000TRAILER!!!\0" + bytes(3))
    )
    refused(package, "is in the header, but not in the payload")
    package.write_bytes(whole[:packed_at] + gzip.compress(payload + b"x"))
    refused(package, "after the end of its payload")
    package.write_bytes(whole[:packed_at] + gzip.compress(payload) + b"xx")
    refused(package, "broken|after its end")


@pytest.mark.parametrize("place", [96, 200, 0.3, 0.5])
def test_an_rpm_whose_header_was_changed_or_cut(tree: Path, place: float) -> None:
    package = rpm(tree)
    whole = package.read_bytes()
    end = whole.index(b"\x1f\x8b")
    at = int(place if place > 1 else end * place)
    package.write_bytes(whole[:at])
    refused(package, "cut off|broken header|not an RPM")
    count, size = struct.unpack(">II", whole[104:112])
    start = 112 + 16 * count + size + -size % 8
    changed = bytearray(whole)
    changed[start + (end - start) // 2] ^= 1
    package.write_bytes(changed)
    refused(package, "SHA-256 that the package lists")
    changed = bytearray(whole)
    changed[start + 8 : start + 16] = b"\xff" * 8
    package.write_bytes(changed)
    refused(package, "too large")


def cpio(*entries: tuple[str, int, int, bytes]) -> bytes:
    """Name, inode, number of links, content: regular files in the format newc."""
    out = b""
    for name, inode, links, content in (*entries, ("TRAILER!!!", 0, 1, b"")):
        fields = (inode, 0o100644, 0, 0, links, 0, len(content), 0, 0, 0, 0, len(name) + 1, 0)
        part = b"070701" + b"".join(b"%08x" % field for field in fields) + name.encode() + b"\0"
        out += part + bytes(-len(part) % 4) + content + bytes(-len(content) % 4)
    return out


def read(data: bytes) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    links: list[Link] = []
    for member in cpio_members("it", decompressed("it", Slice(io.BytesIO(data), len(data)))):
        assert not isinstance(member, Skipped)
        if isinstance(member, Member):
            found[member.path] = b"".join(member.chunks)
        else:
            links.append(member)
    return found | {link.path: found[link.target] for link in links}


def test_hard_links_in_cpio() -> None:
    assert read(cpio(("a", 1, 3, b""), ("b", 2, 1, b"b"), ("c", 1, 3, b""), ("d", 1, 3, b"text"))) == {
        b"/a": b"text",
        b"/b": b"b",
        b"/c": b"text",
        b"/d": b"text",
    }
    assert read(cpio(("a", 1, 2, b""), ("b", 1, 2, b""))) == {b"/a": b"", b"/b": b""}


def test_a_broken_cpio_archive() -> None:
    whole = cpio(("a", 1, 1, b"text"))
    for length in range(len(whole) - 3):
        with pytest.raises(MalformedError, match=r"^it: "):
            read(whole[:length])
    for old, new in (
        (b"070701", b"07070X"),
        (b"070701", b"070707"),
        (b"00000004", b"0000000g"),
        (b"00000002", b"ffffffff"),
    ):
        assert old in whole
        with pytest.raises(MalformedError, match=r"^it: "):
            read(whole.replace(old, new, 1))


def test_an_ext4_image_that_is_broken(tree: Path) -> None:
    image = ext4(tree)
    whole = image.read_bytes()
    inode = re.search(rb"\x02\x00\x00\x00\x0c\x00\x02\x02\.\.\x00\x00", whole)
    assert inode is not None
    for start, size in ((1024, 512), (inode.start() - 12, 1024), (2048, 1024)):
        image.write_bytes(whole[:start] + b"\xff" * size + whole[start + size :])
        with pytest.raises((MalformedError, UsageError), match=r"root\.img"):
            listed(image)


def test_an_ext4_directory_in_itself(tree: Path) -> None:
    image = ext4(tree, "-O", "^metadata_csum")
    subprocess.run(["/sbin/debugfs", "-w", "-R", "link /usr /usr/share/again", image], check=True, capture_output=True)
    refused(image, "/again: is a directory that is in the tree twice")


def test_an_encrypted_ext4(tree: Path) -> None:
    refused(ext4(tree, "-O", "encrypt"), "has encrypted files")


def test_a_directory_that_is_a_link_or_cannot_be_read(tree: Path) -> None:
    link = tree.parent / "link"
    link.symlink_to(tree)
    with pytest.raises(UsageError, match="not a directory"):
        listed(link)
    os.mkfifo(tree / "fifo")
    assert listed(tree).counts["special"] == 1
    with pytest.raises(UsageError, match="no such file"):
        listed(tree / "none")
