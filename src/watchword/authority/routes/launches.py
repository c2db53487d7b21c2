"""``GET /v1/launches/{launch_id}``: the receipts of a launch, for whoever knows its id."""

from __future__ import annotations

from itertools import islice
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from watchword import __version__
from watchword.authority.routes.params import hex_bytes, sequence
from watchword.authority.serving.problems import Problem
from watchword.launch.receipt import Decision, launch_key, make_receipt
from watchword.launch.result import make_result

__all__ = ["get_launch"]

PAGE: Final = 100  # receipts in one answer


async def get_launch(request: Request) -> Response:
    """The signed receipts of all decisions about a launch, oldest first, and the same as attestation results (EAR).

    ``after`` continues where a page ended.

    The id is the permission: it travels sealed in the token, so only the tenant and an approved host know it.
    """
    state = request.app.state
    launch_id = hex_bytes(request.path_params["launch_id"], 16)
    after = sequence(request, "after")
    page = launch_id and await state.intake.run(lambda: _page(state.services, launch_id, after))
    if not page:
        raise Problem("launch-unknown", "no decision about such a launch; an id has 32 hex digits")
    body = msgspec.json.encode(page)
    return Response(body, media_type="application/json", headers={"Cache-Control": "no-store"})


def _page(services: Any, launch_id: bytes, after: int) -> dict[str, Any] | None:
    key = launch_key(launch_id)
    found = list(islice(services.store.decisions(after=after, launch_key=key), PAGE + 1))
    if not found and not after:
        return None
    ring, shown = services.keyring(), found[:PAGE]
    name, signer = ring.key_list.authority, ring.signing_key
    positions = services.log.positions(ring, shown)
    receipts = [make_receipt(name, entry.entry, at, signer) for entry, at in zip(shown, positions, strict=True)]
    following = shown[-1].seq if len(found) > PAGE else None
    results = [make_result(Decision.parse(entry.entry), __version__, signer).decode() for entry in shown]
    return {"decisions": [msgspec.Raw(receipt) for receipt in receipts], "results": results, "next": following}
