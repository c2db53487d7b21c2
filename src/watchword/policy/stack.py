"""Stacks: what one release of a compute host's software measures, as reference values.

A stack document (``docs/reference/stack-format.md``) lists components; each has variants; a variant is an atomic list
of expected boot events. :class:`CompiledStack` is made once per document and shared by every appraisal.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from watchword.policy.document import DIGEST_NAMES, digest_name, fail, load, located, parse_digest, parse_hex
from watchword.policy.file_signature import Signers, compile_signers
from watchword.policy.known_bad import BadComponent, KnownBadDocument, compile_known_bad
from watchword.verify.command_line import command_line_forms, command_line_words
from watchword.wire.tpm.algorithms import Alg, digest_size
from watchword.wire.tpm.algorithms import digest as digest_of

__all__ = [
    "DEBUG_PCRS",
    "MAX_STACK_SIZE",
    "PAYLOAD_TYPE",
    "RUNTIME_PCR",
    "CompiledComponent",
    "CompiledStack",
    "CompiledVariant",
    "ExpectedEvent",
    "FileDigest",
    "path_bytes",
    "path_text",
]

PAYLOAD_TYPE = "application/vnd.watchword.stack+json"
MAX_STACK_SIZE = 64 * 1024 * 1024  # bytes; 100,000 files of Debian take 16 MB, 30 MB with SHA-512 beside SHA-256
RUNTIME_PCR = 10  # moves all the time: judged file by file, never as a value
DEBUG_PCRS = frozenset({16, 23})  # anybody may reset these
_WHAT = "stack"
_MAX_EVENTS = 20_000

Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,63}\Z")]
Text = Annotated[str, Meta(max_length=200)]
Pcr = Annotated[int, Meta(ge=0, le=23)]
Time = Annotated[int, Meta(ge=0, le=2**53)]
FileDigest = tuple[Alg, bytes]


class EventDocument(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pcr: Pcr
    digests: Annotated[dict[str, str], Meta(min_length=1, max_length=4)]
    note: Text = ""
    command_line: Annotated[str, Meta(min_length=1, max_length=2047)] | None = None


class VariantDocument(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: Name
    events: tuple[EventDocument, ...]


class ComponentDocument(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: Name
    variants: Annotated[tuple[VariantDocument, ...], Meta(min_length=1, max_length=256)]


class RuntimeDocument(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    files: dict[str, Annotated[tuple[str, ...], Meta(min_length=1, max_length=64)]] = {}
    any_path: tuple[str, ...] = ()
    signers: Annotated[tuple[str, ...], Meta(max_length=64)] = ()
    keyrings: Annotated[dict[str, Annotated[tuple[str, ...], Meta(max_length=1024)]], Meta(max_length=64)] = {}


class StackDocument(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: Literal["watchword-stack/1"]
    name: Name
    version: Name
    serial: Annotated[int, Meta(ge=1, le=2**53)]
    origin: Literal["computed", "captured"]
    pcrs: Annotated[tuple[Pcr, ...], Meta(min_length=1, max_length=24)]
    components: Annotated[tuple[ComponentDocument, ...], Meta(min_length=1, max_length=256)]
    pool: Name = "default"
    channel: Name = "stable"
    issued: Time | None = None
    not_before: Time | None = None
    not_after: Time | None = None
    supersedes: Annotated[tuple[str, ...], Meta(max_length=64)] = ()
    known_bad: Annotated[tuple[KnownBadDocument, ...], Meta(max_length=1024)] = ()
    runtime: RuntimeDocument | None = None


@dataclass(frozen=True, slots=True)
class ExpectedEvent:
    """One event that must be in the boot log: its PCR, its digest per bank, and a note for people.

    ``command_line`` is the kernel's command line when the event measures it: the digests were found to be of it.
    """

    pcr: int
    digests: Mapping[Alg, bytes]
    note: str
    command_line: str | None = None


@dataclass(frozen=True, slots=True)
class CompiledVariant:
    name: str
    events: tuple[ExpectedEvent, ...]


@dataclass(frozen=True, slots=True)
class CompiledComponent:
    name: str
    variants: tuple[CompiledVariant, ...]


@dataclass(frozen=True, slots=True)
class CompiledStack:
    """A stack document, ready for matching. ``digest`` is the SHA-256 of the exact document bytes.

    Releases of one ``name`` follow each other within a ``pool`` and ``channel``; ``supersedes`` are the digests (32
    bytes) of those that this one replaces, ``known_bad`` what no host may show while this release is in force.
    ``files`` maps an exact path (bytes) to the digests it may have, ``any_path`` holds digests that may be anywhere,
    ``signers`` the keys whose signature makes a file good wherever it is, ``keyrings`` the keys that may be loaded onto
    the keyring of a name (SHA-256 of each SubjectPublicKeyInfo), which makes nothing good that they sign; ``runtime``
    is False when the document says nothing about files. ``banks`` are the banks that every event has a digest in.
    """

    name: str
    version: str
    serial: int
    origin: str
    pool: str
    channel: str
    issued: int | None
    not_before: int | None
    not_after: int | None
    pcrs: tuple[int, ...]
    banks: frozenset[Alg]
    components: tuple[CompiledComponent, ...] = field(repr=False)
    runtime: bool
    files: Mapping[bytes, frozenset[FileDigest]] = field(repr=False)
    any_path: frozenset[FileDigest] = field(repr=False)
    signers: Signers = field(repr=False)
    keyrings: Mapping[bytes, frozenset[bytes]] = field(repr=False)
    supersedes: frozenset[bytes] = field(repr=False)
    known_bad: tuple[BadComponent, ...] = field(repr=False)
    digest: bytes

    @classmethod
    def parse(cls, data: bytes) -> CompiledStack:
        """Read and compile a stack document of at most 64 MiB. Raises MalformedError with the place that is wrong."""
        document = load(data, StackDocument, _WHAT, MAX_STACK_SIZE)
        with located(data):
            return cls._compile(document, hashlib.sha256(data).digest())

    @classmethod
    def _compile(cls, document: StackDocument, digest: bytes) -> CompiledStack:
        _check(document)
        components = _compile_components(document)
        files, any_path = _compile_runtime(document.runtime or RuntimeDocument())
        return cls(
            name=document.name,
            version=document.version,
            serial=document.serial,
            origin=document.origin,
            pool=document.pool,
            channel=document.channel,
            issued=document.issued,
            not_before=document.not_before,
            not_after=document.not_after,
            pcrs=document.pcrs,
            banks=_common_banks(components),
            components=components,
            runtime=document.runtime is not None,
            files=files,
            any_path=any_path,
            signers=compile_signers(_WHAT, "runtime.signers", document.runtime.signers if document.runtime else ()),
            keyrings=_compile_keyrings(document.runtime.keyrings if document.runtime else {}),
            supersedes=_superseded(document.supersedes),
            known_bad=compile_known_bad(_WHAT, document.known_bad),
            digest=digest,
        )

    @property
    def label(self) -> str:
        """Name and version, for messages, and where it is offered unless that is the ordinary place."""
        place = "" if (self.pool, self.channel) == ("default", "stable") else f" ({self.pool}/{self.channel})"
        return f"{self.name} {self.version}{place}"


def _check(document: StackDocument) -> None:
    check_pcrs(_WHAT, document.pcrs)
    if RUNTIME_PCR in document.pcrs:
        fail(_WHAT, "pcrs", f"PCR {RUNTIME_PCR} holds the runtime log, list its files under runtime")
    if document.not_after is not None and document.not_after <= (document.not_before or 0):
        fail(_WHAT, "not_after", "is not later than not_before")
    _unique("components[{}].name", [c.name for c in document.components])
    for i, component in enumerate(document.components):
        _unique(f"components[{i}].variants[{{}}].name", [v.name for v in component.variants])
    if sum(len(v.events) for c in document.components for v in c.variants) > _MAX_EVENTS:
        fail(_WHAT, "components", f"has more than {_MAX_EVENTS} events")


def check_pcrs(what: str, pcrs: Sequence[int]) -> None:
    """Refuse PCR lists that are not ascending, repeat one, or contain a PCR that anybody may reset."""
    if list(pcrs) != sorted(set(pcrs)):
        fail(what, "pcrs", "must be ascending and without repetition")
    if DEBUG_PCRS & set(pcrs):
        fail(what, "pcrs", "PCRs 16 and 23 can be reset by anybody and prove nothing")


def _unique(path: str, names: Sequence[str]) -> None:
    for i, name in enumerate(names):
        if name in names[:i]:
            fail(_WHAT, path.format(i), f"{name} is already used")


def _compile_components(document: StackDocument) -> tuple[CompiledComponent, ...]:
    covered = frozenset(document.pcrs)
    return tuple(
        CompiledComponent(
            component.name,
            tuple(
                CompiledVariant(
                    variant.name,
                    tuple(
                        _compile_event(event, covered, f"components[{i}].variants[{j}].events[{k}]")
                        for k, event in enumerate(variant.events)
                    ),
                )
                for j, variant in enumerate(component.variants)
            ),
        )
        for i, component in enumerate(document.components)
    )


def _compile_event(event: EventDocument, covered: frozenset[int], path: str) -> ExpectedEvent:
    if event.pcr not in covered:
        fail(_WHAT, f"{path}.pcr", f"PCR {event.pcr} is not among the pcrs that this stack covers")
    if not event.note.isprintable():
        fail(_WHAT, f"{path}.note", "has control characters")
    digests = {}
    for name, digits in event.digests.items():
        alg = DIGEST_NAMES.get(name)
        if alg is None:
            fail(_WHAT, f"{path}.digests", f"{name!r} is not one of {', '.join(DIGEST_NAMES)}")
        digests[alg] = parse_hex(_WHAT, f"{path}.digests.{name}", digits, digest_size(alg))
    _check_command_line(event.command_line, digests, path)
    return ExpectedEvent(event.pcr, digests, event.note, event.command_line)


def _check_command_line(text: str | None, digests: Mapping[Alg, bytes], path: str) -> None:
    """A command line is believed because its digest is measured: as it is, or as UEFI load options."""
    if text is None:
        return
    if command_line_words(text) is None:
        fail(_WHAT, f"{path}.command_line", "is not one line of printable ASCII")
    forms = command_line_forms(text)
    for alg, value in digests.items():
        if value not in [digest_of(alg, form) for form in forms]:
            fail(_WHAT, f"{path}.command_line", f"is not what the {digest_name(alg)} digest is of")


def _superseded(digests: tuple[str, ...]) -> frozenset[bytes]:
    found = [parse_digest(_WHAT, f"supersedes[{i}]", text, only="sha256")[1] for i, text in enumerate(digests)]
    if len(set(found)) != len(found):
        fail(_WHAT, "supersedes", "names a release twice")
    return frozenset(found)


def _common_banks(components: tuple[CompiledComponent, ...]) -> frozenset[Alg]:
    banks = [frozenset(e.digests) for c in components for v in c.variants for e in v.events]
    if not banks:
        fail(_WHAT, "components", "no variant has any event: this stack would say nothing about the boot")
    common = frozenset.intersection(*banks)
    if not common:
        fail(_WHAT, "components", "there is no bank in which every event has a digest")
    return common


def _compile_runtime(
    document: RuntimeDocument,
) -> tuple[dict[bytes, frozenset[FileDigest]], frozenset[FileDigest]]:
    seen: dict[frozenset[FileDigest], frozenset[FileDigest]] = {}  # equal sets are kept once
    files = {}
    for text, digests in document.files.items():
        place = f"runtime.files[{text!r}]"
        found = frozenset(parse_digest(_WHAT, place, digest) for digest in digests)
        files[path_bytes(text)] = seen.setdefault(found, found)
    any_path = frozenset(
        parse_digest(_WHAT, f"runtime.any_path[{i}]", digest) for i, digest in enumerate(document.any_path)
    )
    return files, any_path


def _compile_keyrings(document: Mapping[str, Sequence[str]]) -> dict[bytes, frozenset[bytes]]:
    found = {}
    for name, keys in document.items():
        place = f"runtime.keyrings[{name!r}]"
        digests = [parse_digest(_WHAT, place, key) for key in keys]
        if any(alg is not Alg.SHA256 for alg, _ in digests):
            fail(_WHAT, place, "a key is named by the SHA-256 of its SubjectPublicKeyInfo: sha256:…")
        found[path_bytes(name, "runtime.keyrings")] = frozenset(digest for _, digest in digests)
    return found


def path_text(path: bytes) -> str:
    """How a document writes a path: as text, or ``hex:…`` when the bytes are not printable UTF-8."""
    try:
        text = path.decode("utf-8")
    except UnicodeDecodeError:
        return "hex:" + path.hex()
    return text if text.isprintable() and text and not text.startswith("hex:") else "hex:" + path.hex()


def path_bytes(text: str, where: str = "runtime.files") -> bytes:
    """The exact path that a document means by ``text``; only the form that :func:`path_text` writes is taken."""
    path = text.encode("utf-8")
    if text.startswith("hex:"):
        try:
            path = bytes.fromhex(text[4:])
        except ValueError:
            fail(_WHAT, f"{where}[{text!r}]", "not hex digits after hex:")
    if not path or path_text(path) != text:
        fail(_WHAT, f"{where}[{text!r}]", f"write this path as {path_text(path)!r}")
    return path
