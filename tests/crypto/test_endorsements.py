"""Envelopes with signatures by keys of several kinds, and more signatures added later."""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from watchword.crypto import dsse
from watchword.errors import MalformedError, Rejected

KIND = "application/example"
KEYS: dict[str, Any] = {
    "ed25519": Ed25519PrivateKey.generate(),
    "ecdsa-p256": ec.generate_private_key(ec.SECP256R1()),
    "ecdsa-p384": ec.generate_private_key(ec.SECP384R1()),
}
TRUSTED = {dsse.key_id(key.public_key()): key.public_key() for key in KEYS.values()}


@pytest.mark.parametrize("kind", KEYS)
def test_each_kind_of_key_signs(kind: str) -> None:
    key = KEYS[kind]
    assert dsse.key_type(key.public_key()) == kind
    envelope = dsse.sign(b"text", KIND, [key])
    assert dsse.verify(envelope, KIND, TRUSTED, 1).key_ids == {dsse.key_id(key.public_key())}
    document = json.loads(envelope)
    document["payload"] = json.loads(dsse.sign(b"test", KIND, [key]))["payload"]
    with pytest.raises(Rejected) as caught:
        dsse.verify(json.dumps(document).encode(), KIND, TRUSTED, 1)
    assert caught.value.code == "document-signature"


def test_three_endorsers_one_after_the_other() -> None:
    envelope = dsse.sign(b"text", KIND, [KEYS["ed25519"]])
    for count, kind in ((2, "ecdsa-p256"), (3, "ecdsa-p384")):
        with pytest.raises(Rejected):
            dsse.verify(envelope, KIND, TRUSTED, count)
        envelope = dsse.add_signature(envelope, [KEYS[kind]])
        assert len(dsse.verify(envelope, KIND, TRUSTED, count).key_ids) == count
    assert dsse.verify(envelope, KIND, TRUSTED, 3).payload == b"text"


def test_signing_again_replaces_a_signature() -> None:
    one = dsse.sign(b"text", KIND, [KEYS["ecdsa-p256"], KEYS["ed25519"]])
    again = dsse.add_signature(one, [KEYS["ecdsa-p256"]])
    assert sorted(dsse.open_unverified(again)[2]) == sorted(dsse.open_unverified(one)[2])
    dsse.verify(again, KIND, TRUSTED, 2)


def test_there_is_an_end_to_signatures() -> None:
    envelope = dsse.sign(b"text", KIND, [Ed25519PrivateKey.generate() for _ in range(64)])
    with pytest.raises(MalformedError, match="more than 64"):
        dsse.add_signature(envelope, [KEYS["ed25519"]])


def test_a_signature_is_checked_with_the_key_that_its_id_names() -> None:
    """Another key's good signature does not count under this key's id, whatever its kind."""
    document = json.loads(dsse.sign(b"text", KIND, [KEYS["ed25519"], KEYS["ecdsa-p256"]]))
    first, second = document["signatures"]
    first["keyid"], second["keyid"] = second["keyid"], first["keyid"]
    with pytest.raises(Rejected) as caught:
        dsse.verify(json.dumps(document).encode(), KIND, TRUSTED, 1)
    assert caught.value.code == "document-signature"


def test_key_ids() -> None:
    raw = KEYS["ed25519"].public_key().public_bytes_raw()
    assert dsse.key_id(KEYS["ed25519"].public_key()) == hashlib.sha256(raw).hexdigest()
    spki = KEYS["ecdsa-p384"].public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert dsse.key_id(KEYS["ecdsa-p384"].public_key()) == hashlib.sha256(spki).hexdigest()
    assert len({len(raw), len(spki)}) == 2


def test_other_curves_sign_nothing() -> None:
    other = ec.generate_private_key(ec.SECP521R1())
    with pytest.raises(MalformedError, match="not P-256 or P-384"):
        dsse.sign(b"text", KIND, [other])
    envelope = json.loads(dsse.sign(b"text", KIND, [KEYS["ed25519"]]))
    identity = dsse.key_id(other.public_key())
    envelope["signatures"][0]["keyid"] = identity
    with pytest.raises(MalformedError, match="not P-256 or P-384"):
        dsse.verify(json.dumps(envelope).encode(), KIND, {identity: other.public_key()}, 1)


@pytest.mark.parametrize(("kind", "digest"), [("ecdsa-p256", "-sha256"), ("ecdsa-p384", "-sha384")])
def test_openssl_agrees_on_ecdsa(tmp_path: Path, kind: str, digest: str) -> None:
    """What OpenSSL verifies over the encoding of the specification is what we sign."""
    import base64

    key = KEYS[kind]
    document = json.loads(dsse.sign(b"hello", "a/b", [key]))
    (tmp_path / "sig").write_bytes(base64.b64decode(document["signatures"][0]["sig"]))
    (tmp_path / "message").write_bytes(b"DSSEv1 3 a/b 5 hello")
    (tmp_path / "pub").write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    command = ["openssl", "dgst", digest, "-verify", "pub", "-signature", "sig", "message"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout == "Verified OK\n", done.stderr
