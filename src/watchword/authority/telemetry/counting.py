"""Counts HTTP requests by route and status: a layer around the application that changes nothing of it."""

from __future__ import annotations

import time
from typing import Final

from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from watchword.authority.telemetry.metrics import Metrics

__all__ = ["Counting"]

_UNKNOWN: Final = "other"


class Counting:
    """An ASGI application around ``app``; a request that ends in an exception counts as 500."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status, begun = 500, time.perf_counter()

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, sending)
        finally:
            route = scope.get("route")
            name = route.path if isinstance(route, Route) else _UNKNOWN
            self._metrics.request(scope["method"], name, status, time.perf_counter() - begun)
