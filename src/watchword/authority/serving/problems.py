"""Every HTTP status code of the service, and how an error becomes a problem document (RFC 9457).

``type`` is ``urn:watchword:problem:<code>``: stable, for programs. ``detail`` is for people and may change.
The table below is the one in ``docs/reference/http-api.md``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from watchword.authority.telemetry import journal
from watchword.authority.telemetry.events import BugEvent, FailureEvent
from watchword.errors import MalformedError, Rejected, Unavailable, UsageError, WatchwordError

__all__ = ["MEDIA_TYPE", "PROBLEMS", "Problem", "handlers", "problem_response", "raw_problem", "refusal"]

MEDIA_TYPE: Final = "application/problem+json"
RETRY_SECONDS: Final = 2

# code: (status, title)
PROBLEMS: Final = {
    "http-malformed": (400, "The request is not HTTP as this service understands it"),
    "body-empty": (400, "The request has no body"),
    "body-malformed": (400, "The body is not what this resource takes"),
    "malformed": (400, "The message cannot be read"),
    "sealed-unopenable": (400, "The message cannot be opened"),
    "query-malformed": (400, "A query parameter is not what it should be"),
    "unauthenticated": (401, "This service does not know who asks"),
    "forbidden": (403, "Whoever asks may not do this"),
    "cross-origin": (403, "A browser asks on behalf of another site"),
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
    "store-busy": (503, "The service cannot do this now"),
    "store-unavailable": (503, "The service cannot do this now"),
    "not-ready": (503, "The service cannot do its work now"),
    "identity-unavailable": (503, "The service cannot check now who asks"),
    "stopping": (503, "The service is about to stop"),
    "internal": (500, "The service failed; the fault is its own"),
    "misconfigured": (500, "The service is not set up as it should be"),
}
_BY_STATUS: Final = {400: "http-malformed", 404: "not-found", 405: "method-not-allowed"}


class Problem(Exception):
    """Ends a request with the problem ``code`` of the table above, and ``headers`` beside those of every problem."""

    def __init__(self, code: str, detail: str, *, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.headers = headers or {}


def problem_response(code: str, detail: str, *, close: bool = False) -> Response:
    """The problem document for a code of the table; ``close`` ends the connection, its body was not read."""
    status, title = PROBLEMS[code]
    return _response(status, code, title, detail, close=close)


def refusal(error: UsageError | MalformedError | Rejected) -> Response:
    """What somebody asked for cannot be done, and that is the asker's: with the error's code, hint and findings."""
    status, title = (
        (422, "This is not acceptable") if isinstance(error, Rejected) else (400, "This cannot be done as it was asked")
    )
    members: dict[str, object] = {
        "type": f"urn:watchword:problem:{error.code}",
        "title": title,
        "status": status,
        "detail": error.message,
        "hint": error.hint,
        "error": next(kind.__name__ for kind in (Rejected, MalformedError, UsageError) if isinstance(error, kind)),
    }
    if isinstance(error, Rejected):
        members["findings"] = error.findings
    return Response(msgspec.json.encode(members), status, {"Cache-Control": "no-store"}, MEDIA_TYPE)


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


async def _problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    _count(request, error.code)
    response = problem_response(error.code, error.detail, close=error.code.startswith("body-"))
    response.headers.update(error.headers)
    return response


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = _BY_STATUS.get(error.status_code, "http-malformed")
    _count(request, code)
    response = problem_response(code, error.detail)
    for name, value in (error.headers or {}).items():  # Allow, on 405
        response.headers[name] = value
    return response


async def _watchword(request: Request, error: Exception) -> Response:
    assert isinstance(error, WatchwordError)
    services = request.app.state.services
    _count(request, error.code)
    if isinstance(error, MalformedError):
        return _response(400, error.code, PROBLEMS.get(error.code, PROBLEMS["malformed"])[1], error.message)
    if isinstance(error, Rejected):
        return _response(403, error.code, "The message is refused", error.message)
    if isinstance(error, Unavailable):
        services.tell(FailureEvent("http", error.code, error.message))
        return _response(503, error.code, "The service cannot do this now", "try again in a moment")
    assert isinstance(error, UsageError)
    services.tell(FailureEvent("http", error.code, error.message))  # may name our own files: not for the client
    return problem_response("misconfigured", "the operator finds the reason in the log of the service")


async def _bug(request: Request, error: Exception) -> Response:
    _count(request, "internal")
    request.app.state.services.tell(BugEvent(type(error).__name__, journal.frames_of(error.__traceback__)))
    answer = problem_response("internal", "the operator finds the reason in the log of the service")
    answer.headers["Connection"] = "close"  # the server closes it now, so the client should not send more on it
    return answer


def _count(request: Request, code: str) -> None:
    metrics: Any = request.app.state.services.metrics
    if metrics is not None:
        metrics.problem(code)


handlers: Final = {
    Problem: _problem,
    HTTPException: _http,
    WatchwordError: _watchword,
    Exception: _bug,
}
