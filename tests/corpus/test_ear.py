"""Other people's attestation results: the draft's own examples and definitions, and another implementation's tests."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from watchword.crypto import dsse, jwt
from watchword.errors import Finding, MalformedError, Rejected
from watchword.policy import ear
from watchword.policy.ear_claims import OLDER_PROFILE, PROFILE, Ear, VerifierId
from watchword.policy.trustworthiness import Claim, Tier

KEY = Ed25519PrivateKey.generate()
TRUSTED = {dsse.key_id(KEY.public_key()): KEY.public_key()}
TRUSTEE = "tag:github.com,2024:confidential-containers/Trustee"


@pytest.fixture
def draft(corpus: Path) -> Path:
    return corpus / "ietf-rats-wg+draft-ietf-rats-ear" / "ear"


@pytest.fixture
def veraison(corpus: Path) -> Path:
    return corpus / "veraison+ear" / "ear"


@pytest.fixture
def vectors(veraison: Path) -> Any:
    return json.loads((veraison / "ear_jwt_vectors.json").read_text())


def test_every_json_example_of_the_draft_is_read(draft: Path) -> None:
    examples = sorted(draft.glob("*-json-*.diag"))
    assert len(examples) == 5
    for file in examples:
        parsed = Ear.parse(file.read_bytes())
        assert parsed.profile == PROFILE
        assert Ear.parse(parsed.encode()) == parsed
        for name, value in json.loads(file.read_bytes())["submods"].items():
            found = parsed.submodules[name]
            assert found.status == value["ear_status"]
            assert dict(found.vector) == value["ear_trustworthiness_vector"]
            assert list(found.policy_ids) == value["ear_appraisal_policy_ids"]
            assert set(found.extensions) == {key for key in value if key.startswith(("ear_veraison", "ear_teep"))}
        again = ear.verify(jwt.sign(parsed.encode(), KEY), TRUSTED, parsed.issued)
        assert again == parsed


def test_cbor_is_left_out_and_refused(draft: Path) -> None:
    examples = sorted(draft.glob("*-cbor-*.diag"))
    assert len(examples) == 3
    for file in examples:
        with pytest.raises(MalformedError):
            Ear.parse(file.read_bytes())


def test_our_names_are_those_of_the_definition(draft: Path) -> None:
    definition = "".join((draft / name).read_text() for name in ("ear.cddl", "ear-appraisal.cddl"))
    assert f'"{PROFILE}"' in definition
    named = set(re.findall(r'eat\.JC<"(ear_[a-z_]+)"', definition))
    made = json.loads(
        ear.from_appraisal([Finding("A1", "ek-chain", "")], VerifierId("d", "b"), 1, profile_id=bytes(32))
    )
    used = {key for part in (made, made["submods"]["host"]) for key in part if key.startswith("ear_")}
    assert used - named == {ear.EXTENSION}
    assert named - used == {"ear_raw_evidence"}
    vector = (draft / "ar4si.cddl").read_text()
    claims = dict(re.findall(r'JC<"([a-z-]+)", ([0-7])>', vector.split("trustworthiness-claim =")[0]))
    assert {claim.value: str(number) for number, claim in enumerate(Claim)} == claims
    tiers = dict(re.findall(r'tier-[a-z]+-label = JC<"([a-z]+)", ([0-9]+)>', vector))
    assert {tier.value: str(tier.number) for tier in Tier} == tiers


def test_older_results_are_read_or_refused_as_their_source_says(veraison: Path) -> None:
    for file in sorted(veraison.glob("ear-claims*.json")):
        if file.stem.endswith("-ko"):
            with pytest.raises(MalformedError, match="akpub"):
                Ear.parse(file.read_bytes())
        else:
            (found,) = Ear.parse(file.read_bytes()).submodules.values()
            assert found.status is Tier.AFFIRMING
            assert len(found.policy_ids) == 1
    assert len(Ear.parse((veraison / "ear-claims-tv-ok.json").read_bytes()).submodules["test"].vector) == len(Claim)


def test_claims_without_the_mandatory_ones_are_refused(vectors: Any) -> None:
    Ear.parse(vectors["vars"]["testMiniClaimsSet"].encode())
    with pytest.raises(MalformedError):
        Ear.parse(vectors["vars"]["testEmptyClaimsSet"].encode())


@pytest.mark.parametrize(("name", "known_profile"), [("testJWT", True), ("testJWT_JWK", True), ("testRealmJWT", False)])
def test_genuine_tokens_of_another_kind_are_refused_by_algorithm(vectors: Any, name: str, known_profile: bool) -> None:
    """They are signed with ES256: genuine, as a check of our own shows, and still not what is accepted here."""
    token = vectors["vars"][name].encode()
    header, payload = jwt.open_unverified(token)
    _check_es256(token, header.get("jwk") or json.loads(vectors["vars"]["testPKey"]))
    with pytest.raises(Rejected) as caught:
        jwt.verify(token, TRUSTED)
    assert caught.value.code == "jwt-algorithm"
    if not known_profile:
        with pytest.raises(MalformedError, match="not a profile"):
            Ear.parse(payload)
    (found,) = Ear.parse(payload, profiles=frozenset({TRUSTEE, OLDER_PROFILE})).submodules.values()
    assert found.status is Tier.AFFIRMING
    assert found.vector[Claim.EXECUTABLES] == 3


def test_every_bad_token_is_refused(vectors: Any) -> None:
    reasons = []
    for case in vectors["verify_cases"]:
        with pytest.raises((MalformedError, Rejected)) as caught:
            jwt.verify(case["token"].encode(), TRUSTED)
        reasons.append(caught.value.code)
    assert reasons == ["jwt-algorithm", "jwt-algorithm", "malformed", "jwt-algorithm", "malformed"]


def test_the_claims_of_the_bad_tokens_are_refused_too(vectors: Any) -> None:
    """Signed again with a key that is trusted, so that nothing but the claims is left to be wrong."""
    for case in vectors["verify_cases"]:
        payload = max(case["token"].split(".")[:3], key=lambda part: len(part) if not part.startswith("eyJhbGc") else 0)
        data = base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))
        with pytest.raises(MalformedError):
            ear.verify(jwt.sign(data, KEY), TRUSTED, 2_000_000_000)


def _check_es256(token: bytes, jwk: dict[str, str]) -> None:
    message, _, signature = token.rpartition(b".")
    raw = base64.urlsafe_b64decode(signature + b"==")
    x, y = (int.from_bytes(base64.urlsafe_b64decode(jwk[name] + "=="), "big") for name in ("x", "y"))
    key = ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()
    der = encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))
    try:
        key.verify(der, message, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        pytest.fail("the token in the collection is not genuine")
