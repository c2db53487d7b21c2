"""``GET /v1/launches/{launch_id}/standing``: how the hosts of a launch stand now, for whoever knows its id."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from watchword.authority.deciding.watch import standing_now
from watchword.authority.routes.params import hex_bytes
from watchword.authority.serving.problems import Problem
from watchword.authority.store import Placement
from watchword.launch.machine import pseudonym
from watchword.launch.receipt import launch_key
from watchword.launch.standing import HostStanding, Statement, make_statement

__all__ = ["get_standing"]


async def get_standing(request: Request) -> Response:
    """A signed statement about every host that the launch was released to, by pseudonym."""
    state = request.app.state
    launch_id = hex_bytes(request.path_params["launch_id"], 16)
    envelope = launch_id and await state.intake.run(lambda: _statement(state.services, launch_key(launch_id)))
    if not envelope:
        raise Problem("launch-unknown", "no release to such a launch; an id has 32 hex digits")
    return Response(envelope, media_type="application/json", headers={"Cache-Control": "no-store"})


def _statement(services: Any, key: bytes) -> bytes | None:
    placements: tuple[Placement, ...] = services.store.placements(key)
    if not placements:
        return None
    ring, now = services.keyring(), int(services.clock())
    hosts = tuple(_standing(services.store, placement, ring.pseudonym_key, now) for placement in placements)
    statement = Statement(ring.key_list.authority, now, key.hex(), placements[0].profile_id.hex(), hosts)
    return make_statement(statement, ring.signing_key)


def _standing(store: Any, placement: Placement, pseudonym_key: bytes, now: int) -> HostStanding:
    state = store.states(placement.host_id).get(placement.profile_id)
    revoked = bool(store.revoked_hosts([placement.host_id]))
    standing, _ = standing_now(state, now, revoked=revoked)
    good = standing in ("trusted", "degraded")
    return HostStanding(
        host=pseudonym(pseudonym_key, placement.host_id, placement.profile_id),
        state=standing,
        level=state.level if state and good else "",
        rank=state.rank if state and good else 0,
        since=state.since if state else 0,
        checked=state.checked if state else 0,
        until=state.until if state else 0,
        rebooted=state is not None and state.reset_count != placement.reset_count,
        code="host-revoked" if revoked else state.code if state else "",
    )
