"""The agent's loopback HTTP service for nova's dynamic vendor data.

Everything is bounded: connections, sizes, the time that one answer takes. What nova does with an answer decides its
form: 200 goes onto the config drive, anything else makes it try another host and, in the end, fail. So what no other
host would do better is a 200 that says no (or a 403, as configured), and this host's own failure is a 5xx.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from watchword.errors import WatchwordError
from watchword.integrations.openstack.agent_api import DESCRIPTION, HEALTH, ROUTE
from watchword.integrations.openstack.peer import Peers
from watchword.integrations.openstack.request import MAX_REQUEST
from watchword.net.described import DescribedHandler
from watchword.net.server import BoundedServer, Refused, problem_document

__all__ = ["Answer", "AgentServer", "problem"]

_JSON = "application/json"
_WORKERS = 16
_IDLE = 15  # seconds without a byte


@dataclass(frozen=True, slots=True)
class Answer:
    """``status`` of HTTP, the ``body``, and the reason ``code`` when there is one."""

    status: HTTPStatus
    body: bytes
    code: str = ""


def problem(status: HTTPStatus, code: str, detail: str, words: str = "") -> Answer:
    """The members of a problem document (RFC 9457), and those from which nova takes the words of its fault.

    ``words`` is for people in the cloud, ``detail`` for this host's. Source: keystoneauth1,
    ``exceptions.http.from_response``, which reads ``error`` of answers that are called application/json.
    """
    found = problem_document(status, code, detail)
    return Answer(
        status, json.dumps(found | {"error": {"code": status, "message": f"watchword: {words or code}"}}).encode(), code
    )


class AgentServer(BoundedServer):
    """Listens on ``address`` and ``port`` (0: any free one) and has ``answer(body, token)`` answer nova.

    ``token`` is the ``X-Auth-Token`` ("" when there was none); ``health()`` says whether this host could launch;
    ``deadline`` is in seconds for a whole answer. Raises :class:`Unavailable` (``listen``).
    """

    def __init__(
        self,
        address: str,
        port: int,
        answer: Callable[[bytes, str], Answer],
        health: Callable[[], dict[str, Any]],
        peers: Peers,
        deadline: float,
    ) -> None:
        self.answer = answer
        self.health = health
        self.peers = peers
        self.deadline = deadline
        self.workers = ThreadPoolExecutor(_WORKERS, thread_name_prefix="answer")
        super().__init__(address, port, _Handler, deadline + _IDLE)

    def server_close(self) -> None:
        super().server_close()
        self.workers.shutdown(wait=False, cancel_futures=True)


class _Handler(DescribedHandler):
    server: AgentServer
    description = DESCRIPTION
    prefix = "agent"
    timeout = _IDLE
    server_version = "watchword-agent"

    def do_GET(self) -> None:
        if self.describe():
            return
        if self.path != HEALTH:
            self.answer_refused(self.elsewhere())
            return
        state = self.server.health()
        status = HTTPStatus.OK if state.get("ready") else HTTPStatus.SERVICE_UNAVAILABLE
        self._send(Answer(status, json.dumps(state).encode()))

    def do_POST(self) -> None:
        try:
            self._send(self._in_time(self._request()))
        except Refused as refusal:
            self.answer_refused(refusal)

    def _request(self) -> bytes:
        if self.path.rstrip("/") != ROUTE:
            raise self.elsewhere()
        if not self.server.peers.allows(self.client_address[0], self.client_address[1]):
            raise self.refused(HTTPStatus.FORBIDDEN, "peer", "this user may not ask; see [serve] users")
        return b"".join(self.pieces(self.body_size(MAX_REQUEST)))

    def _in_time(self, body: bytes) -> Answer:
        token = self.headers.get("x-auth-token", "")
        try:
            future: Future[Answer] = self.server.workers.submit(self.server.answer, body, token)
            return future.result(self.server.deadline)
        except FutureTimeout:
            return problem(HTTPStatus.GATEWAY_TIMEOUT, "answer-late", "this host did not answer in time")
        except RuntimeError:  # the pool is shut down
            return problem(HTTPStatus.SERVICE_UNAVAILABLE, "agent-stopping", "the agent is being stopped")

    def answer_refused(self, refusal: Refused) -> None:
        self._send(problem(refusal.status, refusal.code, refusal.detail))

    def _send(self, answer: Answer) -> None:
        about = {"x_watchword_code": answer.code} if answer.code else {}
        self.answer(answer.status, _JSON, answer.body, cache_control="no-store", **about)


def log(event: str, **about: object) -> None:
    """One line for the journal: an event and public facts, as JSON."""
    print(f"watchword: {event} {json.dumps(about)}", file=sys.stderr, flush=True)


def log_error(event: str, error: WatchwordError, **about: object) -> None:
    """:func:`log` with an error, and what to do about it."""
    traced = {"trace": error.trace} if error.trace else {}
    log(event, **about, **traced, code=error.code, message=error.message, hint=error.hint)
