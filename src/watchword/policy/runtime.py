"""Clause D5: is every file that the kernel measured one that the stack allows? And is none known to be bad (E3)?"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice

from watchword.errors import Finding
from watchword.policy.document import digest_name
from watchword.policy.file_signature import is_signed
from watchword.policy.known_bad import NOTHING_BAD, KnownBad, Why
from watchword.policy.stack import CompiledStack, path_text
from watchword.verify.ima_log import RuntimeFile, VerifiedRuntimeLog
from watchword.verify.runtime_state import MAX_KEPT, RuntimeState

__all__ = ["RuntimeResult", "bad_files", "judge_runtime", "runtime_findings"]

_MAX_FILE_FINDINGS = 100  # enough to see what is wrong; a hostile log must not fill the receipt
_NO_STACK = bytes(32)


@dataclass(frozen=True, slots=True)
class RuntimeResult:
    """What one stack says about a runtime log; with ``state`` the next log of this boot need not be sent whole.

    ``bad`` are the findings about files that are known to be bad (E3), which count whatever the stack says.
    """

    findings: tuple[Finding, ...]
    state: RuntimeState | None
    bad: tuple[Finding, ...] = ()


def runtime_findings(log: VerifiedRuntimeLog | None, stack: CompiledStack) -> tuple[Finding, ...]:
    """The findings of :func:`judge_runtime`."""
    return judge_runtime(log, stack).findings


def judge_runtime(log: VerifiedRuntimeLog | None, stack: CompiledStack, bad: KnownBad = NOTHING_BAD) -> RuntimeResult:
    """D5: every measured file must be one that ``stack`` lists, with that digest at that path or at any path.

    A log that was not quoted, a stack without a runtime part and an entry that was not understood are findings too,
    and so is a log that was not sent whole where another stack, or the same with other files known to be bad, judged
    the rest. At most 100 files are described; the last finding counts the others.
    """
    if log is None:
        return RuntimeResult((Finding("D5", "runtime-file", "there is no verified runtime log"),), None)
    if not stack.runtime:
        text = f"stack {stack.label} lists no files"
        return RuntimeResult((Finding("D5", "runtime-file", text),), None, bad_files(log, bad))
    judge = bad.judge_id(stack.digest)
    if log.part is not None and log.part.stack != judge:
        text = f"the beginning of the log was not judged by stack {stack.label}: all of it is needed"
        return RuntimeResult((Finding("D5", "runtime-log-part", text, judge.hex(), log.part.stack.hex()),), None)
    kept, unlisted = _not_allowed(log, stack, bad, judge)
    findings = [finding for finding in log.findings if finding.fatal]
    findings += [_file_finding(stack, file) for file in unlisted[:_MAX_FILE_FINDINGS] if not _why(file, bad)]
    if len(unlisted) > _MAX_FILE_FINDINGS:
        text = f"and {len(unlisted) - _MAX_FILE_FINDINGS} more files"
        findings.append(Finding("D5", "runtime-file", text))
    return RuntimeResult(tuple(findings), _state(log, judge, kept), _bad_findings(unlisted, bad))


def bad_files(log: VerifiedRuntimeLog | None, bad: KnownBad) -> tuple[Finding, ...]:
    """E3 for a log that no stack judges: every file in it that is known to be bad.

    A log that was not sent whole will not do: nobody knows which files were bad to whoever judged the rest.
    """
    if log is None or not bad.files:
        return ()
    if log.part is not None:
        text = "the beginning of the log was not searched for files known to be bad: all of it is needed"
        return (Finding("D5", "runtime-log-part", text),)
    clean = bad.judge_id(_NO_STACK)
    found: list[RuntimeFile] = []
    for _, raw, file in log.besides(clean):
        if file is not None and _why(file, bad):
            found.append(file)
        elif log.known is not None:
            log.known.clear(clean, raw)
    return _bad_findings(found, bad)


def _why(file: RuntimeFile, bad: KnownBad) -> Why | None:
    return bad.files.get((file.alg, file.digest)) if bad.files else None


def _bad_findings(files: list[RuntimeFile], bad: KnownBad) -> tuple[Finding, ...]:
    named = ((why, file) for file in files if (why := _why(file, bad)) is not None)
    return tuple(why.finding(f"file {path_text(file.path)}") for why, file in islice(named, _MAX_FILE_FINDINGS))


def _not_allowed(
    log: VerifiedRuntimeLog, stack: CompiledStack, bad: KnownBad, judge: bytes
) -> tuple[list[tuple[int, bytes]], list[RuntimeFile]]:
    """Every entry that ``stack`` does not allow or that is known to be bad, and those of them that are files."""
    kept: list[tuple[int, bytes]] = []
    cleared, files = False, bad.files
    unlisted: list[RuntimeFile] = []
    for number, raw, file in log.besides(judge):
        if file is None:
            kept.append((number, raw))
        elif (files and (file.alg, file.digest) in files) or not _allowed(file, stack):
            kept.append((number, raw))
            unlisted.append(file)
        elif log.known is not None:
            log.known.clear(judge, raw)
            cleared = True
    if cleared and log.known is not None and not kept:
        log.known.join(log.quoted)
    return kept, unlisted


def _state(log: VerifiedRuntimeLog, judge: bytes, kept: list[tuple[int, bytes]]) -> RuntimeState | None:
    """None when too much would have to be kept, or when a finding is about no single entry."""
    if sum(len(raw) for _, raw in kept) > MAX_KEPT or any(f.clause == "D3" for f in log.findings):
        return None
    return RuntimeState(log.seen, log.bank, log.sent.size, log.first, judge, tuple(kept))


def _allowed(file: RuntimeFile, stack: CompiledStack) -> bool:
    """Whether the stack lists the file, or somebody that the stack trusts signed it."""
    if file.kind == "verity":
        return False  # the digest of a hash tree: stacks list digests of contents, and the two must not be mixed up
    digest = (file.alg, file.digest)
    if digest in stack.files.get(file.path, ()) or digest in stack.any_path:
        return True
    if file.signature is None or file.kind != "ima" or not stack.signers:
        return False
    return is_signed(file.alg, file.digest, file.signature, stack.signers)


def _file_finding(stack: CompiledStack, file: RuntimeFile) -> Finding:
    known = stack.files.get(file.path)
    if known is None:
        message, expected = "a file ran that the stack does not list", ""
    else:
        message = "a file ran with a content that the stack does not list"
        expected = " or ".join(sorted(f"{digest_name(a)}:{d.hex()}" for a, d in known))
    actual = f"{'verity:' if file.kind == 'verity' else ''}{digest_name(file.alg)}:{file.digest.hex()}"
    return Finding("D5", "runtime-file", message, expected, actual, f"file {path_text(file.path)}")
