"""Paths: how an artifact writes them, and how the kernel will."""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Iterable, Sequence
from typing import Literal, TypeAlias

from watchword.reference.files.refuse import bad_member

__all__ = ["Excludes", "UsrMerge", "join", "listed_paths", "member_path"]

UsrMerge: TypeAlias = Literal["merged", "split", "both"]

_MAX_PATH = 4095  # PATH_MAX without the terminating zero
_MERGED = (b"/bin/", b"/sbin/", b"/lib/", b"/lib32/", b"/lib64/", b"/libx32/")


def member_path(artifact: str, name: bytes) -> bytes:
    """The absolute path of the member ``name`` ("./usr/bin/x", "usr/bin/x"); "/" for the root itself.

    Raises MalformedError for a name that is absolute, climbs, or is too long: unpacking it would write elsewhere.
    """
    if name.startswith(b"/"):
        bad_member(artifact, name, "the path is absolute; names in an archive are relative to its root")
    parts = [part for part in name.split(b"/") if part not in (b"", b".")]
    if b".." in parts:
        bad_member(artifact, name, "the path climbs out of the archive (..)")
    path = b"/" + b"/".join(parts)
    if len(path) > _MAX_PATH or b"\0" in path:
        bad_member(artifact, path[:100], f"the path has a zero byte or more than {_MAX_PATH} bytes")
    return path


def join(at: bytes, path: bytes) -> bytes:
    """The path of an artifact's ``path`` when its root is placed at ``at``."""
    return at.rstrip(b"/") + path


def listed_paths(path: bytes, usrmerge: UsrMerge) -> tuple[bytes, ...]:
    """The paths under which the kernel may measure a package's file.

    IMA logs the path without symbolic links: where /bin is a link to /usr/bin, the file of a package that ships
    /bin/ls is logged as /usr/bin/ls.
    """
    if usrmerge == "split" or not path.startswith(_MERGED):
        return (path,)
    return (b"/usr" + path,) if usrmerge == "merged" else (path, b"/usr" + path)


class Excludes:
    """Anchored patterns of paths that are left out. ``*`` and ``?`` match any character, ``/`` too."""

    def __init__(self, patterns: Sequence[str]) -> None:
        self._patterns = [(pattern, re.compile(fnmatch.translate(pattern))) for pattern in patterns]
        self._used: set[str] = set()

    def __contains__(self, path: bytes) -> bool:
        text = os.fsdecode(path)
        for pattern, compiled in self._patterns:
            if compiled.match(text):
                self._used.add(pattern)
                return True
        return False

    def unused(self) -> Iterable[str]:
        """Patterns that left nothing out: most likely mistyped."""
        return [pattern for pattern, _ in self._patterns if pattern not in self._used]
