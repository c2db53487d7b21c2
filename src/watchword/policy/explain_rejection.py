"""Why a host was refused, for the person who has to do something about it.

For every finding: which event it is about, what was expected there and what was found, which component of the nearest
known stack that is, where else the found digest is known, and what to do. Findings that share a code share the advice,
and are shown together. Nothing here decides anything; it takes findings from anywhere and never raises for them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from watchword.errors import Finding
from watchword.policy.advice import advice_for
from watchword.policy.appraise import Appraisal
from watchword.policy.release import StackRelease
from watchword.policy.stack import path_text
from watchword.verify.boot_log import BootEvent
from watchword.wire.printable import printable

__all__ = ["Explanation", "Place", "by_code", "explain", "place_of"]

_SHOWN = 10  # findings of one code that the text shows; the document has all of them
_CLIP = 200  # characters of a value in the text
_MAX_SUBJECT = 5000  # characters: a path and a little more
_MAX_KNOWN = 5  # places where a digest is known that are named
_SUMMARY = "profile-level"  # says that the others are the reason

# How the checks write what a finding is about (``Finding.subject``), and the stack in the message of a mismatch.
_MATCH = re.compile(r"pcr (?P<pcr>\d{1,9}) event (?P<position>\d{1,9})(?: \(log event (?P<event>\d{1,9})\))?(?:, .*)?")
_COMPONENT = re.compile(r".*, component (?P<component>\S+)")
_LOGGED = re.compile(r"pcr (?P<pcr>\d{1,9}) event (?P<event>\d{1,9}) type (?P<type>\S+)")
_OTHERS = (
    re.compile(r"pcr (?P<pcr>\d{1,9})"),
    re.compile(r"event (?P<event>\d{1,9})"),
    re.compile(r"entry (?P<entry>\d{1,9})"),
    re.compile(r"file (?P<file>.+)"),
    re.compile(r"keyring (?P<keyring>.+)"),
    re.compile(r"stack (?P<stack>.+)"),
)
_STACK = re.compile(r"stack (\S+ \S+)")
_DIGEST = re.compile(r"(?:(?:verity:)?[a-z0-9_]+:)?([0-9a-f]{64,128})(?: |$)")


@dataclass(frozen=True, slots=True)
class Place:
    """What a finding is about, as far as it says.

    ``position`` counts events of the PCR, ``event`` those of the log, both from 0 and without the log's header.
    """

    pcr: int | None = None
    position: int | None = None
    event: int | None = None
    type: str = ""
    component: str = ""
    stack: str = ""
    file: str = ""
    keyring: str = ""
    entry: int | None = None

    def document(self) -> dict[str, Any]:
        """What is known of it, for JSON."""
        return {name: value for name in self.__slots__ if (value := getattr(self, name)) not in (None, "")}

    def __str__(self) -> str:
        parts = []
        if self.file:
            parts.append(self.file)
        if self.keyring:
            parts.append(f"keyring {self.keyring}")
        if self.entry is not None:
            parts.append(f"entry {self.entry} of the log")
        if self.pcr is not None:
            parts.append(f"PCR {self.pcr}")
        if self.position is not None:
            parts.append(f"event {self.position} of that PCR")
        if self.event is not None:
            parts.append(f"log event {self.event}")
        if self.type:
            parts.append(self.type)
        return ", ".join(parts)


@dataclass(frozen=True, slots=True)
class Explanation:
    """``lines`` for people, ``document`` the same and more for programs; ``refused`` whether anything was fatal."""

    lines: tuple[str, ...]
    document: Mapping[str, Any]
    refused: bool


def explain(
    findings: Sequence[Finding], appraisal: Appraisal | None = None, releases: Sequence[StackRelease] = ()
) -> Explanation:
    """Explain ``findings``.

    ``appraisal`` adds the events of the verified log and how each level fared; ``releases`` are stacks on file, in
    which a digest that was not expected may be known from elsewhere.
    """
    items = [_item(finding, appraisal, releases) for finding in findings]
    fatal = any(finding.fatal for finding in findings)
    document: dict[str, Any] = {"refused": fatal, "findings": items}
    lines = _lines(items)
    if appraisal is not None:
        document |= {"level": appraisal.level or "", "rank": appraisal.rank, "nearest": appraisal.nearest}
        document["levels"] = [
            {"name": r.name, "holds": r.holds, "codes": sorted({f.code for f in r.findings})} for r in appraisal.levels
        ]
        lines = [*_level_lines(appraisal), *lines]
    return Explanation(
        tuple(map(printable, lines or ["nothing was found: there is nothing to explain"])), document, fatal
    )


def place_of(finding: Finding) -> Place:
    """What ``finding`` is about, read from its subject."""
    subject = finding.subject[:_MAX_SUBJECT]
    for pattern in (_LOGGED, _MATCH, *_OTHERS):
        found = pattern.fullmatch(subject)
        if found is not None:
            break
    else:
        return Place(stack=_stack_of(finding))
    values: dict[str, Any] = {
        name: int(value) if name in ("pcr", "position", "event", "entry") else value
        for name, value in found.groupdict().items()
        if value is not None
    }
    component = _COMPONENT.fullmatch(subject) if found.re is _MATCH else None
    if component is not None:
        values["component"] = component["component"]
    values.setdefault("stack", _stack_of(finding))
    return Place(**values)


def _stack_of(finding: Finding) -> str:
    found = _STACK.search(finding.message) if finding.code == "stack-none" else None
    return found[1] if found else ""


def _item(finding: Finding, appraisal: Appraisal | None, releases: Sequence[StackRelease]) -> dict[str, Any]:
    place = place_of(finding)
    return {
        "clause": finding.clause,
        "code": finding.code,
        "message": finding.message,
        "fatal": finding.fatal,
        "place": place.document(),
        "expected": finding.expected,
        "actual": finding.actual,
        "subject": finding.subject,
        "event": _event(place, appraisal),
        "known_in": _known(finding, place, releases),
        "advice": advice_for(finding.code),
        "where": str(place) or finding.subject,
    }


def _event(place: Place, appraisal: Appraisal | None) -> dict[str, Any] | None:
    """The event of the verified log; ``proven`` says whether its digest stands behind the text."""
    if place.event is None or appraisal is None:
        return None
    found: BootEvent | None = next((e for e in appraisal.host.boot.events if e.index == place.event), None)
    if found is None:
        return None
    return {"type": found.type_name, "text": found.text, "proven": found.tied, "digest": found.digest.hex()}


def _known(finding: Finding, place: Place, releases: Sequence[StackRelease]) -> list[str]:
    """Where else the digest that was found is a reference value: "kernel of compute 2.0" tells what really ran."""
    found = _DIGEST.match(finding.actual)
    if found is None or finding.code not in ("stack-none", "runtime-file"):
        return []
    digest = bytes.fromhex(found[1][: len(found[1]) // 2 * 2])
    known: dict[str, None] = {}
    for release in releases:
        names = _files(release, digest) if finding.code == "runtime-file" else _components(release, place.pcr, digest)
        for name in names:
            known[f"{name} of stack {release.stack.label}"] = None
    return list(known)[:_MAX_KNOWN]


def _components(release: StackRelease, pcr: int | None, digest: bytes) -> list[str]:
    return [
        f"component {component.name}, variant {variant.name}"
        for component in release.stack.components
        for variant in component.variants
        if any(event.pcr == pcr and digest in event.digests.values() for event in variant.events)
    ]


def _files(release: StackRelease, digest: bytes) -> list[str]:
    if any(digest == value for _, value in release.stack.any_path):
        return ["a file at any path"]
    return [
        f"file {path_text(path)}"
        for path, digests in release.stack.files.items()
        if any(digest == value for _, value in digests)
    ][:_MAX_KNOWN]


def _level_lines(appraisal: Appraisal) -> list[str]:
    reached = f"{appraisal.level} (rank {appraisal.rank})" if appraisal.level else "none"
    lines = [f"level reached: {reached}"]
    for result in appraisal.levels:
        codes = ", ".join(sorted({finding.code for finding in result.findings}))
        lines.append(f"  {result.name}: {'holds' if result.holds else f'does not hold ({codes})'}")
    if appraisal.nearest:
        lines.append(f"nearest known stack: {appraisal.nearest}")
    return lines


def _lines(items: Sequence[Mapping[str, Any]]) -> list[str]:
    lines: list[str] = []
    for group in by_code(items):
        kind = "refused" if group[0]["fatal"] else "note"
        lines.append(f"{kind}: [{group[0]['clause']}] {group[0]['code']}")
        for item in group[:_SHOWN]:
            lines += _item_lines(item)
        if len(group) > _SHOWN:
            lines.append(f"  and {len(group) - _SHOWN} more; --json shows all of them")
        lines.append(f"  what to do: {group[0]['advice']}")
    return lines


def by_code(items: Iterable[Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
    """The findings of an explanation, those of one code together: fatal ones first, then the summary, then notes."""
    codes: dict[tuple[bool, bool, str], list[Mapping[str, Any]]] = {}
    for item in items:
        codes.setdefault((not item["fatal"], item["code"] == _SUMMARY, item["code"]), []).append(item)
    return [group for _, group in sorted(codes.items(), key=lambda entry: entry[0][:2])]


def _item_lines(item: Mapping[str, Any]) -> list[str]:
    lines = [f"  {item['message']}" + (f": {item['where']}" if item["where"] else "")]
    place = item["place"]
    if "component" in place:
        lines.append(f"    component  {place['component']} of stack {place.get('stack', 'not named')}")
    if item["expected"]:
        lines.append(f"    expected   {item['expected'][:_CLIP]}")
    if item["actual"]:
        lines.append(f"    found      {item['actual'][:_CLIP]}")
    event = item["event"]
    if event is not None:
        proof = "proven by its digest" if event["proven"] else "as the host says, not proven"
        lines.append(f"    the event  {event['type']} {event['text'][:_CLIP]} ({proof})")
    lines += [f"    known as   {known}" for known in item["known_in"]]
    return lines
