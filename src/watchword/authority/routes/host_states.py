"""``POST /v1/host-states``: what hosts are worth, for a provider that wants to avoid the bad ones.

Who knows a host's id may ask: it is a hash of the EK's public area, and receipts carry pseudonyms in its place.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from watchword.authority.deciding.watch import standing_now
from watchword.authority.serving.problems import Problem
from watchword.errors import MalformedError
from watchword.launch.attest import HostState
from watchword.policy.document import load

__all__ = ["MAX_HOSTS", "MAX_QUESTION", "Hash", "post_host_states", "question_schema"]

MAX_HOSTS: Final = 1000
MAX_QUESTION: Final = 128 * 1024  # bytes


Hash = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z", description="64 hex digits")]


class _Question(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    hosts: Annotated[tuple[Hash, ...], Meta(min_length=1, max_length=MAX_HOSTS)]
    profile: Hash | None = None


def question_schema() -> dict[str, Any]:
    """The JSON Schema of the body of ``POST /v1/host-states``."""
    _, schemas = msgspec.json.schema_components([_Question])
    schema: dict[str, Any] = schemas["_Question"]
    return {name: value for name, value in schema.items() if name != "title"}


async def post_host_states(request: Request) -> Response:
    """The state of each host asked for, by the first watched profile or by ``profile``."""
    state = request.app.state
    body = await state.intake.message(request, _parse, kind="application/json", limit=MAX_QUESTION)
    answer = await state.intake.run(lambda: _states(state.services, body))
    return Response(msgspec.json.encode(answer), media_type="application/json", headers={"Cache-Control": "no-store"})


def _parse(body: bytes) -> _Question:
    try:
        return load(body, _Question, "question about hosts", MAX_QUESTION)
    except MalformedError as error:
        raise Problem("body-malformed", error.message) from None


def _states(services: Any, question: _Question) -> dict[str, Any]:
    store, now = services.store, services.clock()
    hosts = {text: bytes.fromhex(text) for text in question.hosts}
    profile = bytes.fromhex(question.profile) if question.profile is not None else next(iter(store.watched()), None)
    if profile is None:
        raise Problem("profile-unknown", "no profile is watched here: name one")
    known = store.states_by(profile, list(hosts.values()))
    revoked = store.revoked_hosts(list(hosts.values()))
    states = {text: _document(known.get(host), host in revoked, now) for text, host in hosts.items()}
    return {"profile": profile.hex(), "time": now, "states": states}


def _document(state: HostState | None, revoked: bool, now: int) -> dict[str, Any]:
    standing, reason = standing_now(state, now, revoked=revoked)
    good = standing in ("trusted", "degraded")
    return {
        "state": standing,
        "level": state.level if state and good else "",
        "rank": state.rank if state and good else 0,
        "since": state.since if state else None,
        "checked": state.checked if state else None,
        "until": state.until if state else None,
        "reason": reason,
    }
