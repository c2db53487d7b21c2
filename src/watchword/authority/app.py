"""The service as an ASGI application: the route table, and what the routes work with."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Final, Protocol

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Route

from watchword.authority.access import Access
from watchword.authority.deciding.renewals import FLUSH_SECONDS, Renewals
from watchword.authority.description.handler import get_openapi
from watchword.authority.keys.high_water import HighWater
from watchword.authority.keys.keyring import Keyring
from watchword.authority.publishing.log import PublicLog
from watchword.authority.publishing.news import EVENT_DAYS, News, note_fallen
from watchword.authority.publishing.webhooks import Webhooks
from watchword.authority.publishing.witness import Witnesses
from watchword.authority.routes.admin import admin_routes
from watchword.authority.routes.catalogue import get_profile, get_stacks
from watchword.authority.routes.events import post_events
from watchword.authority.routes.health import get_health, get_ready
from watchword.authority.routes.host_states import post_host_states
from watchword.authority.routes.launches import get_launch
from watchword.authority.routes.log import get_checkpoint, get_newest_checkpoint, get_tile
from watchword.authority.routes.messages import post_message
from watchword.authority.routes.people import get_self
from watchword.authority.routes.publish import post_profile
from watchword.authority.routes.standing import get_standing
from watchword.authority.routes.status import get_keys, get_status
from watchword.authority.serving.limits import Intake, Limits, Rate
from watchword.authority.serving.problems import Problem, handlers
from watchword.authority.serving.readiness import Readiness
from watchword.authority.store import Store
from watchword.authority.telemetry import journal
from watchword.authority.telemetry.counting import Counting
from watchword.authority.telemetry.events import FailureEvent, PruneEvent, Tell
from watchword.authority.telemetry.metrics import Metrics
from watchword.authority.upkeep.retention import Retention, forget_old
from watchword.errors import WatchwordError

if TYPE_CHECKING:  # only who serves it loads its templates
    from watchword.authority.console import Console

__all__ = ["MessageHandler", "Services", "create_app"]

PRUNE_SECONDS: Final = 60
PRUNE_STEPS: Final = 5  # transactions of a few hundred rows each time
WITNESS_SECONDS: Final = 5
FALLEN_SECONDS: Final = 2  # a host that fell silent is noticed so much later, at most


class MessageHandler(Protocol):
    """What answers sealed messages."""

    def handle(self, sealed: bytes) -> bytes:
        """The sealed reply. Raises :class:`MalformedError` when ``sealed`` could not even be opened."""
        ...

    def at_once(self, sealed: bytes) -> bytes | None:
        """The same if it takes next to no time and no wait, else None."""


def _unix_time() -> int:
    return int(time.time())


@dataclass(frozen=True, slots=True)
class Services:
    """What the routes work with; ``keyring`` returns the keys as they are now, ``clock`` Unix seconds.

    Witnesses that have not seen the newest checkpoint are asked every ``witness_seconds``. ``tell`` hears of everything
    that happens, ``metrics`` counts requests when there are any; ``retention`` is for how long things are kept.
    ``access`` says who people are; without it nobody is anybody. ``renewals`` are what ``launches`` leaves behind.
    """

    launches: MessageHandler
    store: Store
    keyring: Callable[[], Keyring]
    clock: Callable[[], int] = _unix_time
    limits: Limits = field(default_factory=Limits)
    witness_seconds: float = WITNESS_SECONDS
    tell: Tell = journal.tell
    metrics: Metrics | None = None
    access: Access = field(default_factory=Access)
    retention: Retention = field(default_factory=Retention)
    renewals: Renewals | None = None
    log: PublicLog = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "log", PublicLog(self.store))


def create_app(services: Services, console: Console | None = None) -> Starlette:
    """The application, with ``console`` if there is one; the caller closes the store when it is done."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        app.state.intake = Intake(services.limits)
        app.state.publishing = Rate(services.limits.publish_burst, services.limits.publish_seconds)
        app.state.news = News(services.store.last_event, app.state.intake.run, lambda: app.state.readiness.stopping)
        witnesses = Witnesses(services.store, services.log, services.clock, services.tell)
        webhooks = Webhooks(services.store, services.keyring, services.clock, services.tell)
        chores: tuple[Coroutine[None, None, None], ...] = (
            webhooks.run(),
            _repeat(PRUNE_SECONDS, app.state.intake, lambda: _prune(services), services.tell),
            _repeat(
                FALLEN_SECONDS,
                app.state.intake,
                lambda: note_fallen(services.store, services.clock()),
                services.tell,
            ),
            _repeat(
                services.witness_seconds,
                app.state.intake,
                lambda: witnesses.ask_all(services.keyring()),
                services.tell,
            ),
        )
        renewals = services.renewals
        if renewals is not None:
            chores += (_repeat(FLUSH_SECONDS, app.state.intake, renewals.flush, services.tell),)
        await _ask_first(witnesses, app.state.intake, services)
        tasks = [asyncio.create_task(chore) for chore in chores]
        yield
        if console is not None:
            await asyncio.to_thread(console.dry_runs.stop)
        for task in tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        if renewals is not None:
            await _in_the_end(app.state.intake, renewals.flush, services.tell)

    app = Starlette(
        routes=[
            Route("/v1/openapi.json", get_openapi, methods=["GET"]),
            Route("/v1/messages", post_message, methods=["POST"]),
            Route("/v1/keys", get_keys, methods=["GET"]),
            Route("/v1/profiles", post_profile, methods=["POST"]),
            Route("/v1/profiles/{profile_id}", get_profile, methods=["GET"]),
            Route("/v1/stacks", get_stacks, methods=["GET"]),
            Route("/v1/launches/{launch_id}", get_launch, methods=["GET"]),
            Route("/v1/launches/{launch_id}/standing", get_standing, methods=["GET"]),
            Route("/v1/host-states", post_host_states, methods=["POST"]),
            Route("/v1/events", post_events, methods=["POST"]),
            Route("/v1/admin/self", get_self, methods=["GET"]),
            *admin_routes(),
            Route("/v1/status", get_status, methods=["GET"]),
            Route("/v1/health", get_health, methods=["GET"]),
            Route("/v1/ready", get_ready, methods=["GET"]),
            Route("/v1/checkpoint", get_newest_checkpoint, methods=["GET"]),
            Route("/checkpoint", get_checkpoint, methods=["GET"]),
            Route("/tile/{path:path}", get_tile, methods=["GET"]),
            *(console.routes() if console is not None else ()),
        ],
        exception_handlers=handlers,
        middleware=[Middleware(Counting, metrics=services.metrics)] if services.metrics is not None else [],
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False
    app.state.services = services
    app.state.access = services.access
    app.state.console = console
    app.state.readiness = _readiness(services)
    return app


def _readiness(services: Services) -> Readiness:
    """What every decision needs: a transaction that writes, the keys, a signed checkpoint of a log that is whole."""

    def write() -> None:
        with services.store.transaction():
            pass

    def log() -> None:
        water.check(services.keyring())
        services.log.newest(services.keyring())

    water = HighWater(services.store)
    checks = {"store": write, "keys": lambda: services.keyring().check_tokens(), "log": log}
    return Readiness(checks, tell=services.tell)


def _prune(services: Services) -> None:
    with services.store.transaction() as tx:
        count = tx.prune_nonces(services.clock())
        tx.prune_events(services.clock() - EVENT_DAYS * 86400)
    if count:
        services.tell(PruneEvent("nonces", count))
    # A little at a time: decisions wait for the same lock, and the next minute comes.
    for kind, count in islice(forget_old(services.store, services.retention, services.clock()), PRUNE_STEPS):
        services.tell(PruneEvent(str(kind), count))


async def _ask_first(witnesses: Witnesses, intake: Intake, services: Services) -> None:
    """Before the first request: has a witness seen more of the log than there is?"""
    try:
        await intake.run(lambda: witnesses.ask_all(services.keyring(), again=True))
    except (WatchwordError, Problem) as error:
        services.tell(FailureEvent("chore", error.code, str(error)))


async def _in_the_end(intake: Intake, chore: Callable[[], object], tell: Tell) -> None:
    try:
        await intake.run(chore)
    except (WatchwordError, Problem) as error:
        tell(FailureEvent("chore", error.code, str(error)))


async def _repeat(seconds: float, intake: Intake, chore: Callable[[], object], tell: Tell) -> None:
    while True:
        await asyncio.sleep(seconds)
        try:
            await intake.run(chore)
        except (WatchwordError, Problem) as error:
            tell(FailureEvent("chore", error.code, str(error)))
