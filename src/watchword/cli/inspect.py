"""``watchword inspect``: look into files without trusting them. Nothing here is a verdict."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from watchword.cli.output import emit, finding_document, json_option, printable
from watchword.errors import Finding, MalformedError, UsageError
from watchword.verify.boot_log import UnverifiedBootLog, examine
from watchword.wire import ima_log, tcg_log
from watchword.wire.ima_ascii import looks_ascii, parse_ascii
from watchword.wire.ima_log import ImaLog
from watchword.wire.tcg_log import EventLog
from watchword.wire.token import Token
from watchword.wire.tpm.algorithms import HASHES, Alg, digest

__all__ = ["describe_event_log", "describe_ima_log", "describe_token", "inspect"]

_MAX_SMALL = 1 << 20  # bytes of a quote, a certificate or a token
_MAX_FINDINGS = 100
# The bank whose digests tie data to events: the strongest that every machine can compute comes first.
_PREFERRED = (Alg.SHA256, Alg.SHA384, Alg.SHA512, Alg.SM3_256, Alg.SHA3_256, Alg.SHA3_384, Alg.SHA3_512, Alg.SHA1)
_IMA_BANKS = (Alg.SHA1, Alg.SHA256, Alg.SHA384, Alg.SHA512)

_file = click.argument("file", type=click.Path(path_type=Path, allow_dash=True))


@click.group()
def inspect() -> None:
    """Look into tokens, quotes, logs and certificates.

    This only reads what a file says. Whether it is true takes a quote, a key and a policy: nothing here is a verdict.

    \b
    Example:
      watchword inspect eventlog /sys/kernel/security/tpm0/binary_bios_measurements
      watchword inspect ima --json /sys/kernel/security/ima/binary_runtime_measurements
    """


@inspect.command()
@_file
@click.option("--events", is_flag=True, help="List every event, not only the sums.")
@json_option
def eventlog(file: Path, events: bool, as_json: bool) -> None:
    """Read a firmware event log, replay it, and show what it leads to.

    \b
    Example:
      watchword inspect eventlog --events /sys/kernel/security/tpm0/binary_bios_measurements
    """
    document = describe_event_log(EventLog.parse(_read(file, tcg_log.MAX_LOG)), events=events)
    emit(document, _event_log_text(document), as_json=as_json)


@inspect.command()
@_file
@click.option("--entries", is_flag=True, help="List every entry, not only the sums.")
@json_option
def ima(file: Path, entries: bool, as_json: bool) -> None:
    """Read a runtime (IMA) log, binary or readable, replay it, and show what it leads to.

    \b
    Example:
      watchword inspect ima /sys/kernel/security/ima/binary_runtime_measurements
    """
    document = describe_ima_log(_read(file, ima_log.MAX_LOG), entries=entries)
    emit(document, _ima_log_text(document), as_json=as_json)


@inspect.command()
@_file
@json_option
def quote(file: Path, as_json: bool) -> None:
    """Read a TPM quote (TPMS_ATTEST).

    \b
    Example:
      watchword inspect quote quote.msg
    """
    from watchword.cli.inspect_tpm import describe_quote

    _emit_plain(describe_quote(_read(file, _MAX_SMALL)), as_json=as_json)


@inspect.command("ek-cert")
@_file
@json_option
def ek_cert(file: Path, as_json: bool) -> None:
    """Read an endorsement key certificate: PEM, DER, or as it lies in the TPM.

    \b
    Example:
      watchword inspect ek-cert ek.der
    """
    from watchword.cli.inspect_tpm import describe_ek_certificate

    _emit_plain(describe_ek_certificate(_read(file, _MAX_SMALL)), as_json=as_json)


@inspect.command()
@_file
@json_option
def token(file: Path, as_json: bool) -> None:
    """Read what a launch token shows without its key: to which authority's key it is sealed.

    \b
    Example:
      watchword inspect token token.txt
    """
    text = _read(file, _MAX_SMALL).removesuffix(b"\n").removesuffix(b"\r")
    _emit_plain(describe_token(text), as_json=as_json)


def _read(file: Path, limit: int) -> bytes:
    """The whole file, "-" for standard input; UsageError (exit status 1) when it cannot be read."""
    name = printable(str(file))
    try:
        if str(file) == "-":
            data = sys.stdin.buffer.read(limit + 1)
        else:
            with file.open("rb") as stream:
                data = stream.read(limit + 1)
    except OSError as error:
        raise UsageError("unreadable", f"cannot read {name}: {(error.strerror or 'no reason given').lower()}") from None
    except ValueError:
        raise UsageError("unreadable", f"cannot read {name}: not the name of a file") from None
    if len(data) > limit:
        raise MalformedError(f"{name}: larger than {limit} bytes")
    return data


def _emit_plain(document: Mapping[str, Any], *, as_json: bool) -> None:
    emit(document, "\n".join(_lines(document)), as_json=as_json)


def _lines(document: Mapping[str, Any], indent: str = "") -> list[str]:
    lines: list[str] = []
    for key, value in document.items():
        if isinstance(value, Mapping):
            lines += [f"{indent}{key}:", *_lines(value, indent + "  ")]
        elif isinstance(value, Sequence) and not isinstance(value, str):
            lines.append(f"{indent}{key}:" + ("" if value else " none"))
            for item in value:
                inner = "; ".join(_lines(item)) if isinstance(item, Mapping) else str(item)
                lines.append(f"{indent}  - {printable(inner)}")
        else:
            lines.append(f"{indent}{key}: {printable(str(value))}")
    return lines


def describe_token(text: bytes) -> dict[str, Any]:
    """What anybody can see of a token. Raises MalformedError."""
    try:
        parsed = Token.parse(text.decode("ascii"))
    except UnicodeDecodeError:
        raise MalformedError("token: it is not ASCII text") from None
    return {"suite": parsed.suite, "key_id": parsed.key_id.hex(), "characters": len(text), "sealed": len(parsed.sealed)}


def describe_event_log(log: EventLog, *, events: bool = False) -> dict[str, Any]:
    """The document of ``inspect eventlog``: every bank replayed, facts of the strongest bank."""
    findings: list[Finding] = []
    pcrs: dict[str, dict[str, str]] = {}
    for bank in log.banks:
        try:
            pcrs[_name(bank)] = {str(pcr): value.hex() for pcr, value in tcg_log.replay(log, bank).items()}
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


def _examined(log: EventLog, computed: Mapping[str, object]) -> UnverifiedBootLog | None:
    """C3 to C6 in the strongest bank in which every measured event has a digest."""
    banks = [bank for bank in _PREFERRED if bank in log.banks and _name(bank) in computed]
    measured = [event for event in log.events if event.type != tcg_log.EventType.NO_ACTION]
    whole = [bank for bank in banks if all(event.digest(bank) is not None for event in measured)]
    chosen = [*whole, *banks]
    return examine(log, chosen[0], _present(log)) if chosen else None


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


def _hex(values: Mapping[int, bytes]) -> dict[str, str]:
    return {str(pcr): value.hex() for pcr, value in values.items()}


def _name(bank: Alg) -> str:
    return "sm3_256" if bank is Alg.SM3_256 else HASHES[bank]


def _finding_document(finding: Finding) -> dict[str, Any]:
    document: dict[str, Any] = finding_document(finding)
    return document


def _event_log_text(document: Mapping[str, Any]) -> str:
    state = {True: "on", False: "off", None: "not known"}[document["secure_boot"]]
    lines = [
        f"{document['format']} event log, {document['events']} events, banks {', '.join(document['banks'])}",
        f"Secure Boot {state}, as far as the log tells",
    ]
    for event in document.get("entries", ()):
        mark = "=" if event["tied"] else " "
        lines.append(f"{event['index']:5} {mark} pcr {event['pcr']:<2} {event['type']} {event['text']}")
    return "\n".join(lines + _pcr_lines(document) + _finding_lines(document))


def _ima_log_text(document: Mapping[str, Any]) -> str:
    kinds = ", ".join(f"{count} {name}" for name, count in document["templates"].items()) or "none"
    lines = [f"runtime log, {document['entries']} entries ({kinds}), {document['violations']} violations"]
    for entry in document.get("list", ()):
        lines.append(f"  pcr {entry['pcr']} {entry['digest']} {entry.get('path', entry.get('error'))}")
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
