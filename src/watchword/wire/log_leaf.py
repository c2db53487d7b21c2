"""What everybody can read about one entry of an authority's log.

    version u8 (1) ‖ tag (32) ‖ commitment (32) ‖ public text (the rest, up to 16 KiB)

The commitment hides the entry; the tag lets those who know a launch find its entries; the public text is empty for
decisions and for acts that are nobody else's business. The bytes look the same for a release and for a refusal.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from typing import Final, Self

from watchword.errors import MalformedError
from watchword.wire.reader import Reader, Writer

__all__ = ["MAX_PUBLIC", "SALT_SIZE", "TAG_SIZE", "LogLeaf", "commitment", "index_key", "tag"]

SALT_SIZE: Final = 32
TAG_SIZE: Final = 32
MAX_PUBLIC: Final = 16 * 1024
_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class LogLeaf:
    """One leaf: ``tag`` and ``commitment`` of 32 bytes, ``public`` UTF-8 text of at most 16 KiB."""

    tag: bytes
    commitment: bytes
    public: bytes = b""

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read a leaf. Raises :class:`MalformedError`."""
        reader = Reader(data, "log leaf")
        if reader.u8() != _VERSION:
            raise reader.fail("unknown version")
        leaf = cls(reader.take(TAG_SIZE), reader.take(32), reader.rest())
        if len(leaf.public) > MAX_PUBLIC:
            raise MalformedError("log leaf: too long")
        return leaf

    def encode(self) -> bytes:
        return Writer().u8(_VERSION).raw(self.tag).raw(self.commitment).raw(self.public).done()


def commitment(salt: bytes, entry: bytes) -> bytes:
    """SHA-256(``watchword/log-commitment/1\\0`` ‖ salt ‖ entry); ``salt`` has 32 random bytes."""
    return hashlib.sha256(b"watchword/log-commitment/1\0" + salt + entry).digest()


def index_key(launch_key: bytes) -> bytes:
    """The key of a launch's tags (32 bytes): who knows the launch key can find its entries, and nobody else."""
    return hashlib.sha256(b"watchword/log-index/1\0" + launch_key).digest()


def tag(key: bytes, number: int) -> bytes:
    """The tag of the decision ``number`` (from 1) under :func:`index_key`."""
    return hmac.digest(key, number.to_bytes(8, "big"), "sha256")
