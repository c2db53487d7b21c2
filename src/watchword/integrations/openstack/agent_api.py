"""What the compute host's agent answers nova, for programs: its OpenAPI description."""

from __future__ import annotations

from typing import Any, Final

from watchword import __version__
from watchword.net.described import Description, answer_of, failure, problem_schema
from watchword.wire.share import METADATA_KEYS

__all__ = ["DESCRIPTION", "HEALTH", "ROUTE"]

ROUTE, HEALTH = "/v1/vendordata", "/v1/health"
_ABOUT: Final = """\
Nova's dynamic vendor data, on a loopback address of a compute host, for the users of that host in `[serve] users`. A
problem is called application/json, as nova reads no other: `error.message` is what it repeats. Every answer closes its
connection. The libvirt hook asks elsewhere, over a Unix socket, and not with HTTP.
"""
_JSON: Final = "application/json"
_ERROR: Final[dict[str, Any]] = {
    "error": {
        "type": "object",
        "properties": {"code": {"type": "integer"}, "message": {"type": "string", "pattern": "^watchword: "}},
        "required": ["code", "message"],
        "additionalProperties": False,
    }
}
_ANY_CODE: Final = {"type": "string", "pattern": "^urn:watchword:problem:[a-z0-9-]+$"}
_ID: Final = {"type": ["string", "null"], "maxLength": 64}
_QUESTION: Final = {
    "type": "object",
    "properties": {
        "instance-id": {**_ID, "description": "nova's id of the server"},
        "image-id": {**_ID, "description": "empty for a server without an image"},
        "user-data": {
            "type": ["string", "null"],
            "maxLength": 65535,
            "pattern": "^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$",
            "description": "base64",
        },
        "metadata": {
            "type": ["object", "null"],
            "properties": {name: {"type": "string"} for name in METADATA_KEYS},
            "description": "`watchword` has the launch token; without one the server asks for nothing",
        },
    },
}
_EXAMPLE: Final[dict[str, Any]] = {
    "project-id": "p",
    "instance-id": "3b8a9f3e-0d5c-4c57-9a58-5a2c0a4e6f10",
    "image-id": "",
    "user-data": None,
    "hostname": "web1",
    "metadata": {},
    "boot-roles": "member",
}
_VENDOR_DATA: Final = {
    "anyOf": [
        {"type": "object", "maxProperties": 0, "description": "the server asks for nothing"},
        {"type": "string", "pattern": "^#cloud-config", "description": "its key, or why there is none"},
    ]
}


def _failure(codes: dict[str, str]) -> dict[str, Any]:
    return failure(_JSON, codes, _ERROR)


def _refusal(about: str) -> dict[str, Any]:
    """A problem with any code of docs/reference/codes.md."""
    return answer_of(f"{about}, with its reason's code.", problem_schema(_ANY_CODE, _ERROR))


_POST: Final = {
    "operationId": "postVendordata",
    "summary": "What goes onto the config drive of a machine that is being built. Nova asks six times for one.",
    "requestBody": {"required": True, "content": {_JSON: {"schema": _QUESTION, "example": _EXAMPLE}}},
    "responses": {
        "200": answer_of("Vendor data.", _VENDOR_DATA),
        "400": _failure({"malformed": "not a request of nova's", "agent-short": "the request ended early"}),
        "401": _failure({"caller-unknown": "who asks is not known to the identity service"}),
        "403": _refusal("This user may not ask (`agent-peer`), or the launch is refused and `on_refusal` is `fail`"),
        "411": _failure({"agent-length": "no length, or two"}),
        "413": _failure({"agent-size": "empty, or more than 1 MiB"}),
        "503": _refusal("This host failed, or is not good enough: try another one"),
        "504": _failure({"answer-late": "not in time"}),
    },
}
_READY: Final = {
    "type": "object",
    "properties": {
        "ready": {"const": True},
        "authority": {"type": "string"},
        "authorities": {"type": "array", "minItems": 1, "items": {"type": "string"}},
    },
    "required": ["ready", "authority", "authorities"],
    "additionalProperties": False,
}
_NOT_READY: Final = {
    "type": "object",
    "properties": {"ready": {"const": False}, "code": {"type": "string"}, "message": {"type": "string"}},
    "required": ["ready", "code", "message"],
    "additionalProperties": False,
}
_GET: Final = {
    "operationId": "getHealth",
    "summary": "Whether a launch could work, as far as files tell.",
    "responses": {
        "200": answer_of("It is enrolled, and its authorities are pinned.", _READY),
        "503": answer_of("It could not.", _NOT_READY),
    },
}

DESCRIPTION: Final = Description.of(
    "Watchword agent", _ABOUT, __version__, {ROUTE: {"post": _POST}, HEALTH: {"get": _GET}}
)
