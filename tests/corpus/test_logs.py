"""Other people's firmware and runtime logs: each parses, replays and reads as its own source says.

The evidence stays where it is, beside the checkout. Honest exceptions are in the tables at the top.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from watchword.errors import MalformedError
from watchword.verify.boot_log import UnverifiedBootLog, examine
from watchword.verify.ima_log import boot_aggregates
from watchword.wire import ima_log as ima
from watchword.wire import tcg_log
from watchword.wire.ima_ascii import looks_ascii, parse_ascii
from watchword.wire.ima_log import ImaLog
from watchword.wire.tcg_log import EventLog
from watchword.wire.tpm.algorithms import Alg

Values = Mapping[Alg, Mapping[int, bytes]]

EVENT_LOGS = ("*/eventlogs/*", "*/ccel/*", "*/malformed/*eventlog*", "*/malformed/event_size*")
IMA_LOGS = ("*/ima/*", "*/history/*_ima")

# What is no log at all, by its source's own word, and must be refused.
NOT_EVENT_LOGS = {
    "event_size_too_large.bin",  # 3 GB of data in 36 bytes
    "CCEL.bin",  # an ACPI table that says where the log is
    "binary_bios_measurements-bogus",
    "binary_bios_measurements-empty",
}
NOT_IMA_LOGS = {"invalid_ima_log.txt", "test_ima_ast_INVALID_ENTRIES.txt", "test_ima_ast_VALID_ENTRIES.txt"}
# Base64 files that were decoded together with the line break behind them.
STRAY_LINE_BREAK = {"sml-ima-ng-sha1.bin", "sml-ima-sha1.bin"}
# Synthetic lines whose template digest was never that of their content.
UNPROVEN = {"ima-log-unknown": 1, "test_ima_verification_BAD_SIGNATURES.txt": 1}
# Logs of parts of a boot: nothing about them is complete.
FRAGMENTS = {
    "event.bin", "event-uefiaction.bin", "event-uefivar.bin", "specid-vendordata.bin", "sb_cert_eventlog.bin",
    "event_size_zero.bin", "short_no_action_eventlog.bin", "windows_gcp_shielded_vm.json",
}  # fmt: skip
# A Windows log that is right in its SHA-256 bank and explains nothing of the SHA-1 bank.
OTHER_BANK_WRONG = {
    ("IMN-SUPERMICRO-WBCL-Quote-AIKs.evidence.slim.json", Alg.SHA1),
    ("IMN-SUPERMICRO-no-epp.evidence.slim.json", Alg.SHA1),
}
SECURE_BOOT = {
    "coreos_36_shielded_vm_no_secure_boot_eventlog.bin": False,
    "ubuntu_2104_shielded_vm_no_secure_boot_eventlog.bin": False,
    "windows_gcp_shielded_vm.json": True,
    "sb_cert_eventlog.bin": True,
    "keylime_secureboot.binary_bios_measurements": True,
    "keylime_nosb.binary_bios_measurements": False,
    "CCEL_data_grub": True,
    "CCEL_data_ovmf": False,
    "supermicro-WBCL-OSLOAD-quoted.bin": None,  # this firmware measured the variable nowhere
}


def files(corpus: Path, patterns: tuple[str, ...]) -> Iterator[Path]:
    seen = {path for pattern in patterns for path in corpus.glob(pattern) if path.is_file()}
    yield from sorted(seen)


def event_logs(corpus: Path) -> Iterator[tuple[str, bytes]]:
    """Every event log, those inside of evidence documents too."""
    for path in files(corpus, EVENT_LOGS):
        yield path.name, path.read_bytes()
    for path in files(corpus, ("*/evidence/*.json",)):
        document = json.loads(path.read_text())
        for text in document.get("event_logs_b64", ()):
            yield path.name, base64.b64decode(text)
        if "Log" in document:
            yield path.name, base64.b64decode(document["Log"]["Raw"])


def stated_pcrs(corpus: Path) -> Iterator[tuple[str, bytes, Values]]:
    """(name, log, PCR values) wherever the source of a log states values."""
    for name, entry in json.loads((corpus / "expected_pcrs.json").read_text()).items():
        banks = {
            Alg[bank.upper()]: {int(p): bytes.fromhex(v) for p, v in pcrs.items()}
            for bank, pcrs in entry["banks"].items()
        }
        yield Path(name).name, (corpus / name).read_bytes(), banks
    for path in files(corpus, ("*/expected/*.yml", "*/expected/event-raw/*.yaml")):
        log = next((p for p in files(corpus, EVENT_LOGS) if path.name in (p.stem + ".yml", p.name + ".yaml")), None)
        if log is not None:
            yield log.name, log.read_bytes(), tool_pcrs(path.read_text())
    guard = corpus / "immune-gmbh+guard-oss"
    values = json.loads((guard / "expected" / "h12ssl_pcrs.json").read_text())
    banks = {Alg[b.upper()]: {int(p): bytes.fromhex(v) for p, v in pcrs.items()} for b, pcrs in values.items()}
    yield "h12ssl.bios_measurements.bin", (guard / "eventlogs" / "h12ssl.bios_measurements.bin").read_bytes(), banks
    for path in files(corpus, ("*/evidence/*.json",)):
        document = json.loads(path.read_text())
        for text in document.get("event_logs_b64", ()):
            yield path.name, base64.b64decode(text), evidence_pcrs(document)
        if "Log" in document:
            sha1 = {p["Index"]: base64.b64decode(p["Digest"]) for p in document["Log"]["PCRs"] if p["DigestAlg"] == 3}
            yield path.name, base64.b64decode(document["Log"]["Raw"]), {Alg.SHA1: sha1}


def tool_pcrs(text: str) -> Values:
    """The replayed values at the end of what tpm2_eventlog prints."""
    values: dict[Alg, dict[int, bytes]] = {}
    _, found, tail = text.rpartition("\npcrs:")
    bank: dict[int, bytes] = {}
    for line in tail.splitlines() if found else ():
        if head := re.fullmatch(r"  (\w+):\s*", line):
            bank = values.setdefault(Alg[head[1].upper()], {})
        elif pair := re.fullmatch(r"    (\d+)\s*: 0x([0-9a-fA-F]+)\s*", line):
            bank[int(pair[1])] = bytes.fromhex(pair[2])
    return values


def evidence_pcrs(document: dict[str, Any]) -> Values:
    if "pcr" in document:
        return {Alg(int(b)): {int(p): bytes.fromhex(v) for p, v in vs.items()} for b, vs in document["pcr"].items()}
    banks = dict(document.get("allpcrs") or {})
    banks.setdefault(document["algorithm"] or "11", document["pcrs"])
    return {Alg(int(b)): {int(p): base64.b64decode(v) for p, v in vs.items()} for b, vs in banks.items()}


def read(log: EventLog) -> UnverifiedBootLog:
    return examine(log, best_bank(log), registers=log.spec is not None and log.spec.header_pcr != 0)


def best_bank(log: EventLog) -> Alg:
    return next(bank for bank in (Alg.SHA256, Alg.SHA384, Alg.SHA1) if bank in log.banks)


def test_event_logs_parse_or_are_refused_as_stated(corpus: Path, show: Any) -> None:
    right, refused = 0, set()
    for name, data in event_logs(corpus):
        try:
            log = EventLog.parse(data)
        except MalformedError:
            refused.add(name)
            continue
        assert log.encode() == data, name
        right += 1
    assert refused == NOT_EVENT_LOGS
    show("event logs parse and re-encode", right, right)
    show("files that are no event log are refused", len(refused), len(NOT_EVENT_LOGS))


def test_event_logs_replay_to_the_stated_values(corpus: Path, show: Any) -> None:
    banks, wrong = 0, []
    for name, data, stated in stated_pcrs(corpus):
        log = EventLog.parse(data)
        for bank in log.banks:
            if bank not in stated:
                continue
            banks += 1
            values = tcg_log.replay(log, bank)
            assert values or not log.events
            if any(stated[bank].get(pcr, value) != value for pcr, value in values.items()):
                wrong.append((name, bank))
    assert set(wrong) == OTHER_BANK_WRONG
    show("banks of event logs replay to stated PCRs", banks - len(wrong), banks, "(a Windows log, wrong in SHA-1)")


def test_no_real_boot_has_a_fatal_finding(corpus: Path, show: Any) -> None:
    boots = 0
    for name, data in event_logs(corpus):
        if name in NOT_EVENT_LOGS | FRAGMENTS:
            continue
        log = EventLog.parse(data)
        found = read(log)
        assert [str(finding) for finding in found.findings if finding.fatal] == [], name
        boots += 1
    show("boots of real machines pass C3 to C6", boots, boots)


def test_secure_boot_is_what_the_source_says(corpus: Path, show: Any) -> None:
    found = {}
    for name, data in event_logs(corpus):
        if name in SECURE_BOOT:
            log = EventLog.parse(data)
            found[name] = read(log).facts.secure_boot
    assert found == SECURE_BOOT
    show("Secure Boot is as stated", len(found), len(SECURE_BOOT))


def test_every_text_is_printable(corpus: Path) -> None:
    for name, data in event_logs(corpus):
        if name not in NOT_EVENT_LOGS:
            log = EventLog.parse(data)
            assert all(event.text.isprintable() for event in read(log).events)


def test_runtime_logs_parse_or_are_refused_as_stated(corpus: Path, show: Any) -> None:
    right, refused, line_break, unproven = 0, set(), set(), {}
    for path in files(corpus, IMA_LOGS):
        data = path.read_bytes()
        try:
            if looks_ascii(data):
                log, wrong = parse_ascii(data)
                if wrong:
                    unproven[path.name] = len(wrong)
            else:
                log = ImaLog.parse(data)
                assert log.encode() == data
        except MalformedError:
            (line_break if path.name in STRAY_LINE_BREAK else refused).add(path.name)
            continue
        right += 1
        if path.name not in UNPROVEN:
            assert_template_digests(log)
    assert (refused, line_break, unproven) == (NOT_IMA_LOGS, STRAY_LINE_BREAK, UNPROVEN)
    show("runtime logs parse, every digest recomputed", right, right)
    show("files that are no runtime log are refused", len(refused), len(NOT_IMA_LOGS))


def assert_template_digests(log: ImaLog) -> None:
    for entry in log.entries:
        if not entry.violation:
            assert entry.digest in {ima.template_digest(entry, alg) for alg in log.digest_algorithms}
            entry.file()


def test_runtime_logs_have_the_stated_entries(corpus: Path) -> None:
    folder = corpus / "tpm2-software+tpm2-tss"
    for name, stated in json.loads((folder / "expected" / "ima_events.json").read_text()).items():
        path = folder / "ima" / (name.replace("_", "-") + ".bin")
        if not path.exists():
            continue
        log = ImaLog.parse(path.read_bytes().removesuffix(b"\n"))
        entries = [(entry.digest.hex(), entry.file().path.decode()) for entry in log.entries]
        assert entries == [(entry["template_digest"], entry["name"]) for entry in stated]


def test_runtime_logs_replay_to_the_stated_values(corpus: Path, show: Any) -> None:
    guard = corpus / "immune-gmbh+guard-oss"
    stated = json.loads((guard / "expected" / "h12ssl_pcrs.json").read_text())
    log = ImaLog.parse((guard / "ima" / "h12ssl.binary_measurements").read_bytes())
    quoted = ImaLog(log.digest_size, log.entries[:-1])  # the log was read one entry later than the PCRs
    assert ima.replay(quoted, Alg.SHA1)[10].hex() == stated["sha1"]["10"]
    document = json.loads((guard / "evidence" / "h12ssl.values.slim.json").read_text())
    values = evidence_pcrs(document)
    log = ImaLog.parse((guard / document["ima_log_file"]).read_bytes())
    for bank in (Alg.SHA1, Alg.SHA256):
        assert ima.replay(log, bank)[10] == values[bank][10]
    show("runtime logs replay to stated PCR 10", 3, 4, "(one SHA-256 value belongs to no prefix)")


def test_boot_aggregate_agrees_with_the_event_log(corpus: Path) -> None:
    folder = corpus / "openeuler-mirror+kunpengsecl"
    log, _ = parse_ascii((folder / "ima" / "ascii_runtime_measurements").read_bytes())
    boot = EventLog.parse((folder / "eventlogs" / "binary_bios_measurements.bin").read_bytes())
    expected = boot_aggregates(Alg.SHA1, tcg_log.replay(boot, Alg.SHA1))
    assert log.entries[0].file().digest == expected["0-7"]


def test_the_two_forms_of_one_log_agree(corpus: Path) -> None:
    folder = corpus / "immune-gmbh+guard-oss" / "ima"
    binary = ImaLog.parse((folder / "h12ssl.binary_measurements").read_bytes())
    readable, unproven = parse_ascii((folder / "h12ssl.ascii_measurements").read_bytes())
    assert not unproven
    assert readable.entries[: len(binary.entries)] == binary.entries
