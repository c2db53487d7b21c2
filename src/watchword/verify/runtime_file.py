"""Clause D1, second half: what the entries of a runtime log say, once their digests are proven."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Collection
from typing import NamedTuple, TypeAlias

from watchword.errors import Finding, MalformedError
from watchword.verify.loaded_key import LoadedKey, read_loaded_key
from watchword.wire.ima_entry import AppendedSignature, MeasuredFile, PortableSignature
from watchword.wire.ima_log import IMA_PCR, ImaEntry, decode_entry
from watchword.wire.tpm.algorithms import HASHES, Alg

__all__ = [
    "ALGORITHMS",
    "IN_PCR_10",
    "VIOLATIONS",
    "FileSignature",
    "RuntimeFile",
    "digest_of",
    "read_file",
    "read_files",
]

_MAX_FINDINGS = 100  # entries that are described one by one; the rest are counted
_SHA256_FIELD = b"\x28\0\0\0sha256:\0"  # how a d-ng field begins: its size, then the algorithm
_SHA1_FIELD = b"\x1a\0\0\0sha1:\0"
_le32 = struct.Struct("<I").unpack_from

IN_PCR_10 = struct.pack("<I", IMA_PCR)  # how the bytes of an entry begin
VIOLATIONS = frozenset(bytes(size) for size in (20, 32, 48, 64))  # what is logged instead of a digest
#: Hash algorithms by the kernel's names.
ALGORITHMS = {name.replace("_", "-"): alg for alg, name in HASHES.items()} | {"sm3-256": Alg.SM3_256}
FileSignature: TypeAlias = bytes | AppendedSignature | PortableSignature  # bytes are a security.ima attribute


class RuntimeFile(NamedTuple):
    """A measured file or buffer. A named tuple, since a log has many.

    ``path`` may hold any bytes but NUL; ``alg`` is Alg.NULL for a hash that no TPM has; ``kind`` is "ima", "verity"
    (an fs-verity digest) or "buffer" (kernel command line, keys, …). ``signature`` is a tuple where the template has
    more than the ``security.ima`` attribute. ``key`` is what a buffer loaded onto a keyring, if it is that.
    """

    number: int
    path: bytes
    alg: Alg
    digest: bytes
    signature: bytes | tuple[FileSignature, ...] | None = None
    kind: str = "ima"
    key: LoadedKey | None = None


def read_files(
    entries: list[tuple[int, bytes]], size: int, findings: list[Finding], followed: Collection[int] = (IMA_PCR,)
) -> tuple[dict[bytes, RuntimeFile | None], tuple[bytes, ...]]:
    """The content of entries with these numbers and bytes; what is not understood becomes a finding (D1).

    ``followed`` are the PCRs whose quoted values the entries were found to lead to.
    """
    files: dict[bytes, RuntimeFile | None] = {}
    violations: list[bytes] = []
    problems: list[Finding] = []
    for number, raw in entries:
        file = files[raw] = read_file(raw, size, number, followed)
        if file is None:
            entry = decode_entry(raw, size, number)
            problem = _problem(entry, followed)
            if problem is None:
                violations.append(entry.file().path)
            else:
                problems.append(problem)
    findings += problems[:_MAX_FINDINGS]
    if len(problems) > _MAX_FINDINGS:
        text = f"and {len(problems) - _MAX_FINDINGS} more entries that were not understood"
        findings.append(Finding("D1", "runtime-log-template", text))
    return files, tuple(violations)


def read_file(raw: bytes, size: int, number: int, followed: Collection[int] = (IMA_PCR,)) -> RuntimeFile | None:
    """The file or buffer that the entry with these bytes measured, in a log with digests of ``size`` bytes.

    None for a violation, and for what cannot be used: of another PCR, of an unknown template or not true in itself.
    """
    quick = _quick(raw, size, number)
    if quick is not None:
        return quick
    entry = decode_entry(raw, size, number)
    if _problem(entry, followed) is not None or entry.violation:
        return None
    file = entry.file()
    kind = "buffer" if file.buffer is not None else file.kind
    key = read_loaded_key(file.path, file.buffer) if file.buffer is not None else None
    alg = ALGORITHMS.get(file.algorithm, Alg.NULL)
    return RuntimeFile(entry.number, file.path, alg, file.digest, _signature(file), kind, key)


def _signature(file: MeasuredFile) -> bytes | tuple[FileSignature, ...] | None:
    if not file.others:
        return file.signature
    return file.others if file.signature is None else (file.signature, *file.others)


def _problem(entry: ImaEntry, followed: Collection[int]) -> Finding | None:
    """Why the content of the entry cannot be used, if so."""
    try:
        file = entry.file()
    except MalformedError as error:
        return Finding("D1", "runtime-log-template", error.message, subject=f"entry {entry.number}")
    if entry.pcr not in followed:
        text = f"measured into PCR {entry.pcr}, which is not quoted"
        return Finding("D1", "runtime-log-pcr", text, "10", str(entry.pcr), f"entry {entry.number}")
    if entry.violation or file.buffer is None or digest_of(file.algorithm, file.buffer) == file.digest:
        return None
    text = "the measured buffer is not what its digest says"
    return Finding("D2", "runtime-log-buffer", text, subject=f"entry {entry.number}")


def _quick(raw: bytes, size: int, number: int) -> RuntimeFile | None:
    """The same as the long way for what nearly every entry is: a whole ima-ng or ima-sig one. None: go the long way."""
    start = 12 + size + raw[4 + size]
    if raw.startswith(_SHA256_FIELD, start):
        alg, begin, end = Alg.SHA256, start + 12, start + 44
    elif raw.startswith(_SHA1_FIELD, start):
        alg, begin, end = Alg.SHA1, start + 10, start + 30
    else:
        return None
    if not raw.startswith(IN_PCR_10) or raw[4 : 4 + size] in VIOLATIONS or len(raw) < end + 4:
        return None
    stop = end + 4 + _le32(raw, end)[0]
    path = raw[end + 4 : stop]
    if path.find(b"\0") != stop - end - 5:  # the only NUL is the last byte, and all of it is there
        return None
    template = raw[8 + size : start - 4]
    if template == b"ima-ng" and stop == len(raw):
        signature = None
    elif template == b"ima-sig" and stop + 4 <= len(raw) == stop + 4 + _le32(raw, stop)[0]:
        signature = raw[stop + 4 :] or None
    else:
        return None
    return tuple.__new__(RuntimeFile, (number, path[:-1], alg, raw[begin:end], signature, "ima", None))


def digest_of(algorithm: str, data: bytes) -> bytes | None:
    """Hash by the kernel's name of the algorithm; None when we cannot compute it."""
    alg = ALGORITHMS.get(algorithm)
    return hashlib.new(HASHES[alg], data, usedforsecurity=False).digest() if alg is not None else None
