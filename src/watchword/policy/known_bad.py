"""What no host may have measured: events, files and whole stacks that releases in force name as bad (clause E3).

A release may say which earlier component turned out to have a hole. From the moment it is in force, a host that shows
such a component gets a finding, whichever stack it matches; when that release is retired or revoked, its word no longer
counts. ``docs/reference/stack-format.md`` has the fields.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from watchword.errors import Finding
from watchword.policy.document import digest_name, fail, parse_digest
from watchword.wire.tpm.algorithms import Alg

__all__ = ["NOTHING_BAD", "BadComponent", "KnownBad", "KnownBadDocument", "Why", "compile_known_bad"]

Kind = Literal["event", "file", "stack"]
Named = tuple[Alg, bytes]
_DOMAIN = b"watchword/known-bad-files/1\0"


class KnownBadDocument(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    digest: str
    what: Kind
    reason: Annotated[str, Meta(min_length=1, max_length=200)]


@dataclass(frozen=True, slots=True)
class BadComponent:
    """One event, file or stack that must not be there, by its digest, and why."""

    what: Kind
    alg: Alg
    digest: bytes
    reason: str


def compile_known_bad(what: str, entries: Sequence[KnownBadDocument]) -> tuple[BadComponent, ...]:
    """The entries of a document called ``what`` in errors. Raises MalformedError."""
    found = []
    for i, entry in enumerate(entries):
        only = "sha256" if entry.what == "stack" else ""
        alg, digest = parse_digest(what, f"known_bad[{i}].digest", entry.digest, only=only)
        if not entry.reason.isprintable():
            fail(what, f"known_bad[{i}].reason", "has control characters")
        found.append(BadComponent(entry.what, alg, digest, entry.reason))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Why:
    """Which release says that a component is bad, and the reason that it gives."""

    release: str
    reason: str
    what: str
    digest: str

    def finding(self, subject: str) -> Finding:
        """The finding about a host that shows it, at the place ``subject``."""
        message = f"the host shows a component that release {self.release} names as bad: {self.reason}"
        return Finding("E3", "known-bad", message, f"not {self.what} {self.digest}", self.digest, subject)


@dataclass(frozen=True, slots=True)
class KnownBad:
    """All that releases in force name as bad, by algorithm and digest. Empty, and so without cost, almost always.

    ``files_id`` tells lists of bad files apart (empty bytes for none): what was judged under one list is judged anew
    under another.
    """

    events: Mapping[Named, Why] = field(default_factory=dict)
    files: Mapping[Named, Why] = field(default_factory=dict)
    stacks: Mapping[Named, Why] = field(default_factory=dict)
    files_id: bytes = b""

    @classmethod
    def of(cls, named: Iterable[tuple[str, Sequence[BadComponent]]]) -> KnownBad:
        """Everything that the releases name: pairs of a release's label and its list."""
        found: dict[Kind, dict[Named, Why]] = {"event": {}, "file": {}, "stack": {}}
        for label, components in named:
            for bad in components:
                text = f"{digest_name(bad.alg)}:{bad.digest.hex()}"
                found[bad.what].setdefault((bad.alg, bad.digest), Why(label, bad.reason, bad.what, text))
        if not any(found.values()):
            return NOTHING_BAD
        return cls(found["event"], found["file"], found["stack"], _files_id(found["file"]))

    def judge_id(self, stack: bytes) -> bytes:
        """What stands for "the stack with this digest (32 bytes), and none of these files" in what is remembered."""
        return hashlib.sha256(_DOMAIN + stack + self.files_id).digest() if self.files_id else stack


def _files_id(files: Mapping[Named, Why]) -> bytes:
    if not files:
        return b""
    listed = sorted(b"%d:" % alg + digest for alg, digest in files)
    return hashlib.sha256(_DOMAIN + b"".join(listed)).digest()


NOTHING_BAD = KnownBad()
