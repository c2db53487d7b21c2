"""``POST /v1/profiles``: a tenant gives the authority a profile of its own.

A profile is kept under the hash of its bytes, and there is no route that changes or removes one: what one tenant does
cannot touch another's. It is believed in nothing, since a token names the profile that its owner means.
"""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from watchword.authority.serving.problems import Problem
from watchword.authority.store import ProfileRow
from watchword.policy.profile import MAX_PROFILE_SIZE, Profile

__all__ = ["post_profile"]


async def post_profile(request: Request) -> Response:
    """Keep the profile in the body: 201 when it is new, 200 when it was here. The answer tells its id."""
    state = request.app.state
    state.publishing.spend(request)
    keep = lambda document: _keep(state.services, document)  # noqa: E731
    document, new = await state.intake.message(request, keep, kind="application/json", limit=MAX_PROFILE_SIZE)
    headers = {"Cache-Control": "no-store", "Location": f"/v1/profiles/{document['id']}"}
    return Response(msgspec.json.encode(document), 201 if new else 200, headers, "application/json")


def _keep(services: Any, document: bytes) -> tuple[dict[str, Any], bool]:
    profile = Profile.parse(document)
    row = ProfileRow(hashlib.sha256(document).digest(), document, profile.name, services.clock(), published=True)
    new = services.store.profile(row.id) is None and _put(services, row)
    told = {"id": row.id.hex(), "name": row.name, "levels": [level.name for level in profile.levels]}
    return told, new


def _put(services: Any, row: ProfileRow) -> bool:
    with services.store.transaction() as tx:
        if tx.published_profiles() >= services.limits.published:
            raise Problem("profiles-full", "ask the authority's operator to keep it, or to remove profiles")
        new: bool = tx.put_profile(row)
        if new:
            tx.append_act(row.added_at, "profile-publish", row.id.hex(), by="tenant", name=row.name)
    return new
