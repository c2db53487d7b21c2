"""Signed documents: DSSE envelopes and the authority's key list."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from watchword.crypto import dsse, keylist
from watchword.errors import MalformedError, Rejected

A, B, C = (Ed25519PrivateKey.generate() for _ in range(3))
TRUSTED = {dsse.key_id(key.public_key()): key.public_key() for key in (A, B)}
KIND = "application/x-test"


def test_dsse_pre_authentication_encoding_is_the_specifications() -> None:
    """The example in the DSSE protocol document."""
    assert dsse._pae("http://example.com/HelloWorld", b"hello world") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )


def test_enough_trusted_signatures_are_needed() -> None:
    envelope = dsse.sign(b"text", KIND, [A, C])
    assert dsse.verify(envelope, KIND, TRUSTED, 1).key_ids == {dsse.key_id(A.public_key())}
    with pytest.raises(Rejected, match="document-signers"):
        dsse.verify(envelope, KIND, TRUSTED, 2)
    assert dsse.verify(dsse.sign(b"text", KIND, [A, B]), KIND, TRUSTED, 2).payload == b"text"


def test_one_key_signing_twice_counts_once() -> None:
    with pytest.raises(Rejected, match="document-signers"):
        dsse.verify(dsse.sign(b"text", KIND, [A, A]), KIND, TRUSTED, 2)


def test_another_payload_or_type_is_refused() -> None:
    document = json.loads(dsse.sign(b"text", KIND, [A]))
    document["payload"] = json.loads(dsse.sign(b"test", KIND, [A]))["payload"]
    with pytest.raises(Rejected, match="document-signature"):
        dsse.verify(json.dumps(document).encode(), KIND, TRUSTED, 1)
    with pytest.raises(MalformedError, match="not a"):
        dsse.verify(dsse.sign(b"text", KIND, [A]), "application/other", TRUSTED, 1)


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        b"{}",
        b"[]",
        b"\xff",
        b'{"payloadType":1}',
        b"[" * 100_000,
        b'{"payloadType":"a","payload":"!","signatures":[]}',
    ],
)
def test_what_is_no_envelope_is_malformed(bad: bytes) -> None:
    with pytest.raises(MalformedError):
        dsse.verify(bad, "a", TRUSTED, 1)


def test_size_and_number_of_signatures_are_bounded() -> None:
    with pytest.raises(MalformedError, match="at most 10"):
        dsse.verify(dsse.sign(b"text", KIND, [A]), KIND, TRUSTED, 1, max_size=10)
    with pytest.raises(MalformedError, match="64 signatures"):
        dsse.verify(dsse.sign(b"text", KIND, [A] * 65), KIND, TRUSTED, 1)


SEALING = X25519PrivateKey.generate().public_key()
PIN = keylist.root_fingerprint(A.public_key())


def key_list(version: int, root: Ed25519PrivateKey) -> keylist.KeyList:
    return keylist.KeyList("authority.example", version, 1, root.public_key(), (B.public_key(),), (SEALING,), "pem")


def test_a_chain_is_followed_from_the_pinned_root() -> None:
    chain = [
        keylist.sign(key_list(1, A), [A]),
        keylist.sign(key_list(2, A), [A]),
        keylist.sign(key_list(3, C), [A, C]),
        keylist.sign(key_list(4, C), [C]),
    ]
    newest = keylist.verify_chain(chain, PIN)
    assert (newest.version, newest.authority) == (4, "authority.example")
    assert newest.sealing_key().public_bytes_raw() == SEALING.public_bytes_raw()


def test_another_root_is_not_the_pinned_one() -> None:
    with pytest.raises(Rejected) as caught:
        keylist.verify_chain([keylist.sign(key_list(1, C), [C])], PIN)
    assert caught.value.code == "keylist-fingerprint"


def test_a_list_that_names_the_pinned_root_but_is_signed_by_another_is_refused() -> None:
    with pytest.raises(Rejected) as caught:
        keylist.verify_chain([keylist.sign(key_list(1, A), [C])], PIN)
    assert caught.value.code == "document-signers"


@pytest.mark.parametrize("signers", [[A], [C]], ids=["without the new root", "without the old root"])
def test_a_new_root_needs_both_signatures(signers: list[Ed25519PrivateKey]) -> None:
    with pytest.raises(Rejected) as caught:
        keylist.verify_chain([keylist.sign(key_list(1, A), [A]), keylist.sign(key_list(2, C), signers)], PIN)
    assert caught.value.code == "document-signers"


@pytest.mark.parametrize("version", [1, 3])
def test_versions_go_up_by_one(version: int) -> None:
    with pytest.raises(Rejected) as caught:
        keylist.verify_chain([keylist.sign(key_list(1, A), [A]), keylist.sign(key_list(version, A), [A])], PIN)
    assert caught.value.code == "keylist-version"


@pytest.mark.parametrize("chain", [[], [b"{}"] * 1001])
def test_a_chain_has_a_bounded_length(chain: list[bytes]) -> None:
    with pytest.raises(MalformedError, match="a chain has"):
        keylist.verify_chain(chain, PIN)


def test_a_list_without_keys_is_malformed() -> None:
    with pytest.raises(MalformedError, match="between 1 and 32"):
        keylist.verify_chain([keylist.sign(replace(key_list(1, A), sealing=()), [A])], PIN)
