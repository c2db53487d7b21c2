"""The digest of everything a machine is launched from.

The tenant computes it over the files it means, the host over the files it really uses. Each input has a name, so
that user-data can never stand in for a disk.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping

from watchword.errors import MalformedError
from watchword.wire.reader import Writer

__all__ = ["DISK", "STANDARD_INPUTS", "USER_DATA", "format_names", "inputs_digest", "parse_names"]

DISK, USER_DATA = "disk", "user-data"
STANDARD_INPUTS = (DISK, USER_DATA)

_DOMAIN = b"watchword/inputs/1\0"
_NAME = re.compile(r"[a-z][a-z0-9-]{0,31}\Z")
_MAX_INPUTS = 16


def inputs_digest(inputs: Mapping[str, bytes]) -> bytes:
    """The 32-byte digest over named inputs.

    ``inputs`` maps a name (``disk``, ``user-data``, ``kernel``, ``initrd``, ``cmdline``, or the tenant's own) to the
    SHA-256 of its content, 32 bytes. An input that is absent and one that is empty are different.
    Raises :class:`MalformedError` on a bad name, a digest of another size, or more than 16 inputs.
    Source: ``docs/spec/messages.md``, launch inputs.
    """
    if not inputs or len(inputs) > _MAX_INPUTS:
        raise MalformedError(f"launch inputs: between 1 and {_MAX_INPUTS} are allowed, got {len(inputs)}")
    writer = Writer().raw(_DOMAIN).u16(len(inputs))
    for name in sorted(inputs):
        _check_name(name)
        if len(inputs[name]) != hashlib.sha256().digest_size:
            raise MalformedError(f"launch inputs: {name!r} needs a SHA-256 digest of 32 bytes")
        writer.sized16(name.encode()).raw(inputs[name])
    return hashlib.sha256(writer.done()).digest()


def parse_names(text: str) -> tuple[str, ...]:
    """The names in a comma-separated list, sorted; each at most once. Raises :class:`MalformedError`."""
    if len(text) > _MAX_INPUTS * 33:
        raise MalformedError("launch inputs: the list of names is too long")
    names = tuple(text.split(","))
    for name in names:
        _check_name(name)
    if len(set(names)) != len(names) or len(names) > _MAX_INPUTS:
        raise MalformedError("launch inputs: a name stands twice, or there are too many")
    return tuple(sorted(names))


def format_names(names: Mapping[str, bytes] | tuple[str, ...]) -> str:
    """The comma-separated list that :func:`parse_names` reads."""
    return ",".join(sorted(names))


def _check_name(name: str) -> None:
    if not _NAME.match(name):
        raise MalformedError(f"launch inputs: {name[:40]!r} is not a name (lower-case letters, digits, hyphens)")
