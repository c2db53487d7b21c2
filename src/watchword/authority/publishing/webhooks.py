"""Webhooks: signed events, posted to whoever the operator named, again and again until they are taken.

Each webhook has its own thread, its own pace and its own place in the list of events, so one that is dead holds up
nobody. Delivery is at least once and in order; ``seq`` tells repetitions apart.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Final
from urllib.parse import urlsplit

import httpx2
from anyio import CapacityLimiter, to_thread

from watchword.authority.keys.keyring import Keyring
from watchword.authority.store import Audience, Store, Webhook
from watchword.authority.telemetry.events import FailureEvent, Tell
from watchword.errors import Unavailable, UsageError, WatchwordError
from watchword.launch.event import Event, sign_event

__all__ = ["KINDS", "MAX_BACKLOG", "MAX_WEBHOOKS", "Webhooks", "check_url", "deliver", "make_webhook", "post", "trial"]

KINDS: Final = ("host", "public")
MAX_WEBHOOKS: Final = 16
MAX_BACKLOG: Final = 10_000  # events that one webhook may be behind; older ones are given up, and a gap is told
POST_SECONDS: Final = 10.0  # for the whole of one delivery, up to the status line and the headers
FIRST_RETRY: Final = 1.0  # seconds; doubles with every failure
LAST_RETRY: Final = 600.0
TURN_SECONDS: Final = 20.0  # after so long a thread gives way
CLAIM_SECONDS: Final = 15  # longer than a delivery; so long does another process wait for one that died
LOOK_SECONDS: Final = 1.0
_PAGE: Final = 50


def check_url(url: str, *, allow_http: bool) -> str:
    """``url`` if events may be posted there. Raises :class:`UsageError` (``bad-url``)."""
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("https", *(("http",) if allow_http else ())) and parts.hostname and parts.port != 0
    except ValueError:
        good = False
    if not good or parts.username is not None or parts.fragment or len(url) > 2000 or not url.isprintable():
        raise UsageError(
            "bad-url",
            f"{_place(url)!r} is no address for a webhook",
            hint="write https://HOST[:PORT]/PATH without a user; plain http needs --allow-http",
        )
    return url


def make_webhook(url: str, kinds: tuple[str, ...], ca: str, now: int) -> Webhook:
    """A new webhook. Raises :class:`UsageError` (``webhook-ca``) when ``ca`` (PEM, "" for the system's) is unusable."""
    _context(ca)
    return Webhook(secrets.token_hex(8), url, ",".join(k for k in KINDS if k in (kinds or KINDS)), ca, now, place=0)


def trial(webhook: Webhook, now: int) -> Event:
    """An event that says nothing, to try whether it arrives."""
    return Event(0, now, "test", webhook.id, "", 0, "", {})


class Webhooks:
    """Tells every webhook in ``store`` what happened; ``clock`` gives Unix seconds, ``tell`` hears of failures."""

    def __init__(self, store: Store, keyring: Callable[[], Keyring], clock: Callable[[], int], tell: Tell) -> None:
        self._store, self._keyring, self._clock, self._tell = store, keyring, clock, tell
        self._me = secrets.token_hex(8)
        self._threads = CapacityLimiter(MAX_WEBHOOKS)  # one for each: none waits for another
        self._running: dict[str, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Look after all webhooks, until cancelled."""
        try:
            while True:
                await self._start_due()
                await asyncio.sleep(LOOK_SECONDS)
        finally:
            for task in self._running.values():
                task.cancel()

    async def _start_due(self) -> None:
        try:
            due = await to_thread.run_sync(self._due)
        except WatchwordError as error:
            self._tell(FailureEvent("webhooks", error.code, error.message))
            return
        self._running = {name: task for name, task in self._running.items() if not task.done()}
        for webhook in due:
            if webhook.id not in self._running:
                self._running[webhook.id] = asyncio.create_task(self._turn(webhook.id))

    def _due(self) -> list[Webhook]:
        now, newest = self._clock(), self._store.last_event()
        behind = [each for each in self._store.webhooks() if each.place != newest or each.gap_last is not None]
        return [each for each in behind if each.next_try <= now]

    async def _turn(self, identity: str) -> None:
        work = lambda: deliver(self._store, self._keyring(), identity, self._me, self._clock)  # noqa: E731
        try:
            failed = await to_thread.run_sync(work, limiter=self._threads, abandon_on_cancel=True)
        except WatchwordError as error:
            failed = f"{error.code}: {error.message}"
        if failed:
            self._tell(FailureEvent("webhook", identity, failed))


def deliver(store: Store, keyring: Keyring, identity: str, by: str, clock: Callable[[], int]) -> str:
    """Tell one webhook what it has not been told, for a while; what went wrong, or nothing."""
    with store.transaction() as tx:
        webhook = tx.claim_webhook(identity, by, clock(), clock() + CLAIM_SECONDS)
    if webhook is None:
        return ""
    end = time.monotonic() + TURN_SECONDS
    failed = _deliver_gap(store, keyring, webhook, clock)
    while not failed and time.monotonic() < end:
        webhook = next((each for each in store.webhooks() if each.id == identity), None)
        if webhook is None or webhook.claimed_by != by:
            return ""  # removed, or another process took over
        kinds = webhook.kinds.split(",")
        audience = Audience(None if "host" in kinds else (), _watched(store), "public" in kinds)
        page = store.events(webhook.place, audience, _PAGE)
        for seq, payload in page.payloads:
            failed = _try(store, keyring, webhook, payload, clock, place=seq)
            if failed or time.monotonic() >= end:
                break
            webhook = replace(webhook, attempts=0)
        else:
            with store.transaction() as tx:
                tx.update_webhook(identity, place=page.last)
            if not page.payloads:
                break
    with store.transaction() as tx:
        tx.update_webhook(identity, claimed_until=0)
    return failed


def _watched(store: Store) -> list[str]:
    """The profiles that a provider is told about; those of tenants are the tenants' business."""
    return [each.hex() for each in store.watched()]


def _deliver_gap(store: Store, keyring: Keyring, webhook: Webhook, clock: Callable[[], int]) -> str:
    """Give up what is too old to be told, and tell that, before anything else is told."""
    newest = store.last_event()
    first_told = max(_oldest_after(store, webhook.place, newest), newest - MAX_BACKLOG + 1)
    gap_first, gap_last = webhook.gap_first, webhook.gap_last
    if webhook.place > newest:  # an older copy of the store: nobody can say what was told
        gap_first, first_told = 1, newest + 1
    if first_told != webhook.place + 1:
        gap_first, gap_last = gap_first or webhook.place + 1, first_told - 1
        with store.transaction() as tx:
            tx.update_webhook(webhook.id, place=gap_last, gap_first=gap_first, gap_last=gap_last)
    if gap_first is None or gap_last is None:
        return ""
    told = Event(gap_last, clock(), "gap", webhook.id, "", 0, "", {"first": gap_first, "last": gap_last})
    return _try(store, keyring, webhook, told.encode(), clock, gap_first=None, gap_last=None)


def _oldest_after(store: Store, place: int, newest: int) -> int:
    """The number of the oldest event after ``place`` that is still on file."""
    page = store.events(place, Audience(None, None), 1)
    if page.complete or place > newest:
        return place + 1
    return page.payloads[0][0] if page.payloads else newest + 1


def _try(
    store: Store, keyring: Keyring, webhook: Webhook, payload: bytes, clock: Callable[[], int], **done: int | None
) -> str:
    try:
        post(webhook, sign_event(payload, keyring.signing_key))
    except Unavailable as error:
        attempts = webhook.attempts + 1
        with store.transaction() as tx:
            tx.update_webhook(
                webhook.id, attempts=attempts, next_try=clock() + retry_after(attempts), last_error=error.message
            )
        return error.message
    with store.transaction() as tx:
        tx.update_webhook(
            webhook.id,
            attempts=0,
            next_try=0,
            last_error="",
            delivered_at=clock(),
            claimed_until=clock() + CLAIM_SECONDS,
            **done,
        )
    return ""


def retry_after(attempts: int) -> int:
    """Seconds to wait after so many failures: twice as long each time up to ten minutes, less up to half by chance."""
    longest = min(LAST_RETRY, FIRST_RETRY * 2.0 ** min(attempts - 1, 20))
    return max(1, round(longest * random.uniform(0.5, 1.0)))  # noqa: S311 - to spread load


def post(webhook: Webhook, envelope: bytes) -> None:
    """Post one signed event. Raises :class:`Unavailable` (``webhook-refused``, ``webhook-unreachable``)."""
    status = asyncio.run(_post(webhook, envelope))
    if not 200 <= status < 300:
        raise Unavailable("webhook-refused", f"{_place(webhook.url)} answered {status}")


async def _post(webhook: Webhook, envelope: bytes) -> int:
    headers = {"Content-Type": "application/json", "User-Agent": "watchword", "Accept-Encoding": "identity"}
    where, context = _place(webhook.url), _context(webhook.ca)
    try:
        async with (
            asyncio.timeout(POST_SECONDS),
            httpx2.AsyncClient(verify=context, trust_env=False, follow_redirects=False, timeout=POST_SECONDS) as client,
            client.stream("POST", webhook.url, content=envelope, headers=headers) as response,
        ):
            return response.status_code  # what it says beside that is not read
    except (TimeoutError, httpx2.TimeoutException):
        raise Unavailable("webhook-unreachable", f"{where} did not answer in {POST_SECONDS:g} seconds") from None
    except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
        reason = str(error)[:200] or type(error).__name__
        raise Unavailable("webhook-unreachable", f"{where} cannot be reached: {reason}") from None


def _context(ca: str) -> ssl.SSLContext:
    if not ca:
        return ssl.create_default_context()
    try:
        return ssl.create_default_context(cadata=ca)
    except (ssl.SSLError, ValueError):
        raise UsageError("webhook-ca", "the file has no certificate (PEM)") from None


def _place(url: str) -> str:
    """Scheme, host and port: a path may hold a secret."""
    with suppress(ValueError):
        parts = urlsplit(url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"[:200]
    return "the address"
