"""The UEFI structures that firmware puts into event data: variables, key databases, device paths, images, GPT.

Source: UEFI Specification 2.10 (sections 3.1.3, 5.3, 10.3, 32.4.1), TCG PC Client Platform Firmware Profile 1.06,
sections 10.2 and 10.4. Event data is not covered by a PCR by itself: ``verify.boot_log`` says what is tied.
"""

from __future__ import annotations

import struct
import uuid
from dataclasses import dataclass

from watchword.errors import MalformedError
from watchword.wire.reader import Reader, parse_whole

__all__ = [
    "DB",
    "GLOBAL_VARIABLE",
    "GptEvent",
    "ImageLoad",
    "LoadOption",
    "Partition",
    "Signature",
    "UefiVariable",
    "device_path_text",
    "parse_signatures",
]

GLOBAL_VARIABLE = uuid.UUID("8be4df61-93ca-11d2-aa0d-00e098032b8c")  # SecureBoot, PK, KEK, BootOrder, Boot####
DB = uuid.UUID("d719b2cb-3d3a-4596-a3bc-dad00e67656f")  # EFI_IMAGE_SECURITY_DATABASE: db, dbx, dbr, dbt

_MAX_NAME = 1024  # UTF-16 code units
_MAX_NODES = 64
_MAX_SIGNATURES = 1 << 14
_MAX_PARTITIONS = 1024

_SIGNATURE_TYPES = {
    uuid.UUID("c1c41626-504c-4092-aca9-41f936934328"): "sha256",
    uuid.UUID("826ca512-cf10-4ac9-b187-be01496631bd"): "sha1",
    uuid.UUID("ff3e5307-9fd0-48c9-85f1-8ad56c701e01"): "sha384",
    uuid.UUID("093e0fae-a6c4-4f50-9f1b-d41e2b89c19a"): "sha512",
    uuid.UUID("a5c059a1-94e4-4aa7-87b5-ab155c2bf072"): "x509",
    uuid.UUID("3bd2a492-96c0-4079-b420-fcf98ef103ed"): "x509-sha256",
    uuid.UUID("7076876e-80c2-4ee6-aad2-28b349a6865b"): "x509-sha384",
    uuid.UUID("446dbf63-2502-4cda-bcfa-2465d2b0fe9d"): "x509-sha512",
    uuid.UUID("3c5766e8-269c-4e34-aa14-ed776e85b3b6"): "rsa2048",
}


def _guid(reader: Reader) -> uuid.UUID:
    return uuid.UUID(bytes_le=reader.take(16))


def _utf16(data: bytes) -> str:
    """Text of UTF-16 code units; what is not text stays visible as an escape, so that names never merge."""
    return data.decode("utf-16-le", "backslashreplace")


