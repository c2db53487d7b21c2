"""Shows this host's state to the authority, once or again and again.

The authority says until when its verdict counts; the agent comes back when a part of that time has passed, at a moment
that differs from host to host, and sooner when the last attempt failed. With a verdict may come the challenge for the
next attestation, which is one request then.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from watchword.agent.host import Host
from watchword.agent.journal import step
from watchword.agent.transport import ask, new_reply_key
from watchword.agent.turn import in_turn
from watchword.agent.unseal import evidence_for
from watchword.errors import Rejected, UsageError, WatchwordError
from watchword.wire.evidence import Purpose
from watchword.wire.messages import Attested, AttestRequest, Challenge, ChallengeRequest
from watchword.wire.trace import exchange_trace, traced

__all__ = ["Follower", "Outcome", "attest", "keep_attesting", "pause"]

_SHARE = 3  # a verdict is renewed when this part of its time has passed
_SHARE_AHEAD = 2  # and here when the next challenge came with it: the verdict's time began before it was given
_OUTDATED = ("nonce-expired", "nonce-unknown", "challenge-outdated")  # another challenge helps
_JITTER = 0.2
_SHORTEST, _LONGEST = 5.0, 600.0  # seconds between two attempts
_RETRY = 15.0  # seconds after a failure, doubled each time


@dataclass(frozen=True, slots=True)
class Outcome:
    """One attempt: what the authority answered, or why there is no answer."""

    attested: Attested | None
    error: WatchwordError | None = None


def attest(host: Host, host_id: bytes, ahead: Challenge | None = None) -> Attested:
    """Challenge, evidence, verdict. ``host_id`` is what enrolment returned.

    ``ahead`` is a challenge that came with an earlier verdict; when the authority does not want it, it is asked for
    another one.

    Raises :class:`Rejected` with the authority's clause and code when it does not accept the evidence,
    :class:`MalformedError`, :class:`Unavailable`, or a TPM error.
    """
    request = ChallengeRequest(host_id, Purpose.ATTEST, "")
    with in_turn(host.lock):
        if ahead is not None:
            try:
                return _answer(host, request, ahead)
            except Rejected as refusal:
                if refusal.code not in _OUTDATED:
                    raise
        return _answer(host, request, ask(host.exchange, host.keys, request, Challenge))


def _answer(host: Host, request: ChallengeRequest, challenge: Challenge) -> Attested:
    reply_key, trace = new_reply_key(), exchange_trace(challenge.nonce)
    try:
        with traced(trace):
            evidence, _ = evidence_for(host, request, challenge, "", reply_key)
            step("attest-evidence", trace, ima_from=evidence.ima_from)
            found = ask(host.exchange, host.keys, AttestRequest(evidence), Attested, reply_key)
    except WatchwordError as error:
        step("attest-refused", trace, code=error.code)
        raise
    step("attest-verdict", trace, state=found.state, level=found.level, code=found.code)
    return found


class Follower:
    """Attests one host again and again; ``clock`` gives Unix seconds."""

    def __init__(self, host_id: bytes, clock: Callable[[], float]) -> None:
        self._host_id = host_id
        self._clock = clock
        self._ahead: Challenge | None = None

    def attest(self, host: Host) -> Attested:
        """As :func:`attest`, with the challenge that came with the last verdict while it is good."""
        ahead, self._ahead = self._ahead, None  # whatever comes of it, it is not used again
        if ahead is not None and self._clock() >= ahead.expires:
            ahead = None
        found = attest(host, self._host_id, ahead)
        self._ahead = found.next
        return found


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
        found = outcome.attested
        left = found.until - clock() if found else None
        share = _SHARE_AHEAD if found and found.next else _SHARE
        if wait(pause(left, failures, every, random.random(), share)):  # noqa: S311 - spreads load, guards nothing
            return


def pause(left: float | None, failures: int, every: float | None, chance: float, share: int = _SHARE) -> float:
    """Seconds until the next attempt.

    ``left`` are the seconds that the last verdict still counts (None: there is none), ``failures`` how many attempts
    failed in a row, ``chance`` a number from 0 to 1 that differs from host to host, ``share`` the part of the time left
    after which to come back.
    """
    if left is None:
        base = min(_RETRY * (1 << max(0, min(failures - 1, 6))), every or _LONGEST)
    else:
        base = every or left / share
    return max(_SHORTEST, min(_LONGEST, base)) * (1 - _JITTER / 2 + _JITTER * chance)
