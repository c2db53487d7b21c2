"""``watchword stack diff``: what changed between two stacks, or between a stack and a host."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import click

from watchword.cli.output import emit, json_option, printable
from watchword.cli.profile import read_bounded
from watchword.errors import MalformedError, UsageError
from watchword.policy.capture import captured_events
from watchword.policy.document import digest_name
from watchword.policy.stack import MAX_STACK_SIZE, CompiledStack, ExpectedEvent, FileDigest, path_text
from watchword.reference.diff import ComponentChange, EventChange, FileChange, StackDiff, VariantChange, diff_stacks
from watchword.reference.earlier import stack_bytes
from watchword.reference.host_diff import BootDiff, Deviation, FilesDiff, compare_boot, compare_files
from watchword.wire import ima_log, tcg_log

__all__ = ["diff"]

_SHOWN = 20  # files that are listed one by one
_DEPTH = 3  # parts of a path that name a group of files: /usr/lib/modules
_NO_EVENT = "no event"


@click.command()
@click.argument("old", type=click.Path(path_type=Path))
@click.argument("new", required=False, type=click.Path(path_type=Path))
@click.option("--eventlog", type=click.Path(path_type=Path), help="Instead of NEW: a host's firmware event log.")
@click.option("--ima", type=click.Path(path_type=Path), help="Instead of NEW: a host's runtime measurement list.")
@click.option("--all", "everything", is_flag=True, help="List every file, however many there are.")
@json_option
def diff(old: Path, new: Path | None, eventlog: Path | None, ima: Path | None, everything: bool, as_json: bool) -> int:
    """Say what changed from one stack to another, or where a host's logs leave a stack. Ends with 0 when nothing did
    and with 3 when something did. OLD and NEW may be endorsed; signatures are not checked, and logs are not verified.

    \b
    Example:
      watchword stack diff compute-6.json compute-7.json
    """
    if (new is None) == (eventlog is None and ima is None):
        raise UsageError("diff-sides", "give a second stack, or a host's logs, and not both", hint="see --help")
    first = _stack_bytes(old)
    if new is not None:
        found = diff_stacks(first, _stack_bytes(new))
        emit(_stacks_json(found), "\n".join(_stacks_words(found, everything)), as_json=as_json)
        return 0 if found.equal else 3
    stack = CompiledStack.parse(first)
    boot = None if eventlog is None else compare_boot(stack, _events(eventlog))
    files = None if ima is None else compare_files(stack, ima_log.ImaLog.parse(read_bounded(ima, ima_log.MAX_LOG)))
    words = [*(_boot_words(stack, boot) if boot else ()), *(_files_words(stack, files, everything) if files else ())]
    emit(_host_json(boot, files), "\n".join(words), as_json=as_json)
    return 3 if (boot and boot.deviations) or (files and (files.unlisted or files.violations)) else 0


def _events(file: Path) -> Any:
    return captured_events(tcg_log.EventLog.parse(read_bounded(file, tcg_log.MAX_LOG)))


def _stack_bytes(file: Path) -> bytes:
    """A stack document, taken out of its envelope when it is endorsed."""
    data = read_bounded(file, 2 * MAX_STACK_SIZE)
    try:
        return stack_bytes(data)
    except MalformedError as error:
        raise MalformedError(f"{file.name}: {error.message}", hint=error.hint) from error


# Two stacks


def _stacks_words(found: StackDiff, everything: bool) -> Iterator[str]:
    if found.equal == "bytes":
        yield "The same document."
    elif found.equal:
        yield "The same meaning in other bytes: what was endorsed for one is not endorsed for the other."
    for name, (before, after) in found.fields.items():
        yield printable(f"{name}: {_value(before)} -> {_value(after)}")
    if found.reordered:
        yield "The components are in another order."
    for component in found.components:
        yield f"component {component.name}: {component.kind}"
        for variant in component.variants:
            was = f" from {variant.old_name}" if variant.old_name else ""
            yield f"  variant {variant.name}: {variant.kind}{was}"
            yield from (f"    {_event_words(event)}" for event in variant.events)
        if component.kind == "changed" and not component.variants:
            yield "  the variants are in another order"
    yield from _changed_files(found.files, everything)


def _value(value: Any) -> str:
    return (
        "none" if value is None else str(value) if not isinstance(value, list) else ", ".join(map(str, value)) or "none"
    )


def _event_words(change: EventChange) -> str:
    where = f"PCR {change.pcr} event {change.position}: "
    return printable(f"{where}{_event(change.old)} -> {_event(change.new)}")


def _event(event: ExpectedEvent | None) -> str:
    if event is None:
        return _NO_EVENT
    digests = " ".join(f"{digest_name(alg)}:{value.hex()}" for alg, value in event.digests.items())
    return f"{digests} {event.note}".rstrip()


def _changed_files(files: tuple[FileChange, ...], everything: bool) -> Iterator[str]:
    for kind in ("added", "removed", "changed"):
        some = [change for change in files if change.kind == kind]
        if some:
            yield f"{len(some)} files {kind}:"
            yield from _listed([_path(change.path) for change in some], everything)


def _listed(names: list[str], everything: bool) -> Iterator[str]:
    if everything or len(names) <= _SHOWN:
        yield from (f"  {printable(name)}" for name in names)
        return
    groups = Counter(_group(name) for name in names).most_common()
    for group, count in groups[:_SHOWN]:
        yield printable(f"  {group}: {count}")
    if len(groups) > _SHOWN:
        yield f"  and {sum(count for _, count in groups[_SHOWN:])} in {len(groups) - _SHOWN} other places"
    yield "  (--all lists each)"


def _group(name: str) -> str:
    parts = name.split("/")
    return "/".join(parts[: min(_DEPTH + 1, len(parts) - 1)]) or name


def _path(path: bytes) -> str:
    return path_text(path) if path else "(anywhere)"


def _stacks_json(found: StackDiff) -> dict[str, Any]:
    return {
        "equal": bool(found.equal),
        "same_bytes": found.same_bytes,
        "fields": {name: {"old": before, "new": after} for name, (before, after) in found.fields.items()},
        "reordered": found.reordered,
        "components": [_component_json(change) for change in found.components],
        "files": [_file_json(change) for change in found.files],
    }


def _component_json(change: ComponentChange) -> dict[str, Any]:
    return {"name": change.name, "kind": change.kind, "variants": [_variant_json(v) for v in change.variants]}


def _variant_json(change: VariantChange) -> dict[str, Any]:
    events = [
        {"pcr": e.pcr, "position": e.position, "old": _event_json(e.old), "new": _event_json(e.new)}
        for e in change.events
    ]
    return {"name": change.name, "kind": change.kind, "old_name": change.old_name, "events": events}


def _event_json(event: ExpectedEvent | None) -> dict[str, Any] | None:
    if event is None:
        return None
    return {"digests": {digest_name(a): v.hex() for a, v in event.digests.items()}, "note": event.note}


def _file_json(change: FileChange) -> dict[str, Any]:
    path = path_text(change.path) if change.path else None
    return {"path": path, "kind": change.kind, "old": _digests(change.old), "new": _digests(change.new)}


def _digests(digests: Iterable[FileDigest]) -> list[str]:
    return sorted(f"{digest_name(alg)}:{value.hex()}" for alg, value in digests)


# A stack and a host


def _boot_words(stack: CompiledStack, found: BootDiff) -> Iterator[str]:
    yield f"Boot log, {digest_name(found.bank)}, beside stack {stack.label}:"
    for component, variant in found.chosen:
        yield f"  {component}: {variant} is in the log"
    if not found.deviations:
        yield "  and nothing more: the stack explains the whole log"
    for each in found.deviations:
        head = f"{each.component}: {each.variant} stops at" if each.component else "the stack ends, and the log has"
        yield f"  {head} PCR {each.pcr} event {each.position}, after {each.explained} events:"
        if each.component:
            yield printable(f"    expected {_expected(found, each)}")
        yield printable(f"    found {_found(each)}")


def _expected(found: BootDiff, each: Deviation) -> str:
    return _NO_EVENT if each.expected is None else f"{each.expected.digests[found.bank].hex()} {each.expected.note}"


def _found(each: Deviation) -> str:
    return _NO_EVENT if each.actual is None else f"{each.actual.hex()} {each.note} (as the log says)"


def _files_words(stack: CompiledStack, found: FilesDiff, everything: bool) -> Iterator[str]:
    unlisted = len(found.unlisted)
    yield f"Runtime log: {found.measured} files, {unlisted} of them not listed, {found.violations} violations"
    for text, known in (("not listed", False), ("listed with other contents", True)):
        names = [_path(file.path) for file in found.unlisted if bool(file.listed) == known]
        if names:
            yield f"{len(names)} files {text}:"
            yield from _listed(names, everything)
    if stack.signers and found.unlisted:
        yield "The stack has signers: some of these files may be good by their signature, which was not looked at."


def _host_json(boot: BootDiff | None, files: FilesDiff | None) -> dict[str, Any]:
    document: dict[str, Any] = {}
    if boot is not None:
        document["boot"] = {
            "bank": digest_name(boot.bank),
            "variants": dict(boot.chosen),
            "explained": not boot.deviations,
            "deviations": [
                {"component": d.component, "variant": d.variant, "explained": d.explained, "pcr": d.pcr,
                 "position": d.position, "expected": _event_json(d.expected),
                 "actual": None if d.actual is None else d.actual.hex(), "note": d.note}
                for d in boot.deviations
            ],
        }  # fmt: skip
    if files is not None:
        document["runtime"] = {
            "measured": files.measured,
            "violations": files.violations,
            "unlisted": [
                {"path": path_text(f.path), "digest": f"{f.algorithm}:{f.digest.hex()}", "listed": _digests(f.listed)}
                for f in files.unlisted
            ],
        }
    return document
