"""Metrics of the service for Prometheus, counted from events; no label names a host, a tenant or a launch.

Every label takes its values from a list in the source or from what the operator configured, never from what arrives.
What is read from the store at the time of a scrape is in ``gauges.py``. Names and units: prometheus.io/docs/practices.
"""

from __future__ import annotations

from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)

from watchword import __version__
from watchword.authority.serving.problems import PROBLEMS
from watchword.authority.telemetry.codes import NONE, bounded
from watchword.authority.telemetry.events import (
    AttestationEvent,
    BugEvent,
    ChallengeEvent,
    Cost,
    DecisionEvent,
    EnrolmentEvent,
    Event,
    FailureEvent,
    PruneEvent,
    RefusalEvent,
    WitnessEvent,
)

__all__ = ["Metrics"]

_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_METHODS: Final = frozenset(("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"))


class Metrics:
    """Counts what happens; for any number of threads. ``registry`` is what a scrape reads."""

    def __init__(self) -> None:
        # Else each series has another one for its birth, which nobody asks for.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)  # CPU seconds, memory, open files and how many there may be
        build = Gauge("watchword_build_info", "The version that runs; always 1.", ["version"], registry=registry)
        build.labels(__version__).set(1)
        self._requests = Counter(
            "watchword_http_requests_total", "Answered HTTP requests.", ["method", "route", "status"], registry=registry
        )
        self._request_seconds = Histogram(
            "watchword_http_request_duration_seconds",
            "From the head of a request to the end of its answer.",
            ["route"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._problems = Counter(
            "watchword_http_problems_total", "Answers that are a problem document.", ["code"], registry=registry
        )
        self._challenges = Counter("watchword_challenges_total", "Nonces issued.", ["purpose"], registry=registry)
        self._decisions = Counter(
            "watchword_decisions_total", "Decisions about launches.", ["outcome", "code"], registry=registry
        )
        self._attestations = Counter(
            "watchword_attestations_total", "Judged attestations.", ["standing", "code"], registry=registry
        )
        self._renewals = Counter("watchword_renewals_total", "Attestations that showed nothing new.", registry=registry)
        self._enrolments = Counter("watchword_enrolments_total", "Steps of enrolments.", ["step"], registry=registry)
        self._refusals = Counter(
            "watchword_refusals_total",
            "Messages that were refused before a decision.",
            ["request", "code"],
            registry=registry,
        )
        self._phases = Histogram(
            "watchword_appraisal_duration_seconds",
            "Parts of the answer to evidence.",
            ["request", "phase"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._cpu = Counter(
            "watchword_message_cpu_seconds_total",
            "Processor time spent on messages from hosts.",
            ["request"],
            registry=registry,
        )
        self._failures = Counter(
            "watchword_failures_total", "Times that a part did not do its work.", ["where", "code"], registry=registry
        )
        self._bugs = Counter("watchword_bugs_total", "Errors that are the service's own mistakes.", registry=registry)
        self._witness = Counter(
            "watchword_witness_failures_total", "Times that a witness did not cosign.", ["witness"], registry=registry
        )
        self._pruned = Counter("watchword_pruned_rows_total", "Rows that were forgotten.", ["kind"], registry=registry)
        for code in PROBLEMS:  # so that the first one is an increase
            self._problems.labels(code)

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """One HTTP request was answered; ``route`` is the pattern of the route table, not the path."""
        known = method if method in _METHODS else "other"
        self._requests.labels(known, route, str(status)).inc()
        self._request_seconds.labels(route).observe(seconds)

    def problem(self, code: str) -> None:
        """A request was answered with a problem document."""
        self._problems.labels(code if code in PROBLEMS else bounded(code)).inc()

    def observe(self, event: Event) -> None:
        """Count ``event``."""
        match event:
            case DecisionEvent():
                self._decisions.labels(event.outcome, bounded(event.code)).inc()
                self._spent("launch", event.cost)
            case AttestationEvent():
                self._attestations.labels(event.standing, bounded(event.code)).inc()
                self._renewals.inc(event.renewed)
                self._spent("attest", event.cost)
            case ChallengeEvent():
                self._challenges.labels(event.purpose).inc()
                self._spent("challenge", event.cost)
            case EnrolmentEvent():
                self._enrolments.labels(event.step).inc()
                self._spent("enrol", event.cost)
            case RefusalEvent():
                self._refusals.labels(event.request, bounded(event.code)).inc()
                self._spent(event.request, event.cost)
            case FailureEvent():
                self._failures.labels(event.where, bounded(event.code)).inc()
            case BugEvent():
                self._bugs.inc()
            case WitnessEvent():
                self._witness.labels(event.witness or NONE).inc()
            case PruneEvent():
                self._pruned.labels(event.kind).inc(event.count)

    def _spent(self, request: str, cost: Cost) -> None:
        self._cpu.labels(request).inc(max(0.0, cost.cpu_seconds))
        for phase, seconds in cost.phases.items():
            self._phases.labels(request, phase).observe(seconds)
