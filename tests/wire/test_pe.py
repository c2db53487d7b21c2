"""EFI programs: real ones agree with independent tools, and hostile ones are refused."""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.reference import machines

from watchword.errors import MalformedError
from watchword.wire.pe import PeImage, Section
from watchword.wire.tpm.algorithms import Alg

HEADERS = 0x400


def program(
    *,
    plus: bool = True,
    sections: list[tuple[bytes, int, bytes]] | None = None,
    certificates: bytes = b"",
    trailing: bytes = b"",
    directories: int = 16,
) -> bytearray:
    """A small good PE program: sections are (name, address, content)."""
    sections = [(b".text", 0x1000, b"a" * 512), (b".data", 0x2000, b"b" * 512)] if sections is None else sections
    fixed = 112 if plus else 96
    optional = bytearray(fixed + 8 * directories)
    struct.pack_into("<H", optional, 0, 0x20B if plus else 0x10B)
    struct.pack_into("<II", optional, 56, 0x100000, HEADERS)
    struct.pack_into("<I", optional, fixed - 4, directories)
    body = b"".join(content for _, _, content in sections) + trailing
    if certificates and directories > 4:
        struct.pack_into("<II", optional, fixed + 32, HEADERS + len(body), len(certificates))
    table, at = b"", HEADERS
    for name, address, content in sections:
        table += struct.pack("<8sIIII16x", name, len(content), address, len(content), at)
        at += len(content)
    head = b"MZ".ljust(0x3C, b"\0") + struct.pack("<I", 0x40) + b"PE\0\0"
    head += struct.pack("<HHIIIHH", 0x8664, len(sections), 0, 0, 0, len(optional), 0) + optional + table
    return bytearray(head.ljust(HEADERS, b"\0") + body + certificates)


def optional(data: bytes) -> int:
    return 0x40 + 24


def row(number: int) -> int:
    """Where the row of a section is in what ``program`` makes."""
    return 0x40 + 24 + 112 + 128 + 40 * number


def refused(data: bytes, why: str) -> None:
    with pytest.raises(MalformedError, match=why):
        PeImage.parse(bytes(data))


def changed(at: int, form: str, *values: int) -> bytes:
    data = program()
    struct.pack_into(form, data, at, *values)
    return bytes(data)


@pytest.mark.parametrize("plus", [True, False])
@pytest.mark.parametrize("directories", [16, 5, 4, 0])
def test_a_small_program(plus: bool, directories: int) -> None:
    image = PeImage.parse(bytes(program(plus=plus, directories=directories)))
    assert image.machine == 0x8664
    assert image.sections[1] == Section(".data", 0x2000, 512, HEADERS + 512, 512)
    assert image.content(image.sections[1]) == b"b" * 512
    assert image.section(".none") is None


def test_neither_checksum_nor_signatures_move_the_digest() -> None:
    bare = program(certificates=bytes((16, 0, 0, 0, 0, 2, 2, 0)) + b"12345678")
    digest = PeImage.parse(bytes(bare)).digest(Alg.SHA256)
    struct.pack_into("<I", bare, optional(bare) + 64, 0x12345678)
    assert PeImage.parse(bytes(bare)).digest(Alg.SHA256) == digest
    assert PeImage.parse(bytes(program())).digest(Alg.SHA256) == digest
    assert PeImage.parse(bytes(bare)).signatures == (b"12345678",)
    for at in (0x50, HEADERS, HEADERS + 1023):
        other = bytearray(bare)
        other[at] ^= 1
        assert PeImage.parse(bytes(other)).digest(Alg.SHA256) != digest, at


def test_trailing_bytes_are_covered() -> None:
    plain, more = (PeImage.parse(bytes(program(trailing=t))).digest(Alg.SHA256) for t in (b"", b"x"))
    assert plain != more


def test_a_section_is_cut_or_filled_to_its_size_in_memory() -> None:
    image = PeImage.parse(changed(row(1) + 8, "<I", 500))
    assert image.content(image.sections[1]) == b"b" * 500
    image = PeImage.parse(changed(row(1) + 8, "<I", 520))
    assert image.content(image.sections[1]) == b"b" * 512 + bytes(8)


def test_long_section_names() -> None:
    data = program(sections=[(b"/4", 0x1000, b"a" * 512)], trailing=struct.pack("<I", 14) + b".sbatlevel\0")
    struct.pack_into("<II", data, 0x40 + 12, HEADERS + 512, 0)
    assert PeImage.parse(bytes(data)).sections[0].name == ".sbatlevel"
    struct.pack_into("<I", data, HEADERS + 512, 4)
    refused(data, "not in its string table")
    struct.pack_into("<I", data, HEADERS + 512, 14)
    for number in (b"0", b"3"):  # inside the size of the table
        refused(data.replace(b"/4", b"/" + number, 1), "not in its string table")
    refused(data[:-1], "cut short")
    struct.pack_into("<II", data, 0x40 + 12, HEADERS + 500, 0xFFFFFFFF)
    refused(data, "beyond its end")


