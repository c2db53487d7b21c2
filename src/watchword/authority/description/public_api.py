"""Every public operation of the service as data: parameters, bodies, answers and problems.

``tests/authority/test_openapi.py`` compares this table with the routes; the fuzzing of ``bin/fuzz api`` compares it
with what the service answers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from watchword.authority.description.admin_api import ADMIN_OPERATIONS, ADMIN_SCHEMAS
from watchword.authority.description.openapi import Answer, Operation, Parameter
from watchword.authority.routes.events import PAGE, events_schema
from watchword.authority.routes.host_states import question_schema
from watchword.policy.profile import profile_schema

__all__ = ["OPERATIONS", "SCHEMAS"]

_JSON: Final = "application/json"
_OCTETS: Final = "application/octet-stream"
_HASH: Final = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
_TIME: Final = {"type": "integer", "minimum": 0}
_MAYBE_TIME: Final = {"type": ["integer", "null"], "minimum": 0}
_TEXT: Final = {"type": "string"}
_COUNT: Final = {"type": "integer", "minimum": 0}

_ALWAYS: Final = ("http-malformed", "internal")
_WORK: Final = (*_ALWAYS, "overloaded", "misconfigured", "store-busy", "store-unavailable")
_BODY: Final = ("body-empty", "body-length", "body-slow", "body-too-large", "body-type")


def _object(**properties: Mapping[str, Any]) -> dict[str, Any]:
    """A JSON object with exactly these members."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _list(items: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


_ENVELOPE: Final = _object(
    payloadType=_TEXT, payload=_TEXT, signatures=_list({"type": "object", "required": ["keyid", "sig"]})
)
_STATES: Final = {"enum": ["trusted", "degraded", "failed", "stale", "unknown"]}
_HOST_STATE: Final = _object(
    state=_STATES,
    level=_TEXT,
    rank=_COUNT,
    since=_MAYBE_TIME,
    checked=_MAYBE_TIME,
    until=_MAYBE_TIME,
    reason=_TEXT,
)
_STACK: Final = _object(
    name=_TEXT,
    version=_TEXT,
    serial=_COUNT,
    pool=_TEXT,
    channel=_TEXT,
    digest=_HASH,
    state={"enum": ["active", "retiring", "revoked"]},
    retire_at=_MAYBE_TIME,
    endorsed_by=_list(_TEXT),
    added_at=_TIME,
)
_COUNTS: Final = (
    "hosts", "hosts_revoked", "profiles", "stacks", "anchors", "ek_pins", "endorsers", "releases", "decisions",
)  # fmt: skip

SCHEMAS: Final = {
    "Envelope": _ENVELOPE | {"description": "A DSSE envelope."},
    "HostState": _HOST_STATE,
    "Stack": _STACK,
    **ADMIN_SCHEMAS,
    **profile_schema("#/components/schemas/{name}"),
}

_LAUNCH: Final = Parameter("launch_id", "path", "the launch id", {"type": "string", "pattern": "^[0-9a-f]{32}$"})
_PROFILE: Final = Parameter("profile_id", "path", "the SHA-256 of the profile", _HASH)
_AFTER: Final = Parameter(
    "after", "query", "continue after this number", {"type": "integer", "minimum": 0, "maximum": 10**15 - 1}
)
_TILE: Final = Parameter(
    "path",
    "path",
    "which tile (C2SP tlog-tiles); it has slashes, which are not escaped",
    {"type": "string", "pattern": r"^(entries|[0-7])(/x[0-9]{3}){0,6}/[0-9]{3}(\.p/[1-9][0-9]{0,2})?$"},
)
_NOTE: Final = Answer("a signed note", "text/plain; charset=utf-8", _TEXT)
_ENVELOPE_ANSWER: Final = Answer("a signed statement", _JSON, _ref("Envelope"))
_KEPT: Final = _object(id=_HASH, name=_TEXT, levels=_list(_TEXT))
_WHERE: Final = {"Location": "where the profile is"}

_SOME_PROFILE: Final = {
    "format": "watchword-profile/1",
    "name": "gold",
    "bank": "sha256",
    "pcrs": [0, 4, 7, 9, 10],
    "levels": [
        {
            "name": "gold",
            "rules": {
                "identity": ["hardware"],
                "covers": [0, 4, 9],
                "runtime": "listed",
                "secure_boot": True,
                "endorsers": {"keys": ["5c" * 32], "threshold": 1},
            },
        }
    ],
}

