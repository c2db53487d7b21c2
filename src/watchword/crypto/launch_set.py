"""What shares a launch consists of: how a host tells a share of this launch from anything else.

Each share has a digest, which binds what the host relies on beside it. The launch id of a split secret is a hash of
threshold and all digests, so no two sets have the same; and the digests travel encrypted under a key from the launch
id, so only who was given that, by the tenant or by an authority, reads them. Both together mean that a set opens under
one launch id only, that of exactly these digests. Nobody can therefore make an honest share look false.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from watchword.crypto.envelope import LaunchShare
from watchword.errors import Finding, Rejected
from watchword.wire.reader import Writer
from watchword.wire.share import DIGEST_SIZE, SealedSet

__all__ = ["LAUNCH_ID_SIZE", "LaunchSet", "check_share", "open_set", "share_digest"]

LAUNCH_ID_SIZE = 16
_ONCE = bytes(12)  # the key is a hash of what it encrypts: it never encrypts anything else


@dataclass(frozen=True, slots=True)
class LaunchSet:
    """``digests`` has one of 16 bytes for each share, the first share's first; ``threshold`` shares are needed."""

    threshold: int
    digests: tuple[bytes, ...]

    def launch_id(self) -> bytes:
        """The 16 bytes that name a launch with exactly these shares."""
        writer = Writer().raw(b"watchword/launch-set/1\0").u8(self.threshold).u8(len(self.digests))
        return hashlib.sha256(writer.raw(b"".join(self.digests)).done()).digest()[:LAUNCH_ID_SIZE]

    def seal(self) -> SealedSet:
        """The set as it travels beside the tokens."""
        empty = SealedSet(self.threshold, len(self.digests), b"")
        sealed = _cipher(self.launch_id()).encrypt(_ONCE, b"".join(self.digests), empty.header())
        return SealedSet(empty.threshold, empty.count, sealed)


def share_digest(index: int, share: bytes, inputs: bytes, flags: int = 0) -> bytes:
    """The 16-byte digest of share ``index`` (32 bytes), with the digest of the launch inputs that goes with it."""
    writer = Writer().raw(b"watchword/share/1\0").u8(index).raw(inputs).u16(flags).raw(share)
    return hashlib.sha256(writer.done()).digest()[:DIGEST_SIZE]


def open_set(sealed: SealedSet, launch_id: bytes) -> LaunchSet:
    """The set that has this launch id. Raises :class:`Rejected` (L3, ``share-set``) when it is another one's."""
    try:
        plain = _cipher(launch_id).decrypt(_ONCE, sealed.sealed, sealed.header())
    except InvalidTag:
        raise _other_set("the share is not of the launch set that came with the tokens") from None
    digests = tuple(plain[at : at + DIGEST_SIZE] for at in range(0, len(plain), DIGEST_SIZE))
    found = LaunchSet(sealed.threshold, digests)
    # A ciphertext that opens under two keys can be made; one whose content has two hashes cannot.
    if not hmac.compare_digest(found.launch_id(), launch_id):
        raise _other_set("the launch set does not have the launch id that came with the share")
    return found


def check_share(sealed: SealedSet, share: LaunchShare) -> None:
    """L3: the share is of this set and has its digest. Raises :class:`Rejected` (``share-set``, ``share-false``)."""
    found, place = open_set(sealed, share.launch_id), share.place
    if (place.threshold, place.count) != (found.threshold, len(found.digests)):
        raise Rejected(
            Finding("L3", "share-false", "the authority says another threshold or number of shares than the tenant",
                    f"{found.threshold} of {len(found.digests)}", f"{place.threshold} of {place.count}")
        )  # fmt: skip
    actual = share_digest(place.index, share.share, share.inputs, share.flags)
    if not hmac.compare_digest(actual, found.digests[place.index - 1]):
        raise Rejected(
            Finding("L3", "share-false", "the authority released something else than the share that it was given",
                    subject=str(place)),
            hint="Whoever runs this authority should explain it; another one can take its place.",
        )  # fmt: skip


def _other_set(message: str) -> Rejected:
    return Rejected(
        Finding("L3", "share-set", message),
        hint="Tokens of two launches may have been mixed. If they were not, this authority answered for another one.",
    )


def _cipher(launch_id: bytes) -> ChaCha20Poly1305:
    return ChaCha20Poly1305(HKDF(hashes.SHA256(), 32, salt=None, info=b"watchword/launch-set-key/1").derive(launch_id))
