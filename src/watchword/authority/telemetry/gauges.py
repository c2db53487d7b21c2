"""What a scrape reads at its own time: the store, the keys, the certificates and how much work is waiting.

The store is surveyed at most once in ``fresh_seconds``, however often somebody scrapes.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Final

from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from watchword.authority.keys.keyring import Keyring
from watchword.authority.serving.limits import Load
from watchword.authority.store import Store
from watchword.authority.store.survey import Survey
from watchword.authority.telemetry.keyages import certificate_ends, key_ages
from watchword.errors import WatchwordError

__all__ = ["Gauges"]

FRESH_SECONDS: Final = 15.0
Samples = list[tuple[tuple[str, ...], float]]


class Gauges(Collector):
    """Reads the ``store``, the ``keyring`` and the ``load`` for one scrape; ``clock`` gives Unix seconds."""

    def __init__(
        self,
        store: Store,
        keyring: Callable[[], Keyring],
        load: Callable[[], Load | None],
        clock: Callable[[], float] = time.time,
        fresh_seconds: float = FRESH_SECONDS,
    ) -> None:
        self._store, self._keyring, self._load, self._clock = store, keyring, load, clock
        self._fresh = fresh_seconds
        self._lock = threading.Lock()
        self._asked_at = -fresh_seconds
        self._survey: Survey | None = None

    def describe(self) -> list[Metric]:
        """Nothing: so that registering asks neither the store nor the keys."""
        return []

    def collect(self) -> Iterator[Metric]:
        """All gauges. What cannot be read is absent, and ``watchword_store_up`` or ``watchword_keys_up`` is 0."""
        survey = self._surveyed()
        yield _gauge("store_up", "Whether the store could be read.", [((), float(survey is not None))])
        if survey is not None:
            yield from _of_store(survey)
        try:
            ring = self._keyring()
            ages = list(_of_keys(ring))
        except (WatchwordError, OSError):
            ages = []
        yield _gauge("keys_up", "Whether the keys could be read.", [((), float(bool(ages)))])
        yield from ages
        load = self._load()
        if load is not None:
            yield from _of_load(load)

    def _surveyed(self) -> Survey | None:
        with self._lock:
            if time.monotonic() >= self._asked_at + self._fresh:
                self._asked_at = time.monotonic()
                try:
                    self._survey = self._store.survey(int(self._clock()))
                except (WatchwordError, OSError):
                    self._survey = None
            return self._survey


def _gauge(name: str, text: str, samples: Samples, labels: tuple[str, ...] = ()) -> Metric:
    family = GaugeMetricFamily(f"watchword_{name}", text, labels=labels)
    for values, number in samples:
        family.add_metric(values, number)
    return family


def _of_store(found: Survey) -> Iterator[Metric]:
    hosts: Samples = [((c.profile_id.hex()[:16], c.standing, c.level), float(c.hosts)) for c in found.hosts]
    yield _gauge("hosts", "Hosts by watched profile.", hosts, ("profile", "standing", "level"))
    stacks: Samples = [((state,), float(n)) for state, n in found.stacks.items()]
    yield _gauge("stacks", "Stack releases.", stacks, ("state",))
    retiring: Samples = [((f"{s.name}@{s.version}",), float(s.retire_at)) for s in found.retiring]
    yield _gauge("stack_retire_timestamp_seconds", "When a retiring release ends.", retiring, ("stack",))
    (size, newest), (witnessed, witnessed_at) = found.log, found.witnessed
    yield _gauge("log_entries", "Entries of the public log.", [((), float(size))])
    yield _gauge("log_newest_entry_timestamp_seconds", "When the newest entry was made.", [((), float(newest))])
    yield _gauge("log_published_entries", "Entries under the published checkpoint.", [((), float(witnessed))])
    yield _gauge(
        "log_published_timestamp_seconds",
        "When the newest entry under the published checkpoint was made.",
        [((), float(witnessed_at))],
    )
    behind: Samples = [((name,), float(size - seen)) for name, seen in found.witnesses.items()]
    yield _gauge("log_witness_lag_entries", "Entries that a witness has not cosigned.", behind, ("witness",))
    crls: Samples = [((issuer,), float(until)) for issuer, until in found.crls.items()]
    yield _gauge("crl_next_update_timestamp_seconds", "When a revocation list runs out.", crls, ("issuer",))
    rows: Samples = [((table,), float(n)) for table, n in found.rows.items()]
    yield _gauge("store_rows", "Rows of tables that grow.", rows, ("table",))
    yield _gauge(
        "evidence_oldest_timestamp_seconds",
        "Of the oldest evidence on file; 0 for none.",
        [((), float(found.oldest_evidence))],
    )


def _of_keys(ring: Keyring) -> Iterator[Metric]:
    issued: Samples = [((kind,), float(at)) for kind, at in key_ages(ring).items()]
    yield _gauge("key_created_timestamp_seconds", "When a key was put in force.", issued, ("key",))
    ends: Samples = [((which,), float(at)) for which, at in certificate_ends(ring).items()]
    yield _gauge("tls_certificate_not_after_timestamp_seconds", "When a certificate ends.", ends, ("certificate",))


def _of_load(load: Load) -> Iterator[Metric]:
    yield _gauge("intake_waiting", "Requests in work or waiting for a thread.", [((), float(load.waiting))])
    yield _gauge("intake_capacity", "How many may be in work or waiting.", [((), float(load.capacity))])
    held: Samples = [(("small",), float(load.held)), (("large",), float(load.held_large))]
    yield _gauge("intake_held_bytes", "Bytes of bodies in memory.", held, ("size",))
