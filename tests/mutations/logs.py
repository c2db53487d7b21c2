"""Clauses C1 to C6 and D1 to D6: the logs behind a quote."""

# ruff: noqa: E501 - source text is quoted as it is
from __future__ import annotations

from .mutation import Mutation

_BOOT, _IMA, _CHECKS = "verify/boot_log.py", "verify/ima_log.py", "policy/checks.py"
_BOOT_TESTS = ("tests/verify/test_boot_log.py", "tests/attacks/test_logs.py")
_IMA_TESTS = ("tests/verify/test_ima_log.py", "tests/attacks/test_logs.py")
_FILE_TESTS = ("tests/policy/test_runtime_files.py", "tests/policy/test_appraise.py")
_ATTACKS = ("tests/attacks/test_logs.py",)

MUTATIONS = (
    Mutation("C1", "wire/tcg_log.py", "    if stop > len(data):\n        raise _bad(f\"an event declares", "    if False:\n        raise _bad(f\"an event declares", ("tests/wire/test_tcg_log.py",)),
    Mutation("C2", _BOOT, "    if bank not in log.banks or not quoted:", "    if not quoted:", _BOOT_TESTS),
    Mutation("C2", _BOOT, "    if bank not in log.banks or not quoted:", "    if bank not in log.banks:", _BOOT_TESTS),
    Mutation("C2", _BOOT, "    if wrong:\n        raise Rejected(*wrong)\n", "", _BOOT_TESTS),
    Mutation("C2", _BOOT, "    _check_replay(log, quoted, bank)\n", "", _ATTACKS),
    Mutation("C2", _BOOT, "if event.pcr in pcrs and event.type", "if event.type", _BOOT_TESTS),
    Mutation("C3", _BOOT, "*_data_findings(events)]", "]", _ATTACKS),
    Mutation("C3", _BOOT, "    if event.measured is None:\n        return None\n    try:", "    try:", _BOOT_TESTS),
    Mutation("C4", _BOOT, "[*_type_findings(events), *_separator", "[*_separator", _ATTACKS),
    Mutation("C4", _BOOT, "        if misplaced or (event.pcr == 7 and event.type not in _TYPES_IN_PCR7):", "        if misplaced:", _BOOT_TESTS),
    Mutation("C4", _BOOT, "        if misplaced or (event.pcr == 7 and event.type not in _TYPES_IN_PCR7):", "        if event.pcr == 7 and event.type not in _TYPES_IN_PCR7:", _BOOT_TESTS),
    Mutation("C5", _BOOT, "            found.append(_finding(\"C5\", \"boot-log-separator\", \"the firmware reports an error\", event))", "            pass", _BOOT_TESTS),
    Mutation("C5", _BOOT, "        elif seen.get(event.pcr) and _privileged(event):", "        elif False:", _ATTACKS),
    Mutation("C5", _BOOT, "    if event.pcr == 0:\n        return True\n", "", _BOOT_TESTS),
    Mutation("C5", _BOOT, "if pcr in pcrs and seen.get(pcr, 0) != 1:", "if pcr in pcrs and seen.get(pcr, 0) < 1:", _ATTACKS),
    Mutation("C5", _BOOT, "if pcr in pcrs and seen.get(pcr, 0) != 1:", "if pcr in pcrs and seen.get(pcr, 0) > 1:", _BOOT_TESTS),
    Mutation("C5", _BOOT, "event.digest in separators and event.type not in", "event.type == _T.SEPARATOR and event.type not in", _ATTACKS),
    Mutation("C6", _BOOT, "counts = not separated and ", "counts = ", _BOOT_TESTS),
    Mutation("C6", _BOOT, "counts = not separated and _POLICY_GUIDS.get(variable.name) == variable.guid", "counts = not separated", _BOOT_TESTS),
    Mutation("C6", _BOOT, "if counts and databases.setdefault(variable.name, variable) != variable:", "if counts and databases.setdefault(variable.name, variable) is None:", _BOOT_TESTS),
    Mutation("C6", _BOOT, ".get(switch.data) if switch and separated else None", ".get(switch.data) if switch else None", _BOOT_TESTS),
    Mutation("C6", _BOOT, "    if fatal:\n        raise Rejected(*fatal)\n", "", _BOOT_TESTS),
    Mutation("D1", _IMA, "            problems.append(Finding(\"D1\", \"runtime-log-template\", error.message", "            print(Finding(\"D1\", \"runtime-log-template\", error.message", _IMA_TESTS),
    Mutation("D1", _IMA, "        if entry.pcr != IMA_PCR:\n            text = f\"measured into", "        if False:\n            text = f\"measured into", _IMA_TESTS),
    Mutation("D1", _CHECKS, "    findings = [finding for finding in log.findings if finding.fatal]\n", "    findings = []\n", (*_FILE_TESTS, *_ATTACKS)),
    Mutation("D2", _IMA, "            if computed != recorded:", "            if False:", _ATTACKS),
    Mutation("D2", _IMA, "        elif file.buffer is not None and digest_of(file.algorithm, file.buffer) != file.digest:", "        elif False:", _IMA_TESTS),
    Mutation("D3", _IMA, "    if ahead > max_ahead:", "    if False:", _ATTACKS),
    Mutation("D3", _IMA, "    entries = log.entries[: found.entries]\n", "    entries = log.entries\n", _IMA_TESTS),
    Mutation("D3", _IMA, "        if value == quoted:\n", "        if number + 1 == len(log.entries):\n", _ATTACKS),
    Mutation("D4", _IMA, "    if complete:\n", "    if False:\n", _ATTACKS),
    Mutation("D4", _IMA, "    if file.path != _BOOT_AGGREGATE or ", "    if ", _IMA_TESTS),
    Mutation("D6", _IMA, "    if found.at_seen != seen.aggregate:", "    if False:", _ATTACKS),
    Mutation("D6", _IMA, "    if seen is not None and seen.reset_count != pcrs.clock_info.reset_count:", "    if False:", _IMA_TESTS),
    Mutation("D6", "authority/launches.py", "                tx.update_runtime(launch.evidence.host_id, host.runtime.seen)\n", "                pass\n", _ATTACKS),
    Mutation("D3", "launch/machine.py", "                max_ahead=max_ahead,\n", "                max_ahead=1 << 30,\n", _ATTACKS),
    Mutation("D6", "launch/machine.py", "                seen=known.seen,\n", "                seen=None,\n", _ATTACKS),
    Mutation("D5", _CHECKS, "    if log is None:\n        return (Finding(\"D5\", \"runtime-file\", \"there is no verified", "    if log is None:\n        return ()\n    if False:\n        return (Finding(\"D5\", \"runtime-file\", \"there is no verified", _FILE_TESTS),
    Mutation("D5", _CHECKS, "    if not stack.runtime:\n        return (Finding", "    if not stack.runtime:\n        return ()\n    if False:\n        return (Finding", _FILE_TESTS),
    Mutation("D5", _CHECKS, "if not _allowed(file, stack)]", "if False]", _ATTACKS),
    Mutation("D5", _CHECKS, "    if file.kind == \"verity\":\n        return False", "    if False:\n        return False", _FILE_TESTS),
    Mutation("D5", _CHECKS, "    digest = (file.alg, file.digest)\n    if digest in stack.files.get(file.path, ()) or digest in stack.any_path:", "    digest = (file.alg, file.digest)\n    if any(digest in files for files in stack.files.values()) or digest in stack.any_path:", _FILE_TESTS),
    Mutation("D5", _CHECKS, "    if rules.reject_violations and log is not None and log.violations:", "    if False:", _ATTACKS),
    Mutation("D5", "policy/file_signature.py", "    except InvalidSignature:\n        return False\n", "    except InvalidSignature:\n        return True\n", ("tests/policy/test_file_signature.py",)),
    Mutation("D5", "policy/file_signature.py", "kind != _DIGSIG or ", "", ("tests/policy/test_file_signature.py",)),
    Mutation("D5", "policy/file_signature.py", "hash_number != number or ", "", ("tests/policy/test_file_signature.py",)),
)  # fmt: skip
