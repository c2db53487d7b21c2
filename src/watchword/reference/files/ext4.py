"""ext2, ext3 and ext4 file systems: every file with its content, its hard links and its ``security.ima``."""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from watchword.reference.files.debugfs import Debugfs
from watchword.reference.files.member import MAX_FILE, Link, Member, Skipped
from watchword.reference.files.refuse import bad_artifact, bad_member
from watchword.reference.files.signature import MAX_SIGNATURE

__all__ = ["ext4_members"]

MAX_ENTRIES = 4_000_000
_RECORD = re.compile(rb"/([0-9]{1,10})/([0-7]{6})/[0-9]+/[0-9]+/([^/\0]{0,255})/([0-9]*)/\n")
_LARGEST_RECORD = 512
_NOT_FOUND = b"ea_get: Extended attribute key not found"
# needs_recovery: the journal has changes that are not in place. encrypt: what is stored is not what is run.
_UNREADABLE = {"needs_recovery": "was not unmounted cleanly", "encrypt": "has encrypted files"}


@dataclass(frozen=True, slots=True)
class _Found:
    node: int
    mode: int
    size: int
    path: bytes


def ext4_members(artifact: str, file: BinaryIO, offset: int, size: int) -> Iterator[Member | Link | Skipped]:
    """The files of the file system in the ``size`` bytes at ``offset``, each to be read before the next is asked for.

    Raises MalformedError when it is broken, larger than ``size``, was not unmounted, or is encrypted; Unavailable
    without ``debugfs``.
    """
    with Debugfs(artifact, file, offset) as tool:
        _check(artifact, tool, size)
        first: dict[int, _Found] = {}
        links: list[Link] = []
        for found in _tree(artifact, tool):
            if not stat.S_ISREG(found.mode):
                yield Skipped(found.path, "symlink" if stat.S_ISLNK(found.mode) else "special")
            elif found.node in first:
                links.append(Link(found.path, first[found.node].path))
            else:
                first[found.node] = found
        signatures = _signatures(artifact, tool, sorted(first))
        commands = (f"cat <{node}>" for node in sorted(first))
        for _, node in zip(tool.ask(commands), sorted(first), strict=True):
            one = first[node]
            yield Member(one.path, stat.S_IMODE(one.mode), tool.take(one.size), signatures.get(node, b""))
        for _ in tool.ask(["quit"]):  # the echo shows that the last file had no more bytes than it should
            pass
        yield from links


def _check(artifact: str, tool: Debugfs, size: int) -> None:
    said: dict[str, str] = {}
    for command in tool.ask(["show_super_stats -h", "pwd"]):
        if command == "pwd":  # its echo ends the answer before it
            break
        while not tool.starts(b"debugfs: "):
            name, _, value = tool.until(b"\n", 8192).decode("utf-8", "replace").partition(":")
            said[name] = value.strip()
    for _ in range(2):
        tool.until(b"\n", 8192)
    if "Filesystem features" not in said:
        bad_artifact(artifact, "its file system cannot be opened")
    for feature in set(said["Filesystem features"].split()) & set(_UNREADABLE):
        bad_artifact(artifact, _UNREADABLE[feature])
    blocks, block_size = said.get("Block count", ""), said.get("Block size", "")
    if not (blocks.isdecimal() and block_size.isdecimal() and int(blocks) * int(block_size) <= size):
        bad_artifact(artifact, f"its file system does not end within its {size} bytes: it was cut off")


def _tree(artifact: str, tool: Debugfs) -> Iterator[_Found]:
    level, seen, count = [(2, b"")], {2}, 0
    while level:
        below: list[tuple[int, bytes]] = []
        for _, (_, folder) in zip(tool.ask(f"ls -p <{node}>" for node, _ in level), level, strict=True):
            for found in _records(artifact, tool, folder):
                count += 1
                if count > MAX_ENTRIES:
                    bad_artifact(artifact, f"has more than {MAX_ENTRIES} files")
                if not stat.S_ISDIR(found.mode):
                    yield found
                elif found.node in seen:
                    bad_member(artifact, found.path, "is a directory that is in the tree twice")
                else:
                    seen.add(found.node)
                    below.append((found.node, found.path))
        level = below


def _records(artifact: str, tool: Debugfs, folder: bytes) -> Iterator[_Found]:
    while not tool.starts(b"\n"):
        text = b""
        while text.count(b"/") < 7:
            text += tool.until(b"/", _LARGEST_RECORD) + b"/"
        record = _RECORD.fullmatch(text + tool.until(b"\n", 1) + b"\n")
        if record is not None and record[1] == b"0":  # an empty place, or the checksum of the directory
            continue
        if record is None or not record[3]:
            bad_artifact(artifact, "its file system is broken: a directory cannot be listed")
        name, size = record[3], int(record[4] or 0)
        if size > MAX_FILE or len(folder) + len(name) > 4094:
            bad_member(artifact, folder + b"/" + name, f"has more than {MAX_FILE} bytes, or a path that is too long")
        if name not in (b".", b".."):
            yield _Found(int(record[1]), int(record[2], 8), size, folder + b"/" + name)
    tool.until(b"\n", 1)


def _signatures(artifact: str, tool: Debugfs, nodes: list[int]) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    for _, node in zip(tool.ask(f"ea_get -x <{node}> security.ima" for node in nodes), nodes, strict=True):
        if tool.starts(_NOT_FOUND):
            tool.until(b"\n", 200)
            continue
        text = tool.until(b"\n", 4 * MAX_SIGNATURE)
        value = re.fullmatch(rb"security\.ima \(([0-9]+)\) = ((?:[0-9a-f]{2} ?)*)", text)
        if value is None:
            bad_artifact(artifact, f"the attribute security.ima of inode {node} cannot be read")
        if tool.starts(b"\n"):
            tool.until(b"\n", 1)
        found[node] = bytes.fromhex(value[2].decode())
        if len(found[node]) != int(value[1]) or len(found[node]) > MAX_SIGNATURE:
            bad_artifact(artifact, f"the attribute security.ima of inode {node} is too long")
    return found
