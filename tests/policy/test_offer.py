"""Levels that no stack can reach: each rule about a release alone, broken by itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from watchword.policy.checks import OF_RELEASES
from watchword.policy.offer import unreachable
from watchword.policy.profile import Profile
from watchword.policy.release import StackRelease
from watchword.policy.stack import CompiledStack
from watchword.testing.world import profile_document, stack_from_recording

NOW = 1_800_000_000
KEY = "ab" * 32


def release(boots: Path, **fields: Any) -> StackRelease:
    document = json.loads(stack_from_recording(boots / "good"))
    document |= fields.pop("document", {})
    stack = CompiledStack.parse(json.dumps(document).encode())
    return StackRelease(stack, stack.digest, frozenset({KEY}), **fields)


def found(profile: Mapping[str, Any], *releases: StackRelease) -> dict[str, set[str]]:
    parsed = Profile.parse(profile_document(**profile))
    return {level: {each.code for each in findings} for level, findings in unreachable(parsed, releases, NOW)}


def test_a_stack_that_fits_reaches_every_level(boots: Path) -> None:
    assert found({"endorsers": {"threshold": 1, "keys": [KEY]}}, release(boots)) == {}


@pytest.mark.parametrize(
    ("rules", "fields", "code"),
    [
        ({"stacks": ["another"]}, {}, "stack-none"),
        ({"pools": ["special"]}, {}, "stack-pool"),
        ({"channels": ["canary"]}, {}, "stack-channel"),
        ({"origin": ["computed"]}, {"document": {"origin": "captured"}}, "stack-origin"),
        ({"covers": [0, 2, 3, 4, 7, 8, 9, 11]}, {}, "coverage"),
        ({}, {"document": {"not_after": NOW}}, "stack-expired"),
        ({}, {"state": "revoked"}, "stack-revoked"),
        ({"min_serial": {"compute": 2}}, {}, "stack-rolled-back"),
        ({"endorsers": {"threshold": 2, "keys": [KEY, "cd" * 32]}}, {}, "stack-endorsers"),
    ],
)
def test_each_rule_stops_by_itself(boots: Path, rules: Mapping[str, Any], fields: Mapping[str, Any], code: str) -> None:
    assert found(rules, release(boots, **fields)) == {"boot": {code}, "full": {code}}
    if not rules:
        assert found(rules, release(boots, **fields), release(boots)) == {}


def test_every_rule_about_releases_is_tried_here() -> None:
    assert len(OF_RELEASES) == 9


def test_without_a_stack_nothing_is_reached(boots: Path) -> None:
    assert found({}) == {"boot": set(), "full": set()}


def test_the_nearest_stack_is_told(boots: Path) -> None:
    far = release(boots, document={"pool": "special", "channel": "canary"})
    assert found({"stacks": ["another"]}, far, release(boots)) == {"boot": {"stack-none"}, "full": {"stack-none"}}
