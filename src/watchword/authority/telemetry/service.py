"""The log and the metrics of one running service, put together from its options."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from watchword import __version__
from watchword.authority.keys.keyring import Keyring
from watchword.authority.server import Address
from watchword.authority.store import Store
from watchword.authority.telemetry import journal
from watchword.authority.telemetry.events import Event, ServiceEvent
from watchword.authority.telemetry.exporter import Exporter
from watchword.authority.telemetry.gauges import Gauges
from watchword.authority.telemetry.metrics import Metrics

__all__ = ["Telemetry"]


class Telemetry:
    """Writes the log in ``log_format``, what is as severe as ``log_level`` or more.

    Counts when ``address`` says where metrics are served (HOST:PORT).

    Raises :class:`UsageError` (``listen-address``) and :class:`Unavailable` (``listen``).
    """

    def __init__(self, log_format: str, address: str | None, log_level: str = "info") -> None:
        self.metrics = Metrics() if address is not None else None
        self._exporter: Exporter | None = None
        if address is not None and self.metrics is not None:
            wanted = Address.parse(address)
            self._exporter = Exporter(wanted.host, wanted.port, self.metrics.registry)
        journal.configure(log_format, level=log_level)

    def tell(self, event: Event) -> None:
        """Write ``event`` to the log, and count it."""
        journal.tell(event)
        if self.metrics is not None:
            self.metrics.observe(event)

    @contextmanager
    def running(self, url: str, store: Store, keyring: Callable[[], Keyring], state: Any) -> Iterator[None]:
        """Serve metrics, and say when the service at ``url`` begins and ends; ``state`` is the application's."""
        self.tell(ServiceEvent("starting", __version__, url))
        try:
            if self._exporter is None:
                yield
                return
            # The intake belongs to the event loop and is not there before it runs.
            load = lambda: state.intake.load() if hasattr(state, "intake") else None  # noqa: E731
            self._exporter.registry.register(Gauges(store, keyring, load))
            with self._exporter:
                yield
        finally:
            self.tell(ServiceEvent("stopped", __version__, url))
