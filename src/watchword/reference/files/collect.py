"""Sources to reference values: what a release may run, by path."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, NamedTuple

from watchword.errors import UsageError
from watchword.policy.document import digest_name
from watchword.policy.file_signature import Signers
from watchword.policy.stack import FileDigest, path_text
from watchword.reference.files.member import Hashed, Link, Member, Skipped, Tally, hash_member
from watchword.reference.files.paths import Excludes, UsrMerge, join, listed_paths
from watchword.reference.files.refuse import bad_member, bad_source
from watchword.reference.files.signature import judge_signature, signed_with
from watchword.reference.files.source import Source, SourceKind, kind_of, members, size_of
from watchword.wire.tpm.algorithms import Alg

__all__ = ["Options", "Progress", "RuntimeReferences", "collect"]

MAX_FILES = 1_000_000
MAX_DIGESTS = 64  # of one path, as in a stack document
_WORKERS = 4  # sources read at the same time: decompressing and hashing run beside each other

#: Gets the name of a source, how many bytes were read of all of them, and how many there are.
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Options:
    """How files are listed: what is left out, merged folders, digests, keys. See docs/reference/reference-files.md."""

    exclude: tuple[str, ...] = ()
    only_code: bool = False
    usrmerge: UsrMerge = "merged"
    algorithms: tuple[Alg, ...] = (Alg.SHA256,)
    signers: tuple[str, ...] = ()  # as a stack lists them
    keys: Signers | None = None


@dataclass(frozen=True, slots=True)
class RuntimeReferences:
    """The runtime part of a stack; ``counts`` tells people what was seen."""

    files: Mapping[bytes, frozenset[FileDigest]]
    signers: tuple[str, ...] = ()
    keyrings: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)

    def listing(self) -> dict[str, list[str]]:
        """Paths and digests as ``watchword stack capture --files`` reads them."""
        return {
            path_text(path): sorted(f"{digest_name(alg)}:{digest.hex()}" for alg, digest in self.files[path])
            for path in sorted(self.files)
        }

    def runtime(self) -> dict[str, Any]:
        """The member ``runtime`` of a stack document."""
        keyrings = {name: list(keys) for name, keys in self.keyrings.items()}
        return {"files": self.listing(), "signers": list(self.signers), "keyrings": keyrings}


class _Read(NamedTuple):
    kind: SourceKind
    files: Mapping[bytes, Hashed]
    tally: Tally


def collect(
    sources: Sequence[Source],
    options: Options,
    progress: Progress = lambda *_: None,
    *,
    listed: Iterable[tuple[bytes, Alg, bytes]] = (),
) -> RuntimeReferences:
    """List the files of packages, tar archives, images and directories, and those ``listed`` elsewhere already.

    Raises MalformedError for a broken artifact, UsageError for one of another kind or too many files, Unavailable
    when a tool is missing; nothing is returned then. ``progress`` is called from several threads.
    """
    found: dict[bytes, set[FileDigest]] = {}
    tally, excludes = Tally(), Excludes(options.exclude)
    for source in sources:
        if not source.at.startswith("/") or "/../" in f"{source.at}/":
            raise UsageError("reference-source", f"{source.at}: the place of a tree begins with / and has no ..")
    for path, alg, digest in listed:
        _add(found, path, {(alg, digest)}, excludes, tally)
    for source, read in zip(sources, _read_all(sources, options, progress), strict=True):
        tally.merge(read.tally)
        for path, hashed in read.files.items():
            if options.only_code and not hashed.code:
                tally.add("not code")
                continue
            for place in _places(source, read.kind, path, options):
                _add(found, place, hashed.digests, excludes, tally)
    for pattern in excludes.unused():
        raise UsageError("reference-source", f"the pattern {pattern!r} excludes nothing", hint="is it mistyped?")
    return RuntimeReferences(
        {path: frozenset(digests) for path, digests in found.items()}, options.signers, counts=tally.counts
    )


def _add(
    found: dict[bytes, set[FileDigest]], path: bytes, digests: Iterable[FileDigest], excludes: Excludes, tally: Tally
) -> None:
    if path in excludes:
        tally.add("excluded")
        return
    known = found.setdefault(path, set())
    known.update(digests)
    if len(known) > MAX_DIGESTS:
        raise UsageError("reference-source", f"{path_text(path)}: the sources have more than {MAX_DIGESTS} digests")
    if len(found) > MAX_FILES:
        raise UsageError("reference-source", f"there are more than {MAX_FILES} files")


def _places(source: Source, kind: SourceKind, path: bytes, options: Options) -> Iterable[bytes]:
    if kind in ("deb", "rpm"):
        return listed_paths(path, options.usrmerge)
    return (join(source.at.encode(), path),)


def _read_all(sources: Sequence[Source], options: Options, progress: Progress) -> Iterable[_Read]:
    meter = _Meter(progress, sources)
    pool = ThreadPoolExecutor(_WORKERS)
    try:
        yield from pool.map(lambda source, gauge: _read(source, options, gauge), sources, meter.gauges)
    finally:
        pool.shutdown(cancel_futures=True)


def _read(source: Source, options: Options, gauge: _Gauge) -> _Read:
    """Every file of one source, hashed, hard links resolved, signatures judged."""
    name, kind = str(source.path), kind_of(source)
    if source.partition is not None and kind != "image":
        bad_source(name, "is no image, so it has no partitions")
    files: dict[bytes, Hashed] = {}
    links: list[Link] = []
    tally = Tally()
    with ExitStack() as stack:
        file = None if kind == "directory" else stack.enter_context(source.path.open("rb"))
        packed = kind in ("deb", "rpm", "tar") and file is not None
        for member in members(source, kind, file):
            if isinstance(member, Skipped):
                tally.add(member.kind)
                continue
            if member.path in files:
                bad_member(name, member.path, "is in the artifact twice")
            if isinstance(member, Link):
                links.append(member)
            else:
                files[member.path] = _judged(name, member, options, tally, _nothing if packed else gauge.step)
            if packed and file is not None:
                gauge.at(file.tell())
    for link in links:
        if link.path in files or link.target not in files:
            bad_member(name, link.path, "is there twice, or is a hard link to a file that the artifact does not have")
        files[link.path] = files[link.target]
    gauge.at(gauge.size)
    tally.add("files", len(files))
    return _Read(kind, files, tally)


def _judged(name: str, member: Member, options: Options, tally: Tally, progress: Callable[[int], None]) -> Hashed:
    """One file, hashed; its signature counted, and verified if keys were given."""
    wanted, keys = options.algorithms, options.keys
    signed = signed_with(member.signature, keys) if member.signature and keys else None
    also = (signed,) if signed is not None and signed not in wanted else ()
    hashed = hash_member(name, member, (*wanted, *also), progress)
    if member.signature:
        tally.add("signed")
        if keys:
            tally.add(f"signature: {judge_signature(name, member.path, hashed.digests, member.signature, keys)}")
    return Hashed(hashed.digests[: len(wanted)], hashed.size, hashed.code)


class _Meter:
    """How much was read of all sources, for the caller's bar."""

    def __init__(self, progress: Progress, sources: Sequence[Source]) -> None:
        self._progress, self._lock, self._done = progress, Lock(), 0
        self.gauges = [_Gauge(self, source.path.name, size_of(source.path)) for source in sources]
        self._total = sum(gauge.size for gauge in self.gauges)

    def step(self, name: str, read: int) -> None:
        """``read`` more bytes of the source ``name``."""
        with self._lock:
            self._done += read
            self._progress(name, self._done, self._total)


class _Gauge:
    """How much was read of one source: never more than it has, though packed and sparse files have more inside."""

    def __init__(self, meter: _Meter, name: str, size: int) -> None:
        self._meter, self._name, self.size, self._done = meter, name, size, 0

    def at(self, position: int) -> None:
        """The source was read up to ``position``."""
        self.step(position - self._done)

    def step(self, read: int) -> None:
        """``read`` more bytes."""
        read = min(read, self.size - self._done)
        self._done += read
        if read > 0:
            self._meter.step(self._name, read)


def _nothing(_: int) -> None:
    pass
