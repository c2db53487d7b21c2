"""A whole stack document as a CoRIM, and back without loss: our own profile, described in docs/reference/interop.md.

Each variant of a component is a reference triple, its events are measurements ``pcr-N/i``; files are reference triples
too, the k-th digests of all files in the k-th. What else the document says is beside the tags, under member -1.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import msgspec

from watchword.crypto.cbor import Tag, dump
from watchword.errors import UsageError
from watchword.policy.document import DIGEST_NAMES, digest_name, parse_digest
from watchword.policy.known_bad import KnownBadDocument
from watchword.policy.stack import (
    CompiledStack,
    ComponentDocument,
    EventDocument,
    RuntimeDocument,
    StackDocument,
    VariantDocument,
)
from watchword.reference.interop.corim.digests import read_digests, write_digest
from watchword.reference.interop.corim.document import COMID_TAG, CORIM_TAG, Corim
from watchword.reference.interop.corim.shape import MAX_CORIM, fail
from watchword.reference.interop.draft import encode
from watchword.wire.tpm.algorithms import Alg

__all__ = ["PROFILE", "read_own", "write_corim"]

PROFILE = "urn:watchword:corim:1"
_REST = -1  # what is not negative in a map belongs to the specification
_FILES = "files"  # has no slash: no variant is called so
_CLASS, _VENDOR, _MODEL, _LAYER, _INDEX = 0, 1, 2, 3, 4
_MKEY, _MVAL, _DIGESTS, _NAME = 0, 1, 2, 11

Document = dict[str, Any]
Values = dict[int, Any]


def write_corim(data: bytes) -> bytes:
    """The stack document ``data`` as an unsigned CoRIM, always the same bytes for the same stack.

    Raises MalformedError when ``data`` is no stack, UsageError (``corim-size``) when it does not fit into 16 MiB.
    """
    stack = CompiledStack.parse(data)
    written = _write(_in_order(json.loads(data)))
    if len(written) > MAX_CORIM:
        raise UsageError("corim-size", f"the CoRIM would have {len(written)} bytes, {MAX_CORIM} are allowed")
    back = CompiledStack.parse(read_own(Corim.parse(written), written))
    # A stack document that has more than this module knows must not become one that says less.
    assert replace(back, digest=stack.digest) == stack
    return written


def read_own(corim: Corim, data: bytes) -> bytes:
    """The stack document in ``corim``, whose bytes are ``data``: what :func:`write_corim` turns into the same bytes.

    Raises MalformedError for a CoRIM of our profile that is not exactly what we write.
    """
    try:
        document = _read(corim)
        written = _write(document)
    except (KeyError, IndexError, ValueError, TypeError, AttributeError):
        fail("", "has our profile, and not its parts")
    if written != data:
        fail("", "has our profile, and is not what this profile makes of the stack in it")
    return encode(document)


def _write(document: Document) -> bytes:
    rest = {key: value for key, value in document.items() if key != "components"}
    rest["components"] = [[c["name"], [v["name"] for v in c["variants"]]] for c in document["components"]]
    runtime = document.get("runtime") or {}
    files = runtime.get("files", {})
    if "files" in runtime:
        rest["runtime"] = {**runtime, "files": len(files)}
    vendor = document["name"]
    triples = [
        _triple(vendor, f"{c['name']}/{v['name']}", i, j, _measurements(v["events"]))
        for i, c in enumerate(document["components"])
        for j, v in enumerate(c["variants"])
        if v["events"]
    ]
    layer = len(document["components"])
    triples += [_triple(vendor, _FILES, layer, k, part) for k, part in enumerate(_file_measurements(files))]
    comid: Values = {1: {0: f"sha256:{hashlib.sha256(encode(document)).hexdigest()}"}, 4: {0: triples}}
    found: Values = {
        0: f"{vendor}/{document['version']}/{document['serial']}",
        1: [Tag(COMID_TAG, dump(comid))],
        3: Tag(32, PROFILE),
        _REST: rest,
    }
    if document.get("not_after") is not None:
        begin = document.get("not_before")
        found[4] = {1: Tag(1, document["not_after"])} | ({} if begin is None else {0: Tag(1, begin)})
    return dump(Tag(CORIM_TAG, found))


def _triple(vendor: str, model: str, layer: int, index: int, measurements: list[Values]) -> list[Any]:
    return [{_CLASS: {_VENDOR: vendor, _MODEL: model, _LAYER: layer, _INDEX: index}}, measurements]


def _measurements(events: list[Document]) -> list[Values]:
    counts: Counter[int] = Counter()
    found = []
    for event in events:
        mkey = f"pcr-{event['pcr']}/{counts[event['pcr']]}"
        counts[event["pcr"]] += 1
        digests = [write_digest(DIGEST_NAMES[name], bytes.fromhex(value)) for name, value in event["digests"].items()]
        values: Values = {_DIGESTS: digests} | ({_NAME: event["note"]} if "note" in event else {})
        found.append({_MKEY: mkey, _MVAL: values})
    return found


def _file_measurements(files: Mapping[str, list[str]]) -> Iterator[list[Values]]:
    """One list for the first digests of all files, one for the second ones, and so on: they are alternatives."""
    for k in range(max(map(len, files.values()), default=0)):
        yield [
            {_MKEY: path, _MVAL: {_DIGESTS: [write_digest(*parse_digest("stack", path, digests[k]))]}}
            for path, digests in files.items()
            if k < len(digests)
        ]


def _read(corim: Corim) -> Document:
    """The document, as far as its parts can be found; only writing it again tells whether it is right."""
    rest = dict(corim.members[_REST])
    layer = len(rest["components"])
    events: dict[tuple[int, int], list[Document]] = {}
    files: dict[str, list[str]] = {}
    (comid,) = corim.comids
    for environment, measurements in comid.triples[0]:
        place = environment[_CLASS][_LAYER], environment[_CLASS][_INDEX]
        for measurement in measurements:
            digests = read_digests(measurement[_MVAL][_DIGESTS], "digests")
            if place[0] == layer:
                ((alg, digest),) = digests.items()
                files.setdefault(measurement[_MKEY], []).append(f"{digest_name(alg)}:{digest.hex()}")
            else:
                events.setdefault(place, []).append(_event(measurement, digests))
    rest["components"] = [
        {"name": name, "variants": [{"name": v, "events": events.get((i, j), [])} for j, v in enumerate(variants)]}
        for i, (name, variants) in enumerate(rest["components"])
    ]
    runtime = rest.get("runtime")
    if runtime is not None and "files" in runtime:
        rest["runtime"] = runtime | {"files": files}
    return _in_order(rest)


def _event(measurement: Values, digests: Mapping[Alg, bytes]) -> Document:
    found: Document = {
        "pcr": int(measurement[_MKEY].removeprefix("pcr-").partition("/")[0]),
        "digests": {digest_name(alg): value.hex() for alg, value in digests.items()},
    }
    if _NAME in measurement[_MVAL]:
        found["note"] = measurement[_MVAL][_NAME]
    return found


def _in_order(document: Document) -> Document:
    """``document`` with its members as stack documents have them; CBOR has its own order for the keys of a map."""
    found = dict(document)
    if found.get("runtime") is not None:
        found["runtime"] = _ordered(RuntimeDocument, found["runtime"])
        if "keyrings" in found["runtime"]:
            found["runtime"]["keyrings"] = dict(sorted(found["runtime"]["keyrings"].items()))
    if "known_bad" in found:
        found["known_bad"] = [_ordered(KnownBadDocument, each) for each in found["known_bad"]]
    found["components"] = [
        _ordered(ComponentDocument, {**c, "variants": [_variant_in_order(v) for v in c["variants"]]})
        for c in found["components"]
    ]
    return _ordered(StackDocument, found)


def _variant_in_order(variant: Document) -> Document:
    return _ordered(VariantDocument, {**variant, "events": [_ordered(EventDocument, e) for e in variant["events"]]})


def _ordered(kind: type[msgspec.Struct], found: Document) -> Document:
    names = (*kind.__struct_fields__, *sorted(set(found) - set(kind.__struct_fields__)))
    return {name: _listed(found[name]) for name in names if name in found}


def _listed(value: Any) -> Any:
    """``value`` with lists in place of tuples."""
    if isinstance(value, tuple):
        return [_listed(each) for each in value]
    return {key: _listed(each) for key, each in value.items()} if isinstance(value, dict) else value
