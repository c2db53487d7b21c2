"""``GET /v1/openapi.json``: what all of this is, for programs."""

from __future__ import annotations

from functools import cache

from starlette.requests import Request
from starlette.responses import Response

from watchword import __version__
from watchword.authority.description.openapi import describe
from watchword.authority.description.public_api import OPERATIONS, SCHEMAS

__all__ = ["get_openapi"]


async def get_openapi(_request: Request) -> Response:
    """The OpenAPI description; touches neither store nor keys."""
    return Response(_document(), media_type="application/json", headers={"Cache-Control": "public, max-age=300"})


@cache
def _document() -> bytes:
    return describe(OPERATIONS, SCHEMAS, __version__)
