"""``GET /checkpoint`` and ``GET /tile/…``: the public log, as C2SP tlog-tiles lays it out."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from watchword.authority.serving.problems import Problem
from watchword.errors import MalformedError
from watchword.wire.tile import WIDTH, Tile

__all__ = ["get_checkpoint", "get_newest_checkpoint", "get_tile"]


async def get_checkpoint(request: Request) -> Response:
    """The newest checkpoint that the authority's witnesses cosigned; the newest of all when there are none."""
    services = request.app.state.services
    return _note(await request.app.state.intake.run(lambda: services.log.published(services.keyring()).encode()))


async def get_newest_checkpoint(request: Request) -> Response:
    """The checkpoint of everything decided so far, whoever has cosigned it."""
    services = request.app.state.services
    return _note(await request.app.state.intake.run(lambda: services.log.newest(services.keyring()).encode()))


async def get_tile(request: Request) -> Response:
    """A tile or entry bundle, which never changes."""
    state = request.app.state
    try:
        tile = Tile.parse(request.path_params["path"])
    except MalformedError as error:
        raise Problem("tile-unknown", error.message) from None
    data = await state.intake.run(lambda: state.services.log.tile(tile))
    if data is None:
        raise Problem("tile-unknown", "the log does not have all of this tile")
    # A partial tile is superseded when the tile fills up; the full one is good for ever.
    age = "max-age=31536000, immutable" if tile.width == WIDTH else "max-age=86400"
    return Response(data, media_type="application/octet-stream", headers={"Cache-Control": f"public, {age}"})


def _note(data: bytes) -> Response:
    return Response(data, media_type="text/plain; charset=utf-8", headers={"Cache-Control": "no-cache"})
