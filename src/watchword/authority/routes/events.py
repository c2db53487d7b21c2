"""``POST /v1/events``: what happened since, signed, to the hosts whose ids the caller knows; waiting if nothing did.

A POST, since ids of hosts do not belong into addresses, which proxies and logs keep.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from watchword.authority.access import permit
from watchword.authority.publishing.news import News
from watchword.authority.routes.host_states import MAX_HOSTS, MAX_QUESTION, Hash
from watchword.authority.serving.problems import Problem
from watchword.authority.store import Audience
from watchword.errors import MalformedError
from watchword.launch.event import sign_event
from watchword.policy.document import load

__all__ = ["MAX_WAIT", "PAGE", "events_schema", "post_events"]

PAGE: Final = 200  # events in one answer
MAX_WAIT: Final = 25  # seconds: proxies give up after thirty
_MAX_PLACE: Final = 10**15 - 1


class _Question(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    hosts: Annotated[tuple[Hash, ...], Meta(max_length=MAX_HOSTS)] = ()
    profile: Hash | None = None
    after: Annotated[int, Meta(ge=0, le=_MAX_PLACE)] | None = None
    wait: Annotated[int, Meta(ge=0, le=MAX_WAIT)] = 0
    all: bool = False


@dataclass(frozen=True, slots=True)
class _Found:
    envelopes: tuple[bytes, ...]
    last: int
    complete: bool
    profile: str


def events_schema() -> dict[str, Any]:
    """The JSON Schema of the body of ``POST /v1/events``."""
    _, schemas = msgspec.json.schema_components([_Question])
    schema: dict[str, Any] = schemas["_Question"]
    return {name: value for name, value in schema.items() if name != "title"}


async def post_events(request: Request) -> Response:
    """The events after number ``after``, at most 200, waiting up to ``wait`` seconds for one; without it, from now."""
    state = request.app.state
    question = await state.intake.message(request, _parse, kind="application/json", limit=MAX_QUESTION)
    if question.all:
        await permit(request, "read-hosts")
    found = await _wait(state, question)
    body = {
        "events": [msgspec.Raw(envelope) for envelope in found.envelopes],
        "next": found.last,
        "complete": found.complete,
        "profile": found.profile,
    }
    return Response(msgspec.json.encode(body), media_type="application/json", headers={"Cache-Control": "no-store"})


def _parse(body: bytes) -> _Question:
    try:
        return load(body, _Question, "question about events", MAX_QUESTION)
    except MalformedError as error:
        raise Problem("body-malformed", error.message) from None


async def _wait(state: Any, question: _Question) -> _Found:
    """Look, and look again while what happens is about others; the time that is left is counted by the loop."""
    loop, news = asyncio.get_running_loop(), state.news
    found: _Found = await state.intake.run(lambda: _look(state.services, question, question.after))
    deadline = loop.time() + min(question.wait, state.services.limits.event_seconds)
    complete = found.complete
    while not found.envelopes and complete and loop.time() < deadline:
        assert isinstance(news, News)
        if not await news.beyond(found.last, deadline - loop.time()):
            break
        place = found.last
        found = await state.intake.run(lambda place=place: _look(state.services, question, place))
        complete = found.complete
    return found


def _look(services: Any, question: _Question, after: int | None) -> _Found:
    store = services.store
    profile = question.profile or next((each.hex() for each in store.watched()), "")
    if after is None:
        return _Found((), store.last_event(), True, profile)
    profiles = None if question.all and question.profile is None else [profile]
    hosts = None if question.all else [bytes.fromhex(text) for text in question.hosts]
    page = store.events(after, Audience(hosts, profiles), PAGE)
    key = services.keyring().signing_key
    envelopes = tuple(sign_event(payload, key) for _, payload in page.payloads)
    return _Found(envelopes, page.last, page.complete, profile)
