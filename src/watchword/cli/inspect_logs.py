"""What ``watchword inspect eventlog`` and ``inspect ima`` say about a log: documents for programs, text for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from watchword.cli.output import finding_document, printable
from watchword.errors import Finding, MalformedError
from watchword.verify.boot_log import UnverifiedBootLog, examine
from watchword.verify.loaded_key import read_loaded_key
from watchword.verify.runtime_file import digest_of
from watchword.wire import ima_log, tcg_log
from watchword.wire.ima_ascii import looks_ascii, parse_ascii
from watchword.wire.ima_log import ImaLog
from watchword.wire.tcg_log import EventLog
from watchword.wire.tpm.algorithms import HASHES, Alg, digest, digest_size

__all__ = ["describe_event_log", "describe_ima_log", "event_log_text", "ima_log_text"]

_MAX_FINDINGS = 100
_MAX_KEYS = 1000
# The bank whose digests tie data to events: the strongest that every machine can compute comes first.
_PREFERRED = (Alg.SHA256, Alg.SHA384, Alg.SHA512, Alg.SM3_256, Alg.SHA3_256, Alg.SHA3_384, Alg.SHA3_512, Alg.SHA1)
_IMA_BANKS = (Alg.SHA1, Alg.SHA256, Alg.SHA384, Alg.SHA512)


def describe_event_log(log: EventLog, *, events: bool = False) -> dict[str, Any]:
    """The document of ``inspect eventlog``: every bank replayed, facts of the strongest bank."""
    findings: list[Finding] = []
    pcrs: dict[str, dict[str, str]] = {}
    for bank in log.banks:
        try:
            values = _untouched(log, bank) | tcg_log.replay(log, bank)
            pcrs[_name(bank)] = {str(pcr): values[pcr].hex() for pcr in sorted(values)}
        except MalformedError as error:
            findings.append(Finding("C2", "boot-log-bank", error.message, fatal=False))
    found = _examined(log, pcrs)
    document: dict[str, Any] = {
        "format": log.format,
        "banks": [_name(bank) for bank in log.banks],
        "events": len(log.events),
        "pcrs": pcrs,
        "startup_locality": tcg_log.pcr0_start(log),
        "secure_boot": found.facts.secure_boot if found else None,
        "databases": _databases(found) if found else {},
        "authorities": [printable(variable.name) for variable in found.facts.authorities] if found else [],
        "findings": [_finding_document(f) for f in (*findings, *(found.findings if found else ()))][:_MAX_FINDINGS],
    }
    if events and found:
        document["tied_in"] = _name(found.bank)
        document["entries"] = [
            {
                "index": event.index,
                "pcr": event.pcr,
                "type": event.type_name,
                "digest": event.digest.hex(),
                "tied": event.tied,
                "text": event.text,
            }
            for event in found.events
        ]
    return document


def _untouched(log: EventLog, bank: Alg) -> dict[int, bytes]:
    """The PCRs that are the log's alone to explain (0 to 9), at the value they have when nothing is measured."""
    if log.spec is not None and log.spec.header_pcr:
        return {}  # registers of a confidential machine, not PCRs
    return {pcr: bytes(digest_size(bank)) for pcr in range(10)}


def _examined(log: EventLog, computed: Mapping[str, object]) -> UnverifiedBootLog | None:
    """C3 to C6 in the strongest bank in which every measured event has a digest."""
    banks = [bank for bank in _PREFERRED if bank in log.banks and _name(bank) in computed]
    measured = [event for event in log.events if event.type != tcg_log.EventType.NO_ACTION]
    whole = [bank for bank in banks if all(event.digest(bank) is not None for event in measured)]
    chosen = [*whole, *banks]
    registers = log.spec is not None and log.spec.header_pcr != 0
    return examine(log, chosen[0], _present(log), registers=registers) if chosen else None


def _present(log: EventLog) -> frozenset[int]:
    """The PCRs that the log is about: a log of an application alone has no separators to miss."""
    return frozenset(event.pcr for event in log.events if event.type != tcg_log.EventType.NO_ACTION)


def _databases(found: UnverifiedBootLog) -> dict[str, str]:
    """SHA-256 of the content of each Secure Boot database that is tied."""
    return {name: digest(Alg.SHA256, variable.data).hex() for name, variable in found.facts.databases.items()}


def describe_ima_log(data: bytes, *, entries: bool = False) -> dict[str, Any]:
    """The document of ``inspect ima``, for the binary and the readable form. Raises MalformedError."""
    log, unproven, findings = _parse_ima(data)
    logged = _logged_bank(log)
    wrong = unproven or frozenset(
        e.number for e in log.entries if not e.violation and digest(logged, e.data) != e.digest
    )
    findings += [
        Finding("D2", "runtime-log-digest", "the digest is not that of the entry", subject=f"entry {number}")
        for number in sorted(wrong)
    ]
    banks = [logged] if unproven else [logged, *(bank for bank in _IMA_BANKS if bank is not logged)]
    pcrs = {_name(bank): _hex(ima_log.replay(log, bank)) for bank in banks}
    for entry in log.entries:
        if len(findings) >= _MAX_FINDINGS:
            break
        try:
            entry.file()
        except MalformedError as error:
            findings.append(Finding("D1", "runtime-log-template", printable(error.message), fatal=False))
    document: dict[str, Any] = {
        "entries": len(log.entries),
        "violations": sum(entry.violation for entry in log.entries),
        "pcrs": pcrs,
        "templates": dict(Counter(entry.template for entry in log.entries)),
        "findings": [_finding_document(finding) for finding in findings[:_MAX_FINDINGS]],
        "keys": [key for entry in log.entries if (key := _key_document(entry)) is not None][:_MAX_KEYS],
    }
    if logged is Alg.SHA1 and not unproven:
        padded = {_name(bank): _hex(ima_log.replay(log, bank, padded=True)) for bank in _IMA_BANKS[1:]}
        document["pcrs_padded"] = padded  # what kernels before 5.8 extend in these banks
    if entries:
        document["list"] = [_entry_document(entry) for entry in log.entries]
    return document


