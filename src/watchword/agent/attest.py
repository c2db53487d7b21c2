"""Shows this host's state to the authority, once or again and again.

The authority says until when its verdict counts; the agent comes back when a third of that time has passed, at a moment
that differs from host to host, and sooner when the last attempt failed.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from watchword.agent.host import Host
from watchword.agent.transport import ask, new_reply_key
from watchword.agent.turn import in_turn
from watchword.agent.unseal import evidence_for
from watchword.errors import UsageError, WatchwordError
from watchword.wire.evidence import Purpose
from watchword.wire.messages import Attested, AttestRequest, Challenge, ChallengeRequest

__all__ = ["Outcome", "attest", "keep_attesting", "pause"]

_SHARE = 3  # a verdict is renewed when this part of its time has passed
_JITTER = 0.2
_SHORTEST, _LONGEST = 5.0, 600.0  # seconds between two attempts
_RETRY = 15.0  # seconds after a failure, doubled each time


@dataclass(frozen=True, slots=True)
class Outcome:
    """One attempt: what the authority answered, or why there is no answer."""

    attested: Attested | None
    error: WatchwordError | None = None


def attest(host: Host, host_id: bytes) -> Attested:
    """Challenge, evidence, verdict. ``host_id`` is what enrolment returned.

    Raises :class:`Rejected` with the authority's clause and code when it does not accept the evidence,
    :class:`MalformedError`, :class:`Unavailable`, or a TPM error.
    """
    with in_turn(host.lock):
        request = ChallengeRequest(host_id, Purpose.ATTEST, "")
        challenge = ask(host.exchange, host.keys, request, Challenge)
        reply_key = new_reply_key()
        evidence, _ = evidence_for(host, request, challenge, "", reply_key)
        return ask(host.exchange, host.keys, AttestRequest(evidence), Attested, reply_key)


def keep_attesting(
    once: Callable[[], Attested], clock: Callable[[], float], wait: Callable[[float], bool], every: float | None = None
) -> Iterator[Outcome]:
    """Call ``once`` again and again, and yield what came of it, until ``wait`` says that it is enough.

    ``clock`` gives Unix seconds; ``wait`` waits so many seconds and returns True to end; ``every`` is the time between
    two attempts in place of the one that follows from the verdict, in seconds.
    """
    failures = 0
    while True:
        try:
            outcome = Outcome(once())
            failures = 0
        except UsageError:
            raise  # waiting would not help
        except WatchwordError as error:
            outcome = Outcome(None, error)
            failures += 1
        yield outcome
        left = outcome.attested.until - clock() if outcome.attested else None
        if wait(pause(left, failures, every, random.random())):  # noqa: S311 - spreads load, guards nothing
            return


def pause(left: float | None, failures: int, every: float | None, share: float) -> float:
    """Seconds until the next attempt.

    ``left`` are the seconds that the last verdict still counts (None: there is none), ``failures`` how many attempts
    failed in a row, ``share`` a number from 0 to 1 that differs from host to host.
    """
    if left is None:
        base = min(_RETRY * (1 << max(0, min(failures - 1, 6))), every or _LONGEST)
    else:
        base = every or left / _SHARE
    return max(_SHORTEST, min(_LONGEST, base)) * (1 - _JITTER / 2 + _JITTER * share)
