"""Clauses D1–D4 and D6: what the kernel's runtime log proves, once a quote stands behind it.

D1  it parses; templates that are not known still count         ImaLog.parse, and _read for their content
D2  every template digest is that of the template data          _extension
D3  some prefix leads to the quoted PCR 10                      _walk
D4  boot_aggregate agrees with the quoted boot PCRs             _check_boot_aggregate
D6  it continues what was seen before in this boot              _find_prefix, _check_continues, _check_part

The log is read after the quote was made, so it may be longer than what was quoted: only the prefix that leads to the
quoted value counts, the rest is nobody's word yet. Whether a file is *allowed* (D5) is for ``policy`` to say.

A log may leave out what the same boot showed before (``verify.runtime_state``), and what was computed for entries of
the very same bytes may be known (``verify.known_files``). Neither changes what is proven.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from operator import length_hint
from typing import TYPE_CHECKING, Any, NamedTuple

from watchword.errors import Finding, MalformedError, Rejected
from watchword.verify.known_files import KnownFiles
from watchword.verify.runtime_state import RuntimeSeen, RuntimeState
from watchword.wire.ima_log import IMA_PCR, Entries, ImaEntry, ImaLog, decode_entry, record_data
from watchword.wire.tpm.algorithms import HASHES, Alg, digest, digest_size, hasher

if TYPE_CHECKING:
    from watchword.verify.quote import VerifiedPcrs

__all__ = [
    "RuntimeFile",
    "RuntimeSeen",
    "RuntimeState",
    "VerifiedRuntimeLog",
    "boot_aggregates",
    "read_file",
    "verify_ima_log",
]

_PROOF = object()
_MAX_FINDINGS = 100  # entries that are described one by one; the rest are counted
_BOOT_AGGREGATE = b"boot_aggregate"
_IN_PCR_10 = struct.pack("<I", IMA_PCR)  # how the bytes of an entry begin
_SHA256_FIELD = b"\x28\0\0\0sha256:\0"  # how a d-ng field begins: its size, then the algorithm
_SHA1_FIELD = b"\x1a\0\0\0sha1:\0"
_VIOLATIONS = frozenset(bytes(size) for size in (20, 32, 48, 64))
_le32 = struct.Struct("<I").unpack_from
_ALGORITHMS = {name.replace("_", "-"): alg for alg, name in HASHES.items()} | {"sm3-256": Alg.SM3_256}


class RuntimeFile(NamedTuple):
    """A measured file or buffer. A named tuple, since a log has many.

    ``path`` may hold any bytes but NUL; ``alg`` is Alg.NULL for a hash that no TPM has; ``kind`` is "ima", "verity"
    (an fs-verity digest) or "buffer" (kernel command line, keys, …).
    """

    number: int
    path: bytes
    alg: Alg
    digest: bytes
    signature: bytes | None = None
    kind: str = "ima"


@dataclass(frozen=True, slots=True)
class VerifiedRuntimeLog:
    """The quoted prefix of a runtime log. Only verify_ima_log makes one.

    ``violations`` are the paths that changed while they were measured, ``boot_aggregate`` the PCRs that it was found
    to cover ("0-9", "0-7") or "unchecked", ``seen`` what to remember. Findings that are fatal concern content that was
    not understood: policy decides whether content matters. ``part`` is what a log that was not sent whole continues:
    the entries kept there count as this log's, the others are allowed by its stack. ``sent`` are the entries of which
    those from ``start`` to ``seen.entries`` were quoted, ``fresh`` the files of those that had to be read.
    """

    _proof: object = field(repr=False, compare=False)
    sent: Entries = field(repr=False)
    start: int
    first: bytes = field(repr=False)
    bank: Alg
    violations: tuple[bytes, ...]
    boot_aggregate: str
    seen: RuntimeSeen
    findings: tuple[Finding, ...]
    part: RuntimeState | None = None
    known: KnownFiles | None = field(default=None, repr=False, compare=False)
    fresh: Mapping[bytes, RuntimeFile | None] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self._proof is not _PROOF:
            raise TypeError("only verify_ima_log makes a VerifiedRuntimeLog")

    @property
    def measured(self) -> tuple[RuntimeFile, ...]:
        """The files of the log, in its order and without boot_aggregate; of a part, those kept and those sent."""
        return tuple(file for _, _, file in self.besides(None) if file is not None)

    @property
    def quoted(self) -> list[bytes]:
        """The bytes of each entry that was sent and quoted, without boot_aggregate."""
        return self.sent.raws[0 if self.part else 1 : self.seen.entries - self.start]

    def besides(self, stack: bytes | None) -> Iterator[tuple[int, bytes, RuntimeFile | None]]:
        """Number, bytes and file (None: it is no file) of each entry that ``stack`` is not known to allow."""
        if self.part is not None:
            for number, raw in self.part.kept:
                yield number, raw, self._file(number, raw)
        raws, count = self.sent.raws, self.seen.entries - self.start
        for index in self._unknown(stack):
            if index < count and self.start + index:  # the first of all is boot_aggregate, and no file
                yield self.start + index, raws[index], self._file(self.start + index, raws[index])

    def _unknown(self, stack: bytes | None) -> list[int]:
        """The indexes of entries sent that no mark of this stack is on. Nearly every log has next to none."""
        marks = self.sent.marks
        if stack is None or self.known is None:
            return list(range(len(marks)))
        allowed = {mark for mark in set(marks) if mark is not None and stack in mark}
        return [index for index, mark in enumerate(marks) if mark not in allowed]

    def _file(self, number: int, raw: bytes) -> RuntimeFile | None:
        if raw not in self.fresh:
            return read_file(raw, self.sent.size, number)
        file = self.fresh[raw]
        return file if file is None or file.number == number else file._replace(number=number)


def verify_ima_log(
    log: ImaLog,
    pcrs: VerifiedPcrs,
    bank: Alg,
    *,
    max_ahead: int,
    seen: RuntimeSeen | None,
    start: int = 0,
    state: RuntimeState | None = None,
    known: KnownFiles | None = None,
) -> VerifiedRuntimeLog:
    """Check that ``log`` explains the quoted PCR 10 of ``bank``, and read its content.

    ``max_ahead`` entries may follow the quote; ``seen`` is what this host showed before, if anything. A log that
    begins at entry ``start`` continues ``state``, which is what is on file of this host. ``known`` saves work that was
    done before; it must be the table that the log was parsed with.
    Raises Rejected with the first failed clause, MalformedError when the bank cannot be computed here.
    """
    quoted = pcrs.values.get(bank, {}).get(IMA_PCR)
    if quoted is None:
        raise Rejected(Finding("D3", "runtime-log-replay", "PCR 10 was not quoted", HASHES[bank], "nothing"))
    reset_count = pcrs.clock_info.reset_count
    if seen is not None and seen.reset_count != reset_count:
        seen = None  # another boot: its log started anew
    part = _check_part(start, state, log, bank, reset_count)
    if log.digest_size != 20 or (known is not None and known.bank is not bank):
        known = None
    found = _find_prefix(log, bank, quoted, seen, part, known)
    sent = log.columns
    ahead = start + len(sent) - found.entries
    if ahead > max_ahead:
        text = "the log has more entries after the quote than allowed"
        raise Rejected(Finding("D3", "runtime-log-ahead", text, f"at most {max_ahead}", str(ahead)))
    findings = list(found.findings)
    first = part.first if part else sent.raws[0]
    aggregate = _check_boot_aggregate(decode_entry(first, log.digest_size, 0), pcrs.values, findings)
    if seen is not None:
        _check_continues(seen, found)
    fresh = [(number, sent.raws[number - start]) for number in found.computed if number]
    files, violations = _read([*(part.kept if part else ()), *fresh], log.digest_size, findings)
    if known is not None and not found.findings:
        for number, raw in fresh:
            if files[raw] is not None:  # what is odd is not kept, nor is boot_aggregate
                known.add(raw, found.computed[number])
    return VerifiedRuntimeLog(
        _PROOF,
        sent=sent,
        start=start,
        first=first,
        bank=bank,
        violations=violations,
        boot_aggregate=aggregate,
        seen=RuntimeSeen(reset_count, found.entries, quoted),
        findings=tuple(findings),
        part=part,
        known=known,
        fresh=files,
    )


def _check_part(
    start: int, state: RuntimeState | None, log: ImaLog, bank: Alg, reset_count: int
) -> RuntimeState | None:
    """D6: a log without its beginning continues exactly what is on file, of the same boot."""
    if start == 0:
        return None
    have = None if state is None else (state.seen.reset_count, state.seen.entries, state.bank, state.digest_size)
    if state is None or have != (reset_count, start, bank, log.digest_size):
        text = "the beginning of the log is missing, and this does not continue what is on file"
        actual = f"from entry {start}"
        raise Rejected(Finding("D6", "runtime-log-part", text, f"entry {state.seen.entries if state else 0}", actual))
    return state


class _Prefix(NamedTuple):
    """``entries`` of the whole log lead to the quoted value; ``at_seen`` was the value at the last quote, if reached.

    ``computed`` has what each entry extends by that had to be hashed, by its number.
    """

    entries: int
    at_seen: bytes | None
    computed: dict[int, bytes]
    findings: tuple[Finding, ...] = ()


class _Hashes(NamedTuple):
    """How entries are extended: the bank's hash, the hash of the logged digests, and whether those are padded.

    ``known`` tells that what was computed before may be used: it was computed for this bank.
    """

    bank: Callable[..., Any]
    size: int
    logged: Callable[..., Any]
    logged_size: int
    padded: bool
    known: bool


def _find_prefix(
    log: ImaLog,
    bank: Alg,
    quoted: bytes,
    seen: RuntimeSeen | None,
    part: RuntimeState | None,
    known: KnownFiles | None,
) -> _Prefix:
    logged, size = _logged_algorithm(log), digest_size(bank)
    begin, mark = part.seen if part else RuntimeSeen(0, 0, bytes(size)), seen.entries if seen else 0
    if part and begin.aggregate == quoted:  # nothing new; no boot's log is empty, so this is not the reset value
        return _Prefix(begin.entries, quoted if mark == begin.entries else None, {})
    plain = _Hashes(hasher(bank), size, hasher(logged), log.digest_size, padded=False, known=known is not None)
    found = _search(log.columns, plain, begin, quoted, mark)
    if found is None and bank is not logged and logged is Alg.SHA1:
        found = _search(log.columns, plain._replace(padded=True, known=False), begin, quoted, mark)
        if found is not None:
            text = "this kernel extends padded SHA-1 digests: the bank is only as strong as SHA-1"
            return found._replace(findings=(Finding("D3", "runtime-log-padded", text, HASHES[bank], "sha1"),))
    if found is None:
        text = "no beginning of the log leads to the quoted PCR 10"
        raise Rejected(Finding("D3", "runtime-log-replay", text, quoted.hex(), f"{len(log.entries)} entries"))
    return found


def _logged_algorithm(log: ImaLog) -> Alg:
    """The algorithm of the logged template digests; where a size leaves a choice, the first entry decides."""
    choices = log.digest_algorithms
    if len(choices) > 1:
        for entry in log.entries:
            if not entry.violation:
                return next((alg for alg in choices if digest(alg, entry.data) == entry.digest), choices[0])
    return choices[0]


def _search(sent: Entries, hashes: _Hashes, begin: RuntimeSeen, quoted: bytes, mark: int) -> _Prefix | None:
    """The prefix that leads from ``begin`` to ``quoted``, and the value that it had after ``mark`` entries."""
    computed: dict[int, bytes] = {}
    start, value, before = begin.entries, begin.aggregate, max(mark - begin.entries, 0)
    if before:
        found, value = _walk(sent, range(before), start, hashes, value, quoted, computed)
        if found is not None:
            return _Prefix(found, value if found == mark else None, computed)
    at_mark = value if start + before == mark else None
    found, _ = _walk(sent, range(before, len(sent)), start, hashes, value, quoted, computed)
    return None if found is None else _Prefix(found, at_mark, computed)


def _walk(
    sent: Entries, part: range, start: int, hashes: _Hashes, value: bytes, quoted: bytes, computed: dict[int, bytes]
) -> tuple[int | None, bytes]:
    """Extend by the entries in ``part`` of those sent, the first of which has number ``start``, until PCR 10 has the
    quoted value (D3). Returns how many entries of the log that took, None when it never had, and the last value.

    One tight loop, since this is what a verifier of many hosts spends its time on: where it is, it asks when needed.
    """
    extends = sent.extends[part.start : part.stop]
    new, known, left = hashes.bank, hashes.known, iter(extends)
    end = part.start + len(extends)
    for extend in left:
        if extend is None or not known:
            index = end - length_hint(left) - 1
            raw = sent.raws[index]
            extend = computed[start + index] = _extension(raw, start + index, hashes)
            if not raw.startswith(_IN_PCR_10):
                continue
        value = new(value + extend).digest()
        if value == quoted:
            return start + end - length_hint(left), value
    return None, value


def _extension(raw: bytes, number: int, hashes: _Hashes) -> bytes:
    """What the entry extends its PCR by. Its template digest must be that of its data (D2), or it is a violation."""
    recorded = raw[4 : 4 + hashes.logged_size]
    if recorded in _VIOLATIONS:
        return (b"\xff" * (hashes.logged_size if hashes.padded else hashes.size)).ljust(hashes.size, b"\0")
    data = record_data(raw, hashes.logged_size)
    computed: bytes = hashes.logged(data).digest()
    if computed != recorded:
        text = "the template digest is not that of the template data"
        where = f"entry {number}"
        raise Rejected(Finding("D2", "runtime-log-digest", text, computed.hex(), recorded.hex(), where))
    if hashes.padded:
        return recorded.ljust(hashes.size, b"\0")
    if hashes.bank is hashes.logged:
        return computed
    extend: bytes = hashes.bank(data).digest()
    return extend


def _check_continues(seen: RuntimeSeen, found: _Prefix) -> None:
    """D6: within one boot the log only grows."""
    if found.at_seen != seen.aggregate:
        text = "the log does not continue what this host showed before in this boot"
        actual = found.at_seen.hex() if found.at_seen else f"{found.entries} entries"
        expected = f"{seen.entries} entries, {seen.aggregate.hex()}"
        raise Rejected(Finding("D6", "runtime-log-truncated", text, expected, actual))


def boot_aggregates(alg: Alg, values: Mapping[int, bytes]) -> dict[str, bytes]:
    """What boot_aggregate may be for these PCR ``values`` of bank ``alg``, by the PCRs it covers.

    Linux before 5.8, and the SHA-1 bank ever after, cover PCR 0 to 7; the other banks since 5.8 cover 0 to 9
    (ima_calc_boot_aggregate_tfm). A rule whose PCRs are not all in ``values`` is left out.
    """
    rules = {"0-7": range(8)} if alg is Alg.SHA1 else {"0-9": range(10), "0-7": range(8)}
    return {
        name: digest(alg, *(values[pcr] for pcr in pcrs))
        for name, pcrs in rules.items()
        if all(pcr in values for pcr in pcrs)
    }


def _check_boot_aggregate(entry: ImaEntry, banks: Mapping[Alg, Mapping[int, bytes]], findings: list[Finding]) -> str:
    """D4: the first entry ties the log to the boot that the quote shows."""
    try:
        file = entry.file()
    except MalformedError as error:
        raise Rejected(Finding("D4", "runtime-log-aggregate", error.message)) from None
    if file.path != _BOOT_AGGREGATE or entry.pcr != IMA_PCR or entry.violation:
        raise Rejected(Finding("D4", "runtime-log-aggregate", "the log does not begin with boot_aggregate"))
    alg = _ALGORITHMS.get(file.algorithm)
    allowed = boot_aggregates(alg, banks.get(alg, {})) if alg is not None else {}
    for rule, value in allowed.items():
        if value == file.digest:
            return rule
    complete = len(allowed) == (1 if alg is Alg.SHA1 else 2)
    if complete:
        text = "boot_aggregate is not that of the quoted PCRs"
        expected = " or ".join(value.hex() for value in allowed.values())
        raise Rejected(Finding("D4", "runtime-log-aggregate", text, expected, file.digest.hex()))
    text = "boot_aggregate covers PCRs that were not quoted in its bank"
    findings.append(Finding("D4", "runtime-log-aggregate-unchecked", text, "", file.algorithm, fatal=False))
    return "unchecked"


def _read(
    entries: list[tuple[int, bytes]], size: int, findings: list[Finding]
) -> tuple[dict[bytes, RuntimeFile | None], tuple[bytes, ...]]:
    """The content of entries with these numbers and bytes; what is not understood becomes a finding (D1)."""
    files: dict[bytes, RuntimeFile | None] = {}
    violations: list[bytes] = []
    problems: list[Finding] = []
    for number, raw in entries:
        file = files[raw] = read_file(raw, size, number)
        if file is None:
            entry = decode_entry(raw, size, number)
            problem = _problem(entry)
            if problem is None:
                violations.append(entry.file().path)
            else:
                problems.append(problem)
    findings += problems[:_MAX_FINDINGS]
    if len(problems) > _MAX_FINDINGS:
        text = f"and {len(problems) - _MAX_FINDINGS} more entries that were not understood"
        findings.append(Finding("D1", "runtime-log-template", text))
    return files, tuple(violations)


def read_file(raw: bytes, size: int, number: int) -> RuntimeFile | None:
    """The file or buffer that the entry with these bytes measured, in a log with digests of ``size`` bytes.

    None for a violation, and for what cannot be used: of another PCR, of an unknown template or not true in itself.
    """
    quick = _quick(raw, size, number)
    if quick is not None:
        return quick
    entry = decode_entry(raw, size, number)
    if _problem(entry) is not None or entry.violation:
        return None
    file = entry.file()
    kind = "buffer" if file.buffer is not None else file.kind
    alg = _ALGORITHMS.get(file.algorithm, Alg.NULL)
    return RuntimeFile(entry.number, file.path, alg, file.digest, file.signature, kind)


def _problem(entry: ImaEntry) -> Finding | None:
    """Why the content of the entry cannot be used, if so."""
    try:
        file = entry.file()
    except MalformedError as error:
        return Finding("D1", "runtime-log-template", error.message, subject=f"entry {entry.number}")
    if entry.pcr != IMA_PCR:
        text = f"measured into PCR {entry.pcr}, which this check does not follow"
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
    if not raw.startswith(_IN_PCR_10) or raw[4 : 4 + size] in _VIOLATIONS or len(raw) < end + 4:
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
    return tuple.__new__(RuntimeFile, (number, path[:-1], alg, raw[begin:end], signature, "ima"))


def digest_of(algorithm: str, data: bytes) -> bytes | None:
    """Hash by the kernel's name of the algorithm; None when we cannot compute it."""
    alg = _ALGORITHMS.get(algorithm)
    return hashlib.new(HASHES[alg], data, usedforsecurity=False).digest() if alg is not None else None
