from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from watchword.errors import MalformedError
from watchword.policy.explain import explain_profile
from watchword.policy.profile import MAX_PROFILE_SIZE, Profile
from watchword.testing.documents import PROFILE, changed, encode
from watchword.wire.tpm.algorithms import Alg
from watchword.wire.tpm.pcr import PcrSelection


def test_a_profile_parses() -> None:
    data = encode(PROFILE)
    profile = Profile.parse(data)
    assert profile.id == hashlib.sha256(data).digest()
    assert profile.selections() == (PcrSelection(Alg.SHA256, (0, 4, 7, 9, 10)),)
    assert [level.name for level in profile.levels] == ["silver", "gold"]
    assert (profile.rank_of("silver"), profile.rank_of("gold"), profile.rank_of("none")) == (1, 2, None)


def test_a_secret_is_sealed_to_the_boot_and_not_to_the_runtime_log() -> None:
    assert Profile.parse(encode(PROFILE)).boot_selections() == (PcrSelection(Alg.SHA256, (0, 4, 7, 9)),)


def test_what_is_not_said_is_strict() -> None:
    profile = Profile.parse(encode(PROFILE))
    assert profile.levels[0].rules.reject_violations
    assert profile.levels[0].rules.max_age_seconds == 300
    assert profile.tpm_firmware is None
    assert profile.max_log_ahead == 1000


SILVER = ("levels", 0, "rules")
GOLD = ("levels", 1, "rules")


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        # E1: a profile that would accept everything
        (("levels",), [], "profile: levels: "),
        (SILVER, {}, "profile: levels[0].rules: Object missing required field"),
        ((*SILVER, "identity"), ..., "missing required field `identity`"),
        ((*SILVER, "identity"), [], "levels[0].rules.identity: "),
        ((*SILVER, "covers"), ..., "missing required field `covers`"),
        ((*SILVER, "covers"), [], "levels[0].rules.covers: "),
        ((*SILVER, "runtime"), ..., "missing required field `runtime`"),
        ((*SILVER, "stacks"), ..., "levels[0].rules: names neither stacks nor endorsers"),
        ((*SILVER, "stacks"), [], "levels[0].rules.stacks: "),
        ((*GOLD, "endorsers", "threshold"), 0, "levels[1].rules.endorsers.threshold: "),
        ((*GOLD, "endorsers", "keys"), [], "levels[1].rules.endorsers.keys: "),
        # what could not work
        (("format",), "watchword-profile/2", "profile: format: "),
        (("bank",), "sha1", "profile: bank: is not one of"),
        (("pcrs",), [], "profile: pcrs: "),
        (("pcrs",), [10], "profile: pcrs: quotes no PCR of the boot"),
        (("pcrs",), [4, 0, 7, 9, 10], "profile: pcrs: must be ascending"),
        (("pcrs",), [0, 4, 7, 9, 10, 16], "profile: pcrs: PCRs 16 and 23"),
        (("pcrs",), [0, 4, 7, 9], "levels[1].rules.runtime: PCR 10 must be quoted"),
        (("pcrs",), [0, 4, 9, 10], "levels[1].rules.secure_boot: PCR 7 must be quoted"),
        (("pcrs",), [0, 7, 9, 10], "levels[0].rules.covers: has a PCR that this profile does not quote"),
        ((*SILVER, "covers"), [9, 4], "levels[0].rules.covers: must be ascending"),
        ((*SILVER, "covers"), [4, 10], "levels[0].rules.covers: PCR 10 is the runtime log"),
        ((*SILVER, "identity"), ["hardware", "imaginary"], "levels[0].rules.identity[1]: "),
        ((*SILVER, "identity"), ["hardware", "hardware"], "levels[0].rules.identity: repeats a class"),
        ((*SILVER, "max_age_seconds"), 0, "levels[0].rules.max_age_seconds: "),
        ((*SILVER, "max_age_seconds"), 10**6, "levels[0].rules.max_age_seconds: "),
        (
            (*SILVER, "secure_bot"),
            True,
            "rules.secure_bot: unknown field 'secure_bot', did you mean 'secure_boot'?",
        ),
        ((*SILVER, "secure_boot"), 1, "levels[0].rules.secure_boot: "),
        ((*GOLD, "endorsers", "threshold"), 3, "levels[1].rules.endorsers.threshold: only 2 keys"),
        ((*GOLD, "endorsers", "keys"), ["11" * 32] * 2, "levels[1].rules.endorsers.keys: repeats a key"),
        ((*GOLD, "endorsers", "keys", 1), "11", "levels[1].rules.endorsers.keys[1]: not 64 hex digits"),
        ((*GOLD, "min_serial"), {"compute": 0}, "levels[1].rules.min_serial"),
        (("levels", 1, "name"), "silver", "levels[1].name: silver is already used"),
        (("max_log_ahead",), -1, "profile: max_log_ahead: "),
        (("tpm_firmware",), [], "profile: tpm_firmware: "),
        (("tpm_firmware",), ["1"], "profile: tpm_firmware[0]: not 16 hex digits"),
    ],
)
def test_what_is_refused(path: tuple[Any, ...], value: Any, says: str) -> None:
    with pytest.raises(MalformedError) as caught:
        Profile.parse(changed(PROFILE, *path, value=value))
    assert says in str(caught.value)


def test_size_is_bounded() -> None:
    with pytest.raises(MalformedError, match="bytes long"):
        Profile.parse(encode(PROFILE) + b" " * MAX_PROFILE_SIZE)


def test_firmware_versions_are_numbers() -> None:
    profile = Profile.parse(changed(PROFILE, "tpm_firmware", value=["2018090500000001"]))
    assert profile.tpm_firmware == {0x2018090500000001}


def test_in_words() -> None:
    words = "\n".join(explain_profile(Profile.parse(encode(PROFILE))))
    assert "Level 2, gold, is reached when" in words
    assert "Secure Boot is on" in words
    assert "signed by at least 2 of" in words
    assert "what runs after the boot is ignored" in words


LEAVES = st.none() | st.booleans() | st.integers(-3, 30) | st.text(max_size=8) | st.just("ab" * 32)
JSON = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(sorted(PROFILE["levels"][1]["rules"])), JSON)
def test_any_json_is_a_profile_or_malformed(rule: str, value: Any) -> None:
    data = changed(PROFILE, *GOLD, rule, value=value)
    try:
        assert Profile.parse(data).levels
    except MalformedError:
        pass


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_a_profile_or_malformed(data: bytes) -> None:
    try:
        assert Profile.parse(data).levels
    except MalformedError:
        pass
