"""Clauses C1 to C6 and D1 to D6: the logs behind a quote."""

# ruff: noqa: E501 - source text is quoted as it is
from __future__ import annotations

from .mutation import Mutation

_BOOT, _IMA, _RUNTIME = "verify/boot_log.py", "verify/ima_log.py", "policy/runtime.py"
_REPLAY, _FILE, _KNOWN, _WIRE = (
    "verify/ima_replay.py",
    "verify/runtime_file.py",
    "verify/known_files.py",
    "wire/ima_log.py",
)
_BOOT_TESTS = ("tests/verify/test_boot_log.py", "tests/attacks/test_logs.py")
_IMA_TESTS = ("tests/verify/test_ima_log.py", "tests/attacks/test_logs.py")
_SIGNATURE_TESTS = ("tests/policy/test_file_signature.py", "tests/policy/test_file_signature_portable.py")
_FILE_TESTS = ("tests/policy/test_runtime_files.py", "tests/policy/test_appraise.py")


def _attack(name: str) -> tuple[str, ...]:
    return (f"tests/attacks/test_logs.py::{name}",)


_KNOWN_TESTS = ("tests/verify/test_known_files.py",)
_CONTINUED_TESTS = ("tests/verify/test_ima_continued.py",)
_KEY_TESTS = ("tests/policy/test_runtime_files.py",)
_PART_TESTS = ("tests/verify/test_runtime_state.py",)

