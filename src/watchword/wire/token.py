"""The launch token: what the tenant sends along with its launch request.

On the outside a token is text of at most 255 characters (one OpenStack metadata value) that always starts with
``WWT1``. Inside is a body sealed to one authority; ``watchword.crypto.token`` seals and opens it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from watchword.wire.metadata_text import MAX_TEXT, from_text, magic, to_text
from watchword.wire.reader import Reader, Writer, parse_whole
from watchword.wire.share import SharePlace

__all__ = ["KEY_ID_SIZE", "MAX_TEXT", "SUITE_SHARE", "SUITE_X25519", "Token", "TokenBody", "token_id"]

KEY_ID_SIZE = 4
SUITE_X25519 = 1  # DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, ChaCha20Poly1305 (RFC 9180)
SUITE_SHARE = 2  # the same, and what is inside is one share of a secret

_START = "WWT1"
_MAGIC = magic(_START)
_WHOLE = bytes(2)  # where the place of a share would be: a whole secret
_SEALED_MIN = 32 + 16  # encapsulated key and authentication tag


@dataclass(frozen=True, slots=True)
class Token:
    """The outside: ``suite`` number, ``key_id`` of the authority's sealing key (4 bytes), ``sealed`` body."""

    suite: int
    key_id: bytes
    sealed: bytes

    @classmethod
    def parse(cls, text: str) -> Token:
        """Read the text form. Raises :class:`MalformedError`; one token has exactly one text."""
        return parse_whole(from_text(text, "token", _START), "token", cls._read)

    @classmethod
    def _read(cls, reader: Reader) -> Token:
        reader.take(len(_MAGIC))
        suite, key_id = reader.u8(), reader.take(KEY_ID_SIZE)
        if reader.left < _SEALED_MIN:
            raise reader.fail("is too short to hold a sealed body")
        return cls(suite, key_id, reader.rest())

    @property
    def is_share(self) -> bool:
        """Whether it says that it holds a share of a secret, and not a whole one."""
        return self.suite == SUITE_SHARE

    def header(self) -> bytes:
        """The bytes in front of the sealed body; sealing binds them."""
        return Writer().raw(_MAGIC).u8(self.suite).raw(self.key_id).done()

    def text(self) -> str:
        return to_text(self.header() + self.sealed)


def token_id(text: str) -> bytes:
    """The 32-byte name under which releases of a token are counted: a hash of its one text form."""
    return hashlib.sha256(b"watchword/token-id/1\0" + text.encode("ascii", "replace")).digest()


@dataclass(frozen=True, slots=True)
class TokenBody:
    """The inside of a token.

    ``secret`` 32 bytes, or a share of it, which has as many; ``launch_id`` 16 random bytes, of a split secret the hash
    of its launch set; ``inputs`` digest over the launch inputs, 32 bytes;
    ``profile`` SHA-256 of the profile document, 32 bytes; ``expires`` Unix time in seconds; ``releases`` how often
    the secret may be released (1 to 65535); ``level`` lowest acceptable level, counted from 1; ``flags`` reserved,
    zero; ``place`` which share of a secret this is, None for a whole one.
    """

    secret: bytes
    launch_id: bytes
    inputs: bytes
    profile: bytes
    expires: int
    releases: int = 1
    level: int = 1
    flags: int = 0
    place: SharePlace | None = None

    def __repr__(self) -> str:
        return f"TokenBody(launch_id={self.launch_id.hex()}, profile={self.profile.hex()}, secret=<hidden>)"

    @classmethod
    def parse(cls, data: bytes) -> TokenBody:
        """Read the plaintext. Raises :class:`MalformedError`."""
        return parse_whole(data, "token body", cls._read)

    @classmethod
    def _read(cls, r: Reader) -> TokenBody:
        body = cls(
            secret=r.take(32),
            launch_id=r.take(16),
            inputs=r.take(32),
            profile=r.take(32),
            expires=r.u64(),
            releases=r.u16(),
            level=r.u8(),
            flags=r.u16(),
            place=None if r.left == len(_WHOLE) else SharePlace.read(r),
        )
        if body.place is None and r.take(len(_WHOLE)) != _WHOLE:
            raise r.fail("says neither that it is a whole secret nor which share of one")
        if body.releases < 1 or body.level < 1:
            raise r.fail("allows no release or asks for level 0")
        if body.flags:
            raise r.fail("uses a feature that this version does not know")
        return body

    def encode(self) -> bytes:
        writer = Writer().raw(self.secret).raw(self.launch_id).raw(self.inputs).raw(self.profile)
        writer.u64(self.expires).u16(self.releases).u8(self.level).u16(self.flags)
        if self.place is None:
            return writer.raw(_WHOLE).done()
        self.place.write(writer)
        return writer.done()
