"""KDFa and KDFe against vectors checked with the TCG reference implementation."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from watchword.crypto.tpm_key import curve_of, point, public_key
from watchword.wire.tpm.algorithms import Alg, digest_size
from watchword.wire.tpm.kdf import kdfa, kdfe
from watchword.wire.tpm.public import Public
from watchword.wire.tpm.schemes import EccParameters


def _vectors(corpus: Path, name: str) -> list[dict]:
    return json.loads((corpus / "google+go-tpm/vectors" / f"{name}.json").read_text())


def test_kdfa(corpus: Path) -> None:
    for vector in _vectors(corpus, "kdfa"):
        key, u, v = (bytes.fromhex(vector[name]) for name in ("Key", "ContextU", "ContextV"))
        result = kdfa(Alg(vector["HashAlg"]), key, vector["Label"], u, v, vector["Bits"])
        assert result.hex() == vector["Result"], vector["Name"]


def test_kdfe(corpus: Path) -> None:
    for vector in _vectors(corpus, "kdfe"):
        if not vector["Bits"]:
            continue  # one vector asks for nothing; a key of no bits is a mistake here
        z, u, v = (bytes.fromhex(vector[name]) for name in ("Z", "ContextU", "ContextV"))
        result = kdfe(Alg(vector["HashAlg"]), z, vector["Label"], u, v, vector["Bits"])
        assert result.hex() == vector["Result"], vector["Name"]


def test_seed_shared_with_an_ecc_key(corpus: Path) -> None:
    checked = 0
    for vector in _vectors(corpus, "ecc_labeled_encaps"):
        public = Public.parse(bytes.fromhex(vector["PublicKey"]))
        assert isinstance(public.parameters, EccParameters)
        key = public_key(public)
        assert isinstance(key, ec.EllipticCurvePublicKey)
        secret = int(vector["EphemeralPrivate"], 16)
        ephemeral = ec.derive_private_key(secret, curve_of(public.parameters.curve))
        z, ours = ephemeral.exchange(ec.ECDH(), key), point(ephemeral.public_key())
        bits = 8 * digest_size(public.name_alg)
        seed = kdfe(public.name_alg, z, vector["Label"], ours.x, point(key).x, bits)
        assert (seed.hex(), ours.encode().hex()) == (vector["Secret"], vector["Ciphertext"]), vector["Name"]
        checked += 1
    assert checked == 100


def test_no_bits() -> None:
    with pytest.raises(ValueError):
        kdfa(Alg.SHA256, b"", "X", b"", b"", 0)
