"""``/v1/admin/…``: every operation of ``authority/operations``, for people with roles."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from watchword.authority.access import Caller, permit
from watchword.authority.operations import OPERATIONS, Answer, Desk, Operation, Question
from watchword.authority.serving.problems import Problem, refusal
from watchword.errors import MalformedError, Rejected, UsageError

__all__ = ["admin_routes"]


def admin_routes() -> list[Route]:
    """A route for each operation: GET for what reads, POST for what changes."""
    return [
        Route(each.path, _handler(each), methods=["POST" if each.changes else "GET"]) for each in OPERATIONS.values()
    ]


def _handler(operation: Operation) -> Callable[[Request], Awaitable[Response]]:
    async def handle(request: Request) -> Response:
        caller = await permit(request, operation.act)  # before anything of the body is read
        question = await _question(request, operation)
        further = operation.also(question)
        if further is not None:
            caller = await permit(request, further)
        return await _answer(request, operation, question, caller)

    return handle


async def _question(request: Request, operation: Operation) -> Question:
    if not operation.changes:
        return _from_query(operation, request)
    intake = request.app.state.intake
    read: Callable[[bytes], Question] = lambda body: _from_body(operation, body)  # noqa: E731
    question: Question = await intake.message(request, read, kind="application/json", limit=operation.limit)
    return question


async def _answer(request: Request, operation: Operation, question: Question, caller: Caller) -> Response:
    services = request.app.state.services
    desk = Desk(services.store, services.clock(), caller.actor)
    try:
        answer: Answer = await request.app.state.intake.run(lambda: operation.run(desk, question))
    except (UsageError, Rejected, MalformedError) as error:  # here they are about what the caller asked for
        return refusal(error)
    return Response(msgspec.json.encode(answer), media_type="application/json", headers={"Cache-Control": "no-store"})


def _from_body(operation: Operation, body: bytes) -> Question:
    try:
        return msgspec.json.decode(body, type=operation.question)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Problem("body-malformed", f"{operation.name}: {error}") from None


def _from_query(operation: Operation, request: Request) -> Question:
    given: list[tuple[str, Any]] = request.query_params.multi_items()
    if len(dict(given)) != len(given):
        raise Problem("query-malformed", "a parameter is there twice")
    try:
        return msgspec.convert(dict(given), operation.question, strict=False)
    except (msgspec.ValidationError, ValueError) as error:
        raise Problem("query-malformed", f"{operation.name}: {error}") from None
