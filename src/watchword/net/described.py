"""A bounded HTTP service that says what it is: an OpenAPI 3.1 description at ``/v1/openapi.json``.

The description is data, as the authority's (docs/adr/0034-the-description-is-data.md). What it has decides about
methods: one that a path does not have is 405, and HEAD is GET without a body (RFC 9110, sections 9.3.2 and 15.5.6).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from http import HTTPStatus
from typing import Any, ClassVar, Final

from watchword.net.server import BoundedHandler, Refused

__all__ = ["OPENAPI", "DescribedHandler", "Description", "answer_of", "failure", "problem_schema"]

OPENAPI: Final = "/v1/openapi.json"
_JSON: Final = "application/json"
_URN: Final = "urn:watchword:problem:"
_SELF: Final = {
    "get": {
        "operationId": "getDescription",
        "summary": "This description.",
        "responses": {"200": {"description": "OpenAPI 3.1.", "content": {_JSON: {"schema": {"type": "object"}}}}},
    }
}


@dataclass(frozen=True, slots=True)
class Description:
    """The bytes that are served, and the methods of each path, which may have parameters in braces."""

    document: bytes
    methods: Mapping[str, tuple[str, ...]]

    @classmethod
    def of(cls, title: str, about: str, version: str, paths: Mapping[str, Mapping[str, Any]]) -> Description:
        """Of a service that has ``paths``, as in the Paths Object of OpenAPI, and this description."""
        served = {OPENAPI: _SELF, **paths}
        document = {
            "openapi": "3.1.0",
            "info": {
                "title": title,
                "version": version,
                "description": about,
                "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            },
            "servers": [{"url": "/"}],
            "security": [],
            "paths": served,
        }
        methods = {path: tuple(map(str.upper, operations)) for path, operations in served.items()}
        return cls(json.dumps(document, indent=1).encode(), methods)

    def allowed(self, path: str) -> tuple[str, ...]:
        """The methods of ``path``; none when there is no such path."""
        for template, methods in self.methods.items():
            if _pattern(template).fullmatch(path):
                return (*methods, "HEAD") if "GET" in methods else methods
        return ()


@cache
def _pattern(path: str) -> re.Pattern[str]:
    return re.compile("[^/]+".join(map(re.escape, re.split(r"\{\w+\}", path))))


def answer_of(about: str, schema: Mapping[str, Any], kind: str = _JSON) -> dict[str, Any]:
    """A Response Object with one body."""
    return {"description": about, "content": {kind: {"schema": schema}}}


def failure(kind: str, codes: Mapping[str, str], more: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """A Response Object of problems: what each of ``codes`` means; other members that they have as ``more``."""
    about = "\n\n".join(f"`{code}`: {text}." for code, text in codes.items())
    return answer_of(about, problem_schema({"enum": [_URN + code for code in codes]}, more), kind)


def problem_schema(types: Mapping[str, Any], more: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The schema of a problem document (RFC 9457) whose ``type`` is one of ``types``."""
    members = {
        "type": types,
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        **(more or {}),
    }
    return {"type": "object", "properties": members, "required": list(members), "additionalProperties": False}


class DescribedHandler(BoundedHandler):
    """Serves ``description``; a subclass has ``do_GET`` and ``do_POST``, which call :meth:`elsewhere` for the rest."""

    description: ClassVar[Description]

    def describe(self) -> bool:
        """Answer if it is the description that is asked for."""
        if self.path == OPENAPI:
            self.answer(HTTPStatus.OK, _JSON, self.description.document, cache_control="public, max-age=300")
        return self.path == OPENAPI

    def elsewhere(self) -> Refused:
        """The refusal of a path that there is not, or that has other methods."""
        allowed = self.description.allowed(self.path.partition("?")[0])
        if allowed and self.command not in allowed:
            return self.refused(HTTPStatus.METHOD_NOT_ALLOWED, "method", f"this path has {', '.join(allowed)}")
        named = (f"{method} {path}" for path, methods in self.description.methods.items() for method in methods)
        return self.refused(HTTPStatus.NOT_FOUND, "route", f"here are {', '.join(named)}")

    def answer(self, status: int, kind: str, body: bytes, **headers: str) -> None:
        """Also with the methods that there are, if this one is not."""
        if status == HTTPStatus.METHOD_NOT_ALLOWED:
            headers["allow"] = ", ".join(self.description.allowed(self.path.partition("?")[0]))
        super().answer(status, kind, body, **headers)

    def do_HEAD(self) -> None:
        """As GET; ``answer`` leaves the body out."""
        self.do_GET()  # type: ignore[attr-defined]

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """A method that nobody wrote a function for is one that the path does not have."""
        if code == HTTPStatus.NOT_IMPLEMENTED:
            self.answer_refused(self.elsewhere())
        else:
            super().send_error(code, message, explain)
