"""``GET /v1/keys`` and ``GET /v1/status``: who this authority is, and how it is."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from watchword import __version__

__all__ = ["get_keys", "get_status"]


async def get_keys(request: Request) -> Response:
    """All signed key lists, oldest first: what a client follows from the root that it pinned."""
    state = request.app.state
    ring = await state.intake.run(state.services.keyring)
    lists = [msgspec.Raw(envelope) for envelope in ring.chain]
    return _json({"authority": ring.key_list.authority, "keys": lists})


async def get_status(request: Request) -> Response:
    """Versions, how much of everything there is, and the head of the decision record."""
    state = request.app.state
    return _json(await state.intake.run(lambda: _status(state.services)))


def _status(services: Any) -> dict[str, Any]:
    ring, head = services.keyring(), services.store.head()
    return {
        "version": __version__,
        "authority": ring.key_list.authority,
        "fingerprint": ring.fingerprint,
        "key_list_version": ring.key_list.version,
        "time": services.clock(),
        "counts": asdict(services.store.counts()),
        "decisions": {"seq": head.seq, "root": head.root.hex()},
    }


def _json(document: object) -> Response:
    body = msgspec.json.encode(document)
    return Response(body, media_type="application/json", headers={"Cache-Control": "no-store"})
