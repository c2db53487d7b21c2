"""Where a machine's key must not be: logs, databases, settings, command lines and environments of the whole cloud."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_ssh_private_key

__all__ = ["found_in", "private_parts"]

_PEM = re.compile(rb"-----BEGIN OPENSSH PRIVATE KEY-----(.*?)-----END OPENSSH PRIVATE KEY-----", re.DOTALL)
_LINE = re.compile(rb"[A-Za-z0-9+/=]{8,70}")
_PUBLIC_LINES = 2  # of the PEM text: the format's header and the public half
_CHUNK, _OVERLAP = 1 << 24, 128


def private_parts(drive: bytes) -> list[bytes]:
    """What gives the SSH key on a config drive away: its seed, raw and in hex, and the private lines of its PEM."""
    found = _PEM.search(drive)
    if found is None:
        raise RuntimeError("the config drive has no SSH host key")
    lines = _LINE.findall(found[1])
    text = b"\n".join([b"-----BEGIN OPENSSH PRIVATE KEY-----", *lines, b"-----END OPENSSH PRIVATE KEY-----", b""])
    key = load_ssh_private_key(text, None)
    assert isinstance(key, Ed25519PrivateKey)
    seed = key.private_bytes_raw()
    return [seed, seed.hex().encode(), *(line for line in lines[_PUBLIC_LINES:] if len(line) > 40)]


def found_in(folders: Iterable[Path], except_below: Iterable[Path], parts: list[bytes]) -> tuple[list[str], int]:
    """Files below ``folders``, and processes, that have one of ``parts``; and how many were looked at."""
    left_out, hits, number = list(except_below), [], 0
    for path in [*_files(folders, left_out), *_processes()]:
        number += 1
        if _has(path, parts):
            hits.append(str(path))
    return hits, number


def _files(folders: Iterable[Path], left_out: list[Path]) -> Iterator[Path]:
    for folder in folders:
        for path in folder.rglob("*"):
            if path.is_file() and not path.is_symlink() and not any(path.is_relative_to(each) for each in left_out):
                yield path


def _processes() -> Iterator[Path]:
    for process in Path("/proc").glob("[0-9]*"):
        yield from (process / "cmdline", process / "environ")


def _has(path: Path, parts: list[bytes]) -> bool:
    before = b""
    try:
        with path.open("rb") as file:
            while piece := file.read(_CHUNK):
                if any(part in before + piece for part in parts):
                    return True
                before = piece[-_OVERLAP:]
    except OSError:
        return False  # it ended, or was removed, just now
    return False
