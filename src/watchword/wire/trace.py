"""Trace ids: one short name for one exchange, which everybody who takes part can compute and nobody else needs.

A launch is named by its token: the first digits of the token id, which the decision and its receipt carry in full. An
attestation is named by its nonce, an enrolment by its cookie. Nothing is added to any message: whoever holds the token
or the nonce has the name already, and the name tells nothing about what is inside (docs/adr/0032).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

from watchword.errors import WatchwordError
from watchword.wire.token import token_id

__all__ = ["TRACE_DIGITS", "exchange_trace", "launch_trace", "trace_of_token_id", "traced"]

TRACE_DIGITS = 16


def launch_trace(token: str) -> str:
    """The trace id of the launch with this token text, or with these tokens the first one's: 16 hex digits."""
    return trace_of_token_id(token_id((token.split() or [""])[0]).hex())


def trace_of_token_id(identity: str) -> str:
    """The same from the token id (64 hex digits) in a decision or receipt."""
    return identity[:TRACE_DIGITS]


def exchange_trace(challenge: bytes) -> str:
    """The trace id of an exchange without a token, from the nonce or cookie that the authority gave: 16 hex digits."""
    return hashlib.sha256(b"watchword/trace/1\0" + challenge).hexdigest()[:TRACE_DIGITS]


@contextmanager
def traced(trace: str) -> Iterator[None]:
    """An error that leaves the block says which exchange it ended, unless it knows already."""
    try:
        yield
    except WatchwordError as error:
        error.trace = error.trace or trace
        raise
