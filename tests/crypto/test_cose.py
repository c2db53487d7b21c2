"""COSE_Sign1: our signatures against openssl, and every way to be refused."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from watchword.crypto import cose
from watchword.crypto.cbor import Tag, dump, load
from watchword.crypto.cose import Sign1
from watchword.errors import MalformedError, Rejected, UsageError

MAKERS: dict[str, Callable[[], cose.PrivateKey]] = {
    "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "ES384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "EdDSA": Ed25519PrivateKey.generate,
}
PAYLOAD = b"what is signed"


def parse(data: bytes) -> Sign1:
    return Sign1.parse(data, "x", 10_000)


@pytest.mark.parametrize("name", MAKERS)
def test_signed_and_verified(name: str) -> None:
    key = MAKERS[name]()
    message = parse(cose.sign(PAYLOAD, {3: "text/plain"}, key))
    assert cose.ALGORITHMS[message.algorithm] == name
    assert (message.headers[3], message.key_id) == ("text/plain", cose.key_id(key.public_key()))
    assert cose.verify(message, key.public_key()) == PAYLOAD


@pytest.mark.parametrize("name", MAKERS)
def test_openssl_verifies_it(name: str, tmp_path: Path) -> None:
    key = MAKERS[name]()
    protected, _, _, signature = load(cose.sign(PAYLOAD, {}, key), "x", 10_000).value
    # Sig_structure of RFC 9052, 4.4, by hand: ["Signature1", protected, h'', payload]
    head = bytes([0x58, len(protected)]) if len(protected) > 23 else bytes([0x40 + len(protected)])
    signed = b"\x84\x6aSignature1" + head + protected + b"\x40" + bytes([0x40 + len(PAYLOAD)]) + PAYLOAD
    if name != "EdDSA":
        half = len(signature) // 2
        signature = encode_dss_signature(
            int.from_bytes(signature[:half], "big"), int.from_bytes(signature[half:], "big")
        )
    pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    for file, data in (("key", pem), ("signed", signed), ("signature", signature)):
        (tmp_path / file).write_bytes(data)
    command = [
        "openssl",
        "pkeyutl",
        "-verify",
        "-pubin",
        "-inkey",
        "key",
        "-rawin",
        "-in",
        "signed",
        "-sigfile",
        "signature",
    ]
    command += {"ES256": ["-digest", "sha256"], "ES384": ["-digest", "sha384"], "EdDSA": []}[name]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", MAKERS)
def test_nothing_that_is_signed_can_be_changed(name: str) -> None:
    key = MAKERS[name]()
    data = cose.sign(PAYLOAD, {3: "text/plain"}, key)
    protected, unprotected, payload, signature = load(data, "x", 10_000).value
    for changed in (
        [protected.replace(b"text/plain", b"text/html."), unprotected, payload, signature],
        [protected, unprotected, payload + b".", signature],
        [protected, unprotected, payload, signature[:-1] + bytes([signature[-1] ^ 1])],
        [protected, unprotected, payload, signature[:-1]],
        [protected, unprotected, payload, signature[: len(signature) // 2] + b"\0" + signature[len(signature) // 2 :]],
        [protected, unprotected, payload, bytes(len(signature))],
    ):
        with pytest.raises(Rejected) as refused:
            cose.verify(parse(dump(Tag(18, changed))), key.public_key())
        assert (refused.value.clause, refused.value.code) == ("S1", "document-signature")


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("other", MAKERS)
def test_another_key(name: str, other: str) -> None:
    message = parse(cose.sign(PAYLOAD, {}, MAKERS[name]()))
    with pytest.raises(Rejected) as refused:
        cose.verify(message, MAKERS[other]().public_key())
    assert refused.value.code == "document-signature"
    assert ("another algorithm" in refused.value.message) == (name != other)


def test_the_key_decides_about_the_algorithm() -> None:
    """A signature that fits, under the name of another algorithm."""
    key = Ed25519PrivateKey.generate()
    protected = dump({1: -7})
    signature = key.sign(dump(["Signature1", protected, b"", PAYLOAD]))
    with pytest.raises(Rejected, match="another algorithm"):
        cose.verify(parse(dump(Tag(18, [protected, {}, PAYLOAD, signature]))), key.public_key())


def test_other_curves_are_refused() -> None:
    key = ec.generate_private_key(ec.SECP521R1())
    with pytest.raises(UsageError, match="secp521r1"):
        cose.sign(PAYLOAD, {}, key)
    with pytest.raises(UsageError, match="secp521r1"):
        cose.verify(parse(cose.sign(PAYLOAD, {}, MAKERS["ES256"]())), key.public_key())


GOOD = [dump({1: -8}), {}, PAYLOAD, bytes(64)]


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (GOOD, "with its tag, 18"),
        (Tag(98, GOOD), "with its tag, 18"),
        (Tag(18, GOOD[:3]), "four parts"),
        (Tag(18, {1: 2}), "four parts"),
        (Tag(18, dict.fromkeys(range(4))), "four parts"),
        (Tag(18, [{1: -8}, *GOOD[1:]]), "of another type"),
        (Tag(18, [GOOD[0], b"", *GOOD[2:]]), "of another type"),
        (Tag(18, [*GOOD[:3], None]), "of another type"),
        (Tag(18, [*GOOD[:2], None, GOOD[3]]), "kept somewhere else"),
        (Tag(18, [b"", *GOOD[1:]]), "protected header"),
        (Tag(18, [dump([]), *GOOD[1:]]), "names no algorithm"),
        (Tag(18, [dump({}), {1: -8}, *GOOD[2:]]), "names no algorithm"),
        (Tag(18, [dump({1: True}), *GOOD[1:]]), "names no algorithm"),
        (Tag(18, [dump({1: -8}) + b"\0", *GOOD[1:]]), "something follows"),
        (Tag(18, [dump({1: -8, 2: [3]}), *GOOD[1:]]), "not understood"),
        (Tag(18, [GOOD[0], {2: [3]}, *GOOD[2:]]), "not understood"),
        (Tag(18, [GOOD[0], {1: -7}, *GOOD[2:]]), "in both headers"),
        (Tag(18, [dump({1: -8, 4: "a"}), *GOOD[1:]]), "key id"),
        (Tag(18, [GOOD[0], {4: 1}, *GOOD[2:]]), "key id"),
    ],
)
def test_malformed(message: Any, why: str) -> None:
    with pytest.raises(MalformedError, match=why):
        parse(dump(message))
