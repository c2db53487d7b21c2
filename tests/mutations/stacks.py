"""Clauses E1 to E3, E5 and C6 once more: pools, known-bad components, and the facts of firmware and kernel."""

# ruff: noqa: E501 - source text is quoted as it is
from __future__ import annotations

from .mutation import Mutation

_CHECKS, _BOOT, _RULES = "policy/checks.py", "policy/checks_boot.py", "policy/profile_rules.py"
_STACK, _RUNTIME, _RELEASE, _APPRAISE = (
    "policy/stack.py",
    "policy/runtime.py",
    "policy/release.py",
    "policy/appraise.py",
)
_LINE, _KNOWN = "verify/command_line.py", "policy/command_line.py"
_ADMISSION = "authority/acts/admission.py"
_STACK_TESTS = ("tests/authority/test_stacks.py",)
_TESTS = ("tests/policy/test_rules.py",)
_BAD_TESTS = ("tests/policy/test_known_bad.py",)
_LINE_TESTS = ("tests/verify/test_command_line.py",)


def _without(clause: str, check: str, tests: tuple[str, ...] = _TESTS) -> Mutation:
    """The rule is not evaluated at all."""
    return Mutation(clause, _CHECKS, f"    {check},\n", "", tests)


MUTATIONS = (
    _without("E2", "stack_pool"),
    _without("E2", "stack_channel"),
    _without("E2", "stack_origin"),
    _without("E2", "stack_variants"),
    _without("E3", "not_known_bad", _BAD_TESTS),
    _without("E5", "secure_boot_keys"),
    _without("E5", "command_line"),
    _without("E5", "lockdown"),
    _without("E5", "ima_policy"),
    Mutation("E2", _RULES, 'pools: _Names = ("default",)', 'pools: _Names = ("default", "special")', _TESTS),
    Mutation("E2", _RULES, 'channels: _Names = ("stable",)', 'channels: _Names = ("stable", "testing")', _TESTS),
    Mutation("B10", _BOOT, "    for allowed in (context.profile.tpm_firmware, level):", "    for allowed in (context.profile.tpm_firmware,):", _TESTS),
    Mutation("E5", _BOOT, 'strange = _UNKNOWN if found is None else', 'strange = "" if found is None else', _TESTS),
    Mutation("E5", _BOOT, "    if found is None:\n        text = \"the kernel's", "    if False:\n        text = \"the kernel's", _TESTS),
    Mutation("E5", _BOOT, "        if not _has(found, word):", "        if False:", _TESTS),
    Mutation("E5", _BOOT, "        if any(_is(given, word) for given in (*found.kernel, *found.init)):", "        if False:", _TESTS),
    Mutation("E5", _BOOT, 'any("lockdown" not in given for given in modules) or not modes', "not modes", _TESTS),
    Mutation("E5", _BOOT, " or not set(modes).issubset(_LOCKDOWN)", "", _TESTS),
    Mutation("E5", _BOOT, ' or _LOCKDOWN.index(found) < _LOCKDOWN.index(rules.lockdown)', "", _TESTS),
    Mutation("E5", _BOOT, '    if runtime is None or runtime.boot_aggregate == "unchecked":', "    if False:", _TESTS),
    Mutation("E1", _RULES, "    if rules.asks_command_line and not set(COMMAND_LINE_PCRS).issubset(quoted):", "    if False:", _TESTS),
    Mutation("E1", _RULES, "    if rules.ima_policy and RUNTIME_PCR not in quoted:", "    if False:", _TESTS),
    Mutation("E1", _RULES, "    if rules.secure_boot_keys and rules.secure_boot is not True:", "    if False:", _TESTS),
    Mutation("E1", _RULES, "    if not wanted.require and not wanted.forbid:", "    if False:", _TESTS),
    Mutation("C6", _LINE, "            unclear.add(event.pcr)", "            pass", _LINE_TESTS),
    Mutation("C6", _LINE, " or text.startswith((\"/\", \"(\"))", "", _LINE_TESTS),
    Mutation("C6", _LINE, "    if len(text) > _MAX or not text.isascii()", "    if not text.isascii()", _LINE_TESTS),
    Mutation("C6", _LINE, "not text.isascii() or not text.isprintable()", "not text.isprintable()", _LINE_TESTS),
    Mutation("C6", _KNOWN, "    if not boot.pcrs.issuperset(COMMAND_LINE_PCRS):", "    if False:", _TESTS),
    Mutation("C6", _KNOWN, "len(texts) != 1 or measured.unclear - settled", "len(texts) != 1", _TESTS),
    Mutation("C6", _KNOWN, "    if len(texts) != 1 or", "    if not texts or", _TESTS),
    Mutation("E3", _STACK, "        if value not in [digest_of(alg, form) for form in forms]:", "        if False:", _TESTS),
    Mutation("E3", _RELEASE, "if r.stack.known_bad and r.in_force(now)]", "if r.stack.known_bad]", _BAD_TESTS),
    Mutation("E3", _RUNTIME, "            refused = (files and (file.alg, file.digest) in files) or not _allowed(file, stack, work)", "            refused = not _allowed(file, stack, work)", _BAD_TESTS),
    Mutation("E3", _RUNTIME, "    judge = bad.judge_id(stack.digest)\n", "    judge = stack.digest\n", _BAD_TESTS),
    Mutation("E3", _RUNTIME, "    if log.part is not None:\n        text = \"the beginning of the log was not searched", "    if False:\n        text = \"the beginning of the log was not searched", _BAD_TESTS),
    Mutation("E3", "policy/teach.py", "            if (alg, value) in bad.files:", "            if False:", _BAD_TESTS),
    Mutation("E3", _APPRAISE, '        if release.state == "draft":', "        if False:", _BAD_TESTS),
    # -- taking over a release
    Mutation("G1", _ADMISSION, "    if not signed:\n", "    if False:\n", _STACK_TESTS),
    Mutation("G1", _ADMISSION, "    if not counted:\n", "    if False:\n", _STACK_TESTS),
    Mutation("G1", _ADMISSION, "if e.key_id in signed and e.may_endorse(stack.name, stack.pool)", "if e.key_id in signed", _STACK_TESTS),
    Mutation("G1", "authority/acts/stacks.py", "            admission.check_signers(stack, signed, row.endorsed_by)\n", "            pass\n", _STACK_TESTS),
    Mutation("G2", _ADMISSION, "        if len(found) < rule.threshold:", "        if False:", _STACK_TESTS),
    Mutation("G2", _ADMISSION, "        if (rule.name, rule.pool) != (stack.name, stack.pool):", "        if rule.name != stack.name:", _STACK_TESTS),
    Mutation("G3", _ADMISSION, "    if stack.not_after is not None and now >= stack.not_after:", "    if False:", _STACK_TESTS),
    Mutation("G3", _ADMISSION, "    if stack.issued is not None and stack.issued > now + FUTURE_SECONDS:", "    if False:", _STACK_TESTS),
    Mutation("G4", _ADMISSION, "        if other.serial == stack.serial:", "        if False:", _STACK_TESTS),
    Mutation("G5", _ADMISSION, "    if stack.serial < newest and not allow_rollback:", "    if False:", _STACK_TESTS),
    Mutation("G6", _ADMISSION, "    if stays:\n", "    if False:\n", _STACK_TESTS),
)  # fmt: skip