@dataclass(frozen=True, slots=True)
class UefiVariable:
    """UEFI_VARIABLE_DATA: the vendor's GUID, the name, and the content (PFP 10.2.6)."""

    guid: uuid.UUID
    name: str
    data: bytes

    @classmethod
    def parse(cls, data: bytes) -> UefiVariable:
        """Read the whole structure. Raises MalformedError."""
        return parse_whole(data, "UEFI variable", cls._read)

    @classmethod
    def _read(cls, reader: Reader) -> UefiVariable:
        guid, name_size, data_size = _guid(reader), reader.le64(), reader.le64()
        if name_size > _MAX_NAME:
            raise reader.fail(f"its name has {name_size} characters, {_MAX_NAME} are allowed")
        name = reader.take(2 * name_size)
        return cls(guid, _utf16(name), reader.take(data_size))

    def encode(self) -> bytes:
        """The same bytes that were parsed, for a name that is proper text."""
        name = self.name.encode("utf-16-le")
        return self.guid.bytes_le + struct.pack("<QQ", len(name) // 2, len(self.data)) + name + self.data


@dataclass(frozen=True, slots=True)
class Signature:
    """One entry of a key database: its ``type`` ("x509", "sha256", …), who added it, and the certificate or digest."""

    type: str
    owner: uuid.UUID
    data: bytes


def parse_signatures(data: bytes) -> tuple[Signature, ...]:
    """A sequence of EFI_SIGNATURE_LISTs, the content of PK, KEK, db and dbx (UEFI 32.4.1). Raises MalformedError."""
    reader, found = Reader(data, "EFI signature list"), list[Signature]()
    while reader.left:
        kind = _guid(reader)
        list_size, header_size, size = reader.le32(), reader.le32(), reader.le32()
        if list_size < 28 or header_size > list_size - 28 or size < 16:
            raise reader.fail("its sizes do not fit together")
        body = Reader(reader.view(list_size - 28), "EFI signature list")
        body.take(header_size)
        if body.left % size or len(found) + body.left // size > _MAX_SIGNATURES:
            raise body.fail("not a whole number of signatures, or too many")
        name = _SIGNATURE_TYPES.get(kind, str(kind))
        while body.left:
            found.append(Signature(name, _guid(body), body.take(size - 16)))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class LoadOption:
    """EFI_LOAD_OPTION, the content of a Boot#### variable (UEFI 3.1.3)."""

    attributes: int
    description: str
    device_path: bytes
    optional: bytes

    @classmethod
    def parse(cls, data: bytes) -> LoadOption:
        """Read the whole structure. Raises MalformedError."""
        reader = Reader(data, "EFI load option")
        attributes, path_size = reader.le32(), reader.le16()
        text = bytearray()
        while (unit := reader.take(2)) != b"\0\0":
            text += unit
            if len(text) > 2 * _MAX_NAME:
                raise reader.fail("its description is too long")
        return cls(attributes, _utf16(bytes(text)), reader.take(path_size), reader.rest())


@dataclass(frozen=True, slots=True)
class ImageLoad:
    """UEFI_IMAGE_LOAD_EVENT: where a program was loaded from (PFP 10.2.3). Its event digest is that of the program."""

    address: int
    length: int
    link_address: int
    device_path: bytes
    trailing: bytes = b""  # some boot loaders write a few bytes more than they declare

    @classmethod
    def parse(cls, data: bytes) -> ImageLoad:
        """Read the whole structure. Raises MalformedError."""
        reader = Reader(data, "UEFI image load event")
        address, length, link, size = reader.le64(), reader.le64(), reader.le64(), reader.le64()
        image = cls(address, length, link, reader.take(size), reader.rest())
        if len(image.trailing) > 16:
            raise reader.fail(f"{len(image.trailing)} bytes after the device path")
        return image


@dataclass(frozen=True, slots=True)
class Partition:
    """One entry of a partition table: type, identity, first and last block, name."""

    type: uuid.UUID
    guid: uuid.UUID
    first: int
    last: int
    name: str


@dataclass(frozen=True, slots=True)
class GptEvent:
    """UEFI_GPT_DATA: the disk that was booted from (PFP 10.2.4)."""

    disk: uuid.UUID
    partitions: tuple[Partition, ...]

    @classmethod
    def parse(cls, data: bytes) -> GptEvent:
        """Read the whole structure. Raises MalformedError."""
        reader = Reader(data, "GPT event")
        if reader.take(8) != b"EFI PART":
            raise reader.fail("no partition table header")
        reader.take(48)
        disk = _guid(reader)
        reader.take(8 + 4)
        entry_size = reader.le32()
        reader.take(4)
        count = reader.le64()
        if not 128 <= entry_size <= 4096 or count > _MAX_PARTITIONS:
            raise reader.fail(f"{count} partitions of {entry_size} bytes")
        partitions = tuple(_partition(reader, entry_size) for _ in range(count))
        reader.finish()
        return cls(disk, partitions)


def _partition(reader: Reader, size: int) -> Partition:
    entry = Reader(reader.view(size), "GPT entry")
    type_, guid, first, last = _guid(entry), _guid(entry), entry.le64(), entry.le64()
    entry.take(8)
    return Partition(type_, guid, first, last, _utf16(entry.take(72)).split("\0")[0])


def device_path_text(data: bytes) -> str:
    """The first device path in ``data`` for people ("Pci(1f,2)/Sata(0,0,0)/File(…)"); unknown nodes as numbers.

    No bytes at all are no path. Raises MalformedError when the nodes do not end properly (UEFI 10.3).
    """
    reader, nodes = Reader(data, "device path"), list[str]()
    if not data:
        return ""
    while reader.left:
        kind, sub, size = reader.u8(), reader.u8(), reader.le16()
        if size < 4 or len(nodes) >= _MAX_NODES:
            raise reader.fail("a node is too small, or there are too many")
        body = reader.take(size - 4)
        if kind == 0x7F:
            if sub == 0xFF:
                return "/".join(nodes)
            nodes.append("|")
        else:
            nodes.append(_node_text(kind, sub, body))
    raise reader.fail("it has no end node")


def _node_text(kind: int, sub: int, body: bytes) -> str:
    try:
        match kind, sub:
            case 1, 1:
                return "Pci({1:x},{0:x})".format(*struct.unpack("<BB", body))
            case 2, 1:
                return "Acpi({:x},{:x})".format(*struct.unpack("<II", body))
            case 3, 0x12:
                return "Sata({:x},{:x},{:x})".format(*struct.unpack("<HHH", body))
            case 3, 0x17:
                return f"NVMe({struct.unpack('<I8s', body)[0]:x})"
            case 4, 1:
                number, start, size, identity, _, signature = struct.unpack("<IQQ16sBB", body)
                shown = uuid.UUID(bytes_le=identity) if signature == 2 else identity[:4].hex()
                return f"HD({number},{shown},{start:#x},{size:#x})"
            case 4, 4:
                return f"File({_utf16(body).rstrip(chr(0))})"
            case 4, (6 | 7):
                return f"Fv({uuid.UUID(bytes_le=body)})"
    except (struct.error, ValueError) as error:
        raise MalformedError(f"device path: a node of type {kind}/{sub} has {len(body)} bytes") from error
    return f"Path({kind},{sub},{body[:32].hex()})"
