"""EAT Attestation Results as claims: strict reading, and writing.

Written with the names of the current draft. On input the older names are taken too (``ear.status``,
``ear.verifier-id``, a single ``ear.appraisal-policy-id``), never both names at once. JSON in a JWT; CBOR in a CWT:
``ear_cbor.py``.
Source: draft-ietf-rats-ear, "tag:ietf.org,2026:rats/ear#03"; RFC 9711 (EAT); draft-ietf-rats-ar4si for the vector.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from watchword.policy.document import fail, load
from watchword.policy.trustworthiness import Claim, Tier, worst_tier

__all__ = ["MAX_EAR", "OLDER_PROFILE", "PROFILE", "Ear", "Submodule", "VerifierId"]

PROFILE = "tag:ietf.org,2026:rats/ear#03"
OLDER_PROFILE = "tag:github.com,2023:veraison/ear"
MAX_EAR = 256 * 1024  # bytes of JSON
_PROFILES = frozenset({PROFILE, OLDER_PROFILE})
_MAX_DEPTH = 32
_WHAT = "EAR"
_BASE64URL = re.compile(r"[A-Za-z0-9_-]*")
_OLDER_NAME = re.compile(r"ear[._][a-z._-]+")
_T = TypeVar("_T")

Time = Annotated[int, Meta(ge=0, le=2**53)]
Text = Annotated[str, Meta(min_length=1, max_length=1024)]
Nonce = Annotated[str, Meta(min_length=8, max_length=88)]  # RFC 9711, 4.1
Nonces = Annotated[tuple[Nonce, ...], Meta(min_length=1, max_length=16)]
Vector = Annotated[dict[Claim, Annotated[int, Meta(ge=-128, le=127)]], Meta(min_length=1)]


class VerifierId(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who made the result: ``developer`` is a name or URL of the software's makers, ``build`` its version."""

    developer: Text
    build: Text


class _Submodule(msgspec.Struct, frozen=True):
    ear_status: Tier
    ear_trustworthiness_vector: Vector | None = None
    ear_appraisal_policy_ids: Annotated[tuple[Text, ...], Meta(min_length=1, max_length=64)] = ()
    eat_profile: Text | None = None
    eat_nonce: Nonce | Nonces | None = None


class _Document(msgspec.Struct, frozen=True):
    eat_profile: Text
    iat: Time
    ear_verifier_id: VerifierId
    submods: Annotated[dict[Text, dict[str, Any]], Meta(min_length=1, max_length=64)]
    ear_status: Tier | None = None
    exp: Time | None = None
    ear_raw_evidence: str | None = None
    eat_nonce: Nonce | Nonces | None = None


@dataclass(frozen=True, slots=True)
class Submodule:
    """The result for one attester. ``vector`` may be empty; ``extensions`` are claims that the draft does not name."""

    status: Tier
    vector: Mapping[Claim, int]
    policy_ids: tuple[str, ...] = ()
    profile: str | None = None
    nonces: tuple[str, ...] = ()
    extensions: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # The draft: a status is of no higher trust than the worst claim. "none" asserts nothing and is always true.
        if self.status is not Tier.NONE and self.status.number < worst_tier(self.vector).number:
            raise ValueError("the status promises more than the trustworthiness vector")


@dataclass(frozen=True, slots=True)
class Ear:
    """One result. ``issued`` and ``expires`` are Unix seconds; ``submodules`` has at least one entry."""

    issued: int
    verifier: VerifierId
    submodules: Mapping[str, Submodule]
    profile: str = PROFILE
    status: Tier | None = None
    expires: int | None = None
    raw_evidence: bytes | None = None
    nonces: tuple[str, ...] = ()
    extensions: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def parse(cls, payload: bytes, *, profiles: frozenset[str] = _PROFILES) -> Ear:
        """Read the JSON claims of a result, of at most 256 KiB, nothing verified.

        ``profiles`` are the values of ``eat_profile`` that are taken. Raises MalformedError with the place that is
        wrong, for repeated claims and for a status that promises more than its vector too.
        """
        loaded = load(payload, dict[str, Any], _WHAT, MAX_EAR)
        _check_depth(loaded, _MAX_DEPTH)
        claims = _current_names(loaded, "")
        document = _convert(claims, _Document, "")
        if document.eat_profile not in profiles:
            fail(_WHAT, "eat_profile", f"{document.eat_profile[:80]!r} is not a profile that is read here")
        return cls(
            issued=document.iat,
            verifier=document.ear_verifier_id,
            submodules={name: _submodule(name, value) for name, value in document.submods.items()},
            profile=document.eat_profile,
            status=document.ear_status,
            expires=document.exp,
            raw_evidence=_binary(document.ear_raw_evidence, "ear_raw_evidence"),
            nonces=_nonces(document.eat_nonce),
            extensions=_extensions(claims, _Document),
        )

    def encode(self) -> bytes:
        """The JSON claims, with the names of the current draft; what a JWT carries as payload."""
        claims = {
            "eat_profile": self.profile,
            "iat": self.issued,
            "exp": self.expires,
            "ear_verifier_id": {"developer": self.verifier.developer, "build": self.verifier.build},
            "ear_status": self.status,
            "ear_raw_evidence": None if self.raw_evidence is None else _base64url(self.raw_evidence),
            "eat_nonce": list(self.nonces) or None,
            "submods": {name: _claims(module) for name, module in self.submodules.items()},
        }
        return msgspec.json.encode(dict(self.extensions) | _present(claims))


