"""Clauses D1–D4 and D6: what the kernel's runtime log proves, once a quote stands behind it.

D1  it parses; templates that are not known still count         ImaLog.parse, and read_files for their content
D2  every template digest is that of the template data          find_prefix
D3  some prefix leads to the quoted PCR 10                      find_prefix
D4  boot_aggregate agrees with the quoted boot PCRs             _check_boot_aggregate
D6  it continues what was seen before in this boot              _check_part, _check_continues

The log is read after the quote was made, so it may be longer than what was quoted: only the prefix that leads to the
quoted value counts, the rest is nobody's word yet. Whether a file is *allowed* (D5) is for ``policy`` to say.

A log may leave out what the same boot showed before (``verify.runtime_state``), and what was computed for entries of
the very same bytes may be known (``verify.known_files``). Neither changes what is proven.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from watchword.errors import Finding, MalformedError, Rejected
from watchword.verify.ima_continued import Continued, find_end
from watchword.verify.ima_replay import Prefix, find_prefix
from watchword.verify.known_files import KnownFiles
from watchword.verify.runtime_file import ALGORITHMS, IN_PCR_10, RuntimeFile, read_file, read_files
from watchword.verify.runtime_state import RuntimeSeen, RuntimeState
from watchword.wire.ima_log import IMA_PCR, Entries, ImaEntry, ImaLog, decode_entry
from watchword.wire.tpm.algorithms import HASHES, Alg, digest

if TYPE_CHECKING:
    from watchword.verify.quote import VerifiedPcrs

__all__ = [
    "RuntimeFile",
    "RuntimeSeen",
    "RuntimeState",
    "VerifiedRuntimeLog",
    "boot_aggregates",
    "verify_ima_log",
]

_PROOF = object()
_BOOT_AGGREGATE = b"boot_aggregate"


@dataclass(frozen=True, slots=True)
class VerifiedRuntimeLog:
    """The quoted prefix of a runtime log. Only verify_ima_log makes one.

    ``violations`` are the paths that changed while they were measured, ``boot_aggregate`` the PCRs that it was found
    to cover ("0-9", "0-7") or "unchecked", ``seen`` what to remember. Findings that are fatal concern content that was
    not understood: policy decides whether content matters. ``part`` is what a log that was not sent whole continues:
    the entries kept there count as this log's, the others are allowed by its stack. ``sent`` are the entries of which
    those from ``start`` to ``end`` were quoted, ``fresh`` the files of those that had to be read. ``followed`` are the
    PCRs that entries of it were found to lead to: 10, and others that were quoted; ``seen`` is of PCR 10 alone.
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
    end: int = 0
    followed: frozenset[int] = frozenset({IMA_PCR})

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
        return self.sent.raws[0 if self.part else 1 : self.end - self.start]

    @property
    def ahead(self) -> int:
        """How many entries followed the quoted ones."""
        return self.start + len(self.sent.raws) - self.end

    def besides(self, stack: bytes | None) -> Iterator[tuple[int, bytes, RuntimeFile | None]]:
        """Number, bytes and file (None: it is no file) of each entry that ``stack`` is not known to allow."""
        if self.part is not None:
            for number, raw in self.part.kept:
                yield number, raw, self._file(number, raw)
        raws, count = self.sent.raws, self.end - self.start
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
            return read_file(raw, self.sent.size, number, self.followed)
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
    continued: Continued | None = None,
) -> VerifiedRuntimeLog:
    """Check that ``log`` explains the quoted PCR 10 of ``bank``, and read its content.

    ``max_ahead`` entries may follow the quote; ``seen`` is what this host showed before, if anything. A log that
    begins at entry ``start`` continues ``state``, which is what is on file of this host. ``known`` saves work that was
    done before; it must be the table that the log was parsed with. ``continued`` are quoted PCRs that the log has
    entries of, besides 10, and the values that the boot log leads them to.
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
    found = find_prefix(log, bank, quoted, seen, part, use_known=known is not None)
    sent = log.columns
    end = find_end(log, start, found, continued, pcrs.values) if continued else found.entries
    ahead = start + len(sent) - end
    if ahead > max_ahead:
        text = "the log has more entries after the quote than allowed"
        raise Rejected(Finding("D3", "runtime-log-ahead", text, f"at most {max_ahead}", str(ahead)))
    findings = list(found.findings)
    first = part.first if part else sent.raws[0]
    aggregate = _check_boot_aggregate(decode_entry(first, log.digest_size, 0), pcrs.values, findings)
    if seen is not None:
        _check_continues(seen, found)
    fresh = [(number, sent.raws[number - start]) for number in found.computed if number]
    followed = frozenset({IMA_PCR}).union(*(continued or {}).values())
    files, violations = read_files([*(part.kept if part else ()), *fresh], log.digest_size, findings, followed)
    if known is not None and not found.findings:
        for number, raw in fresh:
            if files[raw] is not None and raw.startswith(IN_PCR_10):  # what is odd is not kept, nor boot_aggregate
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
        end=end,
        followed=followed,
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


def _check_continues(seen: RuntimeSeen, found: Prefix) -> None:
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
    alg = ALGORITHMS.get(file.algorithm)
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
