"""The provider's status service: asks the authority about the provider's hosts, and answers the scheduler by name.

The authority is asked by host ids; which id is which host's is in the provider's own file, and the authority never
learns a host name. Speaks OpenAttestation's ``PollHosts`` too, for software that expects it.
"""

from __future__ import annotations

import json
import re
import threading
import time
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

from watchword.crypto.keylist import KeyList
from watchword.errors import MalformedError, Unavailable, UsageError, WatchwordError
from watchword.integrations.openstack.refusals import ROUTE, Refusal, Refusals
from watchword.integrations.openstack.server import log_error
from watchword.integrations.openstack.status_api import DESCRIPTION, MAX_NAMES
from watchword.launch.event import BAD, Event, verify_event
from watchword.net.described import DescribedHandler
from watchword.net.server import BoundedServer, Refused
from watchword.tenant.http import exchange, pinned_context, problem

__all__ = ["Follow", "StatusConfig", "StatusServer", "Statuses", "ask_authority", "follow_authority"]

_MAX_FILE = 1 << 20
_MAX_BODY = 128 * 1024
_NEWER = re.compile(r"newer=([0-9]{1,15})\Z")
_HEX = re.compile(r"[0-9a-f]{64}\Z")
_PAGE = 1000  # hosts in one question
_TIMEOUT = 10.0
_SECONDS = 30.0  # for one whole answer
_GOOD = ("trusted", "degraded")
_LONG_POLL = 25  # seconds that the authority may wait for an event
_HELD = 20.0  # seconds that a question for news may be held here
_WAITING = 16  # such questions at the same time
Ask = Callable[[Mapping[str, Any]], Mapping[str, Any]]
Follow = Callable[[Mapping[str, Any]], tuple[list[Event], int, bool]]


@dataclass(frozen=True, slots=True)
class StatusConfig:
    """``profile`` (hex) is the one that counts, "" the authority's; ``levels`` its levels' names, lowest first.

    ``hosts`` leads from id to name; the authority is asked every ``interval`` seconds.
    """

    listen: str
    profile: str
    levels: tuple[str, ...]
    hosts: Mapping[str, str]
    interval: float = 15.0

    @classmethod
    def load(cls, path: Path) -> StatusConfig:
        """Read [service] and [hosts] of a TOML file; ``agent.config`` reads its [authority]. Raises UsageError."""
        try:
            document = tomllib.loads(path.read_bytes()[:_MAX_FILE].decode())
            service, hosts = document.get("service", {}), document.get("hosts", {})
            config = cls(
                listen=str(service.get("listen", "127.0.0.1:8450")),
                profile=str(service.get("profile", "")),
                levels=tuple(str(level) for level in service.get("levels", ())),
                hosts={str(host_id): str(name) for name, host_id in hosts.items()},
                interval=min(3600.0, max(1.0, float(service.get("interval", 15)))),
            )
        except OSError as error:
            raise UsageError("file-unreadable", f"{path} cannot be read: {error.strerror}") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, AttributeError, TypeError, ValueError) as error:
            raise UsageError("config", f"{path}: {error}") from None
        if (config.profile and not _HEX.match(config.profile)) or not all(map(_HEX.match, config.hosts)):
            raise UsageError("config", f"{path}: profile and host ids are 64 hex digits")
        return config


def ask_authority(url: str, keys: Callable[[], KeyList]) -> Ask:
    """Questions to the authority at ``url`` (``POST /v1/host-states``); TLS is checked against its pinned keys."""

    def ask(question: Mapping[str, Any]) -> Mapping[str, Any]:
        place = f"{url.rstrip('/')}/v1/host-states"
        body = json.dumps(question).encode()
        answer = exchange("POST", place, pinned_context(keys().tls_ca), body=body, timeout=_TIMEOUT)
        if answer.status != HTTPStatus.OK:
            raise Unavailable("authority-refused", problem(answer, place)[1])
        try:
            states = json.loads(answer.body)["states"]
        except (ValueError, KeyError, TypeError, RecursionError):
            states = None
        if not isinstance(states, dict):
            raise MalformedError("host states: the authority's answer cannot be read")
        return states

    return ask