def _submodule(name: str, value: dict[str, Any]) -> Submodule:
    path = f"submods[{name!r}]"
    claims = _current_names(value, path)
    policy = claims.pop("ear_appraisal_policy_id", None)  # the older draft had one, as a text
    if policy is not None:
        if "ear_appraisal_policy_ids" in claims:
            fail(_WHAT, path, "the appraisal policy is there under two names")
        claims["ear_appraisal_policy_ids"] = [policy]
    parsed = _convert(claims, _Submodule, path)
    extensions = _extensions(claims, _Submodule)
    _check_key_attestation(extensions, path)
    try:
        return Submodule(
            parsed.ear_status,
            parsed.ear_trustworthiness_vector or {},
            parsed.ear_appraisal_policy_ids,
            parsed.eat_profile,
            _nonces(parsed.eat_nonce),
            extensions,
        )
    except ValueError as error:
        fail(_WHAT, path, str(error))


def _check_depth(value: object, left: int) -> None:
    """Refuse what a program that reads extensions would have to recurse into without end."""
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    if children and not left:
        fail(_WHAT, "", f"is nested more than {_MAX_DEPTH} levels deep")
    for child in children:
        _check_depth(child, left - 1)


def _current_names(claims: dict[str, Any], path: str) -> dict[str, Any]:
    """``claims`` with older spellings of the draft's own names replaced."""
    renamed: dict[str, Any] = {}
    for name, value in claims.items():
        current = re.sub(r"[.-]", "_", name) if _OLDER_NAME.fullmatch(name) else name
        name = current if current in _OWN_NAMES else name
        if name in renamed:
            fail(_WHAT, path, f"the claim {name} is there under two names")
        renamed[name] = value
    return renamed


_OWN_NAMES = frozenset({*_Document.__struct_fields__, *_Submodule.__struct_fields__, "ear_appraisal_policy_id"})


def _convert(claims: dict[str, Any], kind: type[_T], path: str) -> _T:
    try:
        return msgspec.convert(claims, kind, strict=True)
    except msgspec.ValidationError as error:
        fail(_WHAT, path, str(error))


def _extensions(claims: dict[str, Any], kind: type[msgspec.Struct]) -> dict[str, Any]:
    return {name: value for name, value in claims.items() if name not in kind.__struct_fields__}


def _check_key_attestation(extensions: Mapping[str, Any], path: str) -> None:
    """Veraison's extension vouches for a key: without one, a reader must not think that a key was vouched for."""
    for name in ("ear_veraison_key_attestation", "ear.veraison.key-attestation"):
        if name in extensions:
            value = extensions[name]
            if not isinstance(value, dict) or set(value) != {"akpub"} or not isinstance(value["akpub"], str):
                fail(_WHAT, f"{path}.{name}", "has no akpub, or more than that")
            _binary(value["akpub"], f"{path}.{name}.akpub")


def _nonces(value: str | tuple[str, ...] | None) -> tuple[str, ...]:
    return () if value is None else (value,) if isinstance(value, str) else value


def _binary(text: str | None, path: str) -> bytes | None:
    if text is None:
        return None
    try:
        data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (binascii.Error, ValueError):
        fail(_WHAT, path, "is not base64url")
    if not _BASE64URL.fullmatch(text):  # the decoder skips what is not of its alphabet
        fail(_WHAT, path, "is not base64url without padding")
    return data


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _claims(module: Submodule) -> dict[str, Any]:
    vector = {claim: module.vector[claim] for claim in Claim if claim in module.vector}
    claims = {
        "ear_status": module.status,
        "ear_trustworthiness_vector": vector or None,
        "ear_appraisal_policy_ids": list(module.policy_ids) or None,
        "eat_profile": module.profile,
        "eat_nonce": list(module.nonces) or None,
    }
    return dict(module.extensions) | _present(claims)


def _present(claims: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in claims.items() if value is not None}
