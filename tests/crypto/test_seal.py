"""HPKE domains, tokens and the envelope of requests and replies."""

from __future__ import annotations

import dataclasses

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from watchword.crypto import envelope, token
from watchword.crypto.hpke import Domain, open_sealed, seal
from watchword.crypto.keylist import KeyList
from watchword.errors import MalformedError, Rejected
from watchword.wire.share import SharePlace
from watchword.wire.token import Token, TokenBody

KEY = X25519PrivateKey.generate()
OTHER = X25519PrivateKey.generate()
KEYS = {token.sealing_key_id(KEY.public_key()): KEY}
BODY = TokenBody(b"s" * 32, b"l" * 16, b"i" * 32, b"p" * 32, expires=1000)
SIGNER = Ed25519PrivateKey.generate().public_key()
AUTHORITY = KeyList("a", 1, 0, SIGNER, (SIGNER,), (KEY.public_key(),), "")


def test_hpke_opens_only_in_its_domain_with_its_header() -> None:
    sealed = seal(Domain.TOKEN, b"h", b"text", KEY.public_key())
    assert open_sealed(Domain.TOKEN, b"h", sealed, KEY) == b"text"
    for domain, header, key in ((Domain.REQUEST, b"h", KEY), (Domain.TOKEN, b"x", KEY), (Domain.TOKEN, b"h", OTHER)):
        with pytest.raises(MalformedError, match="does not open"):
            open_sealed(domain, header, sealed, key)


def test_token_round_trip_and_every_seal_is_new() -> None:
    text = token.seal_token(BODY, KEY.public_key())
    assert token.open_token(text, KEYS) == BODY
    assert text != token.seal_token(BODY, KEY.public_key())


def test_f1_a_token_for_another_authority_is_refused() -> None:
    text = token.seal_token(BODY, OTHER.public_key())
    with pytest.raises(Rejected) as caught:
        token.open_token(text, KEYS)
    assert (caught.value.clause, caught.value.code) == ("F1", "token-unopenable")


def test_f1_a_relabelled_or_altered_token_is_refused() -> None:
    theirs = Token.parse(token.seal_token(BODY, OTHER.public_key()))
    ours = Token.parse(token.seal_token(BODY, KEY.public_key()))
    flipped = bytes([ours.sealed[0] ^ 1]) + ours.sealed[1:]
    for bad in (
        dataclasses.replace(theirs, key_id=ours.key_id),
        dataclasses.replace(ours, suite=2),
        dataclasses.replace(ours, sealed=flipped),
        dataclasses.replace(ours, sealed=ours.sealed[:-1] + bytes([ours.sealed[-1] ^ 1])),
    ):
        with pytest.raises(Rejected, match="F1"):
            token.open_token(bad.text(), KEYS)


def test_a_request_sealed_as_a_token_does_not_open() -> None:
    header = Token.parse(token.seal_token(BODY, KEY.public_key())).header()
    sealed = seal(Domain.REQUEST, header, BODY.encode(), KEY.public_key())
    wrong = Token(1, token.sealing_key_id(KEY.public_key()), sealed)
    with pytest.raises(Rejected, match="F1"):
        token.open_token(wrong.text(), KEYS)


def test_request_and_reply() -> None:
    sealed = envelope.seal_request(b"question", AUTHORITY, b"r" * 32)
    assert b"question" not in sealed
    request, reply_key = envelope.open_request(sealed, KEYS)
    assert (request, reply_key) == (b"question", b"r" * 32)
    assert envelope.open_reply(envelope.seal_reply(b"answer", reply_key), b"r" * 32) == b"answer"


@pytest.mark.parametrize("size", [0, 4, 50, 88])
def test_short_requests_are_malformed(size: int) -> None:
    with pytest.raises(MalformedError):
        envelope.open_request(b"WWRQ\x01" + bytes(size), KEYS)


def test_every_altered_byte_of_a_request_is_noticed() -> None:
    sealed = bytearray(envelope.seal_request(b"question", AUTHORITY, b"r" * 32))
    for position in range(len(sealed)):
        sealed[position] ^= 0x40
        with pytest.raises(MalformedError):
            envelope.open_request(bytes(sealed), KEYS)
        sealed[position] ^= 0x40


def test_every_altered_byte_of_a_reply_is_noticed() -> None:
    sealed = bytearray(envelope.seal_reply(b"answer", b"r" * 32))
    for position in range(len(sealed)):
        sealed[position] ^= 1
        with pytest.raises(MalformedError):
            envelope.open_reply(bytes(sealed), b"r" * 32)
        sealed[position] ^= 1


def test_a_reply_to_another_request_does_not_open() -> None:
    with pytest.raises(MalformedError, match="does not belong"):
        envelope.open_reply(envelope.seal_reply(b"answer", b"r" * 32), b"q" * 32)


def test_a_payload_fits_its_context_only() -> None:
    secret = envelope.LaunchSecret(b"s" * 32, b"l" * 16, b"i" * 32, 0)
    payload = envelope.seal_payload(secret, b"d" * 32, b"context")
    assert envelope.open_payload(b"d" * 32, payload, b"context") == secret
    for key, context in ((b"e" * 32, b"context"), (b"d" * 32, b"other")):
        with pytest.raises(MalformedError, match="does not fit"):
            envelope.open_payload(key, payload, context)
    assert "sss" not in repr(secret)


SHARE = dataclasses.replace(BODY, place=SharePlace(1, 2, 3))


def test_a_share_is_told_from_a_whole_secret_from_outside_and_inside() -> None:
    text = token.seal_token(SHARE, KEY.public_key())
    assert Token.parse(text).is_share
    assert token.open_token(text, KEYS) == SHARE
    assert not Token.parse(token.seal_token(BODY, KEY.public_key())).is_share
    for suite, inside in ((1, SHARE), (2, BODY)):
        domain = {1: Domain.TOKEN, 2: Domain.SHARE}[suite]
        header = Token(suite, token.sealing_key_id(KEY.public_key()), b"")
        lying = Token(suite, header.key_id, seal(domain, header.header(), inside.encode(), KEY.public_key()))
        with pytest.raises(MalformedError, match="not what its outside says"):
            token.open_token(lying.text(), KEYS)


def test_f1_a_share_relabelled_as_a_whole_secret_does_not_open() -> None:
    share = Token.parse(token.seal_token(SHARE, KEY.public_key()))
    with pytest.raises(Rejected, match="F1"):
        token.open_token(dataclasses.replace(share, suite=1).text(), KEYS)


def test_a_released_share_is_no_released_secret() -> None:
    share = envelope.LaunchShare(b"s" * 32, b"l" * 16, b"i" * 32, 0, SharePlace(1, 2, 3))
    payload = envelope.seal_share_payload(share, b"d" * 32, b"context")
    assert envelope.open_share_payload(b"d" * 32, payload, b"context") == share
    assert "sss" not in repr(share)
    secret = envelope.seal_payload(envelope.LaunchSecret(b"s" * 32, b"l" * 16, b"i" * 32, 0), b"d" * 32, b"context")
    for opener, other in ((envelope.open_payload, payload), (envelope.open_share_payload, secret)):
        with pytest.raises(MalformedError) as caught:
            opener(b"d" * 32, other, b"context")
        assert caught.value.code == "payload-unopenable"
    with pytest.raises(MalformedError):
        envelope.open_share_payload(b"d" * 32, payload, b"other")