def follow_authority(url: str, keys: Callable[[], KeyList]) -> Follow:
    """Questions for events (``POST /v1/events``): verified ones, where to go on, and whether none is missing."""

    def follow(question: Mapping[str, Any]) -> tuple[list[Event], int, bool]:
        place = f"{url.rstrip('/')}/v1/events"
        named, body = keys(), json.dumps(question).encode()
        timeout = _TIMEOUT + float(question.get("wait", 0))
        answer = exchange("POST", place, pinned_context(named.tls_ca), body=body, timeout=timeout)
        if answer.status != HTTPStatus.OK:
            raise Unavailable("authority-refused", problem(answer, place)[1])
        try:
            document = json.loads(answer.body)
            envelopes = [json.dumps(each).encode() for each in document["events"]]
            following, complete = int(document["next"]), document["complete"] is True
        except (ValueError, KeyError, TypeError, RecursionError):
            raise MalformedError("events: the authority's answer cannot be read") from None
        return [verify_event(envelope, named)[0] for envelope in envelopes], following, complete

    return follow


class Statuses:
    """What is known of each host; ``ask`` puts a question to the authority, ``clock`` is Unix time."""

    def __init__(self, config: StatusConfig, ask: Ask, clock: Callable[[], float] = time.time) -> None:
        self.config = config
        self._ask, self._clock = ask, clock
        self._known: dict[str, Mapping[str, Any]] = {}
        self._changed = threading.Condition()
        self._revision = 0
        self._waiting = threading.BoundedSemaphore(_WAITING)
        self._stop = threading.Event()

    def refresh(self) -> None:
        """Ask about every host. What was known stays, and expires, when this raises :class:`WatchwordError`."""
        ids = list(self.config.hosts)
        for start in range(0, len(ids), _PAGE):
            question: dict[str, Any] = {"hosts": ids[start : start + _PAGE]}
            if self.config.profile:
                question["profile"] = self.config.profile
            states = self._ask(question)
            self._learn({i: s for i, s in states.items() if isinstance(s, dict) and i in self.config.hosts})

    def _learn(self, states: Mapping[str, Mapping[str, Any]]) -> None:
        with self._changed:
            if any(_worth(state) != _worth(self._known.get(host_id)) for host_id, state in states.items()):
                self._revision += 1
                self._changed.notify_all()
            self._known |= states

    def follow(self, follow: Follow) -> None:
        """Hear of changes as they happen, until :meth:`stop`; when that does not work, :meth:`run` goes on asking."""
        pages = [tuple(self.config.hosts)[at : at + _PAGE] for at in range(0, len(self.config.hosts), _PAGE)]
        threads = [threading.Thread(target=self._follow_page, args=(follow, page), daemon=True) for page in pages[1:]]
        for thread in threads:
            thread.start()
        for page in pages[:1]:
            self._follow_page(follow, page)
        for thread in threads:
            thread.join()

    def _follow_page(self, follow: Follow, hosts: tuple[str, ...]) -> None:
        question: dict[str, Any] = {"hosts": hosts} | ({"profile": self.config.profile} if self.config.profile else {})
        place: int | None = None
        while not self._stop.is_set():
            try:
                place = self._follow_once(follow, question, place)
            except WatchwordError as error:
                log_error("events-failed", error)
                place = None  # begin anew: nobody knows what was missed
                self._stop.wait(self.config.interval)

    def _follow_once(self, follow: Follow, question: Mapping[str, Any], place: int | None) -> int:
        """One question. Bad news counts at once; good news is no more than a reason to ask how hosts stand."""
        more = {} if place is None else {"after": place, "wait": _LONG_POLL}
        events, following, complete = follow({**question, **more})
        bad = {each.subject: each for each in events if each.subject in self.config.hosts}
        self._learn({subject: _failed(each) for subject, each in bad.items() if each.type in BAD})
        if place is None or bad or not complete:
            self.refresh()
        return following

    def wait(self, revision: int) -> None:
        """Wait until something is different from what it was at ``revision``, for twenty seconds at most.

        Does not wait when too many do.
        """
        if not self._waiting.acquire(blocking=False):
            return
        try:
            with self._changed:
                self._changed.wait_for(lambda: self._revision != revision or self._stop.is_set(), _HELD)
        finally:
            self._waiting.release()

    def run(self) -> None:
        """Ask again and again until :meth:`stop`."""
        while not self._stop.is_set():
            try:
                self.refresh()
            except WatchwordError as error:
                log_error("host-states-failed", error)
            self._stop.wait(self.config.interval)

    def stop(self) -> None:
        """End :meth:`run` and :meth:`follow` soon."""
        self._stop.set()
        with self._changed:
            self._changed.notify_all()

    def document(self) -> dict[str, Any]:
        """Every listed host by name; one of which nothing is known, or not any more, has rank 0."""
        now = self._clock()
        with self._changed:
            known, revision = dict(self._known), self._revision
        hosts = {name: _entry(known.get(host_id), now) for host_id, name in self.config.hosts.items()}
        return {"time": int(now), "revision": revision, "levels": list(self.config.levels), "hosts": hosts}

    def poll(self, names: list[str]) -> dict[str, Any]:
        """OpenAttestation's answer for ``names``: trusted, untrusted, or unknown."""
        hosts = self.document()["hosts"]
        return {"hosts": [_poll_entry(name, hosts.get(name)) for name in names]}


