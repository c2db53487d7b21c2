"""The rules of a level, one small function each. All run, all findings are collected (clauses D5, E2 to E5).

To add a rule: a field in ``profile.Rules``, a function here, a line in ``CHECKS``, a test that only it can fail.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from watchword.errors import Finding
from watchword.policy.document import digest_name
from watchword.policy.file_signature import Work, WorkDone, is_signed
from watchword.policy.profile import Profile, Rules
from watchword.policy.release import StackRelease
from watchword.policy.signer import MAX_VERIFICATIONS
from watchword.policy.stack import CompiledStack, path_text
from watchword.verify.host import VerifiedHost
from watchword.verify.ima_log import RuntimeFile, VerifiedRuntimeLog
from watchword.verify.loaded_key import LoadedKey
from watchword.verify.runtime_file import IN_PCR_10
from watchword.verify.runtime_state import MAX_KEPT, RuntimeState

__all__ = ["CHECKS", "Context", "RuntimeResult", "judge_runtime", "runtime_findings"]

_MAX_FILE_FINDINGS = 100  # enough to see what is wrong; a hostile log must not fill the receipt


@dataclass(frozen=True, slots=True)
class Context:
    """What the rules look at: host and profile, the release that the boot log matched (or None and why), the time.

    ``challenged_at`` and ``now`` are Unix seconds; ``runtime`` are the D5 findings for this release, worked out once.
    """

    host: VerifiedHost
    profile: Profile
    release: StackRelease | None
    unmatched: tuple[Finding, ...]
    runtime: tuple[Finding, ...]
    challenged_at: int
    now: int


Check = Callable[[Context, Rules], Iterator[Finding]]


def identity_class(context: Context, rules: Rules) -> Iterator[Finding]:
    found = context.host.ak.ek_class
    if found not in rules.identity:
        wanted = ", ".join(rules.identity)
        yield Finding("E5", "identity-class", "the TPM is of a class that is not accepted", wanted, str(found.value))


def tpm_firmware(context: Context, rules: Rules) -> Iterator[Finding]:
    # verify_quote can check this too; it is repeated because the profile, not the caller, must have the last word.
    allowed, found = context.profile.tpm_firmware, context.host.pcrs.firmware_version
    if allowed is not None and found not in allowed:
        wanted = " or ".join(f"{version:016x}" for version in sorted(allowed))
        yield Finding("B10", "quote-firmware", "the TPM has a firmware that is not accepted", wanted, f"{found:016x}")


def secure_boot(context: Context, rules: Rules) -> Iterator[Finding]:
    found = context.host.boot.facts.secure_boot
    # None is "the log does not say": not the same as off, and never good enough.
    if rules.secure_boot is not None and found is not rules.secure_boot:
        words = {True: "on", False: "off", None: "not known"}
        yield Finding("E5", "secure-boot", "Secure Boot", words[rules.secure_boot], words[found])


def stack_matched(context: Context, rules: Rules) -> Iterator[Finding]:
    if context.release is None:
        yield from context.unmatched or (
            Finding("E2", "stack-none", "no stack is on file that this host could be compared with"),
        )


def stack_named(context: Context, rules: Rules) -> Iterator[Finding]:
    release = context.release
    if release and rules.stacks is not None and release.stack.name not in rules.stacks:
        wanted = ", ".join(rules.stacks)
        yield _stack_finding("E2", "stack-none", "this level does not accept the stack", release, wanted)


def coverage(context: Context, rules: Rules) -> Iterator[Finding]:
    release = context.release
    if release:
        missing = sorted(set(rules.covers) - set(release.stack.pcrs))
        if missing:
            text = "the stack says nothing about PCRs that this level wants judged"
            yield _stack_finding("E2", "coverage", text, release, _numbers(rules.covers), _numbers(release.stack.pcrs))


def validity(context: Context, rules: Rules) -> Iterator[Finding]:
    release, now = context.release, context.now
    if release is None:
        return
    stack = release.stack
    if stack.not_before is not None and now < stack.not_before:
        yield _stack_finding("E3", "stack-expired", "not valid yet", release, f"from {stack.not_before}", str(now))
    if stack.not_after is not None and now >= stack.not_after:
        yield _stack_finding("E3", "stack-expired", "no longer valid", release, f"until {stack.not_after}", str(now))
    if release.retire_at is not None and now >= release.retire_at:
        yield _stack_finding("E3", "stack-expired", "retired", release, f"until {release.retire_at}", str(now))


def not_revoked(context: Context, rules: Rules) -> Iterator[Finding]:
    if context.release and context.release.state == "revoked":
        yield _stack_finding("E3", "stack-revoked", "the stack was revoked", context.release)


def not_rolled_back(context: Context, rules: Rules) -> Iterator[Finding]:
    if context.release:
        stack = context.release.stack
        least = rules.min_serial.get(stack.name, 0)
        if stack.serial < least:
            text = "the stack is older than this level accepts"
            yield _stack_finding("E3", "stack-rolled-back", text, context.release, str(least), str(stack.serial))


def endorsed(context: Context, rules: Rules) -> Iterator[Finding]:
    if context.release and rules.endorsers is not None:
        found = len(context.release.endorsed_by & set(rules.endorsers.keys))
        if found < rules.endorsers.threshold:
            wanted = f"{rules.endorsers.threshold} of {len(rules.endorsers.keys)}"
            text = "too few of the accepted endorsers signed the stack"
            yield _stack_finding("E3", "stack-endorsers", text, context.release, wanted, str(found))


def age(context: Context, rules: Rules) -> Iterator[Finding]:
    # The quote is younger than the nonce in it, so the nonce's age is an upper bound that the host cannot move.
    seconds = context.now - context.challenged_at
    if not 0 <= seconds <= rules.max_age_seconds:
        limit = f"0 to {rules.max_age_seconds} seconds"
        yield Finding("E4", "evidence-age", "the challenge was not issued just now", limit, f"{seconds} seconds")


def runtime_listed(context: Context, rules: Rules) -> Iterator[Finding]:
    if rules.runtime == "listed":
        yield from context.runtime


def log_ahead(context: Context, rules: Rules) -> Iterator[Finding]:
    # verify_ima_log checks this too, by the most patient of the profiles that a host is judged by together.
    log, allowed = context.host.runtime, context.profile.max_log_ahead
    if rules.runtime == "listed" and log is not None and log.ahead > allowed:
        text = "the log has more entries after the quote than allowed"
        yield Finding("D3", "runtime-log-ahead", text, f"at most {allowed}", str(log.ahead))


def no_violations(context: Context, rules: Rules) -> Iterator[Finding]:
    log = context.host.runtime
    if rules.reject_violations and log is not None and log.violations:
        text = "the kernel measured files while they were being changed, their content is not known"
        yield Finding("D5", "runtime-violation", text, "no violations", str(len(log.violations)))


CHECKS: tuple[Check, ...] = (
    identity_class,
    tpm_firmware,
    secure_boot,
    stack_matched,
    stack_named,
    coverage,
    validity,
    not_revoked,
    not_rolled_back,
    endorsed,
    age,
    runtime_listed,
    log_ahead,
    no_violations,
)


@dataclass(frozen=True, slots=True)
class RuntimeResult:
    """What one stack says about a runtime log; with ``state`` the next log of this boot need not be sent whole."""

    findings: tuple[Finding, ...]
    state: RuntimeState | None


def runtime_findings(log: VerifiedRuntimeLog | None, stack: CompiledStack) -> tuple[Finding, ...]:
    """The findings of :func:`judge_runtime`."""
    return judge_runtime(log, stack).findings


def judge_runtime(log: VerifiedRuntimeLog | None, stack: CompiledStack, work: Work | None = None) -> RuntimeResult:
    """D5: every measured file must be one that ``stack`` lists, with that digest at that path or at any path.

    A log that was not quoted, a stack without a runtime part and an entry that was not understood are findings too,
    and so is a log that was not sent whole where another stack judged the rest.
    At most 100 files are described; the last finding counts the others. What would need more public-key operations than
    ``work`` has left is not looked at, and is a finding.
    """
    if log is None:
        return RuntimeResult((Finding("D5", "runtime-file", "there is no verified runtime log"),), None)
    if not stack.runtime:
        return RuntimeResult((Finding("D5", "runtime-file", f"stack {stack.label} lists no files"),), None)
    if log.part is not None and log.part.stack != stack.digest:
        text = f"the beginning of the log was not judged by stack {stack.label}: all of it is needed"
        return RuntimeResult((Finding("D5", "runtime-log-part", text, stack.digest.hex(), log.part.stack.hex()),), None)
    kept, unlisted, skipped = _not_allowed(log, stack, work or Work())
    findings = [finding for finding in log.findings if finding.fatal]
    findings += [_file_finding(stack, file) for file in unlisted[:_MAX_FILE_FINDINGS]]
    if len(unlisted) > _MAX_FILE_FINDINGS:
        text = f"and {len(unlisted) - _MAX_FILE_FINDINGS} more files"
        findings.append(Finding("D5", "runtime-file", text))
    if skipped:
        text = "the log has more signatures than are verified in one appraisal"
        findings.append(
            Finding("D5", "runtime-signatures", text, f"at most {MAX_VERIFICATIONS}", f"{skipped} more files")
        )
    return RuntimeResult(tuple(findings), _state(log, stack, kept))


def _not_allowed(
    log: VerifiedRuntimeLog, stack: CompiledStack, work: Work
) -> tuple[list[tuple[int, bytes]], list[RuntimeFile], int]:
    """Every entry that ``stack`` does not allow, those of them that are files, and how many were too much work."""
    kept: list[tuple[int, bytes]] = []
    cleared, skipped = False, 0
    unlisted: list[RuntimeFile] = []
    for number, raw, file in log.besides(stack.digest):
        if file is None:
            kept.append((number, raw))
            continue
        try:
            allowed = _allowed(file, stack, work)
        except WorkDone:
            kept.append((number, raw))
            skipped += 1
            continue
        if not allowed:
            kept.append((number, raw))
            unlisted.append(file)
        elif log.known is not None:
            log.known.clear(stack.digest, raw)
            cleared = True
    if cleared and log.known is not None and not kept:
        log.known.join(log.quoted)
    return kept, unlisted, skipped


def _state(log: VerifiedRuntimeLog, stack: CompiledStack, kept: list[tuple[int, bytes]]) -> RuntimeState | None:
    """None when too much would be kept, a finding is about no single entry, or there are entries in other PCRs."""
    others = len(log.followed) > 1 or any(not raw.startswith(IN_PCR_10) for _, raw in kept)
    if others or sum(len(raw) for _, raw in kept) > MAX_KEPT or any(f.clause == "D3" for f in log.findings):
        return None
    return RuntimeState(log.seen, log.bank, log.sent.size, log.first, stack.digest, tuple(kept))


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


def _stack_finding(
    clause: str, code: str, message: str, release: StackRelease, expected: str = "", actual: str = ""
) -> Finding:
    return Finding(clause, code, message, expected, actual or release.stack.label, f"stack {release.stack.label}")


def _numbers(values: tuple[int, ...]) -> str:
    return ",".join(map(str, values))
