"""Attestation results in CBOR, as other verifiers may send them: the same claims under numbers.

They are read only to be shown; our own results are JSON. Needs the extra ``auditor``.
Source: draft-ietf-rats-ear, the CDDL of its labels; RFC 8392 (CWT) for the envelope.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import msgspec

from watchword.crypto.cbor import Tag, dump, load
from watchword.crypto.cose import SIGN1_TAG, Sign1
from watchword.policy.document import fail
from watchword.policy.ear_claims import MAX_EAR, Ear
from watchword.policy.trustworthiness import Claim, Tier

__all__ = ["parse_unverified"]

_WHAT = "EAR"
_CWT_TAG = 61
_DOCUMENT = {4: "exp", 6: "iat", 10: "eat_nonce", 265: "eat_profile", 266: "submods", 1000: "ear_status",
             1002: "ear_raw_evidence", 1004: "ear_verifier_id"}  # fmt: skip
_SUBMODULE = {10: "eat_nonce", 265: "eat_profile", 1000: "ear_status", 1001: "ear_trustworthiness_vector",
              1003: "ear_appraisal_policy_ids", -70000: "ear_veraison_annotated_evidence",
              -70001: "ear_veraison_policy_claims", -70002: "ear_veraison_key_attestation"}  # fmt: skip
_VERIFIER = {0: "developer", 1: "build"}
_VECTOR = {number: claim.value for number, claim in enumerate(Claim)}
_TIERS = {tier.number: tier for tier in Tier}


def parse_unverified(data: bytes) -> Ear:
    """The claims of an EAR in CBOR: bare, in a COSE_Sign1, or in a CWT around one. Nothing is verified.

    Raises MalformedError.
    """
    value = load(data, _WHAT, MAX_EAR)
    if isinstance(value, Tag) and value.tag == _CWT_TAG:
        value = value.value
    if isinstance(value, Tag) and value.tag == SIGN1_TAG:
        value = load(Sign1.parse(dump(value), _WHAT, MAX_EAR).payload, _WHAT, MAX_EAR)
    claims = _named(value, _DOCUMENT, "")
    claims["ear_verifier_id"] = _named(claims.get("ear_verifier_id"), _VERIFIER, "ear_verifier_id")
    if not isinstance(claims.get("submods"), dict):
        fail(_WHAT, "submods", "is not a map")
    claims["submods"] = {str(name): _submodule(part, f"submods[{name!r}]") for name, part in claims["submods"].items()}
    return Ear.parse(msgspec.json.encode(_json(_with_status(claims), "")))


def _submodule(value: Any, place: str) -> dict[str, Any]:
    claims = _named(value, _SUBMODULE, place)
    if "ear_trustworthiness_vector" in claims:
        claims["ear_trustworthiness_vector"] = _named(claims["ear_trustworthiness_vector"], _VECTOR, f"{place}: vector")
    return _with_status(claims)


def _with_status(claims: dict[str, Any]) -> dict[str, Any]:
    status = claims.get("ear_status")
    if type(status) is not int:
        return claims  # a name in its place is judged with the rest
    return claims | {"ear_status": _TIERS.get(status, str(status))}


def _named(value: Any, names: Mapping[int, str], place: str) -> dict[str, Any]:
    """A map with the names of its labels; a label without a name is shown as its number."""
    if not isinstance(value, dict):
        fail(_WHAT, place, "is not a map")
    found = {names.get(key, str(key)) if type(key) is int else key: each for key, each in value.items()}
    if len(found) != len(value):
        fail(_WHAT, place, "has a claim under its number and its name")
    return found


def _json(value: Any, place: str) -> Any:
    """``value`` as JSON can have it: byte strings in base64url, as EAT in JSON writes them."""
    if isinstance(value, bytes):
        return base64.urlsafe_b64encode(value).rstrip(b"=").decode()
    if isinstance(value, tuple):
        return [_json(each, place) for each in value]
    if isinstance(value, dict):
        found = {str(key): _json(each, place) for key, each in value.items()}
        if len(found) != len(value):
            fail(_WHAT, place, "has one name twice")
        return found
    if isinstance(value, Tag):
        return {f"tag {value.tag}": _json(value.value, place)}
    return value
