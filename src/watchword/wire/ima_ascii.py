"""The readable form of the runtime log (ascii_runtime_measurements), for inspection only.

    10 <template digest> ima-ng sha256:<digest> /usr/bin/true

A file name may hold spaces and line breaks, so this form is ambiguous where the binary log is not: it never counts as
evidence. Each line is put back into the binary form that the kernel hashed; where several readings are possible, the
one whose hash is the logged template digest is taken.

Source: Linux, Documentation/security/IMA-templates.rst, and ima_ascii_measurements_show in ima_fs.c.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

from watchword.errors import MalformedError
from watchword.wire.ima_log import MAX_LOG, TEMPLATES, ImaEntry, ImaLog
from watchword.wire.tpm.algorithms import digest

__all__ = ["looks_ascii", "parse_ascii"]

_START = re.compile(rb" {0,8}\d{1,2} [0-9a-fA-F]{40}")
_LINE = re.compile(rb" {0,8}(\d{1,2}) ([0-9a-fA-F]{40}|(?:[0-9a-fA-F]{32}){2,4}) ([!-~]{1,255}) (.*)", re.DOTALL)
_HINT = "a file name with a line break splits its entry: use the binary log"
_UINT = {"iuid": "<I", "igid": "<I", "imode": "<H"}


def looks_ascii(data: bytes) -> bool:
    """True when ``data`` begins like a readable log and not like a binary one."""
    return _START.match(data) is not None


def parse_ascii(data: bytes) -> tuple[ImaLog, frozenset[int]]:
    """The log, and the indexes of entries whose content does not give the logged digest.

    Raises MalformedError when any line is not an entry of a known template.
    """
    if len(data) > MAX_LOG:
        raise MalformedError(f"IMA log: {len(data)} bytes long, {MAX_LOG} are allowed")
    entries: list[ImaEntry] = []
    unproven: set[int] = set()
    for number, line in enumerate(data.rstrip(b"\n").split(b"\n"), 1):
        match = _LINE.fullmatch(line)
        if match is None:
            raise MalformedError(f"IMA log: line {number} is not an entry", hint=_HINT)
        entry, proven = _entry(len(entries), match, number)
        if entries and len(entry.digest) != len(entries[0].digest):
            raise MalformedError(f"IMA log: line {number} has a template digest of another size")
        entries.append(entry)
        if not proven:
            unproven.add(entry.number)
    return ImaLog(len(entries[0].digest), tuple(entries)), frozenset(unproven)


def _entry(index: int, match: re.Match[bytes], number: int) -> tuple[ImaEntry, bool]:
    pcr, template = int(match[1]), match[3].decode("ascii")
    names = TEMPLATES.get(template) or tuple(template.split("|"))
    logged = bytes.fromhex(match[2].decode("ascii"))
    if pcr > 23:
        raise MalformedError(f"IMA log: line {number} is measured into PCR {pcr}")
    first: ImaEntry | None = None
    for body in _readings(names, match[4]):
        entry = ImaEntry(index, pcr, logged, template, body)
        if entry.violation or logged in _digests(entry):
            return entry, True
        first = first or entry
    if first is None:
        raise MalformedError(f"IMA log: line {number} does not have the fields of template {template!r}", hint=_HINT)
    return first, False


def _digests(entry: ImaEntry) -> tuple[bytes, ...]:
    return tuple(digest(alg, entry.data) for alg in ImaLog(len(entry.digest), ()).digest_algorithms)


def _readings(names: tuple[str, ...], text: bytes) -> Iterator[bytes]:
    """Every template data that may have been printed as ``text``: fields after the name may be empty or stripped."""
    after_name = len(names) - 2
    if after_name < 0 or names[1] not in ("n", "n-ng"):
        return
    head, space, rest = text.partition(b" ")
    if not space:
        return
    for present in range(after_name, -1, -1):
        parts = rest.rsplit(b" ", present) if present else [rest]
        values = [head, *parts] + [b""] * (after_name - present)
        if len(parts) == present + 1:
            try:
                yield _template_data(names, values)
            except (ValueError, struct.error):  # not hex, not a number: this reading is none
                continue


def _template_data(names: tuple[str, ...], values: list[bytes]) -> bytes:
    fields = [_field(name, value) for name, value in zip(names, values, strict=True)]
    if names == TEMPLATES["ima"]:
        if len(fields[0]) not in (16, 20) or len(values[1]) > 255:
            raise ValueError("not a digest of the old template")
        return fields[0].ljust(20, b"\0") + values[1].ljust(256, b"\0")
    return b"".join(struct.pack("<I", len(field)) + field for field in fields)


def _field(name: str, value: bytes) -> bytes:
    if name in ("n", "n-ng", "xattrnames"):
        if b"\0" in value:
            raise ValueError("a NUL in a name")
        return value + b"\0"
    if name in _UINT:
        return struct.pack(_UINT[name], int(value))
    if name in ("d-ng", "d-ngv2") or (name == "d-modsig" and value):
        label, colon, hexadecimal = value.rpartition(b":")
        if not colon:
            raise ValueError("a digest without its algorithm")
        return label + b":\0" + bytes.fromhex(hexadecimal.decode("ascii"))
    return bytes.fromhex(value.decode("ascii"))
