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
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

from watchword.errors import MalformedError
from watchword.wire.tpm.algorithms import Alg, digest, digest_size, hasher

__all__ = [
    "IMA_PCR",
    "MAX_ENTRY",
    "MAX_LOG",
    "TEMPLATES",
    "ImaEntry",
    "ImaLog",
    "MeasuredFile",
    "replay",
    "template_digest",
]

MAX_LOG = 256 << 20  # bytes; a million entries take about 120 MB
MAX_ENTRY = 1 << 20  # bytes of template data
_MAX_NAME = 255
_OLD_NAME = 256  # the "ima" template hashes the file name in a zero-padded buffer of this size
_PCRS = 24

IMA_PCR = 10
_HEAD = {size: struct.Struct(f"<I{size}sI") for size in (20, 32, 48, 64)}
_LE32 = struct.Struct("<I")
_DIGESTS = {20: Alg.SHA1, 32: Alg.SHA256, 48: Alg.SHA384, 64: Alg.SHA512}
_NAME = re.compile(rb"[\x21-\x7e]{1,%d}" % _MAX_NAME)

#: The fields of each template that the kernel defines. Any other name may be a list of fields, "d-ng|n-ng|sig".
TEMPLATES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "ima": ("d", "n"),
        "ima-ng": ("d-ng", "n-ng"),
        "ima-ngv2": ("d-ngv2", "n-ng"),
        "ima-sig": ("d-ng", "n-ng", "sig"),
        "ima-sigv2": ("d-ngv2", "n-ng", "sig"),
        "ima-buf": ("d-ng", "n-ng", "buf"),
        "ima-modsig": ("d-ng", "n-ng", "sig", "d-modsig", "modsig"),
        "evm-sig": (
            "d-ng", "n-ng", "evmsig", "xattrnames", "xattrlengths", "xattrvalues", "iuid", "igid", "imode",
        ),
    }
)  # fmt: skip
_FIELDS = frozenset(name for fields in TEMPLATES.values() for name in fields)
_HASH_SIZES = {
    b"md5": 16, b"sha1": 20, b"rmd160": 20, b"sha224": 28, b"sha256": 32, b"sha384": 48, b"sha512": 64,
    b"wp256": 32, b"wp384": 48, b"wp512": 64, b"tgr128": 16, b"tgr160": 20, b"tgr192": 24, b"sm3": 32,
    b"sm3-256": 32, b"sm3_256": 32, b"streebog256": 32, b"streebog512": 64,
    b"sha3-256": 32, b"sha3-384": 48, b"sha3-512": 64,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class MeasuredFile:
    """What one entry says about a file or a buffer.

    ``path`` is whatever the host wrote: any bytes but NUL, control characters included. ``algorithm`` is the kernel's
    name ("sha256"), ``kind`` "ima" or "verity" in the v2 templates, ``signature`` and ``buffer`` are None when absent.
    """

    path: bytes
    algorithm: str
    digest: bytes
    kind: str = "ima"
    signature: bytes | None = None
    buffer: bytes | None = None


class ImaEntry(NamedTuple):
    """One measurement. A named tuple, since logs have a hundred thousand of them and this is four times cheaper.

    ``number`` counts from 0; ``data`` is exactly what the template digest covers, in the old "ima" template with
    the name padded.
    """

    number: int
    pcr: int
    digest: bytes
    template: str
    data: bytes

    @property
    def violation(self) -> bool:
        """True for an entry that is extended as all-ones because its measurement could not be trusted."""
        return not any(self.digest)

    def fields(self) -> dict[str, bytes]:
        """The template's fields by name, raw.

        Raises MalformedError when the template is not known or the data does not consist of exactly its fields.
        """
        names = TEMPLATES.get(self.template)
        if names is None:
            names = tuple(self.template.split("|"))
            if not _FIELDS.issuperset(names) or len(set(names)) != len(names):
                raise MalformedError(f"IMA entry {self.number}: unknown template {self.template!r}")
        if self.template == "ima":
            return {"d": self.data[:20], "n": self.data[20:].rstrip(b"\0")}
        data, pos, values = self.data, 0, {}
        for name in names:
            start = pos + 4
            if start > len(data):
                raise MalformedError(f"IMA entry {self.number}: field {name!r} is missing")
            pos = start + _LE32.unpack_from(data, pos)[0]
            if pos > len(data):
                raise MalformedError(f"IMA entry {self.number}: field {name!r} is cut short")
            values[name] = data[start:pos]
        if pos != len(data):
            raise MalformedError(f"IMA entry {self.number}: bytes after the last field")
        return values

    def file(self) -> MeasuredFile:
        """The measured file: path, digest with its algorithm, signature. Raises MalformedError like :meth:`fields`."""
        values = self.fields()
        path = values.get("n-ng", values.get("n", b"\0")).removesuffix(b"\0")
        if b"\0" in path:
            raise MalformedError(f"IMA entry {self.number}: the path has a NUL in it or is missing")
        kind, algorithm, digest = self._digest_field(values)
        signature = values.get("sig") or values.get("evmsig") or None
        return MeasuredFile(path, algorithm, digest, kind, signature, values.get("buf"))

    def _digest_field(self, values: Mapping[str, bytes]) -> tuple[str, str, bytes]:
        """Kind, algorithm and digest out of d ("…"), d-ng ("alg:\\0…") or d-ngv2 ("kind:alg:\\0…")."""
        if "d" in values:
            old = values["d"]
            if len(old) not in (16, 20):
                raise MalformedError(f"IMA entry {self.number}: a digest of {len(old)} bytes")
            return "ima", "sha1" if len(old) == 20 else "md5", old
        label, separator, digest = values.get("d-ngv2", values.get("d-ng", b"")).partition(b":\0")
        kind, colon, algorithm = label.rpartition(b":")
        if ("d-ngv2" in values) != bool(colon) or kind not in (b"", b"ima", b"verity"):
            raise MalformedError(f"IMA entry {self.number}: not a digest field of its template")
        if not separator or _HASH_SIZES.get(algorithm) != len(digest):
            raise MalformedError(f"IMA entry {self.number}: digest and algorithm do not fit together")
        return kind.decode() or "ima", algorithm.decode(), digest


@dataclass(frozen=True, slots=True)
class ImaLog:
    """A whole binary log. ``digest_size`` is 20 for the usual file, larger for the file of one other bank."""

    digest_size: int
    entries: tuple[ImaEntry, ...]

    @classmethod
    def parse(cls, data: bytes | memoryview) -> ImaLog:
        """Parse a whole binary log, at most ``MAX_LOG`` bytes; a kernel's log is never empty.

        Raises MalformedError for anything that is cut short, too large or not a log.
        """
        data = bytes(data)
        if not data:
            raise MalformedError("IMA log: it is empty")
        if len(data) > MAX_LOG:
            raise MalformedError(f"IMA log: {len(data)} bytes long, {MAX_LOG} are allowed")
        size = _guess_digest_size(data)
        return cls(size, _parse_entries(data, size))

    def encode(self) -> bytes:
        """The same bytes that were parsed."""
        return b"".join(_encode_entry(entry) for entry in self.entries)

    @property
    def digest_algorithms(self) -> tuple[Alg, ...]:
        """The algorithms that the logged template digests may have."""
        alg = _DIGESTS[self.digest_size]
        return (alg, Alg.SM3_256) if alg is Alg.SHA256 else (alg,)


def _bad(why: str, pos: int) -> MalformedError:
    return MalformedError(f"IMA log: {why} (at byte {pos})")


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


def _parse_entries(data: bytes, size: int) -> tuple[ImaEntry, ...]:
    entries: list[ImaEntry] = []
    names: dict[bytes, str] = {}  # a log uses one or two templates: decode and check each name once
    head, fixed, end, pos, number = _HEAD[size], _HEAD[size].size, len(data), 0, 0
    unpack, unpack32, append, new = head.unpack_from, _LE32.unpack_from, entries.append, tuple.__new__
    while pos < end:
        if end - pos < fixed:
            raise _bad("cut short in the head of an entry", pos)
        pcr, digest, name_size = unpack(data, pos)
        start = pos + fixed
        raw = data[start : start + name_size]
        name = names.get(raw) or _template_name(raw, name_size, names, start)
        if pcr >= _PCRS:
            raise _bad(f"an entry is measured into PCR {pcr}, there are {_PCRS}", pos)
        start += name_size
        if name == "ima":
            body, pos = _old_body(data, start)
        else:
            if end - start < 4:
                raise _bad("cut short in the size of an entry", start)
            body_size = unpack32(data, start)[0]
            start += 4
            pos = start + body_size
            if pos > end or body_size > MAX_ENTRY:
                raise _bad(f"an entry declares {body_size} bytes, {end - start} are left, {MAX_ENTRY} allowed", start)
            body = data[start:pos]
        append(new(ImaEntry, (number, pcr, digest, name, body)))  # the constructor would take a third longer
        number += 1
    return tuple(entries)


def _template_name(raw: bytes, size: int, names: dict[bytes, str], pos: int) -> str:
    if len(raw) != size or not _NAME.fullmatch(raw):
        raise _bad(f"the name of a template is {size} bytes long or not printable", pos)
    name = raw.decode("ascii")
    if len(names) < _MAX_NAME:
        names[raw] = name
    return name


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


def _encode_entry(entry: ImaEntry) -> bytes:
    template = entry.template.encode("ascii")
    head = _HEAD[len(entry.digest)].pack(entry.pcr, entry.digest, len(template)) + template
    if entry.template != "ima":
        return head + _LE32.pack(len(entry.data)) + entry.data
    name = entry.data[20:].rstrip(b"\0")
    return head + entry.data[:20] + _LE32.pack(len(name)) + name


def template_digest(entry: ImaEntry, bank: Alg) -> bytes:
    """What the kernel extends for this entry: ``bank``'s hash of the template data, or all-ones for a violation."""
    if entry.violation:
        return b"\xff" * digest_size(bank)
    return digest(bank, entry.data)


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
