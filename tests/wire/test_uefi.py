"""UEFI structures in event data."""

from __future__ import annotations

import struct
import uuid

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from watchword.errors import MalformedError
from watchword.testing.logs import signature_list, variable
from watchword.wire.uefi import (
    DB,
    GptEvent,
    ImageLoad,
    LoadOption,
    UefiVariable,
    device_path_text,
    parse_signatures,
)

END = b"\x7f\xff\4\0"
FILE = b"\x04\x04\x0a\0a\0b\0\0\0"
DISK = b"\x04\x01\x2a\0" + struct.pack("<IQQ16sBB", 1, 2048, 4096, uuid.UUID(int=5).bytes_le, 2, 2)


def gpt(count: int = 1, size: int = 128) -> bytes:
    head = b"EFI PART" + bytes(48) + uuid.UUID(int=7).bytes_le + bytes(12) + struct.pack("<II", size, 0)
    entry = uuid.UUID(int=1).bytes_le + uuid.UUID(int=2).bytes_le + struct.pack("<QQQ", 34, 99, 0)
    return head + struct.pack("<Q", count) + (entry + "root".encode("utf-16-le").ljust(72, b"\0")) * min(count, 4)


def test_variable_round_trips() -> None:
    data = variable("SecureBoot", b"\1")
    parsed = UefiVariable.parse(data)
    assert (parsed.name, parsed.data, parsed.encode()) == ("SecureBoot", b"\1", data)


def test_variables_whose_names_differ_never_look_the_same() -> None:
    raw = variable("AB", b"")
    lone = raw.replace("AB".encode("utf-16-le"), b"\x00\xd8A\0")
    assert UefiVariable.parse(lone).name != UefiVariable.parse(raw.replace(b"A\0B\0", b"\x01\xd8A\0")).name


@pytest.mark.parametrize(
    "data",
    [
        b"",
        variable("db", b"x", DB) + b"y",
        variable("db", b"x", DB)[:-1],
        bytes(16) + struct.pack("<QQ", 1 << 40, 0),
        bytes(16) + struct.pack("<QQ", 0, 1 << 63),
    ],
)
def test_broken_variables(data: bytes) -> None:
    with pytest.raises(MalformedError):
        UefiVariable.parse(data)


def test_signatures() -> None:
    found = parse_signatures(signature_list(b"one") + signature_list(b"three"))
    assert [(s.type, s.data) for s in found] == [("x509", b"one"), ("x509", b"three")]
    assert parse_signatures(b"") == ()


@pytest.mark.parametrize(
    ("list_size", "header", "size"),
    [(27, 0, 16), (44, 17, 16), (44, 0, 15), (44, 0, 0), (44, 0, 17), (0xFFFFFFFF, 0, 16), (45, 0, 16)],
)
def test_broken_signature_lists(list_size: int, header: int, size: int) -> None:
    with pytest.raises(MalformedError):
        parse_signatures(bytes(16) + struct.pack("<III", list_size, header, size) + bytes(16))


def test_too_many_signatures() -> None:
    count = (1 << 14) + 1
    with pytest.raises(MalformedError, match="too many"):
        parse_signatures(bytes(16) + struct.pack("<III", 28 + 16 * count, 0, 16) + bytes(16 * count))


def test_load_option_and_device_path() -> None:
    path = DISK + FILE + END
    option = LoadOption.parse(struct.pack("<IH", 1, len(path)) + "Linux\0".encode("utf-16-le") + path + b"opt")
    assert (option.description, option.optional) == ("Linux", b"opt")
    assert device_path_text(option.device_path) == f"HD(1,{uuid.UUID(int=5)},0x800,0x1000)/File(ab)"


def test_device_path_nodes() -> None:
    nodes = b"\x02\x01\x0c\0" + struct.pack("<II", 0xA0341D0, 0) + b"\x01\x01\6\0\x02\x1f" + b"\x03\x55\5\0\xaa"
    assert (
        device_path_text(nodes + b"\x7f\x01\4\0" + FILE + END) == "Acpi(a0341d0,0)/Pci(1f,2)/Path(3,85,aa)/|/File(ab)"
    )
    assert device_path_text(b"") == ""


@pytest.mark.parametrize("data", [FILE, b"\x04\x04\3\0", b"\x01\x01\5\0\1" + END, FILE * 65 + END, b"\x04\x04\xff\xff"])
def test_broken_device_paths(data: bytes) -> None:
    with pytest.raises(MalformedError):
        device_path_text(data)


def test_image_load_event() -> None:
    head = struct.pack("<QQQQ", 1, 2, 0, len(FILE + END))
    assert ImageLoad.parse(head + FILE + END + b"stray").trailing == b"stray"
    with pytest.raises(MalformedError):
        ImageLoad.parse(head + FILE + END + bytes(17))


def test_gpt_event() -> None:
    found = GptEvent.parse(gpt())
    assert (found.disk, found.partitions[0].name, found.partitions[0].first) == (uuid.UUID(int=7), "root", 34)


@pytest.mark.parametrize("data", [b"", gpt()[:-1], gpt() + b"x", gpt(1 << 60), gpt(1, 16), b"X" + gpt()[1:]])
def test_broken_gpt_events(data: bytes) -> None:
    with pytest.raises(MalformedError):
        GptEvent.parse(data)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_parse_or_are_malformed(data: bytes) -> None:
    for parse in (UefiVariable.parse, parse_signatures, LoadOption.parse, ImageLoad.parse, GptEvent.parse):
        for prefix in (b"", variable("db", b"", DB)[:24], gpt()[:80]):
            try:
                parse(prefix + data)
            except MalformedError:
                continue


# Sizes that do not fit are refused as such, before anything of that size is read or counted.


def test_the_name_of_a_variable_is_bounded() -> None:
    assert UefiVariable.parse(variable("n" * 1024, b"")).name == "n" * 1024
    with pytest.raises(MalformedError, match="1025 characters"):
        UefiVariable.parse(variable("n" * 1025, b""))


@pytest.mark.parametrize(("list_size", "header"), [(27, 0), (0, 0), (44, 17), (44, 1 << 31)])
def test_the_sizes_of_a_signature_list(list_size: int, header: int) -> None:
    with pytest.raises(MalformedError, match="sizes do not fit"):
        parse_signatures(bytes(16) + struct.pack("<III", list_size, header, 16) + bytes(16))


def test_a_signature_list_holds_whole_signatures() -> None:
    with pytest.raises(MalformedError, match="whole number"):
        parse_signatures(bytes(16) + struct.pack("<III", 28 + 20, 0, 16) + bytes(20))


def test_the_description_of_a_load_option_is_bounded() -> None:
    head = struct.pack("<IH", 1, 0)
    assert LoadOption.parse(head + b"x\0" * 1024 + b"\0\0").description == "x" * 1024
    with pytest.raises(MalformedError, match="description is too long"):
        LoadOption.parse(head + b"x\0" * 1025 + b"\0\0")


@pytest.mark.parametrize(("count", "size"), [(1, 127), (1, 4097), (1025, 128)])
def test_the_partitions_are_bounded(count: int, size: int) -> None:
    head = b"EFI PART" + bytes(48) + uuid.UUID(int=7).bytes_le + bytes(12) + struct.pack("<II", size, 0)
    with pytest.raises(MalformedError, match=f"{count} partitions of {size} bytes"):
        GptEvent.parse(head + struct.pack("<Q", count) + bytes(count * size))


def test_a_node_is_as_long_as_its_header() -> None:
    with pytest.raises(MalformedError, match="a node is too small"):
        device_path_text(b"\x04\x04\3\0" + END)
