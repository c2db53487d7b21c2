"""Opening endorsed stacks: what an envelope holds, and which of the endorsers this authority knows signed it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, cast

from cryptography.hazmat.primitives.serialization import load_der_public_key

from watchword.authority.store import EndorserRow
from watchword.crypto import dsse
from watchword.errors import MalformedError
from watchword.policy.stack import MAX_STACK_SIZE, PAYLOAD_TYPE

__all__ = ["MAX_ENVELOPE", "endorser_keys", "open_stack"]

MAX_ENVELOPE: Final = MAX_STACK_SIZE * 3 // 2  # base64, and signatures


def endorser_keys(rows: Iterable[EndorserRow]) -> dict[str, dsse.PublicKey]:
    """The keys of endorsers, by key id."""
    return {row.key_id: cast(dsse.PublicKey, load_der_public_key(row.public_key)) for row in rows}


def open_stack(envelope: bytes, keys: Mapping[str, dsse.PublicKey]) -> tuple[bytes, frozenset[str]]:
    """The document in a DSSE envelope, and which of ``keys`` signed it: possibly none, the profile judges that.

    Raises :class:`MalformedError` when it is not an endorsed stack, :class:`Rejected` (``document-signature``) when
    a signature by one of ``keys`` is wrong.
    """
    kind, document, signers = dsse.open_unverified(envelope, max_size=MAX_ENVELOPE)
    if kind != PAYLOAD_TYPE:
        raise MalformedError(f"stack: the envelope holds a {kind[:80]!r}")
    if not keys.keys() & set(signers):
        return document, frozenset()
    return document, dsse.verify(envelope, PAYLOAD_TYPE, keys, 1, max_size=MAX_ENVELOPE).key_ids
