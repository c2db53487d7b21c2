"""``GET /v1/health`` and ``GET /v1/ready``: whether the process lives, and whether it can do its work."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

__all__ = ["get_health", "get_ready"]

_HEADERS = {"Cache-Control": "no-store"}


async def get_health(_request: Request) -> Response:
    """The process answers; touches neither store nor keys."""
    return JSONResponse({"status": "alive"}, headers=_HEADERS)


async def get_ready(request: Request) -> Response:
    """Everything that a decision needs works."""
    state = request.app.state
    checked = await state.readiness.check(state.intake.run)
    return JSONResponse({"status": "ready", "checked": checked}, headers=_HEADERS)
