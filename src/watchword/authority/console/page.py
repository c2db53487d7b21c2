"""What every page is: who may see it, how it is made off the event loop, and the headers it is sent with."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, cast

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from watchword.authority.access import Caller, Role, require
from watchword.authority.console.dry_runs import DryRuns
from watchword.authority.console.render import render
from watchword.authority.deciding.snapshot import Snapshots
from watchword.authority.serving.limits import Intake
from watchword.authority.serving.problems import PROBLEMS, Problem
from watchword.errors import Unavailable

__all__ = ["HEADERS", "Ask", "Page", "change", "fault", "may_look", "page", "plain"]

# No script at all, nothing from elsewhere, in nobody's frame. "same-origin", not "no-referrer": with the latter,
# browsers send "Origin: null" with our own forms.
HEADERS: Final[Mapping[str, str]] = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; script-src 'none'; style-src 'self'; img-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


@dataclass(frozen=True, slots=True)
class Ask:
    """What a page is made from: the authority's ``services``, parsed rules, and what was asked, by whom, when."""

    services: Any
    snapshots: Snapshots
    dry_runs: DryRuns
    caller: Caller
    now: int
    path: Mapping[str, Any]
    query: QueryParams


@dataclass(frozen=True, slots=True)
class Page:
    """A template with what it shows; ``refresh`` seconds until a browser asks again by itself, 0 for never."""

    template: str
    content: Mapping[str, Any] = field(default_factory=dict)
    refresh: int = 0


Endpoint = Callable[[Request], Awaitable[Response]]


async def may_look(request: Request) -> Caller:
    """The caller, who may see the console. Raises :class:`Problem` for everybody else."""
    return await require(request, Role.AUDITOR, Role.OPERATOR, Role.READ_ONLY)


def page(build: Callable[[Ask], Page], *, heavy: bool = False) -> Endpoint:
    """The handler of the page that ``build`` makes, in a thread; ``heavy`` ones wait for one of a few places."""

    async def endpoint(request: Request) -> Response:
        try:
            ask = await _ask(request)
            intake = cast(Intake, request.app.state.intake)
            return await intake.run(lambda: _made(build, ask), large=heavy)
        except Problem as problem:
            return fault(request, problem)
        except Unavailable as error:
            return fault(request, Problem("not-ready", error.message))

    return endpoint


def plain(data: bytes, media_type: str) -> Endpoint:
    """The handler of a file that pages need."""

    async def endpoint(request: Request) -> Response:
        try:
            await may_look(request)
        except Problem as problem:
            return fault(request, problem)
        return Response(data, media_type=media_type, headers=HEADERS)

    return endpoint


def change(act: Callable[[Request, Ask], Awaitable[str]]) -> Endpoint:
    """The handler of a form: it leads to the page that ``act`` names (status 303)."""

    async def endpoint(request: Request) -> Response:
        try:
            return RedirectResponse(await act(request, await _ask(request)), 303, headers=HEADERS)
        except Problem as problem:
            return fault(request, problem)
        except Unavailable as error:
            return fault(request, Problem("not-ready", error.message))

    return endpoint


async def _ask(request: Request) -> Ask:
    caller = await may_look(request)
    state = request.app.state
    return Ask(
        state.services,
        state.console.snapshots,
        state.console.dry_runs,
        caller,
        int(state.services.clock()),
        request.path_params,
        request.query_params,
    )


def _made(build: Callable[[Ask], Page], ask: Ask) -> Response:
    made = build(ask)
    common = {"authority": ask.services.keyring().key_list.authority, "caller": ask.caller, "now": ask.now}
    headers = {**HEADERS, "Refresh": str(made.refresh)} if made.refresh else HEADERS
    return Response(render(made.template, {**common, **made.content}), media_type="text/html", headers=headers)


def fault(request: Request, problem: Problem) -> Response:
    """A problem as a page. It tells nothing about the authority: whoever gets it may be anybody."""
    status, title = PROBLEMS[problem.code]
    content = {"code": problem.code, "title": title, "detail": problem.detail, "status": status}
    return Response(
        render("problem.html", content), status, media_type="text/html", headers={**HEADERS, **problem.headers}
    )
