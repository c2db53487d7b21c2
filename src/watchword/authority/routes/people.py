"""``GET /v1/admin/self``: who the service takes the caller for."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from watchword.authority.access import PERMISSIONS, known

__all__ = ["get_self"]


async def get_self(request: Request) -> Response:
    """The caller's name and roles, and every act that these are enough for."""
    caller = await known(request)
    body = {
        "name": caller.name,
        "actor": caller.actor,
        "roles": sorted(caller.roles),
        "acts": sorted(act for act, roles in PERMISSIONS.items() if roles & caller.roles),
    }
    return JSONResponse(body, headers={"Cache-Control": "no-store"})