def _parse_ima(data: bytes) -> tuple[ImaLog, frozenset[int], list[Finding]]:
    """The log, the entries whose content is not what was hashed (readable form only), and what was odd."""
    if looks_ascii(data):
        log, unproven = parse_ascii(data)
        text = "the readable form cannot be evidence: file names may hold line breaks"
        return log, unproven, [Finding("D1", "runtime-log-ascii", text, fatal=False)]
    try:
        return ImaLog.parse(data), frozenset(), []
    except MalformedError as error:
        if not data.endswith(b"\n"):
            raise
        try:
            log = ImaLog.parse(data[:-1])
        except MalformedError:
            raise error from None
        text = "a line break after the last entry, which no kernel writes"
        return log, frozenset(), [Finding("D1", "runtime-log-line-break", text)]


def _logged_bank(log: ImaLog) -> Alg:
    """The bank of the logged digests: two have digests of 32 bytes, and the entries tell which it is."""
    choices = log.digest_algorithms
    for entry in log.entries:
        for alg in choices:
            if not entry.violation and digest(alg, entry.data) == entry.digest:
                return alg
    return choices[0]


def _entry_document(entry: ima_log.ImaEntry) -> dict[str, Any]:
    document: dict[str, Any] = {"pcr": entry.pcr, "digest": entry.digest.hex(), "template": entry.template}
    try:
        file = entry.file()
    except MalformedError as error:
        return document | {"error": printable(error.message)}
    path = printable(file.path.decode("utf-8", "backslashreplace"))
    document |= {"path": path, "algorithm": file.algorithm, "file_digest": file.digest.hex(), "kind": file.kind}
    if file.signature is not None:
        document["signature"] = file.signature.hex()
    return document


def _key_document(entry: ima_log.ImaEntry) -> dict[str, Any] | None:
    """The key that an entry says was loaded onto a keyring; ``tied`` when the entry's digest is that of the key."""
    try:
        file = entry.file()
    except MalformedError:
        return None
    key = read_loaded_key(file.path, file.buffer) if file.buffer is not None and not entry.violation else None
    if key is None or file.buffer is None:
        return None
    return {
        "entry": entry.number,
        "keyring": printable(key.keyring.decode("utf-8", "backslashreplace")),
        "key": f"sha256:{key.fingerprint.hex()}" if key.fingerprint else "",
        "subject_key_id": key.subject_key_id.hex(),
        "tied": digest_of(file.algorithm, file.buffer) == file.digest,
    }


def _hex(values: Mapping[int, bytes]) -> dict[str, str]:
    return {str(pcr): value.hex() for pcr, value in values.items()}


def _name(bank: Alg) -> str:
    return "sm3_256" if bank is Alg.SM3_256 else HASHES[bank]


def _finding_document(finding: Finding) -> dict[str, Any]:
    document: dict[str, Any] = finding_document(finding)
    return document


def event_log_text(document: Mapping[str, Any]) -> str:
    """The document of :func:`describe_event_log` for people."""
    state = {True: "on", False: "off", None: "not known"}[document["secure_boot"]]
    lines = [
        f"{document['format']} event log, {document['events']} events, banks {', '.join(document['banks'])}",
        f"Secure Boot {state}, as far as the log tells",
    ]
    for event in document.get("entries", ()):
        mark = "=" if event["tied"] else " "
        lines.append(f"{event['index']:5} {mark} pcr {event['pcr']:<2} {event['type']} {event['text']}")
    return "\n".join(lines + _pcr_lines(document) + _finding_lines(document))


def ima_log_text(document: Mapping[str, Any]) -> str:
    """The document of :func:`describe_ima_log` for people."""
    kinds = ", ".join(f"{count} {name}" for name, count in document["templates"].items()) or "none"
    lines = [f"runtime log, {document['entries']} entries ({kinds}), {document['violations']} violations"]
    for entry in document.get("list", ()):
        lines.append(f"  pcr {entry['pcr']} {entry['digest']} {entry.get('path', entry.get('error'))}")
    for key in document["keys"]:
        name = key["key"] or "a key that cannot be read"
        tied = "" if key["tied"] else ", NOT what was measured"
        lines.append(f"keyring {key['keyring']} got {name}, subject key id {key['subject_key_id'] or 'none'}{tied}")
    return "\n".join(lines + _pcr_lines(document) + _finding_lines(document))


def _pcr_lines(document: Mapping[str, Any]) -> list[str]:
    return [
        f"{bank} pcr {pcr:>2} {value}" for bank, values in document["pcrs"].items() for pcr, value in values.items()
    ]


def _finding_lines(document: Mapping[str, Any]) -> list[str]:
    return [
        printable(f"[{f['clause']}] {f['code']}: {f['message']}" + (f" ({f['subject']})" if f["subject"] else ""))
        for f in document["findings"]
    ]
