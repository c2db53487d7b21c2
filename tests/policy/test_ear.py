"""Attestation results: from findings to claims, and back through a strict reader."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from watchword.crypto import dsse, jwt
from watchword.errors import Finding, MalformedError, Rejected
from watchword.policy import ear
from watchword.policy.appraise import Appraisal, appraise
from watchword.policy.ear_claims import OLDER_PROFILE, PROFILE, Ear, Submodule, VerifierId
from watchword.policy.profile import Profile
from watchword.policy.release import StackRelease
from watchword.policy.stack import CompiledStack
from watchword.policy.trustworthiness import MAPPING, Claim, Tier, contradicted, entry_for, tier_of, worst_tier
from watchword.testing.documents import encode
from watchword.verify.ek import EkClass
from watchword.verify.host import VerifiedHost

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "ear.md"
NOW = 1_800_000_000
ME = VerifierId("https://watchword.example", "watchword 0.1.0")
KEY = Ed25519PrivateKey.generate()
TRUSTED = {dsse.key_id(KEY.public_key()): KEY.public_key()}

Host = Callable[..., VerifiedHost]
Stack = Callable[..., dict[str, Any]]


def judged(host: VerifiedHost, document: dict[str, Any], *, state: Any = "active", **high: Any) -> Appraisal:
    """An appraisal by a profile with the levels "low" (ignores files) and "high" (with more rules)."""
    low = {"identity": ["virtual", "hardware"], "covers": [4, 9], "stacks": ["compute"], "runtime": "ignored"}
    levels = [{"name": "low", "rules": low}, {"name": "high", "rules": {**low, "runtime": "listed", **high}}]
    profile = {
        "format": "watchword-profile/1",
        "name": "p",
        "bank": "sha256",
        "pcrs": list(range(13)),
        "levels": levels,
    }
    stack = CompiledStack.parse(encode(document))
    release = StackRelease(stack, stack.digest, frozenset(), state)
    return appraise(host, Profile.parse(encode(profile)), [release], NOW, challenged_at=NOW)


def result(outcome: Any, **options: Any) -> Submodule:
    return Ear.parse(ear.from_appraisal(outcome, ME, NOW, **options)).submodules["host"]


def claims(**changes: Any) -> bytes:
    """A small good result with ``changes`` at its top; ... removes a claim."""
    document = {
        "eat_profile": PROFILE,
        "iat": NOW,
        "ear_verifier_id": {"developer": "d", "build": "b"},
        "submods": {"host": {"ear_status": "affirming", "ear_trustworthiness_vector": {"executables": 2}}},
        **changes,
    }
    return encode({name: value for name, value in document.items() if value is not ...})


def module(**changes: Any) -> bytes:
    """The same with changes inside its one submodule."""
    value = {"ear_status": "affirming", "ear_trustworthiness_vector": {"executables": 2}, **changes}
    return claims(submods={"host": {name: item for name, item in value.items() if item is not ...}})


# From an appraisal


def test_a_good_host_is_affirmed(host: Host, stack: Stack) -> None:
    appraisal = judged(host("good"), stack("good"))
    found = result(appraisal)
    assert found.status is Tier.AFFIRMING
    assert found.vector == {Claim.INSTANCE_IDENTITY: 2, Claim.CONFIGURATION: 2, Claim.EXECUTABLES: 2}
    assert found.policy_ids == ("urn:watchword:profile:" + appraisal.profile.id.hex(),)
    assert found.extensions[ear.EXTENSION]["level"] == "high"
    assert found.extensions[ear.EXTENSION]["findings"] == []


def test_hardware_is_affirmed_for_hardware_only(host: Host, stack: Stack) -> None:
    found = result(judged(host("good", EkClass.HARDWARE), stack("good")))
    assert found.vector[Claim.HARDWARE] == 2
    assert worst_tier(found.vector) is Tier.AFFIRMING


def test_a_level_that_ignores_files_affirms_the_boot_only(host: Host, stack: Stack) -> None:
    appraisal = judged(host("altered-binary"), stack("good"))
    found = result(appraisal)
    assert (appraisal.level, found.status) == ("low", Tier.AFFIRMING)
    assert found.vector[Claim.EXECUTABLES] == 3


def test_configuration_is_affirmed_when_the_stack_speaks_of_it(host: Host, stack: Stack) -> None:
    document = stack("good")
    document["pcrs"].remove(7)
    for component in document["components"]:
        for variant in component["variants"]:
            variant["events"] = [event for event in variant["events"] if event["pcr"] != 7]
    assert Claim.CONFIGURATION not in result(judged(host("good"), document)).vector


def test_a_level_that_was_not_reached_is_contraindicated(host: Host, stack: Stack) -> None:
    found = result(judged(host("altered-binary"), stack("good")), required=2)
    assert found.status is Tier.CONTRAINDICATED
    assert found.vector == {Claim.INSTANCE_IDENTITY: 2, Claim.CONFIGURATION: 2, Claim.EXECUTABLES: 33}
    assert {f["code"] for f in found.extensions[ear.EXTENSION]["findings"]} == {"runtime-file"}


@pytest.mark.parametrize("rank", [0, -1, 3, 99])
def test_a_level_that_does_not_exist_is_never_reached(host: Host, stack: Stack, rank: int) -> None:
    assert result(judged(host("good"), stack("good")), required=rank).status is Tier.CONTRAINDICATED


def test_an_unknown_boot_is_contraindicated(host: Host, stack: Stack) -> None:
    found = result(judged(host("kernel"), stack("good")))
    assert found.status is Tier.CONTRAINDICATED
    assert found.vector == {Claim.INSTANCE_IDENTITY: 2, Claim.EXECUTABLES: 33}
    assert found.extensions[ear.EXTENSION]["stack"] is None


def test_a_revoked_stack_is_contraindicated(host: Host, stack: Stack) -> None:
    found = result(judged(host("good"), stack("good"), state="revoked"))
    assert (found.status, found.vector[Claim.EXECUTABLES]) == (Tier.CONTRAINDICATED, 96)


# From a refusal that never got to an appraisal


@pytest.mark.parametrize(
    ("clause", "code", "claim", "value"),
    [
        ("A1", "ek-chain", Claim.INSTANCE_IDENTITY, 97),
        ("A4", "ak-proof", Claim.INSTANCE_IDENTITY, 99),
        ("A5", "host-revoked", Claim.INSTANCE_IDENTITY, 96),
        ("B4", "quote-signature", Claim.INSTANCE_IDENTITY, 99),
        ("B10", "quote-firmware", Claim.HARDWARE, 96),
        ("C2", "boot-log-replay", Claim.EXECUTABLES, 99),
        ("D2", "runtime-log-digest", Claim.EXECUTABLES, 99),
    ],
)
def test_a_refusal_of_evidence_is_contraindicated(clause: str, code: str, claim: Claim, value: int) -> None:
    found = result([Finding(clause, code, "text", "wanted", "serial 42")], profile_id=bytes(32))
    assert (found.status, found.vector) == (Tier.CONTRAINDICATED, {claim: value})
    assert found.policy_ids == ("urn:watchword:profile:" + "00" * 32,)
    (listed,) = found.extensions[ear.EXTENSION]["findings"]
    # Values about an identity would name the host.
    values = ("", "") if clause.startswith("A") else ("wanted", "serial 42")
    assert (listed["code"], listed["expected"], listed["actual"]) == (code, *values)


def test_a_refusal_of_the_token_says_nothing_about_the_host() -> None:
    found = result([Finding("F4", "token-used-up", "text")])
    assert (found.status, found.vector) == (Tier.NONE, {})


def test_a_refusal_has_a_reason() -> None:
    for nothing in ((), (Finding("C1", "boot-log-padding", "text", fatal=False),)):
        with pytest.raises(ValueError, match="finding"):
            ear.from_appraisal(nothing, ME, NOW)


def test_the_worst_finding_counts_and_notes_do_not() -> None:
    boot, file = Finding("C2", "boot-log-replay", ""), Finding("D5", "runtime-file", "")
    note = Finding("C6", "x", "", fatal=False)
    assert contradicted([file, boot, note]) == contradicted([boot, file]) == {Claim.EXECUTABLES: 99}


# The table


def documented() -> dict[str, tuple[str, str]]:
    rows = re.findall(r"^\| `([A-Za-z0-9-]+)` \| ([a-z–-]+) \| ([0-9–-]+) \| ", PAGE.read_text(), re.MULTILINE)
    assert len(rows) == len({name for name, _, _ in rows})
    return {name: (claim, value) for name, claim, value in rows if claim != "2"}


def test_the_documented_table_is_the_code() -> None:
    shown = {key: ("–", "–") if entry is None else (entry[0].value, str(entry[1])) for key, entry in MAPPING.items()}
    affirmed = {claim.value for claim in Claim}
    assert {key: row for key, row in documented().items() if key not in affirmed} == shown


def test_no_finding_about_a_host_is_mapped_to_trust() -> None:
    for entry in MAPPING.values():
        assert entry is None or tier_of(entry[1]) is not Tier.AFFIRMING
    assert all(entry_for(Finding(letter + "9", "new-code", "")) is not None for letter in "ABCDE")


@pytest.mark.parametrize(
    ("values", "tier"),
    [
        ((-1, 0, 1), Tier.NONE),
        ((2, 31, -2, -32), Tier.AFFIRMING),
        ((32, 95, -33, -96), Tier.WARNING),
        ((96, 127, -97, -128), Tier.CONTRAINDICATED),
    ],
)
def test_tiers(values: tuple[int, ...], tier: Tier) -> None:
    assert {tier_of(value) for value in values} == {tier}


def test_a_value_has_one_byte() -> None:
    for value in (-129, 128):
        with pytest.raises(ValueError, match="trustworthiness"):
            tier_of(value)


# Signed


def test_a_signed_result_is_verified() -> None:
    token = ear.sign(ear.from_appraisal([Finding("A1", "ek-chain", "")], ME, NOW, expires=NOW + 60, nonce="n" * 8), KEY)
    found = ear.verify(token, TRUSTED, NOW)
    assert (found.issued, found.expires, found.nonces, found.verifier) == (NOW, NOW + 60, ("n" * 8,), ME)
    with pytest.raises(Rejected, match="ear-expired"):
        ear.verify(token, TRUSTED, NOW + 60)
    assert ear.verify(token, TRUSTED, NOW - 60) == found
    with pytest.raises(Rejected, match="ear-future"):
        ear.verify(token, TRUSTED, NOW - 61)
    with pytest.raises(Rejected, match="jwt-key"):
        ear.verify(token, {}, NOW)


def test_a_signature_over_something_else_is_not_a_result() -> None:
    with pytest.raises(MalformedError):
        ear.verify(jwt.sign(b'{"iat": 1}', KEY), TRUSTED, NOW)


# The reader


def test_reading_and_writing_agree() -> None:
    parsed = Ear.parse(claims(ear_raw_evidence="3q2-7w", eat_nonce=["a" * 8, "b" * 88], exp=NOW, x={"y": [1]}))
    assert parsed.raw_evidence == bytes.fromhex("deadbeef")
    assert parsed.extensions == {"x": {"y": [1]}}
    assert Ear.parse(parsed.encode()) == parsed


def test_an_extension_cannot_take_the_place_of_a_claim() -> None:
    sneaky = Submodule(Tier.NONE, {}, extensions={"ear_status": "affirming"})
    written = Ear(NOW, ME, {"host": sneaky}, extensions={"iat": 1}).encode()
    assert Ear.parse(written).submodules["host"].status is Tier.NONE
    assert Ear.parse(written).issued == NOW


def test_older_names_mean_the_same() -> None:
    older = {
        "eat_profile": OLDER_PROFILE,
        "iat": NOW,
        "ear.verifier-id": {"developer": "d", "build": "b"},
        "submods": {
            "host": {
                "ear.status": "warning",
                "ear.trustworthiness-vector": {"hardware": 32},
                "ear.appraisal-policy-id": "p",
            }
        },
    }
    found = Ear.parse(encode(older)).submodules["host"]
    assert found == Submodule(Tier.WARNING, {Claim.HARDWARE: 32}, ("p",))


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"[]",
        b"{}",
        b'{"iat":1,"iat":2}',
        claims(eat_profile="tag:example.org,2026:other"),
        claims(eat_profile=...),
        claims(iat=...),
        claims(iat=-1),
        claims(iat=1.5),
        claims(iat=True),
        claims(iat=str(NOW)),
        claims(exp="soon"),
        claims(ear_verifier_id={"developer": "d"}),
        claims(ear_verifier_id={"developer": "d", "build": "b", "more": 1}),
        claims(submods=...),
        claims(submods={}),
        claims(submods={"host": 1}),
        claims(submods={str(i): {"ear_status": "none"} for i in range(65)}),
        claims(ear_status="good"),
        claims(ear_raw_evidence="3q2+7w"),
        claims(eat_nonce="short"),
        claims(eat_nonce=[]),
        claims(**{"ear.verifier-id": {"developer": "d", "build": "b"}}),
        module(ear_status=...),
        module(ear_status="Affirming"),
        module(ear_status=2),
        module(ear_trustworthiness_vector={}),
        module(ear_trustworthiness_vector={"executables": 128}),
        module(ear_trustworthiness_vector={"executables": -129}),
        module(ear_trustworthiness_vector={"executables": "2"}),
        module(ear_trustworthiness_vector={"executables": True}),
        module(ear_trustworthiness_vector={"integrity": 2}),
        module(ear_trustworthiness_vector={"executables": 32}),
        module(ear_trustworthiness_vector={"executables": -128}),
        module(ear_status="warning", ear_trustworthiness_vector={"executables": 2, "hardware": 96}),
        module(ear_appraisal_policy_ids=[]),
        module(ear_appraisal_policy_ids="p"),
        module(ear_appraisal_policy_ids=["p"], **{"ear.appraisal-policy-id": "p"}),
        module(**{"ear.status": "none"}),
        module(ear_veraison_key_attestation={}),
        module(ear_veraison_key_attestation=["akpub"]),
        module(ear_veraison_key_attestation={"akpub": 7}),
    ],
)
def test_what_is_not_a_result(payload: bytes) -> None:
    with pytest.raises(MalformedError):
        Ear.parse(payload)


def test_less_trust_than_the_vector_is_allowed() -> None:
    for status in ("none", "warning", "contraindicated"):
        assert Ear.parse(module(ear_status=status)).submodules["host"].status == status


def test_the_size_is_bounded() -> None:
    with pytest.raises(MalformedError, match="allowed"):
        Ear.parse(claims(x="x" * (256 * 1024)))


def test_the_example_in_the_reference_is_one() -> None:
    found = re.search(r"```json\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert found is not None
    shown = Ear.parse(found[1].encode()).submodules["host"].extensions[ear.EXTENSION]
    made = result([Finding("A1", "x", "")]).extensions[ear.EXTENSION]
    assert set(shown) == set(made)
    assert set(shown["findings"][0]) == set(made["findings"][0])


def test_many_long_findings_are_cut() -> None:
    listed = result([Finding("D5", "runtime-file", "m" * 999, "", "a" * 999)] * 60).extensions[ear.EXTENSION][
        "findings"
    ]
    assert len(listed) == 50
    assert {len(each["message"]) for each in listed} == {len(each["actual"]) for each in listed} == {400}


@settings(max_examples=100)
@given(st.integers(0, 400), st.binary(max_size=3))
def test_altered_claims_give_a_result_or_malformed(at: int, change: bytes) -> None:
    good = claims(ear_raw_evidence="3q2-7w", eat_nonce="a" * 8)
    try:
        Ear.parse(good[:at] + change + good[at + len(change) :])
    except MalformedError:
        pass


def test_nesting_is_bounded() -> None:
    deep: Any = 1
    for _ in range(40):
        deep = [deep]
    with pytest.raises(MalformedError, match="nested"):
        Ear.parse(claims(x=deep))
    with pytest.raises(MalformedError, match="nested"):
        Ear.parse(claims(x=1)[:-1] + b', "y": ' + b"[" * 100_000)