def _worth(state: Mapping[str, Any] | None) -> tuple[str, str]:
    """What makes a difference to a scheduler."""
    found = state or {}
    return str(found.get("state")), str(found.get("rank"))


def _failed(event: Event) -> Mapping[str, Any]:
    """What an event says of a host that is good for nothing any more."""
    state = "stale" if event.type == "host-stale" else "failed"
    code = str(event.details.get("code") or event.type)
    return {"state": state, "rank": 0, "until": 0, "checked": 0, "reason": f"the authority says so: {code}"}


def _entry(state: Mapping[str, Any] | None, now: float) -> dict[str, Any]:
    try:
        found = state or {}
        standing, rank, until = str(found.get("state")), int(found.get("rank") or 0), float(found.get("until") or 0)
        issued = int(found.get("checked") or 0)
    except (TypeError, ValueError):
        standing, rank, until, issued, found = "unknown", 0, 0.0, 0, {}
    reason = str(found.get("reason") or "")[:400]
    if standing in _GOOD and rank > 0 and now < until:
        level = str(found.get("level") or "")[:64]
        return _document("trusted", rank, level, int(until), issued, reason)
    if standing == "failed":
        return _document("untrusted", 0, "", 0, issued, reason)
    return _document("unknown", 0, "", 0, issued, reason or "the host has not shown in time what it runs")


def _document(state: str, rank: int, level: str, expires: int, issued: int, reason: str) -> dict[str, Any]:
    return {"state": state, "rank": rank, "level": level, "expires": expires, "issued": issued, "reason": reason}


def _poll_entry(name: str, entry: Mapping[str, Any] | None) -> dict[str, str]:
    state, issued = (entry["state"], entry["issued"]) if entry else ("unknown", 0)
    when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(issued)) if issued else ""
    return {"host_name": name, "trust_lvl": state, "vtime": when}


class StatusServer(BoundedServer):
    """Serves ``statuses`` over HTTP at ``address`` and ``port``. Raises :class:`Unavailable` (``listen``)."""

    def __init__(self, address: str, port: int, statuses: Statuses) -> None:
        self.statuses = statuses
        self.refusals = Refusals()
        super().__init__(address, port, _Handler, _SECONDS)


class _Handler(DescribedHandler):
    server: StatusServer
    description = DESCRIPTION
    prefix = "status"
    timeout = 10
    server_version = "watchword-status"

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        newer = _NEWER.match(query)
        if self.describe():
            return
        if path == "/v1/hosts" and (newer or not query):
            if newer:
                self.server.statuses.wait(int(newer[1]))
            self._send(self.server.statuses.document())
        elif self.path == ROUTE:
            self._send({"refusals": self.server.refusals.all()})
        elif self.path.startswith(f"{ROUTE}/"):
            self._send_refusal(self.path.removeprefix(f"{ROUTE}/"))
        else:
            self.answer_refused(self.elsewhere())

    def do_POST(self) -> None:
        try:
            self._send(self._posted())
        except MalformedError as error:
            self.answer_refused(Refused(HTTPStatus.BAD_REQUEST, error.code, error.message))
        except Refused as refusal:
            self.answer_refused(refusal)

    def _posted(self) -> dict[str, Any]:
        if not (self.path.endswith("/PollHosts") or self.path == ROUTE):
            raise self.elsewhere()
        body = b"".join(self.pieces(self.body_size(_MAX_BODY)))
        if self.path != ROUTE:
            return self.server.statuses.poll(_names(body))
        self.server.refusals.add(Refusal.reported(body))
        return {}

    def _send_refusal(self, server: str) -> None:
        found = self.server.refusals.of(server)
        if found is None:
            text = "no refusal of that server was reported"
            self.answer_refused(self.refused(HTTPStatus.NOT_FOUND, "server", text))
        else:
            self._send(found)

    def _send(self, document: Mapping[str, Any]) -> None:
        self.answer(HTTPStatus.OK, "application/json", json.dumps(document).encode())


def _names(body: bytes) -> list[str]:
    try:
        hosts = json.loads(body)["hosts"]
    except (ValueError, KeyError, TypeError, RecursionError):
        hosts = None
    if not isinstance(hosts, list) or len(hosts) > MAX_NAMES or not all(isinstance(name, str) for name in hosts):
        raise MalformedError(f"PollHosts: the body has no list of at most {MAX_NAMES} host names")
    return hosts
