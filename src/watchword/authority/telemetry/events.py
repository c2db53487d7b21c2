"""Everything that the service's log can say: one class for each line, one field for each member of the line.

An event holds no secret, no key, no token, and of a host its pseudonym only. The fields are listed, with what they are
kept for, in ``docs/explanation/what-the-authority-keeps.md``; a test compares the two.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

__all__ = [
    "EVENTS",
    "AccessEvent",
    "AttestationEvent",
    "BugEvent",
    "ChallengeEvent",
    "Cost",
    "DecisionEvent",
    "EnrolmentEvent",
    "Event",
    "FailureEvent",
    "PruneEvent",
    "RefusalEvent",
    "ServiceEvent",
    "Tell",
    "WitnessEvent",
]


@dataclass(frozen=True, slots=True)
class Cost:
    """What it took to answer one message: ``seconds`` by the clock and by the processor, and by phase."""

    seconds: float = 0.0
    cpu_seconds: float = 0.0
    phases: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened; ``NAME`` is what it is called in the log, ``SEVERITY`` a level of ``logging``."""

    NAME: ClassVar[str] = ""
    SEVERITY: ClassVar[int] = logging.INFO

    @property
    def severity(self) -> int:
        """How bad it is this time."""
        return self.SEVERITY


Tell = Callable[[Event], None]


@dataclass(frozen=True, slots=True)
class ServiceEvent(Event):
    """The service begins (``state`` "starting") or ended ("stopped")."""

    NAME: ClassVar[str] = "service"
    state: str
    version: str
    url: str = ""


@dataclass(frozen=True, slots=True)
class ChallengeEvent(Event):
    """A host was given a nonce; ``purpose`` is "launch" or "attest"."""

    NAME: ClassVar[str] = "challenge"
    trace: str
    purpose: str
    cost: Cost


@dataclass(frozen=True, slots=True)
class DecisionEvent(Event):
    """A decision is durable: the line to look for when a tenant or a provider asks about a launch.

    ``entry`` is its number in the log, ``host`` the pseudonym of the receipt, ``profile`` and ``stack`` SHA-256 in hex
    ("" when no stack matched); ``clause`` and ``code`` are of the first finding, "" for a release.
    """

    NAME: ClassVar[str] = "decision"
    trace: str
    entry: int
    outcome: str
    clause: str
    code: str
    host: str
    profile: str
    level: str
    stack: str
    releases: int
    cost: Cost


@dataclass(frozen=True, slots=True)
class AttestationEvent(Event):
    """Authentic evidence was judged, by the first profile that somebody is interested in.

    ``renewed``: it showed what the evidence before showed, and so did not have to be looked at in full.
    """

    NAME: ClassVar[str] = "attestation"
    trace: str
    standing: str
    code: str
    host: str
    profile: str
    level: str
    stack: str
    renewed: bool
    cost: Cost

    @property
    def severity(self) -> int:
        """Nobody needs a line from every host every two minutes to say that nothing happened."""
        return logging.DEBUG if self.renewed else self.SEVERITY


@dataclass(frozen=True, slots=True)
class EnrolmentEvent(Event):
    """An enrolment went on (``step`` "begin") or ended well ("finish")."""

    NAME: ClassVar[str] = "enrolment"
    trace: str
    step: str
    cost: Cost


@dataclass(frozen=True, slots=True)
class RefusalEvent(Event):
    """A message was refused before there was a decision; ``request`` says what it asked for."""

    NAME: ClassVar[str] = "refusal"
    SEVERITY: ClassVar[int] = logging.WARNING
    trace: str
    request: str
    clause: str
    code: str
    cost: Cost


@dataclass(frozen=True, slots=True)
class FailureEvent(Event):
    """A part of the service did not do its work: ``where`` is one of a few names, ``message`` is for the operator."""

    NAME: ClassVar[str] = "failure"
    SEVERITY: ClassVar[int] = logging.ERROR
    where: str
    code: str
    message: str
    trace: str = ""


@dataclass(frozen=True, slots=True)
class BugEvent(Event):
    """The service's own mistake: the type of the exception and where it was raised, not what it said."""

    NAME: ClassVar[str] = "bug"
    SEVERITY: ClassVar[int] = logging.ERROR
    error: str
    frames: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class WitnessEvent(Event):
    """A witness did not cosign a checkpoint."""

    NAME: ClassVar[str] = "witness"
    SEVERITY: ClassVar[int] = logging.WARNING
    witness: str
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class AccessEvent(Event):
    """Somebody showed a ``credential`` ("certificate" or "token") that does not count here, and why.

    ``fingerprint`` is the certificate's SHA-256 in hex; of a token nothing is told.
    """

    NAME: ClassVar[str] = "access"
    SEVERITY: ClassVar[int] = logging.WARNING
    credential: str
    message: str
    fingerprint: str = ""


@dataclass(frozen=True, slots=True)
class PruneEvent(Event):
    """Something was forgotten because its time was over: ``count`` rows of ``kind``."""

    NAME: ClassVar[str] = "prune"
    kind: str
    count: int


EVENTS: tuple[type[Event], ...] = (
    ServiceEvent,
    ChallengeEvent,
    DecisionEvent,
    AttestationEvent,
    EnrolmentEvent,
    RefusalEvent,
    FailureEvent,
    BugEvent,
    WitnessEvent,
    AccessEvent,
    PruneEvent,
)
