"""Measurement records in JSON: systemd's ``.pcrlock`` components, and canonical event logs (CEL-JSON).

A component is a file ``NAME.pcrlock``, or a folder ``NAME.pcrlock.d`` with one file for each variant; components
follow each other in the order of their names. Sources: systemd.pcrlock(5); TCG Canonical Event Log Format 1.0, 5.2.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from watchword.errors import MalformedError, UsageError
from watchword.policy.document import DIGEST_NAMES, digest_name, fail, load, parse_hex
from watchword.policy.stack import CompiledStack
from watchword.reference.interop.draft import Component, Draft, Event, coverable
from watchword.reference.interop.manifest import Tally
from watchword.wire.tpm.algorithms import Alg, digest_size

__all__ = ["MAX_RECORDS_FILE", "not_in_pcrlock", "read_cel", "read_pcrlock", "write_pcrlock"]

MAX_RECORDS_FILE = 16 * 1024 * 1024  # bytes
_MAX_RECORDS = 20_000
_MAX_COMPONENTS = 256
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")
_NUMBER = re.compile(r"^[0-9]{3}-")
_SUFFIX = ".pcrlock"
_SEPARATOR = b"\x1e"  # RFC 7464


class _DigestRecord(msgspec.Struct, frozen=True):
    hashAlg: Annotated[str, Meta(max_length=32)]  # the name in the specification
    digest: Annotated[str, Meta(max_length=256)]


class _Record(msgspec.Struct, frozen=True):
    digests: Annotated[tuple[_DigestRecord, ...], Meta(max_length=16)]
    pcr: Annotated[int, Meta(ge=0, le=2**32)] | None = None
    content: Any = None
    content_type: Any = None


class _Component(msgspec.Struct, frozen=True):
    records: Annotated[tuple[_Record, ...], Meta(max_length=_MAX_RECORDS)] = ()


def read_pcrlock(files: Mapping[str, bytes]) -> Draft:
    """The components in ``files``: names relative to the folder (``100-a.pcrlock``, ``200-b.pcrlock.d/x.pcrlock``).

    Raises MalformedError naming the file and the place, UsageError (``pcrlock-empty``) when there is no component.
    """
    tally = Tally()
    components: dict[str, dict[str, tuple[Event, ...]]] = {}
    for name in sorted(files):
        component, variant = _split(name)
        parsed = load(files[name], _Component, name, MAX_RECORDS_FILE)
        events = _events(name, parsed.records, tally)
        variants = components.setdefault(component, {})
        if variant in variants:
            fail(name, "", f"component {component} already has a variant {variant}")
        variants[variant] = events
    if not components:
        raise UsageError("pcrlock-empty", "there is no .pcrlock file", hint="give a folder like /var/lib/pcrlock.d")
    if len(components) > _MAX_COMPONENTS:
        fail("pcrlock", "", f"more than {_MAX_COMPONENTS} components")
    return Draft(components=tuple(_without_numbers(sorted(components.items()))), left_out=tally.sentences())


def read_cel(data: bytes, component: str = "log") -> Draft:
    """One component with what a canonical event log in JSON says was extended: an array, or a JSON text sequence.

    Raises MalformedError with the place that is wrong.
    """
    if len(data) > MAX_RECORDS_FILE:
        fail("CEL", "", f"is {len(data)} bytes long, {MAX_RECORDS_FILE} are allowed")
    if _SEPARATOR in data[:1]:
        records = tuple(
            load(text, _Record, f"CEL: record {i}", MAX_RECORDS_FILE)
            for i, text in enumerate(data[1:].split(_SEPARATOR))
        )
    else:
        records = load(data, tuple[_Record, ...], "CEL", MAX_RECORDS_FILE)
    if len(records) > _MAX_RECORDS:
        fail("CEL", "", f"more than {_MAX_RECORDS} records")
    tally = Tally()
    return Draft(components=((component, {"log": _events("CEL", records, tally)}),), left_out=tally.sentences())


def write_pcrlock(components: Sequence[Component]) -> dict[str, bytes]:
    """The files of a pcrlock folder with these ``components``: relative name to content. Notes are not carried."""
    files = {}
    for i, (name, variants) in enumerate(components):
        prefix = f"{i:03d}-{name}{_SUFFIX}"
        for variant, events in variants.items():
            place = prefix if len(variants) == 1 else f"{prefix}.d/{variant}{_SUFFIX}"
            files[place] = json.dumps({"records": [_record(event) for event in events]}).encode() + b"\n"
    return files


def not_in_pcrlock(stack: CompiledStack) -> list[str]:
    """What ``stack`` says and a pcrlock folder cannot."""
    told = ["name, version, serial, origin and validity", "notes of events"]
    silent = sorted(set(stack.pcrs) - {e.pcr for c in stack.components for v in c.variants for e in v.events})
    if silent:
        told.append(f"that PCRs {', '.join(map(str, silent))} must have no event")
    if stack.runtime:
        told.append(f"{len(stack.files)} files and what else may run")
    return told


def _without_numbers(components: Sequence[Component]) -> Sequence[Component]:
    """The number in front of a name only sorts; it goes when the names stay different and possible without it."""
    bare = [_NUMBER.sub("", name) for name, _ in components]
    if len(set(bare)) < len(bare) or not all(map(_NAME.fullmatch, bare)):
        return components
    return [(name, variants) for name, (_, variants) in zip(bare, components, strict=True)]


def _split(name: str) -> tuple[str, str]:
    """Component and variant from the name of a file."""
    folder, slash, file = name.rpartition("/")
    if not file.endswith(_SUFFIX) or (slash and (not folder.endswith(f"{_SUFFIX}.d") or "/" in folder)):
        raise MalformedError(f"{name}: is not NAME.pcrlock or NAME.pcrlock.d/VARIANT.pcrlock")
    variant = file.removesuffix(_SUFFIX)
    component = folder.removesuffix(f"{_SUFFIX}.d") if slash else variant
    for part in (component, variant):
        if not _NAME.fullmatch(part):
            raise MalformedError(f"{name}: a stack cannot have a component or variant called {part!a}")
    return component, variant


def _events(what: str, records: Sequence[_Record], tally: Tally) -> tuple[Event, ...]:
    events = []
    for i, record in enumerate(records):
        place = f"records[{i}]"
        if record.pcr is None:
            tally.add("record of an NV index, not of a PCR", f"{what} {place}")
        elif not coverable(record.pcr):
            tally.add(f"record of PCR {record.pcr}, which a stack cannot cover", f"{what} {place}")
        else:
            events.append(Event(record.pcr, _digests(what, place, record.digests), _note(record)))
    return tuple(events)


def _digests(what: str, place: str, digests: Sequence[_DigestRecord]) -> dict[Alg, bytes]:
    found: dict[Alg, bytes] = {}
    for i, each in enumerate(digests):
        alg = DIGEST_NAMES.get(each.hashAlg)
        if alg is None:
            continue
        if alg in found:
            fail(what, f"{place}.digests[{i}]", f"a second {each.hashAlg} digest")
        found[alg] = parse_hex(what, f"{place}.digests[{i}].digest", each.digest.lower(), digest_size(alg))
    if not found:
        fail(what, f"{place}.digests", f"none of {', '.join(DIGEST_NAMES)}: a weaker digest is no reference value")
    return found


def _note(record: _Record) -> str:
    """What a systemd record says of itself in words."""
    text = record.content.get("string") if isinstance(record.content, dict) else None
    return text if isinstance(text, str) else ""


def _record(event: Event) -> dict[str, Any]:
    return {
        "pcr": event.pcr,
        "digests": [{"hashAlg": digest_name(alg), "digest": value.hex()} for alg, value in event.digests.items()],
    }
