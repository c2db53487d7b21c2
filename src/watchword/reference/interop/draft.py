"""What an importer found, and how it becomes a stack document."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from watchword.errors import UsageError
from watchword.policy.document import DIGEST_NAMES, digest_name
from watchword.policy.stack import DEBUG_PCRS, MAX_STACK_SIZE, RUNTIME_PCR, CompiledStack, path_text
from watchword.wire.tpm.algorithms import Alg

__all__ = ["Component", "Draft", "Event", "Heading", "build", "components_of", "coverable", "encode"]

_MAX_NOTE = 200  # characters
_WEAKEST_LAST = {alg: rank for rank, alg in enumerate(DIGEST_NAMES.values())}

Component = tuple[str, Mapping[str, tuple["Event", ...]]]  # name, variants by name


@dataclass(frozen=True, slots=True)
class Event:
    """One extend operation: its PCR, its digests by bank, a note for people."""

    pcr: int
    digests: Mapping[Alg, bytes]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Heading:
    """What only the person who imports can say. ``origin`` is "computed" or "captured"."""

    name: str
    version: str
    serial: int
    origin: str = "captured"


@dataclass(frozen=True, slots=True)
class Draft:
    """What a foreign document says that a stack can say too.

    ``files`` are None when the document has no place for files. ``signers`` are base64 of public keys in DER.
    ``left_out`` has one sentence for each thing that was not taken. ``not_before`` and ``not_after`` are Unix seconds.
    """

    components: tuple[Component, ...] = ()
    files: Mapping[bytes, frozenset[tuple[Alg, bytes]]] | None = None
    any_path: frozenset[tuple[Alg, bytes]] = frozenset()
    signers: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    not_before: int | None = None
    not_after: int | None = None

    def told(self, sentences: Iterable[str]) -> Draft:
        """The same draft with more ``sentences`` about what it does not have."""
        return replace(self, left_out=(*self.left_out, *sentences))


def build(draft: Draft, heading: Heading, base: bytes | None = None) -> bytes:
    """A stack document with what ``draft`` has, on top of the stack document ``base`` when there is one.

    Components of the draft replace those of ``base`` with the same name and follow the others; files are added to its
    files. What is built on a captured stack is captured. Raises UsageError (``import-empty``) when nothing is left of
    the boot, MalformedError when ``base`` is no stack.
    """
    document = _blank() if base is None else _base(base)
    document |= {"name": heading.name, "version": heading.version, "serial": heading.serial}
    if base is None or heading.origin == "captured":
        document["origin"] = heading.origin
    _merge_components(document, draft)
    _merge_validity(document, draft)
    _merge_runtime(document, draft)
    if not document["components"]:
        raise UsageError(
            "import-empty",
            "it says nothing about the boot, and a stack has to",
            hint="add it to a stack with --base STACK.json",
        )
    return encode(document)


def encode(document: Mapping[str, Any]) -> bytes:
    """A stack document as all our commands write it. Raises MalformedError when it is none."""
    data = msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n"
    CompiledStack.parse(data)  # what we write must be what we read
    return data


def coverable(pcr: int) -> bool:
    """Whether a stack may cover ``pcr``."""
    return 0 <= pcr <= 23 and pcr != RUNTIME_PCR and pcr not in DEBUG_PCRS


def components_of(stack: CompiledStack) -> tuple[Component, ...]:
    """The components of ``stack`` in the form of a draft."""
    return tuple(
        (c.name, {v.name: tuple(Event(e.pcr, e.digests, e.note) for e in v.events) for v in c.variants})
        for c in stack.components
    )


def _blank() -> dict[str, Any]:
    return {"format": "watchword-stack/1", "name": "", "version": "", "serial": 1, "origin": "captured",
            "pcrs": [], "components": []}  # fmt: skip


def _base(data: bytes) -> dict[str, Any]:
    CompiledStack.parse(data)  # strict, and at most MAX_STACK_SIZE
    assert len(data) <= MAX_STACK_SIZE
    document = json.loads(data)
    assert isinstance(document, dict)
    return document


def _merge_components(document: dict[str, Any], draft: Draft) -> None:
    names = {name for name, _ in draft.components}
    kept = [c for c in document["components"] if c["name"] not in names]
    added = [_component(name, variants) for name, variants in draft.components]
    pcrs = {e.pcr for _, variants in draft.components for events in variants.values() for e in events}
    document["components"] = kept + added
    document["pcrs"] = sorted({*document["pcrs"], *pcrs})


def _component(name: str, variants: Mapping[str, tuple[Event, ...]]) -> dict[str, Any]:
    return {"name": name, "variants": [{"name": v, "events": list(map(_event, es))} for v, es in variants.items()]}


def _event(event: Event) -> dict[str, Any]:
    digests = {
        digest_name(alg): event.digests[alg].hex() for alg in sorted(event.digests, key=_WEAKEST_LAST.__getitem__)
    }
    found: dict[str, Any] = {"pcr": event.pcr, "digests": digests}
    if event.note:
        found["note"] = "".join(c if c.isprintable() else " " for c in event.note)[:_MAX_NOTE]
    return found


def _merge_runtime(document: dict[str, Any], draft: Draft) -> None:
    if draft.files is None and not draft.any_path and not draft.signers:
        return
    runtime = document.setdefault("runtime", {})
    files = runtime.setdefault("files", {})
    for path, digests in sorted((draft.files or {}).items()):
        files[path_text(path)] = sorted({*files.get(path_text(path), ()), *map(_digest, digests)})
    if draft.any_path:
        runtime["any_path"] = sorted({*runtime.get("any_path", ()), *map(_digest, draft.any_path)})
    if draft.signers:
        runtime["signers"] = list(dict.fromkeys((*runtime.get("signers", ()), *draft.signers)))


def _merge_validity(document: dict[str, Any], draft: Draft) -> None:
    """What is made of two sources is valid as long as both are."""
    for name, value, choose in (("not_before", draft.not_before, max), ("not_after", draft.not_after, min)):
        known = [each for each in (document.get(name), value) if each is not None]
        if known:
            document[name] = choose(known)


def _digest(digest: tuple[Alg, bytes]) -> str:
    return f"{digest_name(digest[0])}:{digest[1].hex()}"