OPERATIONS: Final[Mapping[tuple[str, str], Operation]] = {
    ("GET", "/v1/openapi.json"): Operation(
        "getOpenapi",
        "This description",
        {200: Answer("an OpenAPI 3.1 document", _JSON, {"type": "object", "required": ["openapi", "paths"]})},
        _ALWAYS,
    ),
    ("POST", "/v1/messages"): Operation(
        "postMessage",
        "The sealed reply to a sealed request of a host",
        {200: Answer("a sealed reply, which may be a refusal", _OCTETS, {})},
        (*_WORK, *_BODY, "malformed", "sealed-unopenable"),
        body=(_OCTETS, {}, None),
    ),
    ("GET", "/v1/keys"): Operation(
        "getKeys",
        "All signed key lists, oldest first",
        {200: Answer("key lists", _JSON, _object(authority=_TEXT, keys=_list(_ref("Envelope"))))},
        _WORK,
    ),
    ("POST", "/v1/profiles"): Operation(
        "postProfile",
        "Keep a tenant's profile under the hash of its bytes. A body that fits the schema may still be no profile",
        {200: Answer("it was here", _JSON, _KEPT, _WHERE), 201: Answer("it is new", _JSON, _KEPT, _WHERE)},
        (*_WORK, *_BODY, "malformed", "rate-limited", "profiles-full"),
        body=(_JSON, _ref("Profile"), _SOME_PROFILE),
    ),
    ("GET", "/v1/profiles/{profile_id}"): Operation(
        "getProfile",
        "The exact bytes of a profile",
        {200: Answer("the profile", _JSON, _ref("Profile"))},
        (*_WORK, "not-found", "profile-unknown"),
        (_PROFILE,),
    ),
    ("GET", "/v1/stacks"): Operation(
        "getStacks",
        "All stack releases, without reference values",
        {200: Answer("stacks", _JSON, _object(stacks=_list(_ref("Stack"))))},
        _WORK,
    ),
    ("GET", "/v1/launches/{launch_id}"): Operation(
        "getLaunch",
        "The signed receipts of a launch, and the same as attestation results (EAR)",
        {
            200: Answer(
                "at most 100 receipts; `next` is null at the end",
                _JSON,
                _object(decisions=_list(_ref("Envelope")), results=_list(_TEXT), next={"type": ["integer", "null"]}),
            )
        },
        (*_WORK, "not-found", "launch-unknown", "query-malformed"),
        (_LAUNCH, _AFTER),
    ),
    ("GET", "/v1/launches/{launch_id}/standing"): Operation(
        "getStanding",
        "How the hosts of a launch stand now, signed",
        {200: _ENVELOPE_ANSWER},
        (*_WORK, "not-found", "launch-unknown"),
        (_LAUNCH,),
    ),
    ("POST", "/v1/host-states"): Operation(
        "postHostStates",
        "What hosts are worth, for a provider's scheduler",
        {
            200: Answer(
                "the state of each host",
                _JSON,
                _object(
                    profile=_HASH,
                    time=_TIME,
                    states={"type": "object", "additionalProperties": _ref("HostState")},
                ),
            )
        },
        (*_WORK, *_BODY, "body-malformed", "profile-unknown"),
        body=(_JSON, question_schema(), {"hosts": ["5c" * 32]}),
    ),
    ("POST", "/v1/events"): Operation(
        "postEvents",
        "What happened since, signed; with `all` only for people who may read about hosts",
        {
            200: Answer(
                f"at most {PAGE} events; continue after `next`",
                _JSON,
                _object(
                    events=_list(_ref("Envelope")),
                    next=_COUNT,
                    complete={"type": "boolean"},
                    profile=_TEXT,
                ),
            )
        },
        (*_WORK, *_BODY, "body-malformed", "unauthenticated", "forbidden", "identity-unavailable", "cross-origin"),
        body=(_JSON, events_schema(), {"hosts": ["5c" * 32], "after": 0}),
    ),
    ("GET", "/v1/status"): Operation(
        "getStatus",
        "Versions, counts, the head of the decision record",
        {
            200: Answer(
                "the status",
                _JSON,
                _object(
                    version=_TEXT,
                    authority=_TEXT,
                    fingerprint=_TEXT,
                    key_list_version={"type": "integer", "minimum": 1},
                    time=_TIME,
                    counts=_object(**dict.fromkeys(_COUNTS, _COUNT)),
                    decisions=_object(seq=_COUNT, root=_HASH),
                ),
            )
        },
        _WORK,
    ),
    ("GET", "/v1/health"): Operation(
        "getHealth",
        "The process answers",
        {200: Answer("alive", _JSON, _object(status={"const": "alive"}))},
        _ALWAYS,
    ),
    ("GET", "/v1/ready"): Operation(
        "getReady",
        "A decision could be made now",
        {200: Answer("ready", _JSON, _object(status={"const": "ready"}, checked=_list(_TEXT)))},
        (*_ALWAYS, "not-ready", "overloaded", "stopping"),
    ),
    ("GET", "/v1/checkpoint"): Operation(
        "getNewestCheckpoint", "The checkpoint of everything decided so far", {200: _NOTE}, _WORK
    ),
    ("GET", "/checkpoint"): Operation(
        "getCheckpoint", "The newest checkpoint that the authority's witnesses cosigned", {200: _NOTE}, _WORK
    ),
    ("GET", "/tile/{path}"): Operation(
        "getTile",
        "Hashes or entries of the log",
        {200: Answer("the tile", _OCTETS, {})},
        (*_WORK, "not-found", "tile-unknown"),
        (_TILE,),
    ),
    **ADMIN_OPERATIONS,
}
