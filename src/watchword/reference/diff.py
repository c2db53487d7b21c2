"""What changed from one stack document to another, or from a stack to what a host did."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from typing import Any

from watchword.policy.stack import CompiledComponent, CompiledStack, ExpectedEvent, FileDigest

__all__ = ["ComponentChange", "EventChange", "FileChange", "StackDiff", "VariantChange", "diff_stacks"]

_MAX_ALIGNED = 4_000_000  # product of the lengths of two event lists that are aligned; longer ones go by position
_BY_ITSELF = frozenset({"format", "components", "runtime"})
_RUNTIME_BY_ITSELF = frozenset({"files", "any_path"})


@dataclass(frozen=True, slots=True)
class EventChange:
    """``old`` became ``new``; None for no event. ``position`` counts in the variant, per PCR, from 0."""

    pcr: int
    position: int
    old: ExpectedEvent | None
    new: ExpectedEvent | None


@dataclass(frozen=True, slots=True)
class VariantChange:
    """``kind`` is "added", "removed", "renamed" (from ``old_name``) or "changed" (see ``events``)."""

    name: str
    kind: str
    old_name: str = ""
    events: tuple[EventChange, ...] = ()


@dataclass(frozen=True, slots=True)
class ComponentChange:
    """``kind`` is "added", "removed" or "changed" (see ``variants``; empty when only their order changed)."""

    name: str
    kind: str
    variants: tuple[VariantChange, ...] = ()


@dataclass(frozen=True, slots=True)
class FileChange:
    """The digests that ``path`` may have, before and after; empty when it was, or is, not listed. b"" is any path."""

    path: bytes
    old: frozenset[FileDigest]
    new: frozenset[FileDigest]

    @property
    def kind(self) -> str:
        """ "added", "removed" or "changed"."""
        return "added" if not self.old else "removed" if not self.new else "changed"


@dataclass(frozen=True, slots=True)
class StackDiff:
    """All differences in meaning. ``fields`` maps a field's name to (old, new); a missing one is None."""

    fields: Mapping[str, tuple[Any, Any]]
    components: tuple[ComponentChange, ...]
    reordered: bool
    files: tuple[FileChange, ...] = field(repr=False)
    same_bytes: bool

    @property
    def equal(self) -> str:
        """ "bytes" when it is the same document, "meaning" when it says the same, "" when it does not."""
        if self.fields or self.components or self.reordered or self.files:
            return ""
        return "bytes" if self.same_bytes else "meaning"


def diff_stacks(old: bytes, new: bytes) -> StackDiff:
    """Compare two stack documents. Raises MalformedError when one is none."""
    a, b = CompiledStack.parse(old), CompiledStack.parse(new)
    kept = [c.name for c in a.components if c.name in {d.name for d in b.components}]
    return StackDiff(
        fields=_fields(json.loads(old), json.loads(new)),
        components=_components(a.components, b.components),
        reordered=kept != [c.name for c in b.components if c.name in set(kept)],
        files=_files(a, b),
        same_bytes=a.digest == b.digest,
    )


def _fields(old: dict[str, Any], new: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    found = _different(old, new, _BY_ITSELF, "")
    if ("runtime" in old) != ("runtime" in new):
        found["runtime"] = ("runtime" in old, "runtime" in new)
    return found | _different(old.get("runtime", {}), new.get("runtime", {}), _RUNTIME_BY_ITSELF, "runtime.")


def _different(
    old: dict[str, Any], new: dict[str, Any], but: frozenset[str], prefix: str
) -> dict[str, tuple[Any, Any]]:
    return {
        prefix + name: (old.get(name), new.get(name))
        for name in dict.fromkeys((*old, *new))
        if name not in but and old.get(name) != new.get(name)
    }


def _components(old: Sequence[CompiledComponent], new: Sequence[CompiledComponent]) -> tuple[ComponentChange, ...]:
    before, after = {c.name: c for c in old}, {c.name: c for c in new}
    changes = []
    for name in dict.fromkeys((*before, *after)):
        if name not in after:
            changes.append(ComponentChange(name, "removed"))
        elif name not in before:
            changes.append(ComponentChange(name, "added"))
        elif before[name] != after[name]:
            changes.append(ComponentChange(name, "changed", _variants(before[name], after[name])))
    return tuple(changes)


def _variants(old: CompiledComponent, new: CompiledComponent) -> tuple[VariantChange, ...]:
    before, after = {v.name: v.events for v in old.variants}, {v.name: v.events for v in new.variants}
    gone = [name for name in before if name not in after]
    changes = []
    for name, events in after.items():
        twin = next((each for each in gone if before[each] == events), None)
        if name in before and before[name] != events:
            changes.append(VariantChange(name, "changed", events=_events(before[name], events)))
        elif name not in before and twin is not None:
            gone.remove(twin)
            changes.append(VariantChange(name, "renamed", old_name=twin))
        elif name not in before:
            changes.append(VariantChange(name, "added"))
    return (*changes, *(VariantChange(name, "removed") for name in gone))


def _events(old: Sequence[ExpectedEvent], new: Sequence[ExpectedEvent]) -> tuple[EventChange, ...]:
    """PCR by PCR, because the order of events of different PCRs means nothing."""
    changes: list[EventChange] = []
    for pcr in sorted({event.pcr for event in (*old, *new)}):
        changes += _one_pcr(pcr, [e for e in old if e.pcr == pcr], [e for e in new if e.pcr == pcr])
    return tuple(changes)


def _one_pcr(pcr: int, old: list[ExpectedEvent], new: list[ExpectedEvent]) -> list[EventChange]:
    changes = []
    for i1, i2, j1, j2 in _blocks(list(map(_key, old)), list(map(_key, new))):
        for i in range(max(i2 - i1, j2 - j1)):
            before = old[i1 + i] if i < i2 - i1 else None
            after = new[j1 + i] if i < j2 - j1 else None
            if before != after:
                changes.append(EventChange(pcr, (i1 if before else j1) + i, before, after))
    return changes


def _blocks(old: list[Any], new: list[Any]) -> list[tuple[int, int, int, int]]:
    if len(old) * len(new) > _MAX_ALIGNED:
        return [(0, len(old), 0, len(new))]
    return [(i1, i2, j1, j2) for _, i1, i2, j1, j2 in SequenceMatcher(None, old, new, autojunk=False).get_opcodes()]


def _key(event: ExpectedEvent) -> tuple[tuple[int, bytes], ...]:
    return tuple(sorted((int(alg), value) for alg, value in event.digests.items()))


def _files(a: CompiledStack, b: CompiledStack) -> tuple[FileChange, ...]:
    none: frozenset[FileDigest] = frozenset()
    changes = [
        FileChange(path, a.files.get(path, none), b.files.get(path, none))
        for path in sorted({*a.files, *b.files})
        if a.files.get(path, none) != b.files.get(path, none)
    ]
    if a.any_path != b.any_path:
        changes.insert(0, FileChange(b"", a.any_path, b.any_path))
    return tuple(changes)
