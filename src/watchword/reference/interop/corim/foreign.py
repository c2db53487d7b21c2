"""What other people's CoRIM documents say that a stack can say too; and PCR values, for comparing.

Taken are reference triples of a class: digests of a measurement whose key is an absolute path, and of keys ``pcr-N/i``
the i-th event of PCR N. A measurement that demands something beside its digests is left out as a whole: a stack
without the rest would accept more.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from watchword.errors import MalformedError
from watchword.policy.document import digest_name
from watchword.reference.interop.corim.digests import read_digests
from watchword.reference.interop.corim.document import Comid, Corim
from watchword.reference.interop.corim.own import PROFILE
from watchword.reference.interop.corim.shape import array, fail, mapping, octets, tagged, text, uint
from watchword.reference.interop.draft import Component, Draft, Event, coverable
from watchword.reference.interop.expect import Expectation
from watchword.reference.interop.manifest import Tally
from watchword.wire.tpm.algorithms import Alg

__all__ = ["read_corim", "read_registers"]

_NAME = re.compile(r"([A-Za-z0-9][A-Za-z0-9._+-]{0,63})(?:/([A-Za-z0-9][A-Za-z0-9._+-]{0,63}))?")
_EVENT = re.compile(r"pcr-([0-9]|1[0-9]|2[0-3])/(0|[1-9][0-9]{0,4})")
_REFERENCE = 0
_TRIPLES = {1: "endorsed values", 2: "identity keys", 3: "attestation keys", 4: "dependencies of domains",
            5: "members of domains", 6: "links to CoSWID", 8: "series of endorsements",
            10: "conditional endorsements"}  # fmt: skip
_VALUES = {0: "version", 1: "security version number", 2: "digests", 3: "flags", 4: "raw value", 5: "raw value mask",
           6: "MAC address", 7: "IP address", 8: "serial number", 9: "UEID", 10: "UUID", 11: "name",
           13: "cryptographic keys", 14: "integrity registers", 15: "range of integers"}  # fmt: skip
_VERSION, _DIGESTS, _NAMED, _REGISTERS = 0, 2, 11, 14
_DESCRIBES = frozenset({_VERSION, _DIGESTS, _NAMED})  # say what has the digest, and ask nothing more of it
_OTHER_TAGS = {505: "CoSWID", 507: "CoBOM", 508: "CoTL"}
_MAX_MEASUREMENTS = 1_000_000
_UUID_TAG, _OID_TAG, _BYTES_TAG = 37, 111, 560


@dataclass(slots=True)
class _Found:
    """What is collected on the way."""

    files: dict[bytes, set[tuple[Alg, bytes]]] = field(default_factory=dict)
    variants: dict[tuple[str, str], tuple[tuple[int, int], tuple[Event, ...]]] = field(default_factory=dict)
    tally: Tally = field(default_factory=Tally)


@dataclass(frozen=True, slots=True)
class _Triple:
    """One reference triple: where it is, its class in words, its layer and index, its measurements."""

    place: str
    model: str
    order: tuple[int, int]
    measurements: tuple[Any, ...]


def read_corim(corim: Corim) -> Draft:
    """Files and events of a CoRIM without a profile, and in words what else it says.

    Raises MalformedError with the place that is wrong, and (``corim-profile``) for a profile of others: who does
    not know a profile must reject the document (4.1.4).
    """
    _refuse_profile(corim)
    found = _Found()
    for triple in _triples(corim, found.tally):
        _take(triple, found)
    for tag in corim.other_tags:
        found.tally.add(f"tag {tag}, {_OTHER_TAGS.get(tag, 'of no known kind')}", corim.id)
    for key in corim.members:
        found.tally.add("member of the document that is not known", str(key))
    if corim.dependent:
        found.tally.add("other documents that belong to this one", corim.id)
    not_before, not_after = corim.validity
    return Draft(
        components=_components(found.variants),
        files={path: frozenset(digests) for path, digests in found.files.items()} or None,
        left_out=found.tally.sentences(),
        not_before=not_before,
        not_after=not_after,
    )


def read_registers(corim: Corim) -> tuple[Expectation, ...]:
    """PCR values: integrity registers with numbers from 0 to 23 of reference triples, one set for each triple and bank.

    Raises MalformedError with the place that is wrong, when there are none, and (``corim-profile``) for a profile.
    """
    _refuse_profile(corim)
    sets: list[Expectation] = []
    for triple in _triples(corim, Tally()):
        for i, measurement in enumerate(triple.measurements):
            place = f"{triple.place}.measurements[{i}]"
            values = mapping(mapping(measurement, place, 1)[1], f"{place}.mval")
            if _REGISTERS in values:
                sets += _expectations(triple, values[_REGISTERS], f"{place}.integrity-registers")
    if not sets:
        fail("", "has no integrity registers with the numbers of PCRs and strong digests")
    return tuple(sets)


def _refuse_profile(corim: Corim) -> None:
    if corim.profile not in (None, PROFILE):
        raise MalformedError(
            f"CoRIM: profile {str(corim.profile)[:200]!a} is not known here, and it decides what the document means",
            code="corim-profile",
            hint="import what a program that knows this profile makes of it",
        )


def _triples(corim: Corim, tally: Tally) -> Iterator[_Triple]:
    """The reference triples of all CoMIDs that count; what else there is goes to ``tally``."""
    replaced = frozenset(each for comid in corim.comids for each in comid.replaces)
    left = _MAX_MEASUREMENTS
    for comid in corim.comids:
        if comid.id in replaced:
            tally.add("CoMID that another one replaces", comid.id)
            continue
        for sentence in comid.more:
            tally.add(sentence, comid.id)
        for key in comid.triples:
            if key != _REFERENCE:
                kind = _TRIPLES.get(key, "not known") if isinstance(key, int) else "not known"
                tally.add(f"triples of kind {key}, {kind}", comid.id)
        for triple in _reference_triples(comid, tally):
            left -= len(triple.measurements)
            if left < 0:
                fail(triple.place, f"more than {_MAX_MEASUREMENTS} measurements")
            yield triple


def _reference_triples(comid: Comid, tally: Tally) -> Iterator[_Triple]:
    if _REFERENCE not in comid.triples:
        return
    for i, record in enumerate(array(comid.triples[_REFERENCE], "reference-triples")):
        place = f"reference-triples[{i}]"
        if not isinstance(record, tuple) or len(record) != 2:
            fail(place, "is not an environment and measurements")
        environment = mapping(record[0], f"{place}.environment")
        measurements = array(record[1], f"{place}.measurements")
        group = mapping(environment[0], f"{place}.class") if 0 in environment else {}
        model = text(group[2], f"{place}.model") if 2 in group else _class_id(group.get(0), f"{place}.class-id")
        layer, index = (uint(group.get(key, 0), f"{place}.class: {key}") for key in (3, 4))
        if environment.keys() == {0}:
            yield _Triple(place, model, (layer, index), measurements)
        else:
            tally.add("measurements of one instance or group", model or place)


def _class_id(value: Any, place: str) -> str:
    return "" if value is None else octets(tagged(value, place, _UUID_TAG, _OID_TAG, _BYTES_TAG), place).hex()


def _take(triple: _Triple, found: _Found) -> None:
    events: list[Event] = []
    counts: dict[int, int] = {}
    for i, measurement in enumerate(triple.measurements):
        place = f"{triple.place}.measurements[{i}]"
        parts = mapping(measurement, place, 1)
        values = mapping(parts[1], f"{place}.mval")
        key, shown = _key(parts.get(0), f"{place}.mkey")
        indexed = _EVENT.fullmatch(key)
        if indexed:
            events += _event(place, parts, values, (int(indexed[1]), int(indexed[2])), counts, found.tally)
        elif not _surplus(parts, values, shown or triple.model, found.tally):
            _file(key, shown or triple.model, read_digests(values[_DIGESTS], f"{place}.digests"), found)
    if events:
        _variant(triple, tuple(events), found)


def _key(value: Any, place: str) -> tuple[str, str]:
    """A key when it is a text, else nothing; and how it is shown."""
    if isinstance(value, str):
        return text(value, place), value
    if value is None:
        return "", ""
    if type(value) is int:
        return "", str(uint(value, place))
    return "", octets(tagged(value, place, _UUID_TAG, _OID_TAG), place).hex()


def _surplus(parts: Mapping[Any, Any], values: Mapping[Any, Any], shown: str, tally: Tally) -> str:
    """Why a measurement cannot be taken; it has been told then."""
    more = [key for key in values if key not in _DESCRIBES]
    why = ""
    if parts.keys() - {0, 1}:
        why = "measurement with authorities or members that are not known"
    elif more == [_REGISTERS]:
        why = "integrity registers, which 'stack check --expect' compares"
    elif more:
        why = "measurement with " + " and ".join(_VALUES.get(key, f"member {key}") for key in more)
    elif _DIGESTS not in values:
        why = "measurement without digests"
    if why:
        tally.add(why, shown)
    return why


def _file(key: str, shown: str, digests: Mapping[Alg, bytes], found: _Found) -> None:
    if not key.startswith("/") or "\0" in key:
        found.tally.add("digest of something that is not called by an absolute path", shown)
    elif not digests:
        found.tally.add("digest that is too weak or of no known kind", shown)
    else:
        found.files.setdefault(key.encode(), set()).update(digests.items())


def _event(
    place: str, parts: Mapping[Any, Any], values: Mapping[Any, Any], at: tuple[int, int],
    counts: dict[int, int], tally: Tally,
) -> list[Event]:  # fmt: skip
    """The event, or none when no stack can have it. An event that is left out would change what the PCR holds."""
    pcr, number = at
    if _surplus(parts, values, f"pcr-{pcr}/{number}", Tally()):
        fail(place, "is an event with something that a stack cannot say")
    if number != counts.get(pcr, 0):
        fail(place, f"is event {number} of PCR {pcr}, and the next one is {counts.get(pcr, 0)}")
    counts[pcr] = number + 1
    digests = read_digests(values[_DIGESTS], f"{place}.digests")
    if not digests:
        fail(place, "is an event without a strong digest: a weaker digest is no reference value")
    if not coverable(pcr):
        tally.add(f"event of PCR {pcr}, which a stack cannot cover", place)
        return []
    return [Event(pcr, digests, text(values[_NAMED], f"{place}.name") if _NAMED in values else "")]


def _variant(triple: _Triple, events: tuple[Event, ...], found: _Found) -> None:
    name = _NAME.fullmatch(triple.model)
    if name is None:
        fail(triple.place, f"has events, and {triple.model[:80]!a} is no name that a component can have")
    key = name[1], name[2] or "corim"
    if key in found.variants:
        fail(triple.place, f"is a second variant {key[1]} of {key[0]}")
    found.variants[key] = triple.order, events


def _components(
    variants: Mapping[tuple[str, str], tuple[tuple[int, int], tuple[Event, ...]]],
) -> tuple[Component, ...]:
    """Components by their layers, variants by their indexes; what has none is in the order of the document."""
    found: dict[str, dict[str, tuple[Event, ...]]] = {}
    for (component, variant), (_, events) in sorted(variants.items(), key=lambda item: item[1][0]):
        found.setdefault(component, {})[variant] = events
    return tuple(found.items())


def _expectations(triple: _Triple, registers: Any, place: str) -> Iterator[Expectation]:
    banks: dict[Alg, dict[int, bytes]] = {}
    for name, digests in mapping(registers, place).items():
        read = read_digests(digests, f"{place}[{name!r}]")
        if type(name) is int and 0 <= name <= 23:
            for alg, value in read.items():
                banks.setdefault(alg, {})[name] = value
    for alg, values in sorted(banks.items(), key=lambda item: digest_name(item[0])):
        yield Expectation(f"{triple.model} {triple.place}".strip(), alg, values)
