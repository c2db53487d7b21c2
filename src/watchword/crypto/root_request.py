"""What travels to the machine that holds the root key and back: a key list to sign, and the list that it follows.

The file is public: it has no private key in it. It is a request as long as signatures are missing, and what an
authority installs once they are there. Whoever signs sees the difference between the two lists, not the whole of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Self

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey

from watchword.crypto import dsse, keylist
from watchword.crypto.keylist import KeyList
from watchword.errors import Finding, MalformedError, Rejected

__all__ = ["MAX_REQUEST", "Change", "RootRequest"]

MAX_REQUEST: Final = 3 * keylist.MAX_SIZE  # bytes
_FORMAT: Final = "watchword-root-request/1"


class _Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: str
    previous: msgspec.Raw  # a signed key list; null before the first
    proposed: msgspec.Raw


@dataclass(frozen=True, slots=True)
class Change:
    """One difference between two lists: ``key`` (a short text) is "new", "kept", "retired" or "gone" as ``what``."""

    what: str
    kind: str
    key: str

    def __str__(self) -> str:
        return f"{self.what:8} {self.kind:16} {self.key}"


@dataclass(frozen=True, slots=True)
class RootRequest:
    """``envelope`` holds the proposed list and the signatures that it has; ``before`` is the signed list before it."""

    before: bytes | None
    envelope: bytes

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read a request of at most 192 KiB. Raises :class:`MalformedError`; nothing is verified."""
        if len(data) > MAX_REQUEST:
            raise MalformedError(f"root request: {len(data)} bytes, at most {MAX_REQUEST} are allowed")
        try:
            document = msgspec.json.decode(data, type=_Document)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise MalformedError(f"root request: {error}") from None
        if document.format != _FORMAT:
            raise MalformedError("root request: unknown format")
        before = bytes(document.previous)
        request = cls(None if before == b"null" else before, bytes(document.proposed))
        request.lists()
        return request

    def encode(self) -> bytes:
        """The JSON text of the file."""
        before = msgspec.Raw(b"null" if self.before is None else self.before)
        return msgspec.json.encode(_Document(_FORMAT, before, msgspec.Raw(self.envelope)))

    def lists(self) -> tuple[KeyList | None, KeyList]:
        """The list before, and the proposed one; neither is verified. Raises :class:`MalformedError`."""
        previous = keylist.open_unverified(self.before) if self.before is not None else None
        return previous, keylist.open_unverified(self.envelope)

    def missing(self) -> tuple[Ed25519PublicKey, ...]:
        """The root keys whose signatures are not there yet.

        Raises :class:`Rejected` (``document-signature``) when one is there and wrong.
        """
        previous, proposed = self.lists()
        roots = {dsse.key_id(keys.root): keys.root for keys in (previous, proposed) if keys is not None}
        there = set(dsse.open_unverified(self.envelope, max_size=keylist.MAX_SIZE)[2])
        for identity in there & set(roots):
            dsse.verify(self.envelope, keylist.PAYLOAD_TYPE, {identity: roots[identity]}, 1, max_size=keylist.MAX_SIZE)
        return tuple(root for identity, root in roots.items() if identity not in there)

    def check(self) -> tuple[KeyList | None, KeyList]:
        """Both lists, when the one before is signed by its own root and the proposed one is the next (K2).

        Raises :class:`MalformedError`, :class:`Rejected` (``document-signers``, ``keylist-version``).
        """
        previous, proposed = self.lists()
        if previous is None:
            if proposed.version != 1:
                raise Rejected(
                    Finding("K2", "keylist-version", "a list without one before it is the first", "1",
                            str(proposed.version)),
                )  # fmt: skip
            return previous, proposed
        assert self.before is not None
        keylist.verify_chain([self.before], keylist.root_fingerprint(previous.root))
        keylist.check_next(previous, proposed)
        return previous, proposed

    def sign(self, key: dsse.Signer) -> Self:
        """This request with one more signature.

        Raises :class:`Rejected` (``root-request-key``) when ``key`` is the root of neither list (K6), and as
        :meth:`check` does.
        """
        previous, proposed = self.check()
        roots = {keylist.root_fingerprint(keys.root) for keys in (previous, proposed) if keys is not None}
        public = key.public
        if not isinstance(public, Ed25519PublicKey) or keylist.root_fingerprint(public) not in roots:
            raise Rejected(
                Finding("K6", "root-request-key", "the request is for another root key than this",
                        " or ".join(sorted(roots)), _fingerprint(public)),
                hint="the key, or the file, is that of another authority",
            )  # fmt: skip
        return type(self)(self.before, dsse.add_signature(self.envelope, [key], max_size=keylist.MAX_SIZE))

    def changes(self) -> tuple[Change, ...]:
        """What a person is asked to sign: every difference, and the keys that stay."""
        previous, proposed = self.lists()
        return tuple(_changes(previous, proposed))


def _changes(old: KeyList | None, new: KeyList) -> Iterator[Change]:
    yield from _texts("name", old.authority if old else None, new.authority)
    yield from _texts("root", keylist.root_fingerprint(old.root) if old else None, keylist.root_fingerprint(new.root))
    before, after = (_ids(old.retired_signing) if old else []), _ids(new.retired_signing)
    gone = frozenset(_ids(old.signing) if old else []) & frozenset(after)
    yield from _keys("signing", _ids(old.signing) if old else [], _ids(new.signing), retired=gone)
    yield from _keys("retired signing", before, after, arrived=gone)
    yield from _keys("sealing", _sealing(old.sealing) if old else [], _sealing(new.sealing))
    yield from _keys("log", _ids(old.log) if old else [], _ids(new.log))
    yield from _texts("TLS authority", _digest(old.tls_ca) if old else None, _digest(new.tls_ca))


def _texts(kind: str, old: str | None, new: str) -> Iterator[Change]:
    if old == new:
        yield Change("kept", kind, new)
        return
    if old is not None:
        yield Change("gone", kind, old)
    yield Change("new", kind, new)


def _keys(
    kind: str,
    old: Sequence[str],
    new: Sequence[str],
    retired: frozenset[str] = frozenset(),
    arrived: frozenset[str] = frozenset(),
) -> Iterator[Change]:
    for key in new:
        if key not in arrived:  # it is told where it was before
            yield Change("kept" if key in old else "new", kind, key)
    for key in old:
        if key not in new:
            yield Change("retired" if key in retired else "gone", kind, key)


def _ids(keys: Sequence[Ed25519PublicKey]) -> list[str]:
    return [dsse.key_id(key) for key in keys]


def _sealing(keys: Sequence[X25519PublicKey]) -> list[str]:
    return [hashlib.sha256(key.public_bytes_raw()).hexdigest() for key in keys]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _fingerprint(key: dsse.PublicKey) -> str:
    if isinstance(key, Ed25519PublicKey):
        return keylist.root_fingerprint(key)
    return f"a key of type {dsse.key_type(key)}"
