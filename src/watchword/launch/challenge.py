"""Nonces that cost the authority no memory until they are used (clause B6).

A nonce says when it expires and carries a MAC over that, over randomness and over what it was issued for. Issuing
one stores nothing, so any replica can check what another issued; using one is recorded once, by :func:`nonce_id`.

A nonce that can be used once belongs to an era, which the store names: when the next one begins, every nonce of those
before is void. Eras are random, so that none comes back with a store that was put back.
"""

from __future__ import annotations

import hashlib
import hmac

from watchword.errors import Finding, Rejected
from watchword.wire.evidence import Purpose
from watchword.wire.messages import NONCE_SIZE
from watchword.wire.reader import Reader, Writer

__all__ = ["ATTEST_LIFETIME", "ERA_SIZE", "LIFETIME", "RANDOM_SIZE", "check", "issue", "lifetime", "nonce_id"]

LIFETIME = 120  # seconds: a slow host needs a few for its quote and its logs
ATTEST_LIFETIME = 240  # seconds: a host that attests again and again gets its next nonce with a verdict
RANDOM_SIZE = 16
ERA_SIZE = 16
_MAC_SIZE = NONCE_SIZE - 8 - RANDOM_SIZE


def lifetime(purpose: Purpose) -> int:
    """Seconds for which a nonce for ``purpose`` is good."""
    return ATTEST_LIFETIME if purpose is Purpose.ATTEST else LIFETIME


def issue(
    key: bytes, *, host_id: bytes, purpose: Purpose, token_id: bytes, now: int, random: bytes, era: bytes = b""
) -> bytes:
    """A nonce of 48 bytes for one host, purpose and token, good from ``now`` on for its :func:`lifetime`.

    ``key`` is the authority's MAC key, ``random`` 16 fresh bytes, ``era`` the 16 bytes of the era, none in the first
    one and for what may be used more than once.
    """
    body = Writer().u64(now + lifetime(purpose)).raw(random).done()
    return body + _mac(key, body, host_id, purpose, token_id, era)


def check(
    key: bytes, nonce: bytes, *, host_id: bytes, purpose: Purpose, token_id: bytes, now: int, era: bytes = b""
) -> int:
    """When ``nonce`` expires (Unix time), if it was issued by us, for exactly this, in this era, and is still fresh.

    Raises :class:`Rejected` with ``nonce-unknown`` or ``nonce-expired``. The caller must still record its use.
    """
    reader = Reader(nonce, "nonce")
    body, mac = reader.take(8 + RANDOM_SIZE), reader.take(_MAC_SIZE)
    reader.finish()
    if not hmac.compare_digest(mac, _mac(key, body, host_id, purpose, token_id, era)):
        raise Rejected(
            Finding("B6", "nonce-unknown", "this authority did not issue the nonce for this host, purpose and token")
        )
    expires = Reader(body, "nonce").u64()
    if not now <= expires <= now + lifetime(purpose):
        raise Rejected(
            Finding("B6", "nonce-expired", "the nonce is too old", f"used by {expires}", f"used at {now}"),
            hint="Ask for a new challenge and quote again.",
        )
    return expires


def nonce_id(nonce: bytes) -> bytes:
    """The 32 bytes under which the use of a nonce is recorded."""
    return hashlib.sha256(b"watchword/nonce/1\0" + nonce).digest()


def _mac(key: bytes, body: bytes, host_id: bytes, purpose: Purpose, token_id: bytes, era: bytes) -> bytes:
    if len(era) not in (0, ERA_SIZE):
        raise ValueError(f"an era has {ERA_SIZE} bytes, not {len(era)}")
    # Without an era as before there were any: while tables are new and some programs are not, replicas agree.
    label = b"watchword/challenge/2\0" + era if era else b"watchword/challenge/1\0"
    writer = Writer().raw(label).raw(body).raw(host_id).u8(purpose).raw(token_id)
    return hmac.digest(key, writer.done(), "sha256")[:_MAC_SIZE]
