"""PCR values that somebody else computed, compared with the values that a stack leads to.

Read are compute-pcrs results (``{"pcrs": [{"id", "value", "events"}]}`` or one of its members), what
``systemd-measure calculate --json`` prints, and values by bank and PCR (``{"sha256": {"4": "…"}}``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from watchword.policy.document import DIGEST_NAMES, digest_name, fail, load, parse_hex
from watchword.policy.stack import CompiledStack
from watchword.reference.interop.draft import Draft, Event, coverable
from watchword.reference.interop.manifest import Tally
from watchword.wire.tpm.algorithms import Alg, digest, digest_size

__all__ = ["MAX_EXPECTATION", "Comparison", "Expectation", "compare", "read_compute_pcrs", "read_expectations"]

MAX_EXPECTATION = 4 * 1024 * 1024  # bytes
_WHAT = "expectation"
_MAX_STATES = 1024  # different sets of PCR values that are followed at the same time
_LOCALITIES = (0, 3, 4)  # with which PCR 0 may start (TCG PC Client Platform Firmware Profile, 10.4.5.3)

Pcr = Annotated[int, Meta(ge=0, le=23)]
Digits = Annotated[str, Meta(max_length=256)]
_Values = tuple[bytes, ...]
_Chosen = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Expectation:
    """Values of one bank that are to be true at the same moment. ``label`` says which moment, and may be empty."""

    label: str
    bank: Alg
    values: Mapping[int, bytes]


@dataclass(frozen=True, slots=True)
class Comparison:
    """One expectation and the stack's nearest combination of variants; ``wrong`` has (PCR, expected, computed).

    ``skipped`` says why nothing was compared; empty when it was. ``locality`` is that of PCR 0 where it was needed.
    """

    expectation: Expectation
    chosen: _Chosen = ()
    wrong: tuple[tuple[int, bytes, bytes], ...] = ()
    skipped: str = ""
    locality: int = 0

    @property
    def holds(self) -> str:
        """ "yes", "no" or "not compared"."""
        return "not compared" if self.skipped else "no" if self.wrong else "yes"


class _Part(msgspec.Struct, frozen=True):
    name: Annotated[str, Meta(max_length=200)]
    pcr: Pcr
    hash: Digits
    id: Annotated[str, Meta(max_length=200)] = ""


class _PcrResult(msgspec.Struct, frozen=True):
    id: Pcr
    value: Digits
    events: Annotated[tuple[_Part, ...], Meta(max_length=20_000)] = ()


class _PcrResults(msgspec.Struct, frozen=True):
    pcrs: Annotated[tuple[_PcrResult, ...], Meta(min_length=1, max_length=24)]


class _Phase(msgspec.Struct, frozen=True):
    pcr: Pcr
    hash: Digits
    phase: Annotated[str, Meta(max_length=200)] = ""


def read_compute_pcrs(data: bytes, component: str = "boot") -> Draft:
    """One component with the events of a compute-pcrs result, whose values must be those that the events lead to.

    Raises MalformedError with the place that is wrong.
    """
    events, tally = [], Tally()
    for i, result in enumerate(_results(load(data, dict[str, Any], _WHAT, MAX_EXPECTATION))):
        place = f"pcrs[{i}]"
        if not result.events:
            fail(_WHAT, place, "has no events, only a value: compare it with 'stack check --expect'")
        digests = [_sha256(f"{place}.events[{j}].hash", part.hash) for j, part in enumerate(result.events)]
        if any(part.pcr != result.id for part in result.events):
            fail(_WHAT, place, f"has an event of another PCR than {result.id}")
        if _sha256(f"{place}.value", result.value) not in _finals(result.id, Alg.SHA256, digests):
            fail(_WHAT, f"{place}.value", "is not what the events lead to")
        if not coverable(result.id):
            tally.add("PCR that a stack cannot cover", str(result.id))
            continue
        events += [
            Event(part.pcr, {Alg.SHA256: value}, f"{part.name} {part.id}".rstrip())
            for part, value in zip(result.events, digests, strict=True)
        ]
    return Draft(components=((component, {"computed": tuple(events)}),), left_out=tally.sentences())


def read_expectations(data: bytes) -> tuple[Expectation, ...]:
    """Every set of values in ``data``, strong banks only; each phase of systemd-measure is a set of its own.

    Raises MalformedError when it is none of the formats, or the place that is wrong.
    """
    document = load(data, dict[str, Any], _WHAT, MAX_EXPECTATION)
    if "pcrs" in document or "value" in document:
        found = _results(document)
        values = {r.id: _sha256(f"pcrs[{i}].value", r.value) for i, r in enumerate(found)}
        if len(values) != len(found):
            fail(_WHAT, "pcrs", "has one PCR twice")
        return (Expectation("", Alg.SHA256, values),)
    expectations = [e for name, member in document.items() for e in _bank(name, member)]
    if not expectations:
        fail(_WHAT, "", f"has no values of {', '.join(DIGEST_NAMES)}")
    return tuple(expectations)


def compare(stack: CompiledStack, expectation: Expectation) -> Comparison:
    """Find the choice of variants that leads to all values at once, or the one that has most of them."""
    missing = sorted(set(expectation.values) - set(stack.pcrs))
    if expectation.bank not in stack.banks:
        return Comparison(expectation, skipped=f"the stack has no {digest_name(expectation.bank)} digests")
    if missing:
        return Comparison(expectation, skipped=f"the stack does not cover PCRs {', '.join(map(str, missing))}")
    best: Comparison | None = None
    for locality in _LOCALITIES if 0 in expectation.values else (0,):
        states = _reachable(stack, expectation, locality)
        if states is None:
            return Comparison(expectation, skipped=f"the stack has more than {_MAX_STATES} combinations of variants")
        for values, chosen in states.items():
            found = _judge(expectation, values, chosen, locality)
            if best is None or len(found.wrong) < len(best.wrong):
                best = found
    assert best is not None  # there is always a combination
    return best


def _judge(expectation: Expectation, values: _Values, chosen: _Chosen, locality: int) -> Comparison:
    wrong = tuple(
        (pcr, wanted, value)
        for (pcr, wanted), value in zip(expectation.values.items(), values, strict=True)
        if value != wanted
    )
    return Comparison(expectation, chosen, wrong, locality=locality)


def _reachable(stack: CompiledStack, expectation: Expectation, locality: int) -> dict[_Values, _Chosen] | None:
    """The values that combinations of variants lead to; of combinations with equal values the first is kept."""
    bank = expectation.bank
    slots = {pcr: i for i, pcr in enumerate(expectation.values)}
    states: dict[_Values, _Chosen] = {tuple(_start(pcr, bank, locality) for pcr in slots): ()}
    for component in stack.components:
        after: dict[_Values, _Chosen] = {}
        for values, chosen in states.items():
            for variant in component.variants:
                now = list(values)
                for event in variant.events:
                    if event.pcr in slots:
                        slot = slots[event.pcr]
                        now[slot] = digest(bank, now[slot] + event.digests[bank])
                after.setdefault(tuple(now), (*chosen, (component.name, variant.name)))
        if len(after) > _MAX_STATES:
            return None
        states = after
    return states


def _start(pcr: int, bank: Alg, locality: int) -> bytes:
    size = digest_size(bank)
    if 17 <= pcr <= 22:  # until a dynamic launch
        return b"\xff" * size
    return (locality if pcr == 0 else 0).to_bytes(size, "big")


def _finals(pcr: int, bank: Alg, digests: Sequence[bytes]) -> set[bytes]:
    found = set()
    for locality in _LOCALITIES if pcr == 0 else (0,):
        value = _start(pcr, bank, locality)
        for each in digests:
            value = digest(bank, value + each)
        found.add(value)
    return found


def _results(document: dict[str, Any]) -> tuple[_PcrResult, ...]:
    try:
        if "pcrs" in document:
            return msgspec.convert(document, _PcrResults).pcrs
        return (msgspec.convert(document, _PcrResult),)
    except msgspec.ValidationError as error:
        fail(_WHAT, "", str(error))


def _bank(name: str, member: Any) -> list[Expectation]:
    alg = DIGEST_NAMES.get(name)
    if alg is None:
        if name in ("sha1", "sm3"):
            return []
        fail(_WHAT, name[:40], "is no bank, and this is none of the formats that are read")
    if isinstance(member, dict):
        return [Expectation("", alg, {_pcr(name, pcr): _value(name, pcr, value, alg) for pcr, value in member.items()})]
    try:
        phases = msgspec.convert(member, tuple[_Phase, ...])
    except msgspec.ValidationError as error:
        fail(_WHAT, name, str(error))
    return [Expectation(p.phase, alg, {p.pcr: _value(name, str(p.pcr), p.hash, alg)}) for p in phases]


def _pcr(bank: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 2 and int(text) <= 23 and str(int(text)) == text):
        fail(_WHAT, bank, f"{text[:40]!a} is no PCR")
    return int(text)


def _value(bank: str, pcr: str, text: object, alg: Alg) -> bytes:
    if not isinstance(text, str):
        fail(_WHAT, f"{bank}.{pcr[:40]}", "is no text of hex digits")
    return parse_hex(_WHAT, f"{bank}.{pcr[:40]}", text.lower(), digest_size(alg))


def _sha256(place: str, text: str) -> bytes:
    return parse_hex(_WHAT, place, text.lower(), hashlib.sha256().digest_size)
