"""File manifests: ``sha256sum`` and its relatives, and the allowlists of older Keylime releases.

A line is ``DIGEST PATH``: one blank or more (``sha256sum`` writes a second blank or ``*``), the digest bare or as
``sha256:DIGEST``. GNU coreutils writes a line that begins with a backslash when the path has escapes. Sources: GNU
coreutils manual, "cksum output modes"; Keylime's ``allowlist`` format.
"""

from __future__ import annotations

import re

from watchword.policy.document import DIGEST_NAMES, fail
from watchword.reference.interop.draft import Draft
from watchword.wire.tpm.algorithms import Alg, digest_size

__all__ = ["MAX_MANIFEST", "Tally", "read_manifest", "strong_digest"]

MAX_MANIFEST = 64 * 1024 * 1024  # bytes
_MAX_LINES = 1_000_000
_LINE = re.compile(rb"(\\?)(?:([a-z0-9_]{1,16}):)?([0-9a-fA-F]{32,128})[ \t]+\*?(.+)", re.DOTALL)
_ESCAPE = re.compile(rb"\\(.?)", re.DOTALL)
_ESCAPES = {b"\\": b"\\", b"n": b"\n", b"r": b"\r"}
# SM3 digests have the length of SHA-256: taken for SHA-256 they match no file, which is narrow and never wide.
_BY_SIZE = {2 * digest_size(alg): alg for alg in (Alg.SHA256, Alg.SHA384, Alg.SHA512)}


class Tally:
    """Counts what is left out, so that ten thousand SHA-1 digests make one sentence."""

    def __init__(self) -> None:
        self._counts: dict[str, list[str]] = {}

    def add(self, reason: str, example: str) -> None:
        self._counts.setdefault(reason, []).append(example)

    def sentences(self) -> tuple[str, ...]:
        return tuple(
            f"{len(found)} × {reason}, for example {found[0]!a}" if len(found) > 1 else f"{reason}: {found[0]!a}"
            for reason, found in self._counts.items()
        )


def read_manifest(data: bytes) -> Draft:
    """The files that a manifest of at most 64 MiB lists, with exact paths.

    Relative paths, ``boot_aggregate``, keyrings and weak digests are left out. Raises MalformedError naming the line.
    """
    if len(data) > MAX_MANIFEST:
        fail("manifest", "", f"is {len(data)} bytes long, {MAX_MANIFEST} are allowed")
    lines = data.split(b"\n")
    if len(lines) > _MAX_LINES:
        fail("manifest", "", f"has more than {_MAX_LINES} lines")
    files: dict[bytes, set[tuple[Alg, bytes]]] = {}
    tally = Tally()
    for number, line in enumerate(lines, 1):
        if line.strip() and not line.startswith(b"#"):
            _read_line(f"line {number}", line, files, tally)
    return Draft(files={path: frozenset(found) for path, found in files.items()}, left_out=tally.sentences())


def _read_line(place: str, line: bytes, files: dict[bytes, set[tuple[Alg, bytes]]], tally: Tally) -> None:
    found = _LINE.fullmatch(line)
    if found is None:
        fail("manifest", place, "is not a digest and a path")
    path = _unescape(place, found[4]) if found[1] else found[4]
    shown = path.decode("utf-8", "backslashreplace")
    if path.startswith(b"%keyring:"):
        tally.add("keyring, which a stack cannot list", shown)
        return
    if path == b"boot_aggregate":
        tally.add("boot aggregate, which is judged against the quote", shown)
        return
    if not path.startswith(b"/"):
        tally.add("path that is not absolute", shown)
        return
    digest = strong_digest(found[2].decode() if found[2] else "", found[3].decode())
    if digest is None:
        tally.add("digest that is too weak or of no known kind", shown)
        return
    files.setdefault(path, set()).add(digest)


def strong_digest(name: str, digits: str) -> tuple[Alg, bytes] | None:
    """A digest from its hex ``digits``; without a ``name`` its length says which SHA-2 it is. None for all others."""
    alg = DIGEST_NAMES.get(name) if name else _BY_SIZE.get(len(digits))
    if alg is None or len(digits) != 2 * digest_size(alg) or not re.fullmatch(r"[0-9a-fA-F]+", digits):
        return None
    return alg, bytes.fromhex(digits)


def _unescape(place: str, path: bytes) -> bytes:
    def one(found: re.Match[bytes]) -> bytes:
        if found[1] not in _ESCAPES:
            fail("manifest", place, "has an escape that no manifest has")
        return _ESCAPES[found[1]]

    return _ESCAPE.sub(one, path)
