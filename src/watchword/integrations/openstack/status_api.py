"""What the status service answers, for programs: its OpenAPI description."""

from __future__ import annotations

from typing import Any, Final

from watchword import __version__
from watchword.integrations.openstack.refusals import ROUTE
from watchword.net.described import Description, answer_of, failure
from watchword.net.server import PROBLEM

__all__ = ["DESCRIPTION", "MAX_NAMES"]

MAX_NAMES: Final = 10_000  # in one question of PollHosts
_ABOUT: Final = """\
How a provider's hosts stand, by name, for its scheduler; and what agents refused, for people. It is the provider's word
and nobody's proof: whoever reaches the service can write a refusal. Every answer closes its connection.
"""
_TEXT: Final = {"type": "string"}
_COUNT: Final = {"type": "integer", "minimum": 0}
_TIME: Final = {"type": "integer", "minimum": 0, "description": "Unix seconds; 0: never"}
_ENTRY: Final = {
    "type": "object",
    "properties": {
        "state": {"enum": ["trusted", "untrusted", "unknown"]},
        "rank": {**_COUNT, "description": "of the level, from 1; 0 when there is none"},
        "level": _TEXT,
        "expires": _TIME,
        "issued": _TIME,
        "reason": _TEXT,
    },
    "required": ["state", "rank", "level", "expires", "issued", "reason"],
    "additionalProperties": False,
}
_HOSTS: Final = {
    "type": "object",
    "properties": {
        "time": _TIME,
        "revision": {**_COUNT, "description": "how many changes of states and ranks there were"},
        "levels": {"type": "array", "items": _TEXT, "description": "their names, lowest first"},
        "hosts": {"type": "object", "additionalProperties": _ENTRY},
    },
    "required": ["time", "revision", "levels", "hosts"],
    "additionalProperties": False,
}
_REPORT: Final[dict[str, Any]] = {
    "instance": {"type": "string", "format": "uuid", "description": "nova's id of the server"},
    "code": {"type": "string", "pattern": "^[ -~]{1,64}$"},
    "message": {"type": "string", "pattern": "^[ -~]{1,200}$"},
}
_REFUSAL: Final = {
    "type": "object",
    "properties": {**_REPORT, "time": _TIME},
    "required": [*_REPORT, "time"],
    "additionalProperties": False,
}
_POLL: Final = {
    "type": "object",
    "properties": {"hosts": {"type": "array", "maxItems": MAX_NAMES, "items": _TEXT}, "count": {}},
    "required": ["hosts"],
}
_POLLED: Final = {
    "type": "object",
    "properties": {
        "hosts": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "host_name": _TEXT,
                    "trust_lvl": _ENTRY["properties"]["state"],  # type: ignore[index]
                    "vtime": {"type": "string", "description": "RFC 3339; empty when it was never judged"},
                },
                "required": ["host_name", "trust_lvl", "vtime"],
                "additionalProperties": False,
            },
        }
    },
    "required": ["hosts"],
    "additionalProperties": False,
}
_ROUTE_FAILURE: Final = failure(PROBLEM, {"status-route": "not a path of this service, or another query than these"})
_BODY_FAILURES: Final = {
    "400": failure(PROBLEM, {"malformed": "not what is described here", "status-short": "the request ended early"}),
    "411": failure(PROBLEM, {"status-length": "no length, or two"}),
    "413": failure(PROBLEM, {"status-size": "empty, or more than 128 KiB"}),
}


def _body(schema: dict[str, Any], example: object) -> dict[str, Any]:
    return {"required": True, "content": {"application/json": {"schema": schema, "example": example}}}


_HOSTS_GET: Final = {
    "operationId": "getHosts",
    "summary": "Every listed host by name; of one that is not known, or not any more, the rank is 0.",
    "parameters": [
        {
            "name": "newer",
            "in": "query",
            "description": "a revision: the answer waits for another one, up to 20 seconds, for 16 who ask at a time",
            "schema": {"type": "integer", "minimum": 0, "maximum": 10**15 - 1},
        }
    ],
    "responses": {"200": answer_of("How they stand.", _HOSTS), "404": _ROUTE_FAILURE},
}
_REFUSALS_GET: Final = {
    "operationId": "getRefusals",
    "summary": "The newest refusal of every server, oldest first. Keep it from tenants.",
    "responses": {
        "200": answer_of(
            "At most 4096.",
            {
                "type": "object",
                "properties": {"refusals": {"type": "array", "maxItems": 4096, "items": _REFUSAL}},
                "required": ["refusals"],
                "additionalProperties": False,
            },
        ),
        "404": _ROUTE_FAILURE,
    },
}
_REFUSALS_POST: Final = {
    "operationId": "postRefusal",
    "summary": "An agent's report, in place of the one before about that server; at most 2048 bytes.",
    "requestBody": _body(
        {"type": "object", "properties": _REPORT, "required": list(_REPORT), "additionalProperties": False},
        {"instance": "3b8a9f3e-0d5c-4c57-9a58-5a2c0a4e6f10", "code": "stack-none", "message": "[E2] stack-none: …"},
    ),
    "responses": {"200": answer_of("It is kept.", {"type": "object", "maxProperties": 0}), **_BODY_FAILURES},
}
_REFUSAL_GET: Final = {
    "operationId": "getRefusal",
    "summary": "The newest refusal of one server, by nova's id.",
    "parameters": [{"name": "server", "in": "path", "required": True, "schema": {"type": "string", "format": "uuid"}}],
    "responses": {
        "200": answer_of("It.", _REFUSAL),
        "404": failure(PROBLEM, {"status-server": "none of that server was reported", "status-route": "no such path"}),
    },
}
_POLL_POST: Final = {
    "operationId": "pollHosts",
    "summary": "As OpenAttestation answers. Every path that ends with /PollHosts is this one.",
    "requestBody": _body(_POLL, {"count": 1, "hosts": ["cmp1"]}),
    "responses": {"200": answer_of("How they stand.", _POLLED), **_BODY_FAILURES},
}

DESCRIPTION: Final = Description.of(
    "Watchword status service",
    _ABOUT,
    __version__,
    {
        "/v1/hosts": {"get": _HOSTS_GET},
        ROUTE: {"get": _REFUSALS_GET, "post": _REFUSALS_POST},
        f"{ROUTE}/{{server}}": {"get": _REFUSAL_GET},
        "/OpenAttestationWebServices/V1.0/PollHosts": {"post": _POLL_POST},
    },
)
