"""Clauses D1–D4 and D6: what the kernel's runtime log proves, once a quote stands behind it.

D1  it parses; templates that are not known still count         ImaLog.parse, and _read for their content
D2  every template digest is that of the template data          _walk
D3  some prefix leads to the quoted PCR 10                      _walk
D4  boot_aggregate agrees with the quoted boot PCRs             _check_boot_aggregate
D6  it continues what was seen before in this boot              _walk, _check_continues

The log is read after the quote was made, so it may be longer than what was quoted: only the prefix that leads to the
quoted value counts, the rest is nobody's word yet. Whether a file is *allowed* (D5) is for ``policy`` to say.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from watchword.errors import Finding, MalformedError, Rejected
from watchword.wire.ima_log import IMA_PCR, ImaEntry, ImaLog
from watchword.wire.tpm.algorithms import HASHES, Alg, digest, digest_size, hasher

if TYPE_CHECKING:
    from watchword.verify.quote import VerifiedPcrs

__all__ = ["RuntimeFile", "RuntimeSeen", "VerifiedRuntimeLog", "boot_aggregates", "verify_ima_log"]

_PROOF = object()
_MAX_FINDINGS = 100  # entries that are described one by one; the rest are counted
_BOOT_AGGREGATE = b"boot_aggregate"
_SHA256_FIELD = b"\x28\0\0\0sha256:\0"  # how a d-ng field begins: its size, then the algorithm
_SHA1_FIELD = b"\x1a\0\0\0sha1:\0"
_VIOLATIONS = frozenset(bytes(size) for size in (20, 32, 48, 64))
_le32 = struct.Struct("<I").unpack_from
_ALGORITHMS = {name.replace("_", "-"): alg for alg, name in HASHES.items()} | {"sm3-256": Alg.SM3_256}


@dataclass(frozen=True, slots=True)
class RuntimeSeen:
    """How far the log of one boot has been verified: ``entries`` of it lead PCR 10 to ``aggregate``."""

    reset_count: int
    entries: int
    aggregate: bytes


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

    ``measured`` are its files without boot_aggregate, ``violations`` the paths that changed while they were measured,
    ``boot_aggregate`` the PCRs it was found to cover ("0-9", "0-7") or "unchecked", ``seen`` what to remember.
    Findings that are fatal concern content that was not understood: policy decides whether content matters.
    """

    _proof: object = field(repr=False, compare=False)
    entries: tuple[ImaEntry, ...]
    measured: tuple[RuntimeFile, ...]
    violations: tuple[bytes, ...]
    boot_aggregate: str
    seen: RuntimeSeen
    findings: tuple[Finding, ...]

    def __post_init__(self) -> None:
        if self._proof is not _PROOF:
            raise TypeError("only verify_ima_log makes a VerifiedRuntimeLog")


def verify_ima_log(
    log: ImaLog, pcrs: VerifiedPcrs, bank: Alg, *, max_ahead: int, seen: RuntimeSeen | None
) -> VerifiedRuntimeLog:
    """Check that ``log`` explains the quoted PCR 10 of ``bank``, and read its content.

    ``max_ahead`` entries may follow the quote; ``seen`` is what this host showed before, if anything.
    Raises Rejected with the first failed clause, MalformedError when the bank cannot be computed here.
    """
    quoted = pcrs.values.get(bank, {}).get(IMA_PCR)
    if quoted is None:
        raise Rejected(Finding("D3", "runtime-log-replay", "PCR 10 was not quoted", HASHES[bank], "nothing"))
    if seen is not None and seen.reset_count != pcrs.clock_info.reset_count:
        seen = None  # another boot: its log started anew
    found = _find_prefix(log, bank, quoted, seen.entries if seen else 0)
    ahead = len(log.entries) - found.entries
    if ahead > max_ahead:
        text = "the log has more entries after the quote than allowed"
        raise Rejected(Finding("D3", "runtime-log-ahead", text, f"at most {max_ahead}", str(ahead)))
    findings = list(found.findings)
    entries = log.entries[: found.entries]
    aggregate = _check_boot_aggregate(entries[0], pcrs.values, findings)
    if seen is not None:
        _check_continues(seen, found)
    measured, violations = _read(entries, findings)
    now_seen = RuntimeSeen(pcrs.clock_info.reset_count, found.entries, quoted)
    return VerifiedRuntimeLog(_PROOF, entries, measured, violations, aggregate, now_seen, tuple(findings))


class _Prefix(NamedTuple):
    """``entries`` lead to the quoted value; ``at_seen`` was the value where the last quote ended, if reached."""

    entries: int
    at_seen: bytes | None
    findings: tuple[Finding, ...] = ()


