"""The table ``[runtime]`` of a release file, and the reference values that it stands for.

Paths and patterns are relative to the folder of the release file. A key that is not known, a value of another kind, a
pattern that matches nothing: each is refused with its place.
"""

from __future__ import annotations

import difflib
import glob
import hashlib
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from watchword.errors import MalformedError, UsageError
from watchword.policy.document import DIGEST_NAMES, fail
from watchword.reference.files.agent import agent_sources
from watchword.reference.files.collect import Options, Progress, RuntimeReferences, collect
from watchword.reference.files.listing import MAX_LISTING, parse_listing
from watchword.reference.files.refuse import bad_source
from watchword.reference.files.signature import load_signers, public_key
from watchword.reference.files.source import Source, kind_of
from watchword.wire.tpm.algorithms import Alg

__all__ = ["RuntimeTable", "files_from_table", "parse_runtime_table", "read_runtime"]

_WHAT = "release file"
_AT = re.compile(r"^(?P<why>.*?)(?: - at `(?:key in )?\$\.?(?P<path>.*)`)?$", re.DOTALL)
_UNKNOWN = re.compile(r"Object contains unknown field `(?P<name>.*)`", re.DOTALL)

_File = Annotated[str, Meta(min_length=1, max_length=4096)]
_Files = Annotated[tuple[_File, ...], Meta(max_length=10_000)]
_At = Annotated[str, Meta(pattern=r"^/[^\x00]*\Z", max_length=4096)]


class _Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename=lambda name: name.replace("_", "-")):
    """A table of a release file: keys with hyphens."""


class _Tree(_Table, frozen=True):
    path: _File
    at: _At = "/"


class _Image(_Table, frozen=True):
    path: _File
    at: _At = "/"
    partition: Annotated[int, Meta(ge=1, le=1024)] | Annotated[str, Meta(min_length=1, max_length=36)] | None = None


class RuntimeTable(_Table, frozen=True):
    """``[runtime]``, as it is written. See docs/reference/reference-files.md."""

    packages: _Files = ()
    directories: Annotated[tuple[_Tree | _File, ...], Meta(max_length=1000)] = ()
    archives: Annotated[tuple[_Tree | _File, ...], Meta(max_length=1000)] = ()
    images: Annotated[tuple[_Image | _File, ...], Meta(max_length=1000)] = ()
    files: _Files = ()
    agent: bool | _File = False
    exclude: _Files = ()
    only_code: bool = False
    usrmerge: Literal["merged", "split", "both"] = "merged"
    algorithms: Annotated[tuple[Literal["sha256", "sha384", "sha512"], ...], Meta(min_length=1)] = ("sha256",)
    signers: Annotated[tuple[_File, ...], Meta(max_length=64)] = ()
    keyrings: dict[Annotated[str, Meta(min_length=1, max_length=256)], _Files] = {}


def parse_runtime_table(table: Mapping[str, Any]) -> RuntimeTable:
    """Raises MalformedError with the key that is wrong, and the one that was probably meant."""
    try:
        parsed = msgspec.convert(table, RuntimeTable, strict=True)
    except msgspec.ValidationError as error:
        found = _AT.match(str(error))
        why, path = (found["why"], found["path"] or "") if found else (str(error), "")
        unknown = _UNKNOWN.fullmatch(why)
        place = f"runtime.{path}".rstrip(".")
        fail(_WHAT, place, f"{why}{_suggestion(unknown['name'], path) if unknown else ''}")
    named = (parsed.packages, parsed.directories, parsed.archives, parsed.images, parsed.files, parsed.agent)
    if not any((*named, parsed.signers)):
        fail(_WHAT, "runtime", "names no files and no signers, so that nothing may run; leave the table out")
    return parsed


def files_from_table(table: Mapping[str, Any], base: Path, progress: Progress = lambda *_: None) -> RuntimeReferences:
    """What ``[runtime]`` lists. ``base`` is the folder of the release file.

    Raises MalformedError and UsageError, with the key, the artifact or the file in it that is wrong.
    """
    parsed = parse_runtime_table(table)
    texts, keys = load_signers([base / name for name in parsed.signers])
    options = Options(
        exclude=parsed.exclude,
        only_code=parsed.only_code,
        usrmerge=parsed.usrmerge,
        algorithms=tuple(DIGEST_NAMES[name] for name in dict.fromkeys(parsed.algorithms)),
        signers=texts,
        keys=keys or None,
    )
    found = collect(list(_sources(parsed, base)), options, progress, listed=_listed(parsed.files, base))
    keyrings = {
        name: tuple(f"sha256:{hashlib.sha256(public_key(key)).hexdigest()}" for key in _matching(base, keys))
        for name, keys in parsed.keyrings.items()
    }
    return RuntimeReferences(found.files, found.signers, keyrings, found.counts)


def read_runtime(table: Mapping[str, Any], base: Path) -> dict[str, Any]:
    """The member ``runtime`` of the stack document, for :func:`compute_stack`."""
    return files_from_table(table, base).runtime()


def _sources(table: RuntimeTable, base: Path) -> Iterator[Source]:
    for key, names, kinds in (
        ("packages", table.packages, ("deb", "rpm")),
        ("directories", table.directories, ("directory",)),
        ("archives", table.archives, ("tar",)),
        ("images", table.images, ("image",)),
    ):
        for one in names:
            pattern, at, partition = _place(one)
            for path in _matching(base, [pattern]):
                source = Source(path, at, partition)
                if (kind := kind_of(source)) not in kinds:
                    bad_source(str(path), f"is listed under {key}, but is of the kind {kind}")
                yield source
    if table.agent:
        yield from agent_sources(_environment(table.agent, base))


def _place(one: str | _Tree | _Image) -> tuple[str, str, str | int | None]:
    if isinstance(one, str):
        return one, "/", None
    return one.path, one.at, one.partition if isinstance(one, _Image) else None


def _environment(agent: bool | str, base: Path) -> Path:
    if isinstance(agent, str):
        return base / agent
    if sys.prefix == sys.base_prefix:
        bad_source("agent = true", "this command does not run in a virtual environment", "name the agent's environment")
    return Path(sys.prefix)


def _matching(base: Path, patterns: Sequence[str]) -> Iterator[Path]:
    """Each pattern's files in order. Raises UsageError for a pattern that matches none."""
    for pattern in patterns:
        rooted = pattern if os.path.isabs(pattern) else os.path.join(glob.escape(str(base)), pattern)
        found = sorted(glob.glob(rooted, recursive=True))
        if not found and os.path.lexists(base / pattern):  # a name with brackets
            found = [str(base / pattern)]
        if not found:
            bad_source(pattern, "matches no file", f"paths are relative to {base}")
        yield from map(Path, found)


def _listed(names: Iterable[str], base: Path) -> Iterator[tuple[bytes, Alg, bytes]]:
    for path in _matching(base, list(names)):
        try:
            with path.open("rb") as file:
                yield from parse_listing(file.read(MAX_LISTING + 1))
        except OSError as error:
            bad_source(str(path), (error.strerror or str(error)).lower())
        except MalformedError as error:
            raise UsageError("reference-source", f"{path}: {error.message}") from error


def _suggestion(name: str, path: str) -> str:
    known = _Image if path.startswith("images") else _Tree if path else RuntimeTable
    close = difflib.get_close_matches(name, known.__struct_encode_fields__, 1)
    return f"; is {close[0]} meant?" if close else f"; known are {', '.join(known.__struct_encode_fields__)}"
