"""``POST /v1/messages``: everything between hosts and the authority, sealed."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

__all__ = ["post_message"]


async def post_message(request: Request) -> Response:
    """The sealed reply to a sealed request, whoever carried it here."""
    state = request.app.state
    launches = state.services.launches
    reply: bytes = await state.intake.message(request, launches.handle, at_once=launches.at_once)
    return Response(reply, media_type="application/octet-stream", headers={"Cache-Control": "no-store"})
