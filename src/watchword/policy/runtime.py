"""Clause D5: is every file that the kernel measured one that the stack allows? And is none known to be bad (E3)?"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice

from watchword.errors import Finding
from watchword.policy.document import digest_name
from watchword.policy.file_signature import Work, WorkDone, is_signed
from watchword.policy.known_bad import NOTHING_BAD, KnownBad, Why
from watchword.policy.signer import MAX_VERIFICATIONS
from watchword.policy.stack import CompiledStack, path_text
from watchword.verify.ima_log import RuntimeFile, VerifiedRuntimeLog
from watchword.verify.loaded_key import LoadedKey
from watchword.verify.runtime_file import IN_PCR_10
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


def judge_runtime(
    log: VerifiedRuntimeLog | None, stack: CompiledStack, bad: KnownBad = NOTHING_BAD, work: Work | None = None
) -> RuntimeResult:
    """D5: every measured file must be one that ``stack`` lists, with that digest at that path or at any path.

    A log that was not quoted, a stack without a runtime part and an entry that was not understood are findings too,
    and so is a log that was not sent whole where another stack, or the same with other files known to be bad, judged
    the rest. At most 100 files are described; the last finding counts the others. What would need more public-key
    operations than ``work`` has left is not looked at, and is a finding.
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
    kept, unlisted, skipped = _not_allowed(log, stack, bad, judge, work or Work())
    findings = [finding for finding in log.findings if finding.fatal]
    findings += [_file_finding(stack, file) for file in unlisted[:_MAX_FILE_FINDINGS] if not _why(file, bad)]
    if len(unlisted) > _MAX_FILE_FINDINGS:
        text = f"and {len(unlisted) - _MAX_FILE_FINDINGS} more files"
        findings.append(Finding("D5", "runtime-file", text))
    if skipped:
        text = "the log has more signatures than are verified in one appraisal"
        findings.append(
            Finding("D5", "runtime-signatures", text, f"at most {MAX_VERIFICATIONS}", f"{skipped} more files")
        )
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
    log: VerifiedRuntimeLog, stack: CompiledStack, bad: KnownBad, judge: bytes, work: Work
) -> tuple[list[tuple[int, bytes]], list[RuntimeFile], int]:
    """Every entry that ``stack`` does not allow or that is known to be bad, those of them that are files, and how many
    were too much work."""
    kept: list[tuple[int, bytes]] = []
    cleared, skipped, files = False, 0, bad.files
    unlisted: list[RuntimeFile] = []
    for number, raw, file in log.besides(judge):
        if file is None:
            kept.append((number, raw))
            continue
        try:
            refused = (files and (file.alg, file.digest) in files) or not _allowed(file, stack, work)
        except WorkDone:
            kept.append((number, raw))
            skipped += 1
            continue
        if refused:
            kept.append((number, raw))
            unlisted.append(file)
        elif log.known is not None:
            log.known.clear(judge, raw)
            cleared = True
    if cleared and log.known is not None and not kept:
        log.known.join(log.quoted)
    return kept, unlisted, skipped


def _state(log: VerifiedRuntimeLog, judge: bytes, kept: list[tuple[int, bytes]]) -> RuntimeState | None:
    """None when too much would be kept, a finding is about no single entry, or there are entries in other PCRs."""
    others = len(log.followed) > 1 or any(not raw.startswith(IN_PCR_10) for _, raw in kept)
    if others or sum(len(raw) for _, raw in kept) > MAX_KEPT or any(f.clause == "D3" for f in log.findings):
        return None
    return RuntimeState(log.seen, log.bank, log.sent.size, log.first, judge, tuple(kept))


def _allowed(file: RuntimeFile, stack: CompiledStack, work: Work) -> bool:
    """Whether the stack lists the file, or somebody that the stack trusts signed it. Raises WorkDone."""
    if file.kind == "verity":
        return False  # the digest of a hash tree: stacks list digests of contents, and the two must not be mixed up
    digest = (file.alg, file.digest)
    if digest in stack.files.get(file.path, ()):
        return True
    if file.key is not None:  # for no other reason: what a host loads makes nothing good, itself least of all
        return file.key.fingerprint in stack.keyrings.get(file.path, ())
    if file.kind == "ima" and digest in stack.any_path:  # a buffer is no file: a harmless file may be a bad buffer
        return True
    if file.signature is None or file.kind != "ima" or not stack.signers:
        return False
    return is_signed(file.alg, file.digest, file.signature, stack.signers, work)


def _file_finding(stack: CompiledStack, file: RuntimeFile) -> Finding:
    if file.key is not None:
        return _key_finding(stack, file.key)
    known = stack.files.get(file.path)
    if known is None:
        message, expected = "a file ran that the stack does not list", ""
    else:
        message = "a file ran with a content that the stack does not list"
        expected = " or ".join(sorted(f"{digest_name(a)}:{d.hex()}" for a, d in known))
    actual = f"{'verity:' if file.kind == 'verity' else ''}{digest_name(file.alg)}:{file.digest.hex()}"
    return Finding("D5", "runtime-file", message, expected, actual, f"file {path_text(file.path)}")


def _key_finding(stack: CompiledStack, key: LoadedKey) -> Finding:
    known = stack.keyrings.get(key.keyring, frozenset())
    expected = " or ".join(f"sha256:{digest.hex()}" for digest in sorted(known))
    actual = f"sha256:{key.fingerprint.hex()}" if key.fingerprint else "not a certificate that can be read"
    if key.subject_key_id:
        actual += f", subject key id {key.subject_key_id.hex()}"
    text = "a key was loaded onto a keyring for which the stack does not list it"
    return Finding("D5", "runtime-key", text, expected, actual, f"keyring {path_text(key.keyring)}")
