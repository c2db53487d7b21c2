"""Which levels of a profile no stack can reach, whatever host comes: told before the first host is refused.

Only rules that look at the release alone are tried. That one is found for each level does not say that a host will
reach it: the host's own boot, files and TPM come on top.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from watchword.errors import Finding
from watchword.policy.checks import OF_RELEASES
from watchword.policy.profile import Profile, Rules
from watchword.policy.release import StackRelease

__all__ = ["unreachable"]


@dataclass(frozen=True, slots=True)
class _Offer:
    release: StackRelease | None
    now: int


def unreachable(
    profile: Profile, releases: Sequence[StackRelease], now: int
) -> Iterator[tuple[str, tuple[Finding, ...]]]:
    """Each level of ``profile`` that none of ``releases`` can reach at ``now`` (Unix seconds), and what stops the best.

    The findings are those of the release with the fewest; empty when there is no release at all.
    """
    for level in profile.levels:
        tried = [_findings(_Offer(release, now), level.rules) for release in releases]
        if all(tried):
            yield level.name, min(tried, key=len, default=())


def _findings(offer: _Offer, rules: Rules) -> tuple[Finding, ...]:
    return tuple(finding for check in OF_RELEASES for finding in check(offer, rules))
