"""Every HTTP status code of the service, and how an error becomes a problem document (RFC 9457).

``type`` is ``urn:watchword:problem:<code>``: stable, for programs. ``detail`` is for people and may change.
The table below is the one in ``docs/reference/http-api.md``.
"""

from __future__ import annotations

import logging
from typing import Final

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from watchword.errors import MalformedError, Rejected, Unavailable, UsageError, WatchwordError

__all__ = ["MEDIA_TYPE", "PROBLEMS", "Problem", "handlers", "problem_response", "raw_problem"]

MEDIA_TYPE: Final = "application/problem+json"
RETRY_SECONDS: Final = 2
_log = logging.getLogger("watchword.authority")

# code: (status, title)
PROBLEMS: Final = {
    "http-malformed": (400, "The request is not HTTP as this service understands it"),
    "body-empty": (400, "The request has no body"),
    "body-malformed": (400, "The body is not what this resource takes"),
    "query-malformed": (400, "A query parameter is not what it should be"),
    "not-found": (404, "There is nothing here"),
    "profile-unknown": (404, "This authority has no such profile"),
    "tile-unknown": (404, "The log has no such tile"),
    "launch-unknown": (404, "This authority has decided nothing about such a launch"),
    "method-not-allowed": (405, "This resource does not have this method"),
    "body-slow": (408, "The body took too long to arrive"),
    "body-length": (411, "The request says neither how long its body is nor that it is chunked"),
    "body-too-large": (413, "The body is larger than this service takes"),
    "body-type": (415, "The body is not of a type that this resource takes"),
    "rate-limited": (429, "This was asked for too often"),
    "profiles-full": (507, "This authority keeps no more profiles"),
    "overloaded": (503, "The service has more to do than it can"),
    "not-ready": (503, "The service cannot do its work now"),
    "stopping": (503, "The service is about to stop"),
    "internal": (500, "The service failed; the fault is its own"),
    "misconfigured": (500, "The service is not set up as it should be"),
}
_BY_STATUS: Final = {400: "http-malformed", 404: "not-found", 405: "method-not-allowed"}


class Problem(Exception):
    """Ends a request with the problem ``code`` of the table above."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


def problem_response(code: str, detail: str, *, close: bool = False) -> Response:
    """The problem document for a code of the table; ``close`` ends the connection, its body was not read."""
    status, title = PROBLEMS[code]
    return _response(status, code, title, detail, close=close)


def raw_problem(code: str, detail: str) -> tuple[int, bytes]:
    """Status and body of a problem, for where there is no request yet."""
    status, title = PROBLEMS[code]
    return status, _document(status, code, title, detail)


def _document(status: int, code: str, title: str, detail: str) -> bytes:
    members = {"type": f"urn:watchword:problem:{code}", "title": title, "status": status, "detail": detail}
    return msgspec.json.encode(members)


def _response(status: int, code: str, title: str, detail: str, *, close: bool = False) -> Response:
    headers = {"Cache-Control": "no-store"}
    if close:
        headers["Connection"] = "close"
    if status in (429, 503):
        headers["Retry-After"] = str(RETRY_SECONDS)
    return Response(_document(status, code, title, detail), status, headers, MEDIA_TYPE)


async def _problem(_request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    return problem_response(error.code, error.detail, close=error.code.startswith("body-"))


async def _http(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    response = problem_response(_BY_STATUS.get(error.status_code, "http-malformed"), error.detail)
    for name, value in (error.headers or {}).items():  # Allow, on 405
        response.headers[name] = value
    return response


async def _watchword(_request: Request, error: Exception) -> Response:
    assert isinstance(error, WatchwordError)
    if isinstance(error, MalformedError):
        return _response(400, error.code, "The message cannot be read", error.message)
    if isinstance(error, Rejected):
        return _response(403, error.code, "The message is refused", error.message)
    if isinstance(error, Unavailable):
        _log.error("%s: %s", error.code, error.message)
        return _response(503, error.code, "The service cannot do this now", "try again in a moment")
    assert isinstance(error, UsageError)
    _log.error("%s: %s", error.code, error.message)  # may name our own files: not for the client
    return problem_response("misconfigured", "the operator finds the reason in the log of the service")


async def _bug(_request: Request, error: Exception) -> Response:
    _log.error("internal error: %s", type(error).__name__)
    return problem_response("internal", "the operator finds the reason in the log of the service")


handlers: Final = {
    Problem: _problem,
    HTTPException: _http,
    WatchwordError: _watchword,
    Exception: _bug,
}
