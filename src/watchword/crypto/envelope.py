"""Seals requests to the authority and replies to the host, whoever carries them.

A request is sealed with HPKE to the authority and contains a fresh 32-byte reply key; the reply is encrypted under a
key derived from it and is therefore authentic too: only the owner of the sealing key could have read the reply key.
Each reply key serves for one reply. The launch secret inside a reply is encrypted once more, under a data key that
only the host's TPM gives out (``watchword.launch.release``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from watchword.crypto.hpke import OVERHEAD, Domain, open_sealed, seal
from watchword.crypto.keylist import KeyList
from watchword.errors import MalformedError
from watchword.wire.messages import MAX_REQUEST
from watchword.wire.reader import Reader, Writer, parse_whole
from watchword.wire.share import SharePlace
from watchword.wire.token import KEY_ID_SIZE

__all__ = [
    "REPLY_KEY_SIZE",
    "LaunchSecret",
    "LaunchShare",
    "open_payload",
    "open_reply",
    "open_request",
    "open_share_payload",
    "seal_payload",
    "seal_reply",
    "seal_request",
    "seal_share_payload",
]

REPLY_KEY_SIZE = 32
_REQUEST_MAGIC = b"WWRQ\x01"
_REPLY_MAGIC = b"WWRP\x01"
_ONCE = bytes(12)  # every key here encrypts exactly one message


def seal_request(request: bytes, authority: KeyList, reply_key: bytes) -> bytes:
    """Seal ``request`` to the authority. ``reply_key`` is 32 fresh random bytes that the caller keeps in memory."""
    header = _REQUEST_MAGIC + authority.sealing_key_id()
    return header + seal(Domain.REQUEST, header, reply_key + request, authority.sealing_key())


def open_request(sealed: bytes, keys: Mapping[bytes, X25519PrivateKey]) -> tuple[bytes, bytes]:
    """The request and its reply key. Raises :class:`MalformedError` (``sealed-unopenable`` when it is not for us)."""
    reader = Reader(sealed, "sealed request")
    if reader.left > MAX_REQUEST or reader.left < len(_REQUEST_MAGIC) + KEY_ID_SIZE + OVERHEAD + REPLY_KEY_SIZE:
        raise reader.fail(f"{reader.left} bytes is not a possible size")
    if reader.take(len(_REQUEST_MAGIC)) != _REQUEST_MAGIC:
        raise reader.fail("does not start as a sealed request does")
    key_id = reader.take(KEY_ID_SIZE)
    key = keys.get(key_id)
    if key is None:
        raise MalformedError(
            "sealed request: was sealed to a key that this authority does not have",
            code="sealed-unopenable",
            hint="Update the pinned keys of this authority on the host and try again.",
        )
    plain = open_sealed(Domain.REQUEST, _REQUEST_MAGIC + key_id, reader.rest(), key)
    return plain[REPLY_KEY_SIZE:], plain[:REPLY_KEY_SIZE]


def seal_reply(reply: bytes, reply_key: bytes) -> bytes:
    """Encrypt ``reply`` so that only the holder of ``reply_key`` reads it and knows where it is from."""
    return _REPLY_MAGIC + _cipher(reply_key, b"watchword/reply/1").encrypt(_ONCE, reply, _REPLY_MAGIC)


def open_reply(sealed: bytes, reply_key: bytes) -> bytes:
    """Open a reply. Raises :class:`MalformedError`: it answers another request or was altered on the way."""
    if not sealed.startswith(_REPLY_MAGIC):
        raise MalformedError("sealed reply: does not start as a sealed reply does", code="reply-unopenable")
    try:
        return _cipher(reply_key, b"watchword/reply/1").decrypt(_ONCE, sealed[len(_REPLY_MAGIC) :], _REPLY_MAGIC)
    except InvalidTag:
        raise MalformedError(
            "sealed reply: does not belong to this request or was altered on the way", code="reply-unopenable"
        ) from None


@dataclass(frozen=True, slots=True)
class LaunchSecret:
    """What a release gives to the host: ``secret`` 32, ``launch_id`` 16, ``inputs`` digest 32 bytes, ``flags``."""

    secret: bytes
    launch_id: bytes
    inputs: bytes
    flags: int

    def __repr__(self) -> str:
        return "LaunchSecret(<hidden>)"

    def encode(self) -> bytes:
        return Writer().raw(self.secret).raw(self.launch_id).raw(self.inputs).u16(self.flags).done()

    @classmethod
    def parse(cls, data: bytes) -> LaunchSecret:
        return parse_whole(data, "launch secret", lambda r: cls(r.take(32), r.take(16), r.take(32), r.u16()))


def seal_payload(secret: LaunchSecret, data_key: bytes, context: bytes) -> bytes:
    """Encrypt under the 32-byte data key; ``context`` is the quote's binding, so a payload fits one request only."""
    return _cipher(data_key, b"watchword/payload/1").encrypt(_ONCE, secret.encode(), context)


def open_payload(data_key: bytes, payload: bytes, context: bytes) -> LaunchSecret:
    """Undo :func:`seal_payload`. Raises :class:`MalformedError`."""
    try:
        return LaunchSecret.parse(_cipher(data_key, b"watchword/payload/1").decrypt(_ONCE, payload, context))
    except InvalidTag:
        raise MalformedError("release: the payload does not fit this request", code="payload-unopenable") from None


@dataclass(frozen=True, slots=True)
class LaunchShare:
    """What a release of a share gives to the host: ``share`` 32 bytes, which ``place`` it has, and the rest alike."""

    share: bytes
    launch_id: bytes
    inputs: bytes
    flags: int
    place: SharePlace

    def __repr__(self) -> str:
        return f"LaunchShare({self.place})"

    def encode(self) -> bytes:
        writer = Writer().raw(self.share).raw(self.launch_id).raw(self.inputs).u16(self.flags)
        self.place.write(writer)
        return writer.done()

    @classmethod
    def parse(cls, data: bytes) -> LaunchShare:
        return parse_whole(
            data, "share", lambda r: cls(r.take(32), r.take(16), r.take(32), r.u16(), SharePlace.read(r))
        )


def seal_share_payload(share: LaunchShare, data_key: bytes, context: bytes) -> bytes:
    """As :func:`seal_payload`, for a share: nothing that opens as one opens as the other."""
    return _cipher(data_key, b"watchword/share-payload/1").encrypt(_ONCE, share.encode(), context)


def open_share_payload(data_key: bytes, payload: bytes, context: bytes) -> LaunchShare:
    """Undo :func:`seal_share_payload`. Raises :class:`MalformedError`."""
    try:
        return LaunchShare.parse(_cipher(data_key, b"watchword/share-payload/1").decrypt(_ONCE, payload, context))
    except InvalidTag:
        raise MalformedError(
            "release: the payload is no share, or does not fit this request", code="payload-unopenable"
        ) from None


def _cipher(key: bytes, info: bytes) -> ChaCha20Poly1305:
    return ChaCha20Poly1305(HKDF(hashes.SHA256(), 32, salt=None, info=info).derive(key))