def _find_prefix(log: ImaLog, bank: Alg, quoted: bytes, mark: int) -> _Prefix:
    logged = _logged_algorithm(log)
    found = _walk(log, hasher(bank), digest_size(bank), quoted, mark, hasher(logged), padded=False)
    if found is None and bank is not logged and logged is Alg.SHA1:
        found = _walk(log, hasher(bank), digest_size(bank), quoted, mark, hasher(logged), padded=True)
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
    for entry in log.entries:
        if len(choices) > 1 and not entry.violation:
            return next((alg for alg in choices if digest(alg, entry.data) == entry.digest), choices[0])
    return choices[0]


def _walk(
    log: ImaLog,
    new: Callable[..., Any],
    size: int,
    quoted: bytes,
    mark: int,
    logged: Callable[..., Any],
    *,
    padded: bool,
) -> _Prefix | None:
    """Extend entry by entry, checking each template digest (D2), until PCR 10 has the quoted value (D3).

    One tight loop, since this is what a verifier of many hosts spends its time on.
    """
    nothing = bytes(log.digest_size)
    ones = (b"\xff" * (log.digest_size if padded else size)).ljust(size, b"\0")
    zeros = bytes(size - log.digest_size) if padded else b""
    same = new is logged
    value, at_mark = bytes(size), None
    for number, pcr, recorded, _, data in log.entries:
        if number == mark:
            at_mark = value
        if recorded == nothing:
            extend = ones
        else:
            computed = logged(data).digest()
            if computed != recorded:
                text = "the template digest is not that of the template data"
                where = f"entry {number}"
                raise Rejected(Finding("D2", "runtime-log-digest", text, computed.hex(), recorded.hex(), where))
            extend = recorded + zeros if padded else computed if same else new(data).digest()
        if pcr != IMA_PCR:
            continue
        value = new(value + extend).digest()
        if value == quoted:
            return _Prefix(number + 1, value if number + 1 == mark else at_mark)
    return None


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


def _read(entries: tuple[ImaEntry, ...], findings: list[Finding]) -> tuple[tuple[RuntimeFile, ...], tuple[bytes, ...]]:
    """The content of the quoted entries but the first; what is not understood becomes a finding (D1)."""
    files: list[RuntimeFile] = []
    violations: list[bytes] = []
    problems: list[Finding] = []
    for entry in entries[1:]:
        quick = _quick(entry)
        if quick is not None:
            files.append(quick)
            continue
        try:
            file = entry.file()
        except MalformedError as error:
            problems.append(Finding("D1", "runtime-log-template", error.message, subject=f"entry {entry.number}"))
            continue
        if entry.pcr != IMA_PCR:
            text = f"measured into PCR {entry.pcr}, which this check does not follow"
            problems.append(Finding("D1", "runtime-log-pcr", text, "10", str(entry.pcr), f"entry {entry.number}"))
        elif entry.violation:
            violations.append(file.path)
        elif file.buffer is not None and digest_of(file.algorithm, file.buffer) != file.digest:
            text = "the measured buffer is not what its digest says"
            problems.append(Finding("D2", "runtime-log-buffer", text, subject=f"entry {entry.number}"))
        else:
            kind = "buffer" if file.buffer is not None else file.kind
            alg = _ALGORITHMS.get(file.algorithm, Alg.NULL)
            files.append(RuntimeFile(entry.number, file.path, alg, file.digest, file.signature, kind))
    findings += problems[:_MAX_FINDINGS]
    if len(problems) > _MAX_FINDINGS:
        text = f"and {len(problems) - _MAX_FINDINGS} more entries that were not understood"
        findings.append(Finding("D1", "runtime-log-template", text))
    return tuple(files), tuple(violations)


def _quick(entry: ImaEntry) -> RuntimeFile | None:
    """The same as the long way for what nearly every entry is: a whole ima-ng or ima-sig one. None: go the long way."""
    number, pcr, recorded, template, data = entry
    if data.startswith(_SHA256_FIELD):
        alg, begin, end = Alg.SHA256, 12, 44
    elif data.startswith(_SHA1_FIELD):
        alg, begin, end = Alg.SHA1, 10, 30
    else:
        return None
    if pcr != IMA_PCR or recorded in _VIOLATIONS or len(data) < end + 4:
        return None
    stop = end + 4 + _le32(data, end)[0]
    path = data[end + 4 : stop]
    if path.find(b"\0") != stop - end - 5:  # the only NUL is the last byte, and all of it is there
        return None
    if template == "ima-ng" and stop == len(data):
        signature = None
    elif template == "ima-sig" and stop + 4 <= len(data) == stop + 4 + _le32(data, stop)[0]:
        signature = data[stop + 4 :] or None
    else:
        return None
    return tuple.__new__(RuntimeFile, (number, path[:-1], alg, data[begin:end], signature, "ima"))


def digest_of(algorithm: str, data: bytes) -> bytes | None:
    """Hash by the kernel's name of the algorithm; None when we cannot compute it."""
    alg = _ALGORITHMS.get(algorithm)
    return hashlib.new(HASHES[alg], data, usedforsecurity=False).digest() if alg is not None else None