def test_a_file_that_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("watchword.wire.pe.MAX_IMAGE", len(program()) - 1)
    refused(program(), "are allowed")


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "not a PE file"),
        (b"MZ" + bytes(61), "DOS header"),
        (b"ZM" + bytes(program())[2:], "DOS header"),
        (b"MZ" + bytes(100), "no PE header"),
        (bytes(program(directories=17)), "17 data directories"),
        (
            bytes(program(directories=5)[: 0x40 + 24 + 108] + b"\6" + program(directories=5)[0x40 + 24 + 109 :]),
            "6 data",
        ),
        (changed(row(1), "<8s", b"\x01a"), "no printable name"),
        (changed(0x3C, "<I", 0xFFFFFFF0), "beyond its end"),
        (changed(0x40 + 24, "<H", 0x107), "neither PE32"),
        (changed(0x40 + 20, "<H", 90), "too small"),
        (changed(0x40 + 24 + 108, "<I", 17), "17 data directories"),
        (changed(0x40 + 24 + 108, "<I", 0xFFFFFFFF), "data directories"),
        (changed(0x40 + 6, "<H", 0), "0 sections"),
        (changed(0x40 + 6, "<H", 97), "97 sections"),
        (changed(0x40 + 24 + 60, "<I", 0x40), "cannot be 64 bytes"),
        (changed(0x40 + 24 + 60, "<I", 0x40000000), "cannot be"),
        (changed(row(1) + 20, "<I", HEADERS + 256), "overlaps what stands before"),
        (changed(row(0) + 20, "<I", 0), "overlaps what stands before"),
        (changed(row(1) + 20, "<I", HEADERS + 516), "belong to no section"),
        (changed(row(1) + 16, "<I", 0xFFFFFFF0), "beyond the end of the file"),
        (changed(row(1) + 12, "<I", 0x1000), "overlaps another in memory"),
        (changed(row(1) + 8, "<I", 0xFFFFFFF0), "not inside the image"),
        (changed(row(1), "<8s", b"\xff\xfe"), "no printable name"),
        (changed(row(1), "<8s", b"/9999"), "beyond its end|string table"),
        (bytes(program())[:-1], "beyond the end of the file"),
        (bytes(program(certificates=bytes(16)))[:-1], "not the end of the file"),
        (bytes(program(certificates=bytes((7, 0, 0, 0, 0, 2, 2, 0, 8, 0, 0, 0, 0, 2, 2, 0)))), "too small"),
        (bytes(program(certificates=bytes((8, 0, 0, 0, 0, 2, 2, 0)) * 17)), "too many"),
        (bytes(program(certificates=bytes(16))), "too small"),
        (bytes(program(certificates=bytes((9, 0, 0, 0, 0, 2, 2, 0)) + b"1" + b"x" * 7)), "padding"),
        (changed(0x40 + 24 + 112 + 32, "<II", HEADERS, 1024), "not the end of the file"),
        (changed(0x40 + 24 + 112 + 32, "<II", HEADERS, 0xFFFFFFFF), "not the end of the file"),
    ],
)
def test_hostile_programs(data: bytes, why: str) -> None:
    refused(data, why)


def test_a_section_that_is_there_twice() -> None:
    image = PeImage.parse(bytes(program(sections=[(b".linux", 0x1000, b"a" * 512), (b".linux", 0x2000, b"b" * 512)])))
    with pytest.raises(MalformedError, match="2 sections"):
        image.section(".linux")


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, HEADERS + 1023), st.binary(min_size=1, max_size=8)), max_size=6), st.data())
def test_any_bytes_give_a_program_or_malformed(changes: list[tuple[int, bytes]], data: st.DataObject) -> None:
    blob = program(certificates=bytes((16, 0, 0, 0, 0, 2, 2, 0)) + b"12345678")
    for at, content in changes:
        blob[at : at + len(content)] = content
    cut = bytes(blob[: data.draw(st.integers(0, len(blob)))])
    for candidate in (bytes(blob), cut):
        try:
            image = PeImage.parse(candidate)
        except MalformedError:
            continue
        assert len(image.digest(Alg.SHA256)) == 32
        for section in image.sections:
            if section.memory_size < 1 << 24:
                assert len(image.content(section)) == section.memory_size


@pytest.mark.parametrize("name", ["stub", "systemd-boot", "shim", "grub", "kernel", "uki"])
def test_digests_agree_with_the_other_implementation(name: str) -> None:
    programs = {
        "stub": machines.stub,
        "systemd-boot": machines.systemd_boot,
        "shim": machines.shim,
        "grub": machines.grub,
        "kernel": lambda: machines.good().kernel,
        "uki": lambda: machines.good().uki,
    }
    content = programs[name]()
    for alg, text in ((Alg.SHA1, "sha1"), (Alg.SHA256, "sha256"), (Alg.SHA512, "sha512")):
        assert PeImage.parse(content).digest(alg).hex() == machines.authenticode(content, text)


@pytest.mark.parametrize("name", ["grub", "kernel", "uki"])
def test_digests_agree_with_osslsigncode(name: str, tmp_path: Path) -> None:
    tool = shutil.which("osslsigncode")
    if tool is None:
        pytest.skip("the package osslsigncode is not installed")
    file = tmp_path / "program.efi"
    programs = {"grub": machines.grub, "kernel": lambda: machines.good().kernel}
    file.write_bytes(programs[name]() if name in programs else machines.signed(machines.good().uki))
    told = subprocess.run([tool, "verify", "-in", file], capture_output=True, text=True, check=False).stdout
    calculated = set(re.findall(r"Calculated message digest\s*: ([0-9A-F]{64})", told))
    assert calculated == {PeImage.parse(file.read_bytes()).digest(Alg.SHA256).hex().upper()}


def test_a_signature_does_not_change_the_digest() -> None:
    plain = machines.good().uki
    assert PeImage.parse(machines.signed(plain)).digest(Alg.SHA384) == PeImage.parse(plain).digest(Alg.SHA384)
