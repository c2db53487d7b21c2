"""Seal and open launch tokens (clause F1)."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from watchword.crypto.hpke import Domain, open_sealed, seal
from watchword.errors import Finding, MalformedError, Rejected
from watchword.wire.token import KEY_ID_SIZE, SUITE_SHARE, SUITE_X25519, Token, TokenBody

__all__ = ["open_token", "seal_token", "sealing_key_id"]

_DOMAINS = {SUITE_X25519: Domain.TOKEN, SUITE_SHARE: Domain.SHARE}


def sealing_key_id(key: X25519PublicKey) -> bytes:
    """The 4-byte id that tells an authority which of its keys to try: a hint, never a proof."""
    return hashlib.sha256(b"watchword/sealing-key/1\0" + key.public_bytes_raw()).digest()[:KEY_ID_SIZE]


def seal_token(body: TokenBody, key: X25519PublicKey) -> str:
    """The token text (at most 255 characters) that only the owner of ``key`` can open."""
    suite = SUITE_X25519 if body.place is None else SUITE_SHARE
    empty = Token(suite, sealing_key_id(key), b"")
    return Token(suite, empty.key_id, seal(_DOMAINS[suite], empty.header(), body.encode(), key)).text()


def open_token(text: str, keys: Mapping[bytes, X25519PrivateKey], void: Collection[bytes] = ()) -> TokenBody:
    """Open a token with the authority's sealing ``keys`` by id; what was sealed to the keys in ``void`` is no token.

    Raises :class:`MalformedError` when the text is not a token, :class:`Rejected` (F1) when it is not for us.
    """
    token = Token.parse(text)
    if token.key_id in void:
        raise Rejected(
            Finding("F1", "token-void", "the token was sealed before the authority began a new epoch",
                    actual=f"key id {token.key_id.hex()}"),
            hint="the authority's records were restored from a copy: update its keys and make a new token",
        )  # fmt: skip
    key, domain = keys.get(token.key_id), _DOMAINS.get(token.suite)
    if domain is None or key is None:
        raise Rejected(_not_ours("no key of this authority fits", token))
    try:
        plaintext = open_sealed(domain, token.header(), token.sealed, key)
    except MalformedError:
        raise Rejected(_not_ours("the sealed part does not open", token)) from None
    body = TokenBody.parse(plaintext)
    if token.is_share != (body.place is not None):
        raise MalformedError("token: what is inside is not what its outside says, a share or a whole secret")
    return body


def _not_ours(why: str, token: Token) -> Finding:
    return Finding("F1", "token-unopenable", f"the token does not open: {why}", actual=f"key id {token.key_id.hex()}")
