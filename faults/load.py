"""Hosts that ask for releases, and what became of each request."""

from __future__ import annotations

import http.client
import json
import os
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from faults.service import Service
from watchword.crypto.token import seal_token
from watchword.errors import MalformedError
from watchword.testing.replayed import Line, ReplayedHost, StatusError
from watchword.wire.evidence import Purpose
from watchword.wire.messages import Challenge, ChallengeRequest, Refusal, Release
from watchword.wire.token import TokenBody, token_id

__all__ = ["Load", "Token", "launch"]

HUNG = "hung"
PATIENCE = 40.0  # seconds for one step of an exchange: the authority's own limits are shorter


@dataclass(frozen=True, slots=True)
class Token:
    """A launch token that allows so many releases."""

    text: str
    allowed: int

    @classmethod
    def seal(cls, service: Service, allowed: int = 1, seconds: int = 3600) -> Token:
        """A fresh one, good for ``seconds``."""
        expires = int(time.time()) + seconds
        body = TokenBody(os.urandom(32), os.urandom(16), bytes(32), service.profile.id, expires, releases=allowed)
        return cls(seal_token(body, service.keys.sealing_key()), allowed)

    @property
    def id(self) -> bytes:
        """What the authority counts it by."""
        return token_id(self.text)


def launch(line: Line, host: ReplayedHost, token: Token) -> str:
    """Ask for a release: "released", or why not in a word or a code."""
    try:
        challenge = line.ask(ChallengeRequest(host.host_id, Purpose.LAUNCH, token.text))
        if not isinstance(challenge, Challenge):
            return _refused(challenge)
        request, key = host.release_request(challenge, token.text, "vm")
        answer = line.ask(request, key)
        return "released" if isinstance(answer, Release) else _refused(answer)
    except TimeoutError:
        return HUNG
    except StatusError as error:
        return "problem " + str(json.loads(error.body)["type"]).rpartition(":")[2]
    except MalformedError:
        return "an answer that cannot be read"
    except (OSError, http.client.HTTPException):
        return "no answer"


def _refused(answer: object) -> str:
    return f"refused {answer.code}" if isinstance(answer, Refusal) else f"unexpected {type(answer).__name__}"


@dataclass
class Load:
    """Launches with the same tokens from all hosts of a service at once, until it is told to stop.

    ``received`` counts releases that arrived, by token id; ``outcomes`` all requests by what became of them;
    ``longest`` is the longest that one waited, in seconds.
    """

    service: Service
    tokens: Sequence[Token]
    received: Counter[bytes] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    longest: float = 0.0
    _stop: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> Load:
        hosts = self.service.hosts
        self._threads = [threading.Thread(target=self._work, args=(n, host)) for n, host in enumerate(hosts)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """Let every host finish what it asks for, and ask no more."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def wait_for(self, requests: int, seconds: float = 30) -> None:
        """Return when so many requests were answered, or after ``seconds``."""
        deadline = time.monotonic() + seconds
        while sum(self.outcomes.values()) < requests and time.monotonic() < deadline:
            time.sleep(0.01)

    def wait_for_releases(self, more: int, seconds: float = 30) -> None:
        """Return when so many ``more`` releases arrived than until now, or after ``seconds``."""
        wanted, deadline = sum(self.received.values()) + more, time.monotonic() + seconds
        while sum(self.received.values()) < wanted and time.monotonic() < deadline:
            time.sleep(0.01)

    def _work(self, number: int, host: ReplayedHost) -> None:
        line = Line(self.service.url, self.service.keys, PATIENCE)
        turn = 0
        while not self._stop.is_set():
            token = self.tokens[(number // 2 + turn) % len(self.tokens)]  # two hosts want the same at the same time
            turn += 1
            start = time.monotonic()
            outcome = launch(line, host, token)
            with self._lock:
                self.outcomes[outcome] += 1
                self.received[token.id] += outcome == "released"
                self.longest = max(self.longest, time.monotonic() - start)
            if not outcome.startswith(("released", "refused")):
                line.close()
                self._stop.wait(0.02)
        line.close()
