"""Other people's CoRIM documents: each is read, or refused for the reason that it is there for."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePublicKey,
    EllipticCurvePublicNumbers,
    generate_private_key,
)

from watchword.crypto import cose
from watchword.crypto.cbor import load
from watchword.errors import MalformedError, Rejected
from watchword.reference.interop.corim.document import Comid, Corim, check_signer, is_signed, parse_signed
from watchword.reference.interop.corim.foreign import read_corim
from watchword.reference.interop.draft import Draft

PATHS = "digest of something that is not called by an absolute path"
ENDORSED = "triples of kind 1, endorsed values"
# CoMIDs on their own, taken as the only tag of a document: what is left out of each, examples not repeated.
COMIDS = {
    "comid__testcases__comid-1a": [PATHS],
    "comid__testcases__comid-2": [ENDORSED],
    "comid__testcases__comid-2b": [ENDORSED, PATHS],
    "comid__testcases__comid-7": ["measurements of one instance or group"],
    "comid__testcases__comid-design-cd": [ENDORSED, "measurement with raw value and raw value mask", PATHS],
    "comid__testcases__comid-domain-mem": ["triples of kind 5, members of domains"],
    "comid__testcases__comid-firmware-cd": [ENDORSED, "measurement with security version number"],
    "comid__testcases__comid-flags": [ENDORSED],
    "comid__testcases__comid-opaque-instance-id": ["measurements of one instance or group"],
    "comid__testcases__comid-raw-value": [
        "measurement with raw value",
        "measurement with raw value and raw value mask",
    ],
    "comid__testcases__comid-series": ["triples of kind 8, series of endorsements"],
    "profiles__tdx__testcases__comid_pce_refval": ["measurement with authorities or members that are not known"],
    "profiles__tdx__testcases__comid_qe_refval": ["measurement with authorities or members that are not known"],
}
CORIMS = {
    "corim__testcases__corim-1": [PATHS],
    "corim__testcases__corim-roles": ["measurement without digests"],
    "corim__testcases__unsigned-good-corim": [PATHS],
    "profiles__cca__testcases__no-profile": ["measurement with cryptographic keys"],
    "profiles__psa__testcases__no-profile": ["measurement with cryptographic keys"],
}
OTHER_PROFILES = {
    "corim__testcases__unsigned-corim-with-extensions": "http://example.com/test-profile",
    "profiles__cca__testcases__cca-platform-invalid-digests": "tag:arm.com,2025:cca_platform#1.0.0",
    "profiles__cca__testcases__cca-realm-invalid-missing-rim": "tag:arm.com,2025:cca_realm#1.0.0",
    "profiles__cca__testcases__cca-realm-valid": "tag:arm.com,2025:cca_realm#1.0.0",
    "profiles__psa__testcases__psa-invalid-attest-key": "tag:arm.com,2025:psa#1.0.0",
}
# Signed, with the profile of what was signed; valid from 2021-12-31 to 2025-12-31.
SIGNED = {
    "corim__testcases__signed-corim-with-extensions": "http://example.com/test-profile",
    "corim__testcases__signed-example-corim": "http://example.com/example-profile",
    "corim__testcases__signed-good-corim": None,
}
OTHER_KINDS = {
    "coev__tdx__testcases__ce-pce-evidence",
    "coev__testcases__ce-evidence",
    "coserv__testvectors__discovery-unsigned",
    "coserv__testvectors__example-group-selector",
    "coserv__testvectors__example-instance-selector",
    "coserv__testvectors__rv-class-simple-results",
    "coserv__testvectors__rv-class-simple",
    "coserv__testvectors__sample_key",
}
NOW = 1_700_000_000  # inside the validity of the signed ones


@pytest.fixture(scope="module")
def folder(corpus: Path) -> Path:
    return corpus / "veraison+corim" / "corim"


@pytest.fixture(scope="module")
def published_key() -> EllipticCurvePublicKey:
    """The P-256 key of RFC 7517, A.1, which signed the examples."""
    x, y = (
        int.from_bytes(base64.urlsafe_b64decode(text + "="), "big")
        for text in ("MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4", "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM")
    )
    return EllipticCurvePublicNumbers(x, y, SECP256R1()).public_key()


def reasons(draft: Draft) -> list[str]:
    """What was left out, without how often and for example which."""
    assert (draft.components, draft.files) == ((), None)
    return [text.partition(" × ")[2] or text for text in (t.partition(", for example")[0] for t in draft.left_out)]


def heads(draft: Draft) -> list[str]:
    return [text.partition(": '")[0] for text in reasons(draft)]


def test_every_example_is_in_one_of_the_tables(folder: Path) -> None:
    known = {*COMIDS, *CORIMS, *OTHER_PROFILES, *SIGNED, *OTHER_KINDS}
    assert {file.stem for file in folder.glob("*.cbor")} == known


@pytest.mark.parametrize("name", COMIDS)
def test_comids(folder: Path, name: str) -> None:
    data = (folder / f"{name}.cbor").read_bytes()
    comid = Comid.parse(load(data, "CoMID", len(data)), "comid")
    document = Corim("id", None, (comid,), (), (None, None), False, {})
    assert heads(read_corim(document)) == COMIDS[name]
    with pytest.raises(MalformedError, match="a part of a CoRIM without the CoRIM"):
        Corim.parse(data)


@pytest.mark.parametrize("name", CORIMS)
def test_corims(folder: Path, name: str) -> None:
    assert heads(read_corim(Corim.parse((folder / f"{name}.cbor").read_bytes()))) == CORIMS[name]


@pytest.mark.parametrize("name", OTHER_PROFILES)
def test_profiles_that_are_not_known(folder: Path, name: str) -> None:
    document = Corim.parse((folder / f"{name}.cbor").read_bytes())
    assert document.profile == OTHER_PROFILES[name]
    with pytest.raises(MalformedError) as refused:
        read_corim(document)
    assert refused.value.code == "corim-profile"


@pytest.mark.parametrize("name", SIGNED)
def test_signatures_of_another_implementation(folder: Path, name: str, published_key: EllipticCurvePublicKey) -> None:
    data = (folder / f"{name}.cbor").read_bytes()
    assert is_signed(data)
    message = parse_signed(data)
    assert Corim.parse(cose.verify(message, published_key)).profile == SIGNED[name]
    assert check_signer(message, NOW) == "ACME Ltd signing key"
    with pytest.raises(Rejected, match="document-validity"):
        check_signer(message, 1_795_000_000)
    with pytest.raises(Rejected, match="document-signature"):
        cose.verify(message, generate_private_key(SECP256R1()).public_key())
    for place in (data.index(message.payload) + 5, len(data) - 1):
        changed = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
        with pytest.raises(Rejected, match="document-signature"):
            cose.verify(parse_signed(changed), published_key)


@pytest.mark.parametrize("name", sorted(OTHER_KINDS))
def test_what_is_no_corim(folder: Path, name: str) -> None:
    with pytest.raises(MalformedError, match=r"^CoRIM: does not have tag 501$"):
        Corim.parse((folder / f"{name}.cbor").read_bytes())