MUTATIONS = (
    Mutation("C1", "wire/tcg_log.py", "    if stop > len(data):\n        raise _bad(f\"an event declares", "    if False:\n        raise _bad(f\"an event declares", ("tests/wire/test_tcg_log.py",)),
    Mutation("C2", _BOOT, "    if bank not in log.banks or not quoted:", "    if not quoted:", _BOOT_TESTS),
    Mutation("C2", _BOOT, "    if bank not in log.banks or not quoted:", "    if bank not in log.banks:", _BOOT_TESTS),
    Mutation("C2", _BOOT, "    if wrong:\n        raise Rejected(*wrong)\n", "", _BOOT_TESTS),
    Mutation("C2", _BOOT, "    left = _check_replay(log, quoted, bank, continued)\n", "    left = {}\n", _attack("test_boot_log_of_a_good_host")),
    Mutation("C2", _BOOT, "if event.pcr in pcrs and event.type", "if event.type", _BOOT_TESTS),
    Mutation("C3", _BOOT, "*_data_findings(events)]", "]", _attack("test_event_data_that_does_not_match_its_digest")),
    Mutation("C3", _BOOT, "    if event.measured is None:\n        return None\n    try:", "    try:", _BOOT_TESTS),
    Mutation("C4", _BOOT, "[*_type_findings(events), *_separator", "[*_separator", _attack("test_event_type_rewritten")),
    Mutation("C4", _BOOT, "        if misplaced or (event.pcr == 7 and event.type not in _TYPES_IN_PCR7):", "        if misplaced:", _BOOT_TESTS),
    Mutation("C4", _BOOT, "        if misplaced or (event.pcr == 7 and event.type not in _TYPES_IN_PCR7):", "        if event.pcr == 7 and event.type not in _TYPES_IN_PCR7:", _BOOT_TESTS),
    Mutation("C5", _BOOT, "            found.append(_finding(\"C5\", \"boot-log-separator\", \"the firmware reports an error\", event))", "            pass", _BOOT_TESTS),
    Mutation("C5", _BOOT, "        elif seen.get(event.pcr) and _privileged(event):", "        elif False:", _attack("test_events_after_the_separator")),
    Mutation("C5", _BOOT, "    if event.pcr == 0:\n        return True\n", "", _BOOT_TESTS),
    Mutation("C5", _BOOT, "if pcr in pcrs and seen.get(pcr, 0) != 1:", "if pcr in pcrs and seen.get(pcr, 0) < 1:", _attack("test_duplicate_separator")),
    Mutation("C5", _BOOT, "if pcr in pcrs and seen.get(pcr, 0) != 1:", "if pcr in pcrs and seen.get(pcr, 0) > 1:", _BOOT_TESTS),
    Mutation("C5", _BOOT, "event.digest in separators and event.type not in", "event.type == _T.SEPARATOR and event.type not in", _attack("test_separator_under_another_name")),
    Mutation("C6", _BOOT, "counts = not separated and ", "counts = ", _BOOT_TESTS),
    Mutation("C6", _BOOT, "counts = not separated and _POLICY_GUIDS.get(variable.name) == variable.guid", "counts = not separated", _BOOT_TESTS),
    Mutation("C6", _BOOT, "if counts and databases.setdefault(variable.name, variable) != variable:", "if counts and databases.setdefault(variable.name, variable) is None:", _BOOT_TESTS),
    Mutation("C6", _BOOT, ".get(switch.data) if switch and separated else None", ".get(switch.data) if switch else None", _BOOT_TESTS),
    Mutation("C6", _BOOT, "    if fatal:\n        raise Rejected(*fatal)\n", "", _BOOT_TESTS),
    Mutation("D1", "verify/host.py", "        _check_size(entries, max_entries)\n", "", ("tests/verify/test_host.py",)),
    Mutation("D1", _FILE, "            else:\n                problems.append(problem)\n", "", _IMA_TESTS),
    Mutation("D1", _FILE, "    if entry.pcr not in followed:\n        text", "    if False:\n        text", _IMA_TESTS),
    Mutation("D1", _RUNTIME, "    findings = [finding for finding in log.findings if finding.fatal]\n", "    findings = []\n", _FILE_TESTS),
    Mutation("D2", _REPLAY, "        computed: bytes = logged(data).digest()\n        if computed != recorded:", "        computed: bytes = logged(data).digest()\n        if False:", _IMA_TESTS),
    Mutation("D2", _FILE, "file.buffer is None or digest_of(file.algorithm, file.buffer) == file.digest:", "True:", _IMA_TESTS),
    Mutation("D3", _IMA, "    if ahead > max_ahead:", "    if False:", _attack("test_log_ahead_of_the_quote_by_more_than_allowed")),
    Mutation("D3", _REPLAY, "        if value == quoted:\n            return", "        if length_hint(left) == 0:\n            return", _attack("test_ima_entry_dropped")),
    Mutation("D3", "verify/ima_continued.py", "        if value != wanted[bank, pcr]:", "        if False:", _CONTINUED_TESTS),
    Mutation("D3", "verify/host.py", "            continued={log.bank: log.left for log in boot if log.left},\n", "", _CONTINUED_TESTS),
    Mutation("D3", "verify/host.py", "for log in boot if log.left}", "for log in boot[:1] if log.left}", _CONTINUED_TESTS),
    Mutation("D3", "verify/ima_continued.py", "        if index >= proven and (values == wanted or raw.startswith(IN_PCR_10)):", "        if index >= proven and values == wanted:", _CONTINUED_TESTS),
    Mutation("D5", _RUNTIME, "len(log.followed) > 1 or ", "", _CONTINUED_TESTS),
    Mutation("D5", _RUNTIME, "len(log.followed) > 1 or any(not raw.startswith(IN_PCR_10) for _, raw in kept)", "len(log.followed) > 1", _CONTINUED_TESTS),
    Mutation("D2", _IMA, "files[raw] is not None and raw.startswith(IN_PCR_10):", "files[raw] is not None:", _CONTINUED_TESTS),
    Mutation("D4", _IMA, "    if complete:\n", "    if False:\n", _attack("test_boot_aggregate_of_another_boot")),
    Mutation("D4", _IMA, "    if file.path != _BOOT_AGGREGATE or ", "    if ", _IMA_TESTS),
    Mutation("D6", _IMA, "    if found.at_seen != seen.aggregate:", "    if False:", _attack("test_log_that_does_not_continue")),
    Mutation("D6", _IMA, "    if seen is not None and seen.reset_count != reset_count:", "    if False:", _IMA_TESTS),
    Mutation("D6", _IMA, "    if state is None or have != (reset_count, start, bank, log.digest_size):", "    if state is None:", _PART_TESTS),
    Mutation("D6", "authority/deciding/launches.py", "            tx.update_runtime(launch.evidence.host_id, seen, state)\n", "            pass\n", _attack("test_log_that_does_not_continue")),
    Mutation("D3", "launch/evidence.py", "            max_ahead=max_ahead,\n", "            max_ahead=1 << 30,\n", _attack("test_log_ahead_of_the_quote_by_more_than_allowed")),
    Mutation("D6", "launch/evidence.py", "            seen=known.seen,\n", "            seen=None,\n", _attack("test_log_that_does_not_continue")),
    Mutation("D2", _WIRE, "        elif (entry := find(key)) is not None and startswith(raw := entry[0], pos):", "        elif (entry := find(key)) is not None and (raw := entry[0]):", _KNOWN_TESTS),
    Mutation("D2", _WIRE, "        if (run := find_run(key)) is not None and startswith(run[0], pos):", "        if (run := find_run(key)) is not None:", _KNOWN_TESTS),
    Mutation("D2", _WIRE, "if known and size == _KEY - 4 else", "if known else", _KNOWN_TESTS),
    Mutation("D2", _REPLAY, "        found = _search(log.columns, hasher(bank), extension, begin, quoted, mark, use_known=False)", "        found = _search(log.columns, hasher(bank), extension, begin, quoted, mark, use_known=use_known)", _KNOWN_TESTS),
    Mutation("D2", _IMA, "    if known is not None and not found.findings:", "    if known is not None:", _KNOWN_TESTS),
    Mutation("D2", _IMA, "(known is not None and known.bank is not bank)", "False", _KNOWN_TESTS),
    Mutation("D1", _IMA, "            if files[raw] is not None and raw.startswith(IN_PCR_10):", "            if raw.startswith(IN_PCR_10):", _KNOWN_TESTS),
    Mutation("D5", _KNOWN, "        if record is None or record[0] != raw or stack in record[2]:", "        if record is None or stack in record[2]:", _KNOWN_TESTS),
    Mutation("D5", _IMA, "if mark is not None and stack in mark}", "if mark is not None}", _KNOWN_TESTS),
    Mutation("D5", _IMA, "        if stack is None or self.known is None:", "        if stack is None:", _KNOWN_TESTS),
    Mutation("D5", _IMA, "            for number, raw in self.part.kept:\n                yield number, raw, self._file(number, raw)\n", "            pass\n", _PART_TESTS),
    Mutation("D5", _IMA, "[*(part.kept if part else ()), *fresh]", "fresh", _PART_TESTS),
    Mutation("D5", _RUNTIME, "            kept.append((number, raw))\n            unlisted", "            unlisted", _PART_TESTS),
    Mutation("D5", _RUNTIME, "        if file is None:\n            kept.append((number, raw))\n", "        if file is None:\n            pass\n", _PART_TESTS),
    Mutation("D5", _RUNTIME, "    if file.key is not None:  # for", "    if False:  # for", _KEY_TESTS),
    Mutation("D5", _RUNTIME, "        return file.key.fingerprint in stack.keyrings.get(file.path, ())\n", "        return True\n", _KEY_TESTS),
    Mutation("D5", _RUNTIME, "file.key.fingerprint in stack.keyrings.get(file.path, ())", "any(file.key.fingerprint in keys for keys in stack.keyrings.values())", _KEY_TESTS),
    Mutation("D5", _RUNTIME, "    if file.key is not None:\n        return _key_finding", "    if False:\n        return _key_finding", _KEY_TESTS),
    Mutation("D5", _RUNTIME, "    if file.kind == \"ima\" and digest in stack.any_path:", "    if digest in stack.any_path:", _KEY_TESTS),
    Mutation("D5", "policy/signer.py", "    work.spend()\n", "", ("tests/policy/test_signature_work.py",)),
    Mutation("D5", "policy/signer.py", "        if self.left <= 0:", "        if False:", ("tests/policy/test_signature_work.py",)),
    Mutation("D5", _RUNTIME, "            skipped += 1\n", "", ("tests/policy/test_signature_work.py",)),
    Mutation("D5", "policy/appraise.py", "judge_runtime(host.runtime, release.stack, bad, work)", "judge_runtime(host.runtime, release.stack, bad)", ("tests/policy/test_signature_work.py",)),
    Mutation("D5", _RUNTIME, "sum(len(raw) for _, raw in kept) > MAX_KEPT or ", "", _PART_TESTS),
    Mutation("D3", _RUNTIME, " or any(f.clause == \"D3\" for f in log.findings)", "", _PART_TESTS),
    Mutation("D4", _IMA, "    aggregate = _check_boot_aggregate(decode_entry(first, log.digest_size, 0), pcrs.values, findings)", "    aggregate = \"0-9\" if part else _check_boot_aggregate(decode_entry(first, log.digest_size, 0), pcrs.values, findings)", _PART_TESTS),
    Mutation("D6", _REPLAY, "    at_mark = value if start + before == mark else None", "    at_mark = value if start + before == mark else begin.aggregate", _PART_TESTS),
    Mutation("D6", _REPLAY, "        return Prefix(begin.entries, quoted if mark == begin.entries else None, {})", "        return Prefix(begin.entries, quoted, {})", _PART_TESTS),
    Mutation("D5", _RUNTIME, "        return RuntimeResult((Finding(\"D5\", \"runtime-file\", \"there is no verified runtime log\"),), None)", "        return RuntimeResult((), None)", _FILE_TESTS),
    Mutation("D5", _RUNTIME, "        return RuntimeResult((Finding(\"D5\", \"runtime-file\", text),), None, bad_files(log, bad))", "        return RuntimeResult((), None)", _FILE_TESTS),
    Mutation("D5", _RUNTIME, "    if log.part is not None and log.part.stack != judge:", "    if False:", _PART_TESTS),
    Mutation("D5", _RUNTIME, "        if refused:", "        if False:", _attack("test_altered_binary")),
    Mutation("D5", _RUNTIME, "    if file.kind == \"verity\":\n        return False", "    if False:\n        return False", _FILE_TESTS),
    Mutation("D5", _RUNTIME, "    if digest in stack.files.get(file.path, ()):", "    if any(digest in files for files in stack.files.values()):", _FILE_TESTS),
    Mutation("D5", "policy/checks.py", "    if rules.reject_violations and log is not None and log.violations:", "    if False:", _attack("test_violation")),
    Mutation("D5", "policy/signer.py", "    except InvalidSignature:\n        return False\n", "    except InvalidSignature:\n        return True\n", _SIGNATURE_TESTS),
    Mutation("D5", "policy/file_signature.py", "header.kind != _DIGSIG or ", "", _SIGNATURE_TESTS),
    Mutation("D5", "policy/file_signature.py", "header.alg is not alg or ", "", _SIGNATURE_TESTS),
    Mutation("D5", "policy/signature_header.py", " and size == len(signature)", "", _SIGNATURE_TESTS),
)  # fmt: skip
