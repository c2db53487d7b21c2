"""Clauses C1–C6: what the firmware's event log proves, once a quote stands behind it.

C1  it parses completely under fixed bounds                     EventLog.parse, before this module
C2  it replays to the quoted values                             verify_boot_log
C3  event data agrees with its digest where they are tied       _data_findings; anything else is marked untied
C4  a type is only a hint: it must make sense for its PCR       _type_findings
C5  one separator per PCR, nothing privileged after it          _separator_findings
C6  facts come from tied data before the separator only         _facts

:func:`examine` does C3–C6 for a log that nobody vouches for (``watchword inspect``): what it returns says so in its
name. :func:`verify_boot_log` is the only way to a :class:`VerifiedBootLog`, and covers only PCRs that were quoted.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

from watchword.errors import Finding, MalformedError, Rejected
from watchword.verify.boot_event import BootEvent, describe, labelled, measured_part
from watchword.verify.command_line import MeasuredText, measured_text
from watchword.wire.tcg_log import EventLog, EventType, replay
from watchword.wire.tpm.algorithms import HASHES, Alg, digest, digest_size
from watchword.wire.uefi import DB, GLOBAL_VARIABLE, UefiVariable

if TYPE_CHECKING:
    from watchword.verify.quote import VerifiedPcrs

__all__ = ["BootEvent", "BootFacts", "UnverifiedBootLog", "VerifiedBootLog", "describe", "examine", "verify_boot_log"]

_PROOF = object()
_POLICY_PCR = 7
_RUNTIME_PCR = 10  # belongs to IMA; the firmware's log does not explain it
_SEPARATED = range(8)  # PFP 3.3.1: PCR 0 to 7 end with a separator when the firmware hands over
_SEPARATOR_DATA = (b"\0\0\0\0", b"\xff\xff\xff\xff")
_SEPARATOR_ERROR = b"\1\0\0\0"

_T = EventType
# Types whose digest is a hash of the event data (PFP table 27 and what real firmware does): a difference is a lie.
_TIED_TYPES = frozenset(
    {
        _T.SEPARATOR, _T.ACTION, _T.S_CRTM_VERSION, _T.EFI_VARIABLE_DRIVER_CONFIG, _T.EFI_VARIABLE_BOOT,
        _T.EFI_VARIABLE_BOOT2, _T.EFI_VARIABLE_AUTHORITY, _T.EFI_GPT_EVENT, _T.EFI_GPT_EVENT2, _T.EFI_ACTION,
    }
)  # fmt: skip
# Where the types that carry facts may stand (PFP 3.3.4). Other types say nothing that is believed.
_PCRS_OF_TYPE: Mapping[int, frozenset[int]] = MappingProxyType(
    {
        _T.S_CRTM_CONTENTS: frozenset({0}),
        _T.S_CRTM_VERSION: frozenset({0}),
        _T.EFI_HCRTM_EVENT: frozenset({0}),
        _T.EFI_VARIABLE_DRIVER_CONFIG: frozenset({1, 3, 5, 7}),
        _T.EFI_VARIABLE_BOOT: frozenset({1, 2, 3, 5}),
        _T.EFI_VARIABLE_BOOT2: frozenset({1, 2, 3, 5}),
        _T.EFI_VARIABLE_AUTHORITY: frozenset({7}),
        _T.EFI_GPT_EVENT: frozenset({5}),
        _T.EFI_GPT_EVENT2: frozenset({5}),
        _T.EFI_BOOT_SERVICES_APPLICATION: frozenset({0, 2, 4}),
        _T.EFI_BOOT_SERVICES_DRIVER: frozenset({0, 2, 4}),
        _T.EFI_RUNTIME_SERVICES_DRIVER: frozenset({0, 2, 4}),
    }
)
# PCR 7 holds the Secure Boot policy and nothing else.
_TYPES_IN_PCR7 = frozenset(
    {
        _T.EFI_VARIABLE_DRIVER_CONFIG, _T.EFI_VARIABLE_AUTHORITY, _T.SEPARATOR, _T.ACTION, _T.EFI_ACTION,
        _T.EFI_SPDM_DEVICE_POLICY, _T.EFI_SPDM_DEVICE_AUTHORITY,
    }
)  # fmt: skip
# A BootOrder of two entries, or an empty part of the S-CRTM, hashes to the same digest on real machines.
_LOOK_LIKE_SEPARATORS = frozenset({_T.S_CRTM_CONTENTS, _T.EFI_VARIABLE_BOOT})
_POLICY_GUIDS = {"SecureBoot": GLOBAL_VARIABLE, "PK": GLOBAL_VARIABLE, "KEK": GLOBAL_VARIABLE, "db": DB, "dbx": DB}


@dataclass(frozen=True, slots=True)
class BootFacts:
    """What tied data says (C6).

    ``secure_boot`` is None when the log does not tell. ``databases`` are PK, KEK, db and dbx by name, as far as
    measured; their keys come from ``wire.uefi.parse_signatures(variable.data)``. ``authorities`` are the entries that
    vouched for what was loaded, in order. Whatever was loaded may add some: one that is there proves nothing by itself.
    ``command_line`` is what was measured of the kernel's command line.
    """

    secure_boot: bool | None = None
    databases: Mapping[str, UefiVariable] = field(default_factory=dict)
    authorities: tuple[UefiVariable, ...] = ()
    command_line: MeasuredText = field(default_factory=MeasuredText)


@dataclass(frozen=True, slots=True)
class UnverifiedBootLog:
    """The same reading of a log that no quote stands behind: for people, not for decisions."""

    bank: Alg
    events: tuple[BootEvent, ...]
    facts: BootFacts
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class VerifiedBootLog:
    """The measured events of the quoted PCRs in order, and the facts that follow. Only verify_boot_log makes one.

    ``left`` are values that it leads to and that are not the quoted ones yet: the runtime log goes on from there.
    """

    _proof: object = field(repr=False, compare=False)
    bank: Alg
    pcrs: frozenset[int]
    events: tuple[BootEvent, ...]
    facts: BootFacts
    findings: tuple[Finding, ...]
    left: Mapping[int, bytes] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if self._proof is not _PROOF:
            raise TypeError("only verify_boot_log makes a VerifiedBootLog")


def verify_boot_log(
    log: EventLog, pcrs: VerifiedPcrs, bank: Alg, continued: frozenset[int] = frozenset()
) -> VerifiedBootLog:
    """Check that ``log`` explains every quoted boot PCR of ``bank``, and what its data says (C2–C6).

    Events of PCRs that were not quoted are dropped: nothing stands behind them. PCRs that the runtime log has entries
    of (``continued``) are left to clause D3: the caller has to check ``left`` with it.
    Raises Rejected with every failed clause (the first is the reason), MalformedError when the bank cannot be computed.
    """
    quoted = {pcr: value for pcr, value in pcrs.values.get(bank, {}).items() if pcr != _RUNTIME_PCR}
    left = _check_replay(log, quoted, bank, continued)
    found = examine(log, bank, frozenset(quoted))
    fatal = [finding for finding in found.findings if finding.fatal]
    if fatal:
        raise Rejected(*fatal)
    return VerifiedBootLog(_PROOF, bank, frozenset(quoted), found.events, found.facts, found.findings, left)


def _check_replay(log: EventLog, quoted: Mapping[int, bytes], bank: Alg, continued: frozenset[int]) -> dict[int, bytes]:
    """C2: every quoted PCR has the value that the log leads to. Returns the values of those that are continued."""
    name = HASHES[bank]
    if bank not in log.banks or not quoted:
        have = ", ".join(HASHES[alg] for alg in log.banks)
        raise Rejected(Finding("C2", "boot-log-bank", "the log or the quote does not cover the bank", name, have))
    replayed = replay(log, bank)
    values = {pcr: replayed.get(pcr, _reset_value(pcr, bank)) for pcr in quoted}
    text = "the log does not lead to the quoted value"
    wrong = [
        Finding("C2", "boot-log-replay", text, value.hex(), ours.hex(), f"pcr {pcr}")
        for pcr, value in sorted(quoted.items())
        if (ours := values[pcr]) != value and pcr not in continued
    ]
    if wrong:
        raise Rejected(*wrong)
    return {pcr: value for pcr, value in values.items() if pcr in continued}


def _reset_value(pcr: int, bank: Alg) -> bytes:
    """A PCR that nothing was measured into: all-ones for those of a dynamic launch, else zero (PC Client TPM 4.6)."""
    return (b"\xff" if 17 <= pcr <= 22 else b"\0") * digest_size(bank)


def examine(
    log: EventLog, bank: Alg, pcrs: Collection[int] = range(24), *, registers: bool = False
) -> UnverifiedBootLog:
    """Clauses C3–C6 over the events of ``pcrs``, without believing anything but that the digests were measured.

    ``registers``: read it as the log of a confidential machine, whose registers are no PCRs. The header that tells is
    not measured, so only an inspection may go by it. Fatal findings are what :func:`verify_boot_log` rejects for.
    Raises MalformedError when the bank cannot be computed.
    """
    events = tuple(
        BootEvent(event.index, event.pcr, event.type, value, event.data, measured_part(event, value, bank))
        for event in log.events
        if event.pcr in pcrs and event.type != _T.NO_ACTION and (value := event.digest(bank)) is not None
    )
    findings = [*_format_findings(log, bank, registers), *_data_findings(events)]
    if not registers:
        findings += [*_type_findings(events), *_separator_findings(events, bank, pcrs)]
    facts = _facts(events, bank, 1 if registers else _POLICY_PCR, findings)
    return UnverifiedBootLog(bank, events, facts, tuple(findings))


def _format_findings(log: EventLog, bank: Alg, registers: bool) -> list[Finding]:
    """Deviations from the format that change nothing but should be known."""
    found = []
    if log.padding:
        text = f"{len(log.padding)} bytes of {log.padding[0]:#04x} after the last event"
        found.append(Finding("C1", "boot-log-padding", text, fatal=False))
    if log.spec is not None and log.spec.vendor_outside:
        text = "the header's vendor information is outside of its declared size"
        found.append(Finding("C1", "boot-log-vendor-info", text, fatal=False))
    if log.spec is not None and log.spec.header_pcr:
        text = "a log of a confidential machine: the PCR numbers are its measurement registers"
        found.append(
            Finding("C1", "boot-log-registers", text, "0", str(log.spec.header_pcr), "header", fatal=not registers)
        )
    missing = [e.index for e in log.events if e.type != _T.NO_ACTION and e.digest(bank) is None]
    if missing:
        text = f"{len(missing)} events have no digest in this bank"
        found.append(Finding("C1", "boot-log-bank", text, HASHES[bank], subject=f"event {missing[0]}", fatal=False))
    return found


def _data_findings(events: tuple[BootEvent, ...]) -> list[Finding]:
    """C3: data of a type that is always hashed, whose hash is not the digest."""
    return [
        _finding("C3", "boot-log-data", "the event data is not what was measured", event, "its hash", "another digest")
        for event in events
        if event.measured is None and (event.type in _TIED_TYPES or labelled(event.type, event.data))
    ]


def _type_findings(events: tuple[BootEvent, ...]) -> list[Finding]:
    """C4: a type that has no business in its PCR."""
    found = []
    for event in events:
        allowed = _PCRS_OF_TYPE.get(event.type)
        misplaced = allowed is not None and event.pcr not in allowed
        if misplaced or (event.pcr == 7 and event.type not in _TYPES_IN_PCR7):
            expected = ", ".join(map(str, sorted(allowed))) if allowed else "Secure Boot policy"
            text = "no event of this type belongs there"
            found.append(_finding("C4", "boot-log-pcr-type", text, event, expected, f"pcr {event.pcr}"))
    return found


def _separator_findings(events: tuple[BootEvent, ...], bank: Alg, pcrs: Collection[int]) -> list[Finding]:
    """C5: the firmware handed over once, and said so once."""
    separators = _separator_digests(bank)
    error = digest(bank, _SEPARATOR_ERROR)
    found: list[Finding] = []
    seen: dict[int, int] = {}
    for event in events:
        if _is_separator(event, separators):
            seen[event.pcr] = seen.get(event.pcr, 0) + 1
        elif event.digest == error and event.type == _T.SEPARATOR and event.pcr in _SEPARATED:
            found.append(_finding("C5", "boot-log-separator", "the firmware reports an error", event))
        elif seen.get(event.pcr) and _privileged(event):
            text = "measured after the separator, where only the firmware's word would count"
            found.append(_finding("C5", "boot-log-after-separator", text, event))
    for pcr in _SEPARATED:
        if pcr in pcrs and seen.get(pcr, 0) != 1:
            text = "a PCR of the firmware needs exactly one separator"
            found.append(Finding("C5", "boot-log-separator", text, "1", str(seen.get(pcr, 0)), f"pcr {pcr}"))
    return found


def _separator_digests(bank: Alg) -> frozenset[bytes]:
    return frozenset(digest(bank, data) for data in _SEPARATOR_DATA)


def _is_separator(event: BootEvent, separators: frozenset[bytes]) -> bool:
    """Told by the digest, since the type is not measured; the exceptions may not stand in PCR 7 (C4)."""
    return event.digest in separators and event.type not in _LOOK_LIKE_SEPARATORS


def _privileged(event: BootEvent) -> bool:
    """Firmware code, or a variable of the Secure Boot policy."""
    if event.pcr == 0:
        return True
    if event.pcr != 7 or event.type != _T.EFI_VARIABLE_DRIVER_CONFIG:
        return False
    variable = _variable(event)
    return variable is None or _POLICY_GUIDS.get(variable.name) == variable.guid


def _variable(event: BootEvent) -> UefiVariable | None:
    """The variable in tied data, or None."""
    if event.measured is None:
        return None
    try:
        return UefiVariable.parse(event.measured)
    except MalformedError:
        return None


def _facts(events: tuple[BootEvent, ...], bank: Alg, register: int, findings: list[Finding]) -> BootFacts:
    """C6. Before the separator only the firmware measures; after it, whoever was loaded may measure anything."""
    separators = _separator_digests(bank)
    databases: dict[str, UefiVariable] = {}
    authorities: list[UefiVariable] = []
    separated = False
    for event in events:
        if event.pcr != register:
            continue
        separated = separated or event.digest in separators
        variable = _variable(event) if event.type in _VARIABLE_TYPES else None
        if variable is None:
            continue
        if event.type == _T.EFI_VARIABLE_AUTHORITY:
            authorities.append(variable)
            continue
        counts = not separated and _POLICY_GUIDS.get(variable.name) == variable.guid
        if counts and databases.setdefault(variable.name, variable) != variable:
            text = "a Secure Boot variable is measured twice with different content"
            findings.append(_finding("C6", "boot-log-variable", text, event, actual=variable.name))
    switch = databases.pop("SecureBoot", None)
    secure_boot = {b"\1": True, b"\0": False, b"": False}.get(switch.data) if switch and separated else None
    line = measured_text(events) if register == _POLICY_PCR else MeasuredText()
    return BootFacts(secure_boot, MappingProxyType(databases), tuple(authorities), line)


_VARIABLE_TYPES = frozenset({_T.EFI_VARIABLE_DRIVER_CONFIG, _T.EFI_VARIABLE_AUTHORITY})


def _finding(clause: str, code: str, text: str, event: BootEvent, expected: str = "", actual: str = "") -> Finding:
    subject = f"pcr {event.pcr} event {event.index} type {event.type_name}"
    return Finding(clause, code, text, expected, actual, subject)
