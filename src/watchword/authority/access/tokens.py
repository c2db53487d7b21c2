"""Bearer tokens: JSON Web Tokens of one OpenID provider (RFC 7519, RFC 9068, RFC 8725), and who holds them.

The text of a token goes into no log and no error.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jws import JWSRegistry
from joserfc.jwt import JWTClaimsRegistry

from watchword.authority.access.issuer import Issuer
from watchword.authority.access.roles import Caller, How, Role

__all__ = ["ALGORITHMS", "BadToken", "TokenRules", "holder"]

ALGORITHMS: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "Ed25519")
MAX_TOKEN: Final = 12 * 1024  # characters; the head of a request has 16 KiB
MAX_NAME: Final = 128
_TYPES: Final = frozenset({"jwt", "at+jwt"})


class BadToken(Exception):
    """Why a token does not hold; the text tells nothing of its content but names."""


@dataclass(frozen=True, slots=True)
class TokenRules:
    """Which tokens count, and what their claims are worth; ``skew`` in seconds.

    ``roles_claim`` is the path of names to a list of texts, ``roles`` says what each of these is worth. ``refused``
    are subjects whose tokens do not count.
    """

    url: str
    audience: str
    ca_file: Path | None
    algorithms: tuple[str, ...]
    name_claim: str
    roles_claim: tuple[str, ...]
    roles: Mapping[str, frozenset[Role]]
    refused: frozenset[str]
    skew: int


class _Registry(JWSRegistry):
    max_header_length = 4096  # issuers put certificates and hashes there
    max_payload_length = MAX_TOKEN
    max_signature_length = 1024


class _Head(msgspec.Struct):
    alg: str
    kid: str | None = None
    typ: str = "JWT"


class _Body(msgspec.Struct):
    iss: str


def holder(
    token: str, rules: TokenRules, issuer: Issuer, now: int, certificate: x509.Certificate | None = None
) -> Caller:
    """Who holds ``token`` at ``now`` (Unix seconds); ``certificate`` is the one that the connection proved. Blocks.

    Raises :class:`BadToken`, :class:`Unavailable` (``issuer-unreachable``).
    """
    head = _head(token, rules)
    key = issuer.key(head.kid)
    if key is None:
        raise BadToken("its issuer has no such key")
    try:
        registry = _Registry(algorithms=rules.algorithms, strict_check_header=False)
        claims = jwt.decode(token, key, list(rules.algorithms), registry).claims
        _expected(rules, now).validate(claims)
    except (JoseError, ValueError, TypeError) as error:
        raise BadToken(_reason(error)) from None
    _check_binding(claims.get("cnf"), certificate)
    return _caller(claims, rules)


def _head(token: str, rules: TokenRules) -> _Head:
    """What can be told before anybody's signature is checked: enough not to ask the issuer for keys in vain."""
    parts = token.split(".")
    if len(token) > MAX_TOKEN or len(parts) != 3:
        raise BadToken("it is no signed JSON Web Token")
    try:
        head, body = (
            msgspec.json.decode(_decoded(parts[0]), type=_Head),
            msgspec.json.decode(_decoded(parts[1]), type=_Body),
        )
    except (ValueError, RecursionError, binascii.Error):
        raise BadToken("it is no signed JSON Web Token") from None
    if head.alg not in rules.algorithms:
        raise BadToken("its algorithm is not one that counts here")
    if head.typ.lower().removeprefix("application/") not in _TYPES:
        raise BadToken("it is a token for something else (typ)")
    if body.iss != rules.url:
        raise BadToken("it is by another issuer (iss)")
    return head


def _decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def _expected(rules: TokenRules, now: int) -> JWTClaimsRegistry:
    return JWTClaimsRegistry(
        now=now,
        leeway=rules.skew,
        iss={"essential": True, "value": rules.url},
        aud={"essential": True, "value": rules.audience},
        exp={"essential": True},
        sub={"essential": True},
    )


def _reason(error: Exception) -> str:
    code = getattr(error, "error", "")
    return {
        "expired_token": "its time is over (exp)",
        "bad_signature": "its signature is not by that key",
        "missing_claim": "it lacks a claim: iss, aud, exp and sub are needed",
    }.get(code, getattr(error, "description", "") or "it cannot be read")


def _check_binding(cnf: object, certificate: x509.Certificate | None) -> None:
    """A token that belongs to a key counts with that key only (RFC 8705 section 3.1, RFC 7800)."""
    if cnf is None:
        return
    bound = cnf.get("x5t#S256") if isinstance(cnf, dict) and len(cnf) == 1 else None
    if not isinstance(bound, str):
        raise BadToken("it belongs to a key in a way that cannot be checked here (cnf)")
    held = base64.urlsafe_b64encode(certificate.fingerprint(SHA256())).decode().rstrip("=") if certificate else ""
    if bound != held:
        raise BadToken("it belongs to another client certificate than this connection's (cnf)")


def _caller(claims: Mapping[str, Any], rules: TokenRules) -> Caller:
    name = claims.get(rules.name_claim)
    if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME or not name.isprintable():
        raise BadToken(f"it does not say who holds it ({rules.name_claim})")
    if claims["sub"] in rules.refused:
        raise BadToken("tokens of this subject are refused here")
    found: object = claims
    for step in rules.roles_claim:
        found = found.get(step) if isinstance(found, dict) else None
    texts = [found] if isinstance(found, str) else found if isinstance(found, list) else []
    roles = [rules.roles[text] for text in texts if isinstance(text, str) and text in rules.roles]
    return Caller(name, frozenset().union(*roles), How.TOKEN)
