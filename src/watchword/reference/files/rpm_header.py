"""The headers of an RPM package: what it says about its files.

A package is a lead of 96 bytes, a signature header (padded to 8 bytes), the header, and the payload. A header has a
magic, the number of index entries, the size of the store, the entries (tag, type, offset, count) and the store.
Source: the RPM project, "RPM V4 Package format"; lib/rpmtag.h.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import BinaryIO

from watchword.reference.files.refuse import bad_artifact, bad_member
from watchword.reference.files.signature import MAX_SIGNATURE

__all__ = ["RPM_MAGIC", "RpmFile", "read_headers"]

RPM_MAGIC = b"\xed\xab\xee\xdb"
_LEAD_SIZE = 96
_HEADER = struct.Struct(">4s4xII")
_HEADER_MAGIC = b"\x8e\xad\xe8\x01"
_ENTRY = struct.Struct(">IIII")
_MAX_ENTRIES = 64 * 1024
_MAX_STORE = 256 * 1024 * 1024  # what rpm itself takes
_INT16, _INT32, _STRING, _STRINGS = 3, 4, 6, 8

_SHA256_OF_HEADER, _SIGNED_FILES, _SIGNED_FILES_INSTALLED = 273, 274, 5090
_MODES, _DIGESTS, _FLAGS, _SOURCE_PACKAGE = 1030, 1035, 1037, 1106
_DIR_INDEXES, _BASE_NAMES, _DIR_NAMES, _PAYLOAD_FORMAT, _DIGEST_ALG = 1116, 1117, 1118, 1124, 5011
_GHOST = 1 << 6  # belongs to the package, is not in it
_HASHES = {1: "md5", 2: "sha1", 8: "sha256", 9: "sha384", 10: "sha512", 11: "sha224"}  # RFC 4880, 9.4

_Tags = Mapping[int, tuple[int, int, int]]


@dataclass(frozen=True, slots=True)
class RpmFile:
    """What the header says of one file: mode, digest (name for hashlib, hex), ``security.ima``, whether it is there."""

    mode: int
    declared: tuple[str, str] | None
    signature: bytes
    ghost: bool


def read_headers(artifact: str, file: BinaryIO) -> dict[bytes, RpmFile]:
    """The files by absolute path; afterwards ``file`` stands at the payload. Raises MalformedError."""
    lead = file.read(_LEAD_SIZE)
    if len(lead) != _LEAD_SIZE or lead[:4] != RPM_MAGIC:
        bad_artifact(artifact, "is not an RPM package")
    signatures, raw = _Header.read(artifact, file)
    file.read(-len(raw) % 8)
    header, raw = _Header.read(artifact, file)
    expected = signatures.strings(_SHA256_OF_HEADER)
    if expected and expected[0] != hashlib.sha256(raw).hexdigest().encode():
        bad_artifact(artifact, "its header does not have the SHA-256 that the package lists")
    if header.tags.get(_SOURCE_PACKAGE):
        bad_artifact(artifact, "is a source package; give the packages that are installed")
    if (header.strings(_PAYLOAD_FORMAT) or [b"cpio"]) != [b"cpio"]:
        bad_artifact(artifact, "its payload is not cpio")
    return _files(artifact, header, signatures.strings(_SIGNED_FILES) or header.strings(_SIGNED_FILES_INSTALLED))


def _files(artifact: str, header: _Header, signed: list[bytes]) -> dict[bytes, RpmFile]:
    names, folders, indexes = header.strings(_BASE_NAMES), header.strings(_DIR_NAMES), header.numbers(_DIR_INDEXES)
    modes, digests, flags = header.numbers(_MODES), header.strings(_DIGESTS), header.numbers(_FLAGS)
    signed = signed or [b""] * len(names)
    if any(len(column) != len(names) for column in (indexes, modes, digests, flags, signed)):
        bad_artifact(artifact, "its header lists names, digests and modes of different numbers of files")
    hash_name = _HASHES.get((header.numbers(_DIGEST_ALG) or [1])[0])
    if hash_name is None:
        bad_artifact(artifact, "the digests in its header are of an unknown algorithm")
    found: dict[bytes, RpmFile] = {}
    for i, name in enumerate(names):
        if indexes[i] >= len(folders) or not folders[indexes[i]].startswith(b"/"):
            bad_artifact(artifact, "its header has a file without a folder")
        path = folders[indexes[i]] + name
        if path in found:
            bad_member(artifact, path, "is in the header twice")
        declared = (hash_name, digests[i].decode("ascii", "replace")) if digests[i] else None
        found[path] = RpmFile(modes[i], declared, _unhex(artifact, path, signed[i]), bool(flags[i] & _GHOST))
    return found


def _unhex(artifact: str, path: bytes, digits: bytes) -> bytes:
    try:
        value = bytes.fromhex(digits.decode("ascii"))
    except ValueError:
        bad_member(artifact, path, "its signature in the header is not in hex")
    if len(value) > MAX_SIGNATURE:
        bad_member(artifact, path, f"its signature has more than {MAX_SIGNATURE} bytes")
    return value


@dataclass(frozen=True, slots=True)
class _Header:
    artifact: str
    tags: _Tags
    store: bytes

    @classmethod
    def read(cls, artifact: str, file: BinaryIO) -> tuple[_Header, bytes]:
        head = file.read(_HEADER.size)
        if len(head) != _HEADER.size or head[:4] != _HEADER_MAGIC:
            bad_artifact(artifact, "has a broken header")
        _, count, size = _HEADER.unpack(head)
        if count > _MAX_ENTRIES or size > _MAX_STORE:
            bad_artifact(artifact, "has a header that is too large")
        index, store = file.read(count * _ENTRY.size), file.read(size)
        if len(index) != count * _ENTRY.size or len(store) != size:
            bad_artifact(artifact, "was cut off inside of its header")
        tags = {tag: (kind, offset, number) for tag, kind, offset, number in _ENTRY.iter_unpack(index)}
        return cls(artifact, tags, store), head + index + store

    def strings(self, tag: int) -> list[bytes]:
        """The texts of ``tag``; none when the header does not have it."""
        kind, offset, count = self.tags.get(tag, (_STRINGS, 0, 0))
        if kind not in (_STRING, _STRINGS) or count > len(self.store):
            bad_artifact(self.artifact, f"tag {tag} of its header has the wrong type")
        found = self.store[offset:].split(b"\0", count)[:count] if count else []
        if len(found) != count or (count and not offset < len(self.store)):
            bad_artifact(self.artifact, f"tag {tag} of its header reaches beyond it")
        return found

    def numbers(self, tag: int) -> list[int]:
        """The numbers of ``tag``; none when the header does not have it."""
        kind, offset, count = self.tags.get(tag, (_INT32, 0, 0))
        width = {_INT16: 2, _INT32: 4}.get(kind)
        if width is None or offset + width * count > len(self.store):
            bad_artifact(self.artifact, f"tag {tag} of its header has the wrong type or reaches beyond it")
        return list(struct.unpack_from(f">{count}{'H' if width == 2 else 'I'}", self.store, offset))
