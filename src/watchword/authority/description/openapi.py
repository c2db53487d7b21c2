"""The OpenAPI 3.1 description of the service, built from the tables in ``public_api`` and ``admin_api``.

Every operation names the problems that it may answer with; their schema admits no other ``type``, so whoever checks
answers against the description notices a problem that is not listed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from watchword.authority.serving.problems import MEDIA_TYPE, PROBLEMS

__all__ = ["ANYWHERE", "URN", "Answer", "Operation", "Parameter", "describe"]

URN: Final = "urn:watchword:problem:"
ANYWHERE: Final = ("not-found", "method-not-allowed")  # where there is no operation
_VERSION: Final = "3.1.0"
_RETRY: Final = {"Retry-After": {"description": "seconds to wait", "schema": {"type": "integer"}, "required": True}}
_REFUSAL: Final = {
    "type": "object",
    "properties": {
        "type": {"type": "string", "pattern": "^urn:watchword:problem:[a-z0-9-]+$"},
        "title": {"type": "string"},
        "status": {"enum": [400, 422]},
        "detail": {"type": "string"},
        "hint": {"type": "string"},
        "error": {"enum": ["UsageError", "MalformedError", "Rejected"]},
        "findings": {"type": "array"},
    },
    "required": ["type", "title", "status", "detail", "hint", "error"],
    "additionalProperties": False,
}
_ABOUT: Final = """\
Proof that a virtual machine runs on a host whose software somebody independent has checked.

TLS 1.3 only; the server's certificate is signed by the authority that the newest key list names (`tls_ca`). Paths are
exact. All times are Unix seconds, all hashes lower-case hexadecimal. Every error is a problem document (RFC 9457); its
`type` is stable. A path that is not here is 404 (`not-found`), a method 405 (`method-not-allowed`). HEAD is GET
without a body."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter ``name`` in ``place`` ("path" or "query") with its JSON Schema."""

    name: str
    place: str
    about: str
    schema: Mapping[str, Any]
    required: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """A success: a body of media type ``kind``, and ``headers`` by name with what they say."""

    about: str
    kind: str
    schema: Mapping[str, Any]
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Operation:
    """What one method of one path does; ``problems`` are codes.

    ``body`` is media type, JSON Schema, and an example unless it is sealed. A ``private`` one is for people with roles;
    one that ``refuses`` may also end with any code of ``docs/reference/codes.md``.
    """

    name: str
    about: str
    answers: Mapping[int, Answer]
    problems: tuple[str, ...]
    parameters: tuple[Parameter, ...] = ()
    body: tuple[str, Mapping[str, Any], object] | None = None
    private: bool = False
    refuses: bool = False


def describe(
    operations: Mapping[tuple[str, str], Operation], schemas: Mapping[str, Mapping[str, Any]], version: str
) -> bytes:
    """The document, as JSON, of ``operations`` by method and path, with the shared ``schemas`` they refer to."""
    paths: dict[str, dict[str, Any]] = {}
    for (method, path), operation in operations.items():
        paths.setdefault(path, {})[method.lower()] = _operation(operation)
    document = {
        "openapi": _VERSION,
        "info": {
            "title": "Watchword authority",
            "version": version,
            "description": _ABOUT,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [],
        "paths": paths,
        "components": {
            "schemas": dict(schemas) | {"Problem": _problem_schema(tuple(PROBLEMS)), "Refusal": _REFUSAL},
            "securitySchemes": {
                "certificate": {"type": "mutualTLS", "description": "a client certificate that access rules name"},
                "token": {"type": "http", "scheme": "bearer", "description": "of the OpenID provider that is trusted"},
            },
        },
    }
    return msgspec.json.format(msgspec.json.encode(_portable(document)), indent=1)


def _operation(operation: Operation) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.about,
        "responses": {str(status): _success(answer) for status, answer in operation.answers.items()}
        | _failures(operation.problems),
    }
    if operation.refuses:
        for status in ("400", "422"):
            described["responses"][status] = _refusals(described["responses"].get(status))
    if operation.private:
        described["security"] = [{"certificate": []}, {"token": []}]
    if operation.parameters:
        described["parameters"] = [_parameter(each) for each in operation.parameters]
    if operation.body is not None:
        kind, schema, example = operation.body
        content = {"schema": schema} | ({"example": example} if example is not None else {})
        described["requestBody"] = {"required": True, "content": {kind: content}}
    return described


def _parameter(parameter: Parameter) -> dict[str, Any]:
    return {
        "name": parameter.name,
        "in": parameter.place,
        "required": parameter.required or parameter.place == "path",
        "description": parameter.about,
        "schema": parameter.schema,
    }


def _success(answer: Answer) -> dict[str, Any]:
    described: dict[str, Any] = {"description": answer.about, "content": {answer.kind: {"schema": answer.schema}}}
    if answer.headers:
        described["headers"] = {
            name: {"description": text, "required": True, "schema": {"type": "string"}}
            for name, text in answer.headers.items()
        }
    return described


def _failures(codes: tuple[str, ...]) -> dict[str, Any]:
    by_status: dict[int, list[str]] = {}
    for code in sorted(codes):
        by_status.setdefault(PROBLEMS[code][0], []).append(code)
    return {str(status): _failure(status, named) for status, named in sorted(by_status.items())}


def _failure(status: int, codes: list[str]) -> dict[str, Any]:
    lines = [f"`{code}`: {PROBLEMS[code][1]}." for code in codes]
    described: dict[str, Any] = {
        "description": "\n\n".join(lines),
        "content": {MEDIA_TYPE: {"schema": _problem_schema(tuple(codes))}},
    }
    if status in (429, 503):
        described["headers"] = _RETRY
    return described


def _refusals(known: Mapping[str, Any] | None) -> dict[str, Any]:
    """The problems that are ``known``, or a refusal with a code of its own."""
    schemas = [known["content"][MEDIA_TYPE]["schema"]] if known else []
    about = f"{known['description']}\n\n" if known else ""
    content = {MEDIA_TYPE: {"schema": {"anyOf": [*schemas, {"$ref": "#/components/schemas/Refusal"}]}}}
    return {"description": f"{about}Or what was asked for is refused, with a code of its own.", "content": content}


def _problem_schema(codes: tuple[str, ...]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {
            "type": {"enum": [URN + code for code in codes]},
            "title": {"type": "string"},
            "status": {"enum": sorted({PROBLEMS[code][0] for code in codes})},
            "detail": {"type": "string"},
        },
        "required": ["type", "title", "status", "detail"],
        "additionalProperties": False,
    }


def _portable(value: Any) -> Any:
    """``value`` with the regular expressions of Python turned into those of JSON Schema (ECMA 262)."""
    if isinstance(value, Mapping):
        return {
            name: re.sub(r"\\Z", "$", each) if name == "pattern" and isinstance(each, str) else _portable(each)
            for name, each in value.items()
        }
    if isinstance(value, list | tuple):
        return [_portable(each) for each in value]
    return value
