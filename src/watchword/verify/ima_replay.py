"""Clauses D2 and D3: which beginning of a runtime log leads to the quoted PCR 10.

Every entry extends PCR 10 by a hash of its template data, so a log that leads to a quoted value is the kernel's own.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from operator import length_hint
from typing import Any, NamedTuple, TypeAlias

from watchword.errors import Finding, Rejected
from watchword.verify.runtime_file import IN_PCR_10, VIOLATIONS
from watchword.verify.runtime_state import RuntimeSeen, RuntimeState
from watchword.wire.ima_log import Entries, ImaLog, record_data
from watchword.wire.tpm.algorithms import HASHES, Alg, digest, digest_size, hasher

__all__ = ["Extension", "Prefix", "extension_for", "find_prefix"]

Extension: TypeAlias = Callable[[bytes, int], bytes]  # of an entry's bytes and number; it raises Rejected (D2)


class Prefix(NamedTuple):
    """``entries`` of the whole log lead to the quoted value; ``at_seen`` was the value at the last quote, if reached.

    ``computed`` has what each entry extends by that had to be hashed, by its number.
    """

    entries: int
    at_seen: bytes | None
    computed: dict[int, bytes]
    findings: tuple[Finding, ...] = ()


def find_prefix(
    log: ImaLog,
    bank: Alg,
    quoted: bytes,
    seen: RuntimeSeen | None,
    part: RuntimeState | None,
    *,
    use_known: bool,
) -> Prefix:
    """D3: the beginning of ``log`` that leads to ``quoted``, by way of what was ``seen``.

    A log without its beginning goes on from ``part``; ``use_known`` tells that what it was parsed with is of this bank.
    Raises Rejected when there is none, or an entry on the way is not what its digest says (D2).
    """
    logged, size = _logged_algorithm(log), digest_size(bank)
    begin, mark = part.seen if part else RuntimeSeen(0, 0, bytes(size)), seen.entries if seen else 0
    if part and begin.aggregate == quoted:  # nothing new; no boot's log is empty, so this is not the reset value
        return Prefix(begin.entries, quoted if mark == begin.entries else None, {})
    extension = extension_for(log, bank, padded=False)
    found = _search(log.columns, hasher(bank), extension, begin, quoted, mark, use_known=use_known)
    if found is None and bank is not logged and logged is Alg.SHA1:
        extension = extension_for(log, bank, padded=True)
        found = _search(log.columns, hasher(bank), extension, begin, quoted, mark, use_known=False)
        if found is not None:
            text = "this kernel extends padded SHA-1 digests: the bank is only as strong as SHA-1"
            return found._replace(findings=(Finding("D3", "runtime-log-padded", text, HASHES[bank], "sha1"),))
    if found is None:
        text = "no beginning of the log leads to the quoted PCR 10"
        raise Rejected(Finding("D3", "runtime-log-replay", text, quoted.hex(), f"{len(log.entries)} entries"))
    return found


def extension_for(log: ImaLog, bank: Alg, *, padded: bool) -> Extension:
    """What entries of ``log`` extend ``bank`` by; ``padded`` for what kernels before 5.8 do."""
    size = digest_size(bank)
    if padded:
        return _padded_extension(size, log.digest_size)
    return _extension(hasher(bank), hasher(_logged_algorithm(log)), size, log.digest_size)


def _logged_algorithm(log: ImaLog) -> Alg:
    """The algorithm of the logged template digests; where a size leaves a choice, the first entry decides."""
    choices = log.digest_algorithms
    if len(choices) > 1:
        for entry in log.entries:
            if not entry.violation:
                return next((alg for alg in choices if digest(alg, entry.data) == entry.digest), choices[0])
    return choices[0]


def _search(
    sent: Entries,
    new: Callable[..., Any],
    extension: Extension,
    begin: RuntimeSeen,
    quoted: bytes,
    mark: int,
    *,
    use_known: bool,
) -> Prefix | None:
    """The prefix that leads from ``begin`` to ``quoted``, and the value that it had after ``mark`` entries."""
    computed: dict[int, bytes] = {}
    start, value, before = begin.entries, begin.aggregate, max(mark - begin.entries, 0)
    walk = partial(_walk, sent, start, new, extension, quoted, computed, use_known)
    if before:
        found, value = walk(range(before), value)
        if found is not None:
            return Prefix(found, value if found == mark else None, computed)
    at_mark = value if start + before == mark else None
    found, _ = walk(range(before, len(sent)), value)
    return None if found is None else Prefix(found, at_mark, computed)


def _walk(
    sent: Entries,
    start: int,
    new: Callable[..., Any],
    extension: Extension,
    quoted: bytes,
    computed: dict[int, bytes],
    use_known: bool,
    part: range,
    value: bytes,
) -> tuple[int | None, bytes]:
    """Extend by the entries in ``part`` of those sent, the first of which has number ``start``, until PCR 10 has the
    quoted value (D3). Returns how many entries of the log that took, None when it never had, and the last value.

    One tight loop, since this is what a verifier of many hosts spends its time on: where it is, it asks when needed.
    """
    extends = sent.extends[part.start : part.stop]
    left, end, raws = iter(extends), part.start + len(extends), sent.raws
    for extend in left:
        if extend is None or not use_known:
            index = end - length_hint(left) - 1
            raw = raws[index]
            extend = computed[start + index] = extension(raw, start + index)
            if not raw.startswith(IN_PCR_10):
                continue
        value = new(value + extend).digest()
        if value == quoted:
            return start + end - length_hint(left), value
    return None, value


def _extension(bank: Callable[..., Any], logged: Callable[..., Any], size: int, logged_size: int) -> Extension:
    """What an entry extends its PCR by: ``bank``'s hash of its data, all-ones for a violation.

    Digests of the bank have ``size`` bytes, those in the log ``logged_size``.
    """
    ones, stop, same = b"\xff" * size, 4 + logged_size, bank is logged

    def extension(raw: bytes, number: int) -> bytes:
        recorded = raw[4:stop]
        if recorded in VIOLATIONS:
            return ones
        data = record_data(raw, logged_size)
        computed: bytes = logged(data).digest()
        if computed != recorded:
            text, where = "the template digest is not that of the template data", f"entry {number}"
            raise Rejected(Finding("D2", "runtime-log-digest", text, computed.hex(), recorded.hex(), where))
        if same:
            return computed
        extend: bytes = bank(data).digest()
        return extend

    return extension


def _padded_extension(size: int, logged_size: int) -> Extension:
    """What kernels before 5.8 extend other banks than SHA-1 by: the logged digest, filled up with zeros.

    It is asked for when the whole log was searched before, and so every digest was found to be that of its data.
    """
    ones, stop = (b"\xff" * logged_size).ljust(size, b"\0"), 4 + logged_size

    def extension(raw: bytes, number: int) -> bytes:
        recorded = raw[4:stop]
        return ones if recorded in VIOLATIONS else recorded.ljust(size, b"\0")

    return extension
