"""What the log says about a message from a host: which event follows from how its answer ended."""

from __future__ import annotations

from watchword.authority.telemetry.events import (
    ChallengeEvent,
    DecisionEvent,
    EnrolmentEvent,
    Event,
    FailureEvent,
    RefusalEvent,
)
from watchword.authority.telemetry.work import Work
from watchword.errors import MalformedError, Rejected, WatchwordError
from watchword.launch.receipt import Decision
from watchword.wire.messages import (
    AttestRequest,
    Challenge,
    ChallengeRequest,
    EnrolBegin,
    EnrolChallenge,
    EnrolFinish,
    ReleaseRequest,
    Reply,
    Request,
)
from watchword.wire.trace import exchange_trace, launch_trace, trace_of_token_id

__all__ = ["answered", "decided", "ended_with", "trace_of"]

_KINDS = {
    EnrolBegin: "enrol",
    EnrolFinish: "enrol",
    ChallengeRequest: "challenge",
    ReleaseRequest: "launch",
    AttestRequest: "attest",
}


def answered(request: Request, reply: Reply, work: Work) -> Event | None:
    """The event for a request that got what it asked for; None for one that is told where it is decided."""
    match request:
        case ChallengeRequest():
            return ChallengeEvent(trace_of(request, reply), request.purpose.name.lower(), work.cost())
        case EnrolBegin():
            return EnrolmentEvent(trace_of(request, reply), "begin", work.cost())
        case EnrolFinish():
            return EnrolmentEvent(trace_of(request, reply), "finish", work.cost())
        case _:
            return None


def ended_with(request: Request | None, error: WatchwordError, work: Work) -> Event:
    """The event for a request that ended with ``error``; None for one that could not be read."""
    trace = trace_of(request, None)
    if isinstance(error, Rejected | MalformedError):
        clause = error.clause if isinstance(error, Rejected) else ""
        kind = _KINDS[type(request)] if request is not None else "unreadable"
        return RefusalEvent(trace, kind, clause, error.code, work.cost())
    return FailureEvent("message", error.code, error.message, trace)


def decided(entry: int, decision: Decision, work: Work) -> DecisionEvent:
    """The event for a durable ``decision``, number ``entry`` of the log."""
    first = decision.findings[0] if decision.outcome == "refused" and decision.findings else None
    return DecisionEvent(
        trace=trace_of_token_id(decision.token),
        entry=entry,
        outcome=decision.outcome,
        clause=first.clause if first else "",
        code=first.code if first else "",
        host=decision.host,
        profile=decision.profile,
        level=decision.level,
        stack=decision.stack.digest if decision.stack else "",
        releases=decision.releases,
        cost=work.cost(),
    )


def trace_of(request: Request | None, reply: Reply | None) -> str:
    """The trace id of an exchange, "" before it has one."""
    match request, reply:
        case ChallengeRequest(token=token), _ if token:
            return launch_trace(token)
        case ChallengeRequest(), Challenge(nonce=nonce):
            return exchange_trace(nonce)
        case ReleaseRequest(evidence=evidence), _:
            return launch_trace(evidence.token)
        case AttestRequest(evidence=evidence), _:
            return exchange_trace(evidence.nonce)
        case EnrolBegin(), EnrolChallenge(cookie=cookie):
            return exchange_trace(cookie)
        case EnrolFinish(cookie=cookie), _:
            return exchange_trace(cookie)
    return ""
