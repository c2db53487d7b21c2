"""The kernel's runtime log (IMA): bytes to :class:`ImaLog` and back, and what it extends the PCRs to.

A binary entry is PCR, template digest, name of the template, template data; all integers little-endian:

    le32 pcr | digest (20, or the size of one bank) | le32 size, name | le32 size, template data
                                          old template "ima": name | digest (20) | le32 size, file name

What is extended is a hash of the template data: SHA-1 in the SHA-1 bank, and since Linux 5.8 the bank's own hash in
every other bank (before, the SHA-1 digest padded with zeros). A *violation* (a file was open for writing while it was
measured) is logged with an all-zero digest and extended as all-ones.

Source: Linux, security/integrity/ima: ima_fs.c, ima_template.c, ima_template_lib.c, ima_crypto.c, ima_queue.c.
Nothing here is verified: ``verify.ima_log`` compares a replay with quoted values first.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias, overload

from watchword.errors import MalformedError
from watchword.wire.ima_entry import TEMPLATES, ImaEntry, MeasuredFile, template_digest
from watchword.wire.tpm.algorithms import Alg, digest_size, hasher

__all__ = [
    "IMA_PCR",
    "MAX_ENTRY",
    "MAX_LOG",
    "TEMPLATES",
    "Entries",
    "KnownEntries",
    "Run",
    "ImaEntry",
    "ImaLog",
    "MeasuredFile",
    "decode_entry",
    "encode_entry",
    "record_data",
    "record_key",
    "replay",
    "template_digest",
]

MAX_LOG = 256 << 20  # bytes; a million entries take about 120 MB
MAX_ENTRY = 1 << 20  # bytes of template data
_MAX_NAME = 255
_OLD_NAME = 256  # the "ima" template hashes the file name in a zero-padded buffer of this size
_PCRS = 24

IMA_PCR = 10
#: Entries that were looked at before and followed each other: their bytes as logged, together and one by one, what each
#: extends its PCR by, and a mark of the caller's that each bears. Many of them are one comparison.
Run: TypeAlias = tuple[bytes, list[bytes], list[bytes], list[frozenset[bytes]]]


class KnownEntries(Protocol):
    """Runs by the :func:`record_key` of their first entry: those of several entries, and those of one."""

    @property
    def runs(self) -> Mapping[bytes, Run]: ...

    @property
    def entries(self) -> Mapping[bytes, tuple[bytes, bytes, frozenset[bytes]]]: ...


_HEAD = {size: struct.Struct(f"<I{size}sI") for size in (20, 32, 48, 64)}
_LE32 = struct.Struct("<I")
_KEY = 24  # bytes: PCR and SHA-1 digest
_DIGESTS = {20: Alg.SHA1, 32: Alg.SHA256, 48: Alg.SHA384, 64: Alg.SHA512}
_NAME = re.compile(rb"[\x21-\x7e]{1,%d}" % _MAX_NAME)


class Entries(Sequence[ImaEntry]):
    """The entries of a log that was parsed, each taken apart only when it is asked for.

    A verifier reads the columns and nothing else, since an :class:`ImaEntry` takes longer to make than to hash:
    ``raws`` has the bytes of each entry, ``extends`` and ``marks`` what was known of it before, else None.
    """

    __slots__ = ("extends", "marks", "raws", "size")

    def __init__(
        self, raws: list[bytes], extends: list[bytes | None], marks: list[frozenset[bytes] | None], size: int
    ) -> None:
        self.raws = raws
        self.extends = extends
        self.marks = marks
        self.size = size

    def __len__(self) -> int:
        return len(self.raws)

    @overload
    def __getitem__(self, index: int) -> ImaEntry: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[ImaEntry, ...]: ...

    def __getitem__(self, index: int | slice) -> ImaEntry | tuple[ImaEntry, ...]:
        numbers = range(len(self.raws))[index]
        if isinstance(numbers, range):
            return tuple(decode_entry(self.raws[number], self.size, number) for number in numbers)
        return decode_entry(self.raws[numbers], self.size, numbers)

    def __iter__(self) -> Iterator[ImaEntry]:
        for number, raw in enumerate(self.raws):
            yield decode_entry(raw, self.size, number)

    def __eq__(self, other: object) -> bool:
        return tuple(self) == tuple(other) if isinstance(other, Entries | tuple) else NotImplemented

    def __hash__(self) -> int:
        return hash(tuple(self))


@dataclass(frozen=True, slots=True)
class ImaLog:
    """A whole runtime log, or the later part of one. ``digest_size`` is that of the logged template digests."""

    digest_size: int
    entries: Sequence[ImaEntry]

    @classmethod
    def parse(cls, data: bytes | memoryview, known: KnownEntries | None = None) -> ImaLog:
        """Parse a whole binary log, at most ``MAX_LOG`` bytes; a kernel's log is never empty.

        ``known`` are entries that were parsed before in logs with 20-byte digests.
        Raises MalformedError for anything that is cut short, too large or not a log.
        """
        data = _bounded(data)
        if not data:
            raise MalformedError("IMA log: it is empty")
        size = _guess_digest_size(data)
        return cls(size, _parse_entries(data, size, known))

    @classmethod
    def parse_part(cls, data: bytes | memoryview, digest_size: int, known: KnownEntries | None = None) -> ImaLog:
        """Parse what follows the entries that somebody has already; it may be nothing. Raises MalformedError.

        ``digest_size`` is that of the log's first part: one that begins in the middle does not show its own.
        """
        return cls(digest_size, _parse_entries(_bounded(data), digest_size, known))

    @property
    def columns(self) -> Entries:
        """The entries by their bytes. Not to be changed."""
        if isinstance(self.entries, Entries):
            return self.entries
        nothing = [None] * len(self.entries)
        return Entries([encode_entry(entry) for entry in self.entries], list(nothing), list(nothing), self.digest_size)

    def encode(self) -> bytes:
        """The same bytes that were parsed."""
        return b"".join(self.columns.raws)

    @property
    def digest_algorithms(self) -> tuple[Alg, ...]:
        """The algorithms that the logged template digests may have."""
        alg = _DIGESTS[self.digest_size]
        return (alg, Alg.SM3_256) if alg is Alg.SHA256 else (alg,)


def _bad(why: str, pos: int) -> MalformedError:
    return MalformedError(f"IMA log: {why} (at byte {pos})")


def _bounded(data: bytes | memoryview) -> bytes:
    if len(data) > MAX_LOG:
        raise MalformedError(f"IMA log: {len(data)} bytes long, {MAX_LOG} are allowed")
    return bytes(data)


def _guess_digest_size(data: bytes) -> int:
    """20, unless only a larger size puts a name where the first entry has one (kernels with a file per bank)."""
    for size in _HEAD:
        start = 8 + size
        if len(data) < start:
            break
        name_size = _LE32.unpack_from(data, 4 + size)[0]
        if name_size <= _MAX_NAME and _NAME.fullmatch(data, start, start + name_size):
            return size
    return 20


def record_key(raw: bytes) -> bytes:
    """What an entry with a 20-byte digest is found by: its PCR and digest. It is the same only if all bytes are."""
    return raw[:_KEY]


def _parse_entries(data: bytes, size: int, known: KnownEntries | None) -> Entries:
    """Cut the log into entries, each checked for its bounds unless the very same bytes were checked before.

    One tight loop, and no object for each entry that the garbage collector would have to follow.
    """
    raws: list[bytes] = []
    extends: list[bytes | None] = []
    marks: list[frozenset[bytes] | None] = []
    names: set[bytes] = set()  # a log uses one or two templates: check each name once
    find_run, find = (known.runs.get, known.entries.get) if known and size == _KEY - 4 else (_nothing, _nothing)
    add_raw, add_extend, add_mark, startswith = raws.append, extends.append, marks.append, data.startswith
    pos, end = 0, len(data)
    while pos < end:
        key = data[pos : pos + _KEY]
        if (run := find_run(key)) is not None and startswith(run[0], pos):
            raws += run[1]
            extends += run[2]
            marks += run[3]
            pos += len(run[0])
        elif (entry := find(key)) is not None and startswith(raw := entry[0], pos):
            add_raw(raw)
            add_extend(entry[1])
            add_mark(entry[2])
            pos += len(raw)
        else:
            stop = _entry_end(data, pos, size, names)
            add_raw(data[pos:stop])
            add_extend(None)
            add_mark(None)
            pos = stop
    return Entries(raws, extends, marks, size)


def _nothing(key: bytes) -> None:
    """Nothing is known."""


def _entry_end(data: bytes, pos: int, size: int, names: set[bytes]) -> int:
    """Where the entry at ``pos`` stops. ``names`` are the names of templates that were found good."""
    start, end = pos + 8 + size, len(data)
    if start > end:
        raise _bad("cut short in the head of an entry", pos)
    name_size: int = _LE32.unpack_from(data, start - 4)[0]
    name = data[start : start + name_size]
    if name not in names:
        _check_name(name, name_size, names, start)
    if _LE32.unpack_from(data, pos)[0] >= _PCRS:
        raise _bad(f"an entry is measured into a PCR above {_PCRS - 1}", pos)
    start += name_size
    if name == b"ima":
        return _old_body(data, start)[1]
    if end - start < 4:
        raise _bad("cut short in the size of an entry", start)
    body_size: int = _LE32.unpack_from(data, start)[0]
    start += 4
    if body_size > end - start or body_size > MAX_ENTRY:
        raise _bad(f"an entry declares {body_size} bytes, {end - start} are left, {MAX_ENTRY} allowed", start)
    return start + body_size


def _check_name(name: bytes, size: int, names: set[bytes], pos: int) -> None:
    if len(name) != size or not _NAME.fullmatch(name):
        raise _bad(f"the name of a template is {size} bytes long or not printable", pos)
    if len(names) < _MAX_NAME:
        names.add(name)


def _old_body(data: bytes, pos: int) -> tuple[bytes, int]:
    """The "ima" template: what is hashed, and where the next entry starts."""
    if len(data) - pos < 24:
        raise _bad("cut short in an entry of the old template", pos)
    size = _LE32.unpack_from(data, pos + 20)[0]
    stop = pos + 24 + size
    name = data[pos + 24 : stop] if size < _OLD_NAME else b"\0"
    if stop > len(data) or b"\0" in name:
        raise _bad(f"a file name of {size} bytes is too long, cut short or has a NUL in it", pos)
    return data[pos : pos + 20] + name.ljust(_OLD_NAME, b"\0"), stop


def record_data(raw: bytes, size: int) -> bytes:
    """The template data of an entry that was parsed in a log with digests of ``size`` bytes."""
    start = 8 + size + raw[4 + size]  # _check_name: the size of the name fits into its lowest byte
    if raw[8 + size : start] == b"ima":
        return _old_body(raw, start)[0]
    return raw[start + 4 :]


def decode_entry(raw: bytes, size: int, number: int) -> ImaEntry:
    """The entry with these bytes, which were parsed in a log with digests of ``size`` bytes."""
    name = raw[8 + size : 8 + size + raw[4 + size]].decode("ascii")
    return ImaEntry(number, _LE32.unpack_from(raw)[0], raw[4 : 4 + size], name, record_data(raw, size))


def encode_entry(entry: ImaEntry) -> bytes:
    """The bytes of an entry in a binary log."""
    template = entry.template.encode("ascii")
    head = _HEAD[len(entry.digest)].pack(entry.pcr, entry.digest, len(template)) + template
    if entry.template != "ima":
        return head + _LE32.pack(len(entry.data)) + entry.data
    name = entry.data[20:].rstrip(b"\0")
    return head + entry.data[:20] + _LE32.pack(len(name)) + name


def replay(log: ImaLog, bank: Alg, *, padded: bool = False) -> dict[int, bytes]:
    """The value of every PCR that the log extends in ``bank``, by PCR index.

    The bank whose digests are logged is replayed from the logged digests, every other one from the template data.
    ``padded`` asks for what kernels before 5.8 did in other banks: the logged SHA-1 digest followed by zeros.
    Raises MalformedError when this machine cannot compute the algorithm.
    """
    new, size = hasher(bank), digest_size(bank)
    logged = padded or bank is _DIGESTS[log.digest_size]
    ones = (b"\xff" * (log.digest_size if padded else size)).ljust(size, b"\0")
    values: dict[int, bytes] = {}
    zero = bytes(size)
    nothing = bytes(log.digest_size)
    for _, pcr, recorded, _, data in log.entries:
        if recorded == nothing:
            extend = ones
        elif logged:
            extend = recorded.ljust(size, b"\0")
        else:
            extend = new(data).digest()
        values[pcr] = new(values.get(pcr, zero) + extend).digest()
    return dict(sorted(values.items()))
