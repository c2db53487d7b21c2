"""The archives that systemd's stub packs for the kernel: they are measured, and become part of the initrd.

Source: systemd 252, src/boot/efi/cpio.c; Linux, Documentation/driver-api/early-userspace/buffer-format.rst.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["archive", "join"]

_DIRECTORY, _FILE = 0o040000, 0o100000
# The one field that is not in lower case, as the stub has it.
_TRAILER = b"070701" + b"0" * 32 + b"00000001" + b"0" * 48 + b"0000000B" + b"0" * 8 + b"TRAILER!!!\0\0\0\0"


def archive(folder: str, files: Sequence[tuple[str, bytes]], folder_mode: int, file_mode: int) -> bytes:
    """``files`` (name, content) below ``folder``, in the order of their names, with the folders above them."""
    *above, last = (folder[: len(folder) if end < 0 else end] for end in _ends(folder))
    entries = [(path, _DIRECTORY | 0o555, b"") for path in above] + [(last, _DIRECTORY | folder_mode, b"")]
    entries += [(f"{folder}/{name}", _FILE | file_mode, content) for name, content in sorted(files)]
    return b"".join(_entry(number, *entry) for number, entry in enumerate(entries, 1)) + _TRAILER


def _ends(path: str) -> list[int]:
    """Where each folder in ``path`` ends; -1 for the last."""
    return [at for at, character in enumerate(path) if character == "/"] + [-1]


def join(parts: Sequence[bytes]) -> bytes:
    """``parts`` one after the other, each filled with zeros to a multiple of four bytes."""
    return b"".join(part + bytes(-len(part) % 4) for part in parts)


def _entry(inode: int, name: str, mode: int, content: bytes) -> bytes:
    path = name.encode() + b"\0"
    fields = (inode, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(path), 0)
    head = b"070701" + b"".join(b"%08x" % field for field in fields) + path
    return head + bytes(-len(head) % 4) + content + bytes(-len(content) % 4)
