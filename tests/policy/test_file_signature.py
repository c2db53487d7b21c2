from __future__ import annotations

import base64
import hashlib
import struct
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from watchword.errors import MalformedError
from watchword.policy.file_signature import compile_signers, is_signed
from watchword.wire.tpm.algorithms import Alg

DIGEST = hashlib.sha256(b"file").digest()


def spki(key: Any) -> str:
    return base64.b64encode(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).decode()


def key_id(key: Any) -> bytes:
    if isinstance(key, rsa.RSAPublicKey):
        return hashlib.sha1(key.public_bytes(Encoding.DER, PublicFormat.PKCS1)).digest()[-4:]
    return hashlib.sha1(key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)).digest()[-4:]


def attribute(
    key: ec.EllipticCurvePrivateKey, digest: bytes, *, kind: int = 3, version: int = 2, number: int = 4
) -> bytes:
    blob = key.sign(digest, ec.ECDSA(Prehashed(hashes.SHA256())))
    return struct.pack(">BBB4sH", kind, version, number, key_id(key.public_key()), len(blob)) + blob


@pytest.fixture(scope="module")
def key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def test_a_good_signature(key: ec.EllipticCurvePrivateKey) -> None:
    signers = compile_signers("s", "p", [spki(key.public_key())])
    assert is_signed(Alg.SHA256, DIGEST, attribute(key, DIGEST), signers)


def test_version_3_signs_the_kind_too(key: ec.EllipticCurvePrivateKey) -> None:
    signers = compile_signers("s", "p", [spki(key.public_key())])
    bound = hashlib.sha256(bytes((3, 4)) + DIGEST).digest()
    assert is_signed(Alg.SHA256, DIGEST, attribute(key, bound, version=3), signers)
    assert not is_signed(Alg.SHA256, DIGEST, attribute(key, DIGEST, version=3), signers)


def test_what_is_not_signed(key: ec.EllipticCurvePrivateKey) -> None:
    signers = compile_signers("s", "p", [spki(key.public_key())])
    good = attribute(key, DIGEST)
    other = ec.generate_private_key(ec.SECP256R1())
    assert not is_signed(Alg.SHA256, DIGEST, attribute(other, DIGEST), signers)
    assert not is_signed(Alg.SHA256, bytes(32), good, signers)
    assert not is_signed(Alg.SHA1, DIGEST[:20], good, signers)
    assert not is_signed(Alg.SHA384, DIGEST, good, signers)
    assert not is_signed(Alg.SHA256, DIGEST, attribute(key, DIGEST, kind=6), signers)
    assert not is_signed(Alg.SHA256, DIGEST, attribute(key, DIGEST, version=1), signers)
    assert not is_signed(Alg.SHA256, DIGEST, attribute(key, DIGEST, number=5), signers)
    assert not is_signed(Alg.SHA256, DIGEST, good + b"\0", signers)
    for cut in range(len(good)):
        assert not is_signed(Alg.SHA256, DIGEST, good[:cut], signers)


def test_the_size_that_the_header_gives(key: ec.EllipticCurvePrivateKey) -> None:
    """Nothing else stands between the size and the key: the signature itself is whole."""
    signers = compile_signers("s", "p", [spki(key.public_key())])
    good = attribute(key, DIGEST)
    size = int.from_bytes(good[7:9], "big")
    for wrong in (size - 1, size + 1, 0):
        assert not is_signed(Alg.SHA256, DIGEST, good[:7] + wrong.to_bytes(2, "big") + good[9:], signers)


def test_someone_elses_signature_under_our_key_id(key: ec.EllipticCurvePrivateKey) -> None:
    signers = compile_signers("s", "p", [spki(key.public_key())])
    other = attribute(ec.generate_private_key(ec.SECP256R1()), DIGEST)
    forged = other[:3] + key_id(key.public_key()) + other[7:]
    assert not is_signed(Alg.SHA256, DIGEST, forged, signers)


def test_rsa() -> None:
    key = rsa.generate_private_key(65537, 2048)
    blob = key.sign(DIGEST, padding.PKCS1v15(), Prehashed(hashes.SHA256()))
    signed = struct.pack(">BBB4sH", 3, 2, 4, key_id(key.public_key()), len(blob)) + blob
    signers = compile_signers("s", "p", [spki(key.public_key())])
    assert is_signed(Alg.SHA256, DIGEST, signed, signers)
    assert not is_signed(Alg.SHA256, bytes(32), signed, signers)


def test_a_signature_of_a_real_kernel(corpus: Path) -> None:
    folder = corpus / "keylime+keylime"
    key = load_pem_public_key((folder / "keys/ima_keys/rsa2048pub.pem").read_bytes())
    signers = compile_signers("s", "p", [spki(key)])
    lines = (folder / "ima/test_ima_verification_SIGNATURES.txt").read_text().splitlines()
    found = [line.split() for line in lines]
    rsa_lines = [words for words in found if bytes.fromhex(words[5])[3:7] == key_id(key)]
    assert rsa_lines
    for words in rsa_lines:
        digest = bytes.fromhex(words[3].removeprefix("sha256:"))
        assert is_signed(Alg.SHA256, digest, bytes.fromhex(words[5]), signers)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "not base64!",
        base64.b64encode(b"junk").decode(),
        spki(ed25519.Ed25519PrivateKey.generate().public_key()),
        spki(ec.generate_private_key(ec.SECP192R1()).public_key()),
        spki(rsa.generate_private_key(65537, 1024).public_key()),
    ],
)
def test_keys_that_are_refused(key: ec.EllipticCurvePrivateKey, text: str) -> None:
    with pytest.raises(MalformedError, match=r"stack: signers\[1\]: not base64 of an RSA"):
        compile_signers("stack", "signers", [spki(key.public_key()), text])
