"""A reason is one short printable line without the values that were compared."""

from __future__ import annotations

import pytest

from watchword.errors import Finding, Rejected, Unavailable, WatchwordError
from watchword.integrations.reasons import reason

FIRST = Finding("E2", "stack-none", "no stack fits", "compute 1", "an unknown kernel")
AS_SENT = Finding("E2", "stack-none", "no stack fits; expected 'aa0f', found 'bb'")


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (Rejected(FIRST), "[E2] stack-none: no stack fits"),
        (Rejected(AS_SENT), "[E2] stack-none: no stack fits"),
        (Rejected(FIRST, Finding("E5", "profile-level", "too low", "2", "0")),
         "[E2] stack-none: no stack fits, [E5] profile-level"),
        (Unavailable("answer-late", "this host took too long"), "answer-late: this host took too long"),
        (Unavailable("http", "a\n  b \x1b[31m\u202e"), "http: a b ?[31m?"),
        (Unavailable("http", "x" * 900), "http: " + "x" * 194),
    ],
)  # fmt: skip
def test_reason(error: WatchwordError, text: str) -> None:
    assert reason(error) == text
