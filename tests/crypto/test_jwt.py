"""Signed JSON web tokens: one good token, and one thing broken in it."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from watchword.crypto import dsse, jwt
from watchword.errors import MalformedError, Rejected

KEY, OTHER = (Ed25519PrivateKey.generate() for _ in range(2))
KID = dsse.key_id(KEY.public_key())
TRUSTED = {KID: KEY.public_key()}
PAYLOAD = b'{"iat":1}'


def part(value: Any) -> bytes:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def forged(header: Any, *, key: Ed25519PrivateKey = KEY, payload: bytes = PAYLOAD) -> bytes:
    """A token with any header, genuinely signed."""
    message = part(header) + b"." + part(payload)
    return message + b"." + part(key.sign(message))


def test_a_token_is_verified_and_keeps_its_bytes() -> None:
    token = jwt.sign(PAYLOAD, KEY)
    assert jwt.verify(token, TRUSTED) == jwt.SignedToken(PAYLOAD, KID)
    header, payload = jwt.open_unverified(token)
    assert header == {"alg": "EdDSA", "kid": KID, "typ": "JWT"}
    assert payload == PAYLOAD


def test_the_example_of_the_specification() -> None:
    """RFC 8037, appendix A.4: key and signature; it has no kid, so only the primitive can be compared."""
    key = Ed25519PrivateKey.from_private_bytes(base64.urlsafe_b64decode("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A="))
    message = b"eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc"
    expected = b"hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"
    assert part(key.sign(message)) == expected
    with pytest.raises(Rejected, match="jwt-key"):
        jwt.verify(message + b"." + expected, TRUSTED)


@pytest.mark.parametrize(
    ("header", "code"),
    [
        ({"alg": "none", "kid": KID}, "jwt-algorithm"),
        ({"alg": "None", "kid": KID}, "jwt-algorithm"),
        ({"alg": "HS256", "kid": KID}, "jwt-algorithm"),
        ({"alg": "ES256", "kid": KID}, "jwt-algorithm"),
        ({"alg": ["EdDSA"], "kid": KID}, "jwt-algorithm"),
        ({"kid": KID}, "jwt-algorithm"),
        ({"alg": "EdDSA", "kid": KID, "crit": ["b64"], "b64": False}, "jwt-critical"),
        ({"alg": "EdDSA", "kid": KID, "crit": []}, "jwt-critical"),
        ({"alg": "EdDSA", "kid": KID, "jwk": {"kty": "OKP"}}, "jwt-header"),
        ({"alg": "EdDSA", "kid": KID, "jku": "https://provider.example/keys"}, "jwt-header"),
        ({"alg": "EdDSA", "kid": KID, "typ": "at+jwt"}, "jwt-header"),
        ({"alg": "EdDSA"}, "jwt-key"),
        ({"alg": "EdDSA", "kid": [KID]}, "jwt-key"),
        ({"alg": "EdDSA", "kid": "00" * 32}, "jwt-key"),
    ],
)
def test_a_header_that_is_not_ours_is_refused(header: dict[str, Any], code: str) -> None:
    with pytest.raises(Rejected) as caught:
        jwt.verify(forged(header), TRUSTED)
    assert caught.value.code == code


def test_a_header_without_a_type_is_accepted() -> None:
    assert jwt.verify(forged({"alg": "EdDSA", "kid": KID}), TRUSTED).payload == PAYLOAD


def test_another_signer_or_another_payload_is_refused() -> None:
    header = {"alg": "EdDSA", "kid": KID, "typ": "JWT"}
    with pytest.raises(Rejected, match="jwt-signature"):
        jwt.verify(forged(header, key=OTHER), TRUSTED)
    head, _, signature = jwt.sign(PAYLOAD, KEY).split(b".")
    with pytest.raises(Rejected, match="jwt-signature"):
        jwt.verify(b".".join([head, part(b'{"iat":2}'), signature]), TRUSTED)
    with pytest.raises(Rejected, match="jwt-signature"):
        jwt.verify(b".".join([head, part(PAYLOAD), b""]), TRUSTED)


def test_members_may_not_repeat() -> None:
    header = b'{"alg":"none","alg":"EdDSA","kid":"%s"}' % KID.encode()
    with pytest.raises(MalformedError, match="repeated"):
        jwt.verify(forged(header), TRUSTED)


def test_a_part_has_one_form() -> None:
    head, payload, signature = jwt.sign(PAYLOAD, KEY).split(b".")
    last = signature[-1:]
    alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    other = alphabet[alphabet.index(last) ^ 1 :][:1]  # differs in bits that decoding drops
    for changed in (signature[:-1] + other, signature + b"==", signature + b"\n"):
        with pytest.raises(MalformedError):
            jwt.verify(b".".join([head, payload, changed]), TRUSTED)


@pytest.mark.parametrize(
    "token",
    [
        b"",
        b"..",
        b"a.b",
        b"a.b.c.d",
        b"!.!.!",
        part(b"[]") + b".e30.",
        part(b"\xff") + b".e30.",
        part(b"[" * 900) + b".e30.",
        part(b"{}" + b" " * 2000) + b".e30.",
    ],
)
def test_what_is_not_a_token(token: bytes) -> None:
    with pytest.raises(MalformedError):
        jwt.verify(token, TRUSTED)


def test_the_size_is_bounded() -> None:
    token = jwt.sign(b" " * 1000, KEY)
    with pytest.raises(MalformedError, match="at most 1000"):
        jwt.verify(token, TRUSTED, max_size=1000)


@settings(max_examples=50)
@given(st.binary(max_size=200))
def test_any_bytes_give_a_value_or_a_refusal(data: bytes) -> None:
    with pytest.raises((MalformedError, Rejected)):
        jwt.verify(data, TRUSTED)
