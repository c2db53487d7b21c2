"""The error hierarchy: who is at fault, and what programs may rely on."""

from __future__ import annotations

import pytest

from watchword.errors import Finding, MalformedError, Rejected, Unavailable, UsageError, WatchwordError


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (UsageError("usage", "x"), 1),
        (Unavailable("gone", "x"), 2),
        (MalformedError("x"), 3),
        (Rejected(Finding("B4", "quote-signature", "x")), 3),
    ],
)
def test_every_error_knows_its_exit_status(error: WatchwordError, status: int) -> None:
    assert error.exit_status == status
    assert error.code


def test_a_rejection_is_named_after_its_first_finding() -> None:
    error = Rejected(Finding("B5", "quote-binding", "no", "aa", "bb", "quote"), Finding("E5", "profile-level", "no"))
    assert (error.code, error.clause) == ("quote-binding", "B5")
    assert str(error) == "[B5] quote-binding: no (quote); expected 'aa', found 'bb'"


def test_a_rejection_without_a_reason_cannot_be_made() -> None:
    with pytest.raises(ValueError, match="needs a finding"):
        Rejected()


def test_long_values_are_clipped_for_people() -> None:
    assert len(str(Finding("C2", "x", "y", "a" * 10_000, "b" * 10_000))) < 500
