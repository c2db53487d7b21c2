"""Signed notes, verifier keys and checkpoints as text. Nothing is verified here: that is ``crypto.note``.

Sources: C2SP signed-note and tlog-checkpoint. A note is text that ends in a newline, an empty line, and signature
lines: an em dash, a key name, and in base64 the key's id (4 bytes) and the signature.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from typing import Final, Self

from watchword.errors import MalformedError
from watchword.wire.merkle import HASH_SIZE, MAX_SIZE

__all__ = ["MAX_NOTE", "Checkpoint", "Note", "NoteKey", "NoteSignature", "is_key_name"]

MAX_NOTE: Final = 64 * 1024  # bytes
_MAX_SIGNATURES: Final = 100
_MAX_NAME: Final = 300
_DASH: Final = "\N{EM DASH} "
_KEY_ID: Final = 4  # bytes
_NUMBER: Final = re.compile(r"0|[1-9][0-9]{0,18}")


@dataclass(frozen=True, slots=True)
class NoteSignature:
    """One line: who claims to have signed (``name``, ``key_id`` of 4 bytes), and the signature's bytes."""

    name: str
    key_id: bytes
    signature: bytes

    @classmethod
    def parse(cls, line: str) -> Self:
        """Read a line without its newline. Raises :class:`MalformedError`."""
        name, space, text = line.removeprefix(_DASH).partition(" ")
        if not line.startswith(_DASH) or not space or not is_key_name(name):
            raise MalformedError("signed note: a signature line is not one")
        data = _base64(text)
        if len(data) <= _KEY_ID:
            raise MalformedError("signed note: a signature is empty")
        return cls(name, data[:_KEY_ID], data[_KEY_ID:])

    def encode(self) -> str:
        return f"{_DASH}{self.name} {base64.b64encode(self.key_id + self.signature).decode()}\n"


@dataclass(frozen=True, slots=True)
class Note:
    """``text``, which ends in a newline, and the signatures on it; possibly none of a key that anybody knows."""

    text: str
    signatures: tuple[NoteSignature, ...]

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read a note of at most 64 KiB. Raises :class:`MalformedError`."""
        if len(data) > MAX_NOTE:
            raise MalformedError(f"signed note: {len(data)} bytes, at most {MAX_NOTE} are allowed")
        try:
            whole = data.decode("utf-8")
        except UnicodeDecodeError:
            raise MalformedError("signed note: not UTF-8") from None
        if any(ord(char) < 0x20 and char != "\n" for char in whole):
            raise MalformedError("signed note: a control character")
        text, gap, lines = whole.rpartition("\n\n")
        if not gap or not lines.endswith("\n"):
            raise MalformedError("signed note: no signatures after an empty line")
        signatures = lines[:-1].split("\n")
        if len(signatures) > _MAX_SIGNATURES:
            raise MalformedError(f"signed note: more than {_MAX_SIGNATURES} signatures")
        return cls(text + "\n", tuple(map(NoteSignature.parse, signatures)))

    def encode(self) -> bytes:
        return (self.text + "\n" + "".join(each.encode() for each in self.signatures)).encode()


@dataclass(frozen=True, slots=True)
class NoteKey:
    """A verifier key as people pass it on: ``name+id+base64(type, key)``; ``kind`` 1 signs notes, 4 cosigns them."""

    name: str
    key_id: bytes
    kind: int
    key: bytes

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a verifier key. Raises :class:`MalformedError`; that the id is right, ``crypto.note`` checks."""
        parts = text.strip().split("+", 2)
        if len(text) > 2 * _MAX_NAME or len(parts) != 3 or not is_key_name(parts[0]):
            raise MalformedError("note key: not NAME+ID+KEY")
        data = _base64(parts[2])
        if not re.fullmatch("[0-9a-f]{8}", parts[1]) or len(data) < 2:
            raise MalformedError("note key: the id has 8 hex digits, and a key follows")
        return cls(parts[0], bytes.fromhex(parts[1]), data[0], data[1:])

    def encode(self) -> str:
        key = base64.b64encode(bytes([self.kind]) + self.key).decode()
        return f"{self.name}+{self.key_id.hex()}+{key}"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a log says about itself: its ``origin``, how many leaves it has, and its root."""

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the text of a note. Raises :class:`MalformedError`."""
        lines = text.split("\n")
        if len(lines) < 4 or lines.pop() or not all(lines):
            raise MalformedError("checkpoint: not an origin, a size and a root, each on a line")
        origin, size, root, *extensions = lines
        if not _NUMBER.fullmatch(size) or int(size) > MAX_SIZE or len(origin) > _MAX_NAME:
            raise MalformedError("checkpoint: no size of a log")
        data = _base64(root)
        if len(data) != HASH_SIZE:
            raise MalformedError("checkpoint: the root does not have 32 bytes")
        return cls(origin, int(size), data, tuple(extensions))

    def encode(self) -> str:
        lines = (self.origin, str(self.size), base64.b64encode(self.root).decode(), *self.extensions)
        return "".join(f"{line}\n" for line in lines)


def is_key_name(name: str) -> bool:
    """Whether ``name`` can name a key: not empty, without spaces and plus signs."""
    return 0 < len(name) <= _MAX_NAME and name.isprintable() and "+" not in name and not any(map(str.isspace, name))


def _base64(text: str) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise MalformedError("signed note: not base64") from None
    if base64.b64encode(data).decode() != text:
        raise MalformedError("signed note: base64 with stray bits")
    return data
