"""``GET /v1/profiles/{id}`` and ``GET /v1/stacks``: what hosts are measured against."""

from __future__ import annotations

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from watchword.authority.routes.params import hex_bytes
from watchword.authority.serving.problems import Problem
from watchword.authority.store import StackState

__all__ = ["get_profile", "get_stacks"]


async def get_profile(request: Request) -> Response:
    """The exact bytes of a profile: their SHA-256 is the id, so nobody needs to believe this answer."""
    state = request.app.state
    profile_id = hex_bytes(request.path_params["profile_id"], 32)
    document = profile_id and await state.intake.run(lambda: state.services.store.profile(profile_id))
    if not document:
        raise Problem("profile-unknown", "no profile with this id; an id is the SHA-256 of the profile, in hex")
    headers = {"Cache-Control": "public, max-age=31536000, immutable"}
    return Response(document, media_type="application/json", headers=headers)


async def get_stacks(request: Request) -> Response:
    """All stack releases but drafts, with their state, who endorsed them, and no reference values."""
    state = request.app.state
    rows = await state.intake.run(state.services.store.stack_infos)
    stacks = [
        {
            "name": row.name,
            "version": row.version,
            "serial": row.serial,
            "pool": row.pool,
            "channel": row.channel,
            "digest": row.digest.hex(),
            "state": row.state,
            "retire_at": row.retire_at,
            "endorsed_by": sorted(row.endorsed_by),
            "added_at": row.added_at,
        }
        for row in rows
        if row.state is not StackState.DRAFT
    ]
    body = msgspec.json.encode({"stacks": stacks})
    return Response(body, media_type="application/json", headers={"Cache-Control": "no-store"})
