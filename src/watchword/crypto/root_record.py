"""What a root key signed last for each authority, kept beside the key: it never signs two lists with one number."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self

import msgspec

from watchword.crypto.keylist import KeyList
from watchword.errors import Finding, MalformedError, Rejected

__all__ = ["RootRecord"]

_FORMAT: Final = "watchword-root-record/1"


class _Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: int
    digest: str


class _Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: str
    signed: dict[str, _Entry]


@dataclass(frozen=True, slots=True)
class RootRecord:
    """``signed`` maps the name of an authority to the number and the SHA-256 (hex) of the newest list."""

    signed: Mapping[str, tuple[int, str]]

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read a record. Raises :class:`MalformedError`."""
        try:
            document = msgspec.json.decode(data, type=_Document)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise MalformedError(f"root record: {error}") from None
        if document.format != _FORMAT:
            raise MalformedError("root record: unknown format")
        return cls({name: (entry.version, entry.digest) for name, entry in document.signed.items()})

    def encode(self) -> bytes:
        """The JSON text of the file."""
        signed = {name: _Entry(version, digest) for name, (version, digest) in self.signed.items()}
        return msgspec.json.encode(_Document(_FORMAT, signed))

    def check(self, keys: KeyList, *, instead: bool = False) -> None:
        """K6: nothing older than what was signed, and nothing else under the same number.

        The same list again is fine; so is another one ``instead`` of the newest, which was then never installed.
        Raises :class:`Rejected` (``root-request-signed``).
        """
        version, digest = self.signed.get(keys.authority, (0, ""))
        if keys.version > version or (keys.version == version and (instead or _digest(keys) == digest)):
            return
        raise Rejected(
            Finding("K6", "root-request-signed", "this root has signed another list with that number, or a later one",
                    f"version {version + 1} or later", f"version {keys.version}"),
            hint="if the one signed before was never installed, destroy its file and say so: --instead",
        )  # fmt: skip

    def after(self, keys: KeyList) -> Self:
        """The record once ``keys`` was signed."""
        return type(self)({**self.signed, keys.authority: (keys.version, _digest(keys))})


def _digest(keys: KeyList) -> str:
    return hashlib.sha256(keys.encode()).hexdigest()
