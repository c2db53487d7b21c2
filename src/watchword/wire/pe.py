"""EFI programs: the PE32 or PE32+ headers, the sections, the signatures, and the digest that firmware measures.

    PeImage
    ├── sections: Section…       in the order of the table
    ├── signatures: bytes…       PKCS#7 messages of the certificate table
    └── digest(alg)              Authenticode: neither the checksum nor the signatures are covered

What firmware, signing tools and boot loaders could read in two ways is refused: sections that overlap, bytes between
sections, a certificate table that is not the end of the file.

Source: Microsoft, "PE Format" and "Windows Authenticode Portable Executable Signature Format" 1.0 (calculating the PE
image hash); UEFI Specification 2.10, section 32.2.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from watchword.errors import MalformedError
from watchword.wire.reader import Reader
from watchword.wire.tpm.algorithms import Alg, hasher

__all__ = ["MAX_IMAGE", "PeImage", "Section"]

MAX_IMAGE = 1 << 30  # bytes of a file, and of a section in memory: a unified kernel image has its initrd inside
_MAX_SECTIONS = 96  # the limit of the format's own loader
_MAX_SIGNATURES = 16
_MAX_NAME = 256  # bytes of a long section name
_HEADERS = 64  # bytes of the DOS header, which ends with the place of the PE header
_OPTIONAL = {0x10B: 96, 0x20B: 112}  # magic of PE32 and PE32+: bytes before the data directories
_CHECKSUM = 64  # place in the optional header, as are the next two
_SIZE_OF_IMAGE = 56
_SIZE_OF_HEADERS = 60
_CERTIFICATES = 4  # index of the data directory
_PKCS7 = 0x0002  # WIN_CERT_TYPE_PKCS_SIGNED_DATA
_WHAT = "PE image"


@dataclass(frozen=True, slots=True)
class Section:
    """One section: ``address`` and ``memory_size`` when loaded, ``offset`` and ``file_size`` in the file; bytes."""

    name: str
    address: int
    memory_size: int
    offset: int
    file_size: int


@dataclass(frozen=True, slots=True)
class PeImage:
    """A whole EFI program. ``machine`` is the COFF number, 0x8664 for x86-64."""

    machine: int
    sections: tuple[Section, ...]
    signatures: tuple[bytes, ...] = field(repr=False)
    _data: memoryview = field(repr=False)
    _covered: tuple[tuple[int, int], ...] = field(repr=False)

    @classmethod
    def parse(cls, data: bytes | memoryview) -> PeImage:
        """Read a whole program, at most ``MAX_IMAGE`` bytes. Raises MalformedError."""
        view = memoryview(data)
        if len(view) > MAX_IMAGE:
            raise MalformedError(f"{_WHAT}: {len(view)} bytes long, {MAX_IMAGE} are allowed")
        if len(view) < _HEADERS or bytes(view[:2]) != b"MZ":
            raise MalformedError("not a PE file: it does not begin with a DOS header")
        return _Headers(view).image()

    def section(self, name: str) -> Section | None:
        """The section called ``name``, or None. Raises MalformedError when there are two of them."""
        found = [section for section in self.sections if section.name == name]
        if len(found) > 1:
            raise MalformedError(f"{_WHAT}: it has {len(found)} sections {name}")
        return found[0] if found else None

    def content(self, section: Section) -> bytes:
        """What ``section`` is in memory: cut or filled with zeros to its ``memory_size``."""
        size = min(section.memory_size, section.file_size)
        return bytes(self._data[section.offset : section.offset + size]).ljust(section.memory_size, b"\0")

    def digest(self, alg: Alg) -> bytes:
        """The Authenticode digest, by which firmware knows and measures the program."""
        state = hasher(alg)()
        for start, end in self._covered:
            state.update(self._data[start:end])
        value: bytes = state.digest()
        return value


class _Headers:
    """The headers of one file while they are read; places are counted from the start of the file."""

    def __init__(self, data: memoryview) -> None:
        self.data = data
        start = self.at(0x3C).le32()
        if self.at(start).take(4) != b"PE\0\0":
            raise MalformedError("not a PE file: there is no PE header where the DOS header says")
        coff = self.at(start + 4)
        self.machine, self.count = coff.le16(), coff.le16()
        coff.take(4)
        self.symbols, self.symbol_count, optional_size = coff.le32(), coff.le32(), coff.le16()
        self.optional = start + 24
        self.table = self.optional + optional_size
        directories = _OPTIONAL.get(self.at(self.optional).le16())
        if directories is None:
            raise MalformedError(f"{_WHAT}: neither PE32 nor PE32+")
        if optional_size < directories:
            raise MalformedError(f"{_WHAT}: its optional header is too small")
        self.directory = self.optional + directories + 8 * _CERTIFICATES
        number = self.at(self.optional + directories - 4).le32()
        if number > 16 or directories + 8 * number > optional_size:
            raise MalformedError(f"{_WHAT}: {number} data directories do not fit its optional header")
        self.has_directory = number > _CERTIFICATES

    def at(self, place: int) -> Reader:
        if place > len(self.data):
            raise MalformedError(f"{_WHAT}: a header lies beyond its end")
        return Reader(self.data[place:], _WHAT)

    def image(self) -> PeImage:
        sections = self.sections()
        headers = self.at(self.optional + _SIZE_OF_HEADERS).le32()
        if not self.table + 40 * self.count <= headers <= len(self.data):
            raise MalformedError(f"{_WHAT}: its headers cannot be {headers} bytes long")
        end = _contiguous(sections, headers)
        start, size = self.certificates()
        if size and (start < end or start + size != len(self.data)):
            raise MalformedError(f"{_WHAT}: its certificate table is not the end of the file")
        if end > len(self.data):
            raise MalformedError(f"{_WHAT}: a section goes on beyond the end of the file")
        covered = self.covered(headers, len(self.data) - size)
        signatures = _signatures(self.data[len(self.data) - size :])
        return PeImage(self.machine, sections, signatures, self.data, covered)

    def covered(self, headers: int, end: int) -> tuple[tuple[int, int], ...]:
        """The parts that the Authenticode digest covers: sections without gaps are the rest of the file."""
        checksum = self.optional + _CHECKSUM
        if not self.has_directory:
            return ((0, checksum), (checksum + 4, end))
        return ((0, checksum), (checksum + 4, self.directory), (self.directory + 8, end))

    def certificates(self) -> tuple[int, int]:
        if not self.has_directory:
            return 0, 0
        entry = self.at(self.directory)
        start, size = entry.le32(), entry.le32()
        return start, size

    def sections(self) -> tuple[Section, ...]:
        if not 1 <= self.count <= _MAX_SECTIONS:
            raise MalformedError(f"{_WHAT}: {self.count} sections, 1 to {_MAX_SECTIONS} are allowed")
        size_of_image = self.at(self.optional + _SIZE_OF_IMAGE).le32()
        reader = self.at(self.table)
        found = tuple(self.section(reader) for _ in range(self.count))
        end = 0
        for section in sorted(found, key=lambda s: s.address):
            if section.address < end:
                raise MalformedError(f"{_WHAT}: section {section.name} overlaps another in memory")
            end = section.address + section.memory_size
            if end > min(size_of_image, MAX_IMAGE):
                raise MalformedError(f"{_WHAT}: section {section.name} is not inside the image")
        return found

    def section(self, reader: Reader) -> Section:
        name = self.name(reader.take(8))
        memory_size, address, file_size, offset = reader.le32(), reader.le32(), reader.le32(), reader.le32()
        reader.take(16)
        return Section(name, address, memory_size, offset, file_size)

    def name(self, field: bytes) -> str:
        """The name itself, or what stands at its place in the string table behind the symbols ("/14")."""
        short = field.rstrip(b"\0")
        if short.startswith(b"/") and short[1:].isdigit():
            strings = self.at(self.symbols + 18 * self.symbol_count)
            size = strings.le32()
            place = int(short[1:])
            if not self.symbols or not 4 <= place < size:
                raise MalformedError(f"{_WHAT}: a section name is not in its string table")
            strings.take(place - 4)
            short, end, _ = strings.take(min(_MAX_NAME, strings.left)).partition(b"\0")
            if not end:
                raise MalformedError(f"{_WHAT}: a section name is cut short or too long")
        if not short.isascii() or not short.decode("ascii").isprintable():
            raise MalformedError(f"{_WHAT}: a section has no printable name")
        return short.decode("ascii")


def _contiguous(sections: tuple[Section, ...], headers: int) -> int:
    """Where the last section ends in the file, when one begins where the other ends; the first after the headers."""
    end = headers
    for section in sorted((s for s in sections if s.file_size), key=lambda s: s.offset):
        if section.offset < end:
            raise MalformedError(f"{_WHAT}: section {section.name} overlaps what stands before it")
        if section.offset > end:
            raise MalformedError(f"{_WHAT}: there are bytes before section {section.name} that belong to no section")
        end += section.file_size
    return end


def _signatures(table: memoryview) -> tuple[bytes, ...]:
    """The PKCS#7 messages of the certificate table; other kinds of certificates are left out (UEFI 32.2.2)."""
    found: list[bytes] = []
    reader = Reader(table, "certificate table")
    entries = 0
    while reader.left:
        size, _, kind = reader.le32(), reader.le16(), reader.le16()
        entries += 1
        if size < 8 or entries > _MAX_SIGNATURES:
            raise reader.fail("an entry is too small, or there are too many")
        content = reader.take(size - 8)
        if kind == _PKCS7:
            found.append(content)
        padding = min(-size % 8, reader.left)
        if any(reader.take(padding)):
            raise reader.fail("the padding after an entry is not zero")
    return tuple(found)
