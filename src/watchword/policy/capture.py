"""A first stack document from a host's own logs.

What is captured is what one machine did, not what it should have done: the document says ``"origin": "captured"``,
and whoever endorses it vouches for that machine. Nothing here is verified, and nothing needs to be.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import msgspec

from watchword.errors import UsageError
from watchword.policy.document import DIGEST_NAMES, digest_name
from watchword.policy.stack import DEBUG_PCRS, RUNTIME_PCR, CompiledStack, path_text
from watchword.verify.boot_event import describe
from watchword.verify.loaded_key import LoadedKey, read_loaded_key
from watchword.wire.ima_log import ImaLog
from watchword.wire.tcg_log import EventLog, EventType
from watchword.wire.tpm.algorithms import Alg

__all__ = [
    "DEFAULT_COMPONENTS",
    "CapturedEvent",
    "CapturedFile",
    "capture_stack",
    "captured_events",
    "captured_files",
    "captured_keys",
]

# 1, 5 and 6 differ from machine to machine (boot order, disk identifiers, serial numbers); 15 has the machine id.
DEFAULT_COMPONENTS: Mapping[str, tuple[int, ...]] = MappingProxyType(
    {"firmware": (0, 2, 3), "secure-boot": (7,), "boot": (4, 8, 9, 11, 12, 13, 14)}
)

_BOOT_AGGREGATE = b"boot_aggregate"  # a digest of PCR values: judged against the quote, never listed

CapturedEvent = tuple[int, Mapping[Alg, bytes], str]  # PCR, digests, note; in log order, extended events only
CapturedFile = tuple[bytes, Alg, bytes]


def capture_stack(
    *,
    name: str,
    version: str,
    serial: int,
    events: Sequence[CapturedEvent],
    files: Iterable[CapturedFile] | None,
    components: Mapping[str, Sequence[int]] = DEFAULT_COMPONENTS,
    not_after: int | None = None,
    keys: Iterable[LoadedKey] = (),
) -> bytes:
    """The JSON document of a stack that matches exactly these ``events`` and lists these ``files``.

    Each component gets one variant, "captured". PCRs without events are covered too: there, nothing may be measured.
    Raises UsageError when the components overlap or nothing strong enough was measured.
    """
    pcrs = _pcrs(components)
    banks = _strong_banks([event for event in events if event[0] in pcrs])
    document: dict[str, Any] = {
        "format": "watchword-stack/1",
        "name": name,
        "version": version,
        "serial": serial,
        "origin": "captured",
        "pcrs": pcrs,
        "components": [
            {"name": part, "variants": [{"name": "captured", "events": _events(events, members, banks)}]}
            for part, members in components.items()
        ],
    }
    if not_after is not None:
        document["not_after"] = not_after
    if files is not None:
        document["runtime"] = {"files": _files(files)}
        if keyrings := _keyrings(keys):
            document["runtime"]["keyrings"] = keyrings
    data = msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n"
    CompiledStack.parse(data)  # what we write must be what we read
    return data


def captured_events(log: EventLog) -> list[CapturedEvent]:
    """What ``log`` says was extended, with a note for people."""
    known = {int(alg): alg for alg in DIGEST_NAMES.values()}
    return [
        (
            event.pcr,
            {known[alg]: digest for alg, digest in event.digests if alg in known},
            describe(event.type, event.data),
        )
        for event in log.events
        if event.type != EventType.NO_ACTION
    ]


def captured_files(log: ImaLog) -> list[CapturedFile]:
    """The files that ``log`` says were measured; violations and digests too weak for a reference are left out."""
    found: list[CapturedFile] = []
    for entry in log.entries:
        if entry.pcr != RUNTIME_PCR or entry.violation:
            continue
        file = entry.file()
        alg = DIGEST_NAMES.get(file.algorithm.replace("-", "_"))
        if file.buffer is not None and read_loaded_key(file.path, file.buffer) is not None:
            continue  # captured_keys
        if alg is not None and file.kind == "ima" and file.path != _BOOT_AGGREGATE:
            found.append((file.path, alg, file.digest))
    return found


def captured_keys(log: ImaLog) -> list[LoadedKey]:
    """The keys that ``log`` says were loaded onto keyrings, as far as they can be read."""
    found: list[LoadedKey] = []
    for entry in log.entries:
        if entry.pcr == RUNTIME_PCR and not entry.violation:
            file = entry.file()
            key = read_loaded_key(file.path, file.buffer) if file.buffer is not None else None
            if key is not None and key.fingerprint:
                found.append(key)
    return found


def _pcrs(components: Mapping[str, Sequence[int]]) -> list[int]:
    pcrs = [pcr for members in components.values() for pcr in members]
    if len(set(pcrs)) != len(pcrs):
        raise UsageError("capture-components", "a PCR belongs to two components")
    wrong = sorted(pcr for pcr in pcrs if pcr in DEBUG_PCRS or pcr == RUNTIME_PCR or not 0 <= pcr <= 23)
    if wrong:
        raise UsageError("capture-components", f"PCR {wrong[0]} cannot be part of a component")
    return sorted(pcrs)


def _strong_banks(events: Sequence[CapturedEvent]) -> list[Alg]:
    strong = [alg for alg in DIGEST_NAMES.values() if events and all(alg in event[1] for event in events)]
    if not strong:
        wanted = ", ".join(DIGEST_NAMES)
        raise UsageError("capture-bank", f"the log has no events with a digest in one of {wanted} for these PCRs")
    return strong


def _events(events: Sequence[CapturedEvent], pcrs: Sequence[int], banks: Sequence[Alg]) -> list[dict[str, Any]]:
    return [
        {"pcr": pcr, "digests": {digest_name(bank): digests[bank].hex() for bank in banks}, "note": _note(text)}
        for pcr, digests, text in events
        if pcr in pcrs
    ]


def _files(files: Iterable[CapturedFile]) -> dict[str, list[str]]:
    found: dict[str, set[str]] = {}
    for path, alg, digest in files:
        if alg in DIGEST_NAMES.values():
            found.setdefault(path_text(path), set()).add(f"{digest_name(alg)}:{digest.hex()}")
    return {path: sorted(found[path]) for path in sorted(found)}


def _keyrings(keys: Iterable[LoadedKey]) -> dict[str, list[str]]:
    found: dict[str, set[str]] = {}
    for key in keys:
        found.setdefault(path_text(key.keyring), set()).add(f"sha256:{key.fingerprint.hex()}")
    return {name: sorted(found[name]) for name in sorted(found)}


def _note(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)[:200]
