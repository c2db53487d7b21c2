"""The authority's keys, as a signed list that a tenant or host pins once.

A list names the sealing keys (X25519, for tokens and requests), the signing keys (Ed25519, for receipts), the keys of
the log (Ed25519, for checkpoints) and the certificate authority of the service's TLS, and is signed by a root key.
The pin is the fingerprint of the first root. A new root is introduced by a list that the old and the new root both
signed, so a client follows the chain from what it pinned; it never goes back to an older list.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey

from watchword.crypto import dsse
from watchword.crypto.ed25519 import Ed25519Signer
from watchword.crypto.token import sealing_key_id
from watchword.errors import Finding, MalformedError, Rejected

__all__ = [
    "MAX_CHAIN",
    "MAX_SIZE",
    "PAYLOAD_TYPE",
    "KeyList",
    "check_next",
    "follow",
    "open_unverified",
    "root_fingerprint",
    "sign",
    "verify_chain",
]

PAYLOAD_TYPE = "application/vnd.watchword.keylist+json"
MAX_CHAIN = 1000  # lists in one chain: a rotation a week for twenty years
_FORMAT = "watchword-keylist/1"
MAX_SIZE = 64 * 1024  # bytes of one signed list
_MAX_KEYS = 32


class _Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: str
    authority: str
    version: int
    issued: int
    root: str
    signing: tuple[str, ...]
    sealing: tuple[str, ...]
    tls_ca: str
    retired_signing: tuple[str, ...] = ()
    log: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class KeyList:
    """One verified (or, at the authority, about to be signed) list of keys.

    ``version`` counts from 1; ``issued`` is Unix time; ``sealing`` and ``signing`` name the key to use first;
    ``retired_signing`` keys verify old receipts only; ``tls_ca`` is the PEM text of the TLS certificate authority;
    ``log`` has every key that may have signed a checkpoint of the log, the one in force first.
    """

    authority: str
    version: int
    issued: int
    root: Ed25519PublicKey
    signing: tuple[Ed25519PublicKey, ...]
    sealing: tuple[X25519PublicKey, ...]
    tls_ca: str
    retired_signing: tuple[Ed25519PublicKey, ...] = ()
    log: tuple[Ed25519PublicKey, ...] = ()
    envelope: bytes = field(default=b"", repr=False)

    def receipt_keys(self) -> Mapping[str, Ed25519PublicKey]:
        """Keys that may have signed a receipt, by key id."""
        return {dsse.key_id(key): key for key in (*self.signing, *self.retired_signing)}

    def sealing_key(self) -> X25519PublicKey:
        """The key that new tokens and requests are sealed to."""
        return self.sealing[0]

    def sealing_key_id(self) -> bytes:
        return sealing_key_id(self.sealing[0])

    def encode(self) -> bytes:
        """The JSON document that is signed."""
        return msgspec.json.encode(
            _Document(
                _FORMAT,
                self.authority,
                self.version,
                self.issued,
                _raw(self.root),
                tuple(_raw(k) for k in self.signing),
                tuple(_raw(k) for k in self.sealing),
                self.tls_ca,
                tuple(_raw(k) for k in self.retired_signing),
                tuple(_raw(k) for k in self.log),
            )
        )


def root_fingerprint(root: Ed25519PublicKey) -> str:
    """What a person compares: ``SHA256:`` and the unpadded base64 of the SHA-256 of the raw root key."""
    digest = hashlib.sha256(root.public_bytes_raw()).digest()
    return "SHA256:" + base64.b64encode(digest).rstrip(b"=").decode()


def sign(keys: KeyList, roots: Sequence[Ed25519Signer]) -> bytes:
    """The signed list. On a change of root, ``roots`` holds the old and the new one."""
    return dsse.sign(keys.encode(), PAYLOAD_TYPE, roots)


def verify_chain(envelopes: Sequence[bytes], fingerprint: str) -> KeyList:
    """Follow ``envelopes`` (oldest first) from the pinned root ``fingerprint`` to the newest list.

    The chain may begin with a list later than the first, as long as the pinned root signed it. Raises
    :class:`MalformedError` or :class:`Rejected`: ``keylist-fingerprint``, ``keylist-version``, ``document-signers``.
    """
    if not envelopes or len(envelopes) > MAX_CHAIN:
        raise MalformedError(f"key list: a chain has 1 to {MAX_CHAIN} lists, this one {len(envelopes)}")
    current: KeyList | None = None
    for envelope in envelopes:
        current = _first(envelope, fingerprint) if current is None else follow(current, envelope)
    assert current is not None
    return current


def follow(current: KeyList, envelope: bytes) -> KeyList:
    """The next list after ``current``: exactly one version on, signed by the current root and by its own.

    Raises :class:`MalformedError` or :class:`Rejected` (``keylist-version`` on anything but the next version).
    """
    following = open_unverified(envelope)
    check_next(current, following)
    for root in (current.root, following.root):
        dsse.verify(envelope, PAYLOAD_TYPE, {dsse.key_id(root): root}, 1, max_size=MAX_SIZE)
    return following


def check_next(current: KeyList, following: KeyList) -> None:
    """K2: the number of ``following`` is the one after that of ``current``. Raises Rejected (``keylist-version``)."""
    if following.version != current.version + 1:
        raise Rejected(
            Finding(
                "K2",
                "keylist-version",
                "the key list does not follow the one before it",
                expected=str(current.version + 1),
                actual=str(following.version),
            )
        )


def _first(envelope: bytes, fingerprint: str) -> KeyList:
    keys = open_unverified(envelope)
    if root_fingerprint(keys.root) != fingerprint:
        raise Rejected(
            Finding(
                "K1",
                "keylist-fingerprint",
                "the authority's root key is not the one that was pinned",
                expected=fingerprint,
                actual=root_fingerprint(keys.root),
            ),
            hint="Ask the authority for its fingerprint over a channel that you trust.",
        )
    dsse.verify(envelope, PAYLOAD_TYPE, {dsse.key_id(keys.root): keys.root}, 1, max_size=MAX_SIZE)
    return keys


def open_unverified(envelope: bytes) -> KeyList:
    """What ``envelope`` lists, whoever signed it: for display, and for a list that is yet to be signed."""
    kind, payload, _ = dsse.open_unverified(envelope, max_size=MAX_SIZE)
    if kind != PAYLOAD_TYPE:
        raise MalformedError(f"key list: the document is a {kind[:80]!r}")
    try:
        doc = msgspec.json.decode(payload, type=_Document)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedError(f"key list: {error}") from None
    if doc.format != _FORMAT or doc.version < 1:
        raise MalformedError("key list: unknown format or version")
    if not 1 <= len(doc.signing) <= _MAX_KEYS or not 1 <= len(doc.sealing) <= _MAX_KEYS:
        raise MalformedError("key list: needs between 1 and 32 signing and sealing keys")
    if len(doc.log) > MAX_CHAIN:
        raise MalformedError(f"key list: more than {MAX_CHAIN} keys of the log")
    return KeyList(
        authority=doc.authority[:200],
        version=doc.version,
        issued=doc.issued,
        root=_ed25519(doc.root),
        signing=tuple(_ed25519(k) for k in doc.signing),
        sealing=tuple(X25519PublicKey.from_public_bytes(_key_bytes(k)) for k in doc.sealing),
        tls_ca=doc.tls_ca,
        retired_signing=tuple(_ed25519(k) for k in doc.retired_signing),
        log=tuple(_ed25519(k) for k in doc.log),
        envelope=envelope,
    )


def _raw(key: Ed25519PublicKey | X25519PublicKey) -> str:
    return base64.b64encode(key.public_bytes_raw()).decode()


def _ed25519(text: str) -> Ed25519PublicKey:
    return Ed25519PublicKey.from_public_bytes(_key_bytes(text))


def _key_bytes(text: str) -> bytes:
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise MalformedError("key list: a key is not base64") from None
    if len(raw) != 32:
        raise MalformedError("key list: a key is not 32 bytes long")
    return raw
