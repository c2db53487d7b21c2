"""Clauses D5 and E1 to E5, on recorded boots: each test changes one thing, and only its own check can see it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import pytest

from watchword.errors import Rejected
from watchword.policy.appraise import Appraisal, Approved, appraise
from watchword.policy.profile import Profile
from watchword.policy.release import StackRelease
from watchword.policy.stack import CompiledStack
from watchword.testing.documents import encode
from watchword.verify.ek import EkClass
from watchword.verify.host import VerifiedHost
from watchword.wire.tpm.algorithms import Alg
from watchword.wire.tpm.pcr import PcrSelection

NOW = 1_800_000_000
KEYS = ("11" * 32, "22" * 32, "33" * 32)
QUOTED = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]
COVERED = [0, 2, 3, 4, 7, 8, 9, 11, 12]

Host = Callable[..., VerifiedHost]
Stack = Callable[..., dict[str, Any]]


def profile(*, second: dict[str, Any] | None = None, bank: str = "sha256", **rules: Any) -> Profile:
    """One level "base" with ``rules`` added to strict ones, and perhaps a second level "high"."""
    base = {"identity": ["virtual"], "covers": [4, 9], "stacks": ["compute"], "runtime": "listed", **rules}
    base = {key: value for key, value in base.items() if value is not ...}
    levels = [{"name": "base", "rules": base}]
    if second is not None:
        levels.append({"name": "high", "rules": {**base, **second}})
    document = {
        "format": "watchword-profile/1",
        "name": "p",
        "bank": bank,
        "pcrs": QUOTED,
        "levels": levels,
    }
    return Profile.parse(encode(document))


def release(
    document: dict[str, Any], *endorsers: str, state: Any = "active", retire_at: int | None = None
) -> StackRelease:
    stack = CompiledStack.parse(encode(document))
    return StackRelease(stack, stack.digest, frozenset(endorsers), state, retire_at)


def judge(host: VerifiedHost, wanted: Profile, *releases: StackRelease, now: int = NOW, age: int = 5) -> Appraisal:
    return appraise(host, wanted, releases, now, challenged_at=now - age)


def refused(appraisal: Appraisal, clause: str, code: str) -> None:
    """Exactly this one reason, at the lowest level, and nothing to seal with."""
    assert (appraisal.level, appraisal.rank) == (None, 0)
    with pytest.raises(Rejected) as caught:
        appraisal.approve(1)
    reasons = {(f.clause, f.code) for f in caught.value.findings} - {("E5", "profile-level")}
    assert reasons == {(clause, code)}


# The good case


def test_a_good_host_is_approved(host: Host, stack: Stack) -> None:
    good, wanted, known = host("good"), profile(), release(stack("good"))
    approved = judge(good, wanted, known).approve(1)
    assert approved.host is good
    assert (approved.level, approved.rank) == ("base", 1)
    assert approved.profile_id == wanted.id
    assert (approved.stack_name, approved.stack_version) == ("compute", "good")
    assert approved.stack_digest == known.stack.digest
    assert approved.selections == (PcrSelection(Alg.SHA256, tuple(pcr for pcr in QUOTED if pcr != 10)),)


def test_another_boot_of_the_same_image_is_approved(host: Host, stack: Stack) -> None:
    assert judge(host("good-again"), profile(), release(stack("good"))).rank == 1


def test_nobody_else_makes_an_approval(host: Host, stack: Stack) -> None:
    appraisal = judge(host("good"), profile(), release(stack("good")))
    approved = appraisal.approve(1)
    made = {field.name: getattr(appraisal, field.name) for field in fields(Appraisal)}
    with pytest.raises(TypeError, match="appraise"):
        Appraisal(_proof=object(), **{**made, "rank": 9})
    with pytest.raises(TypeError, match="approve"):
        Approved(object(), approved.host, bytes(32), "base", 1, "compute", "1", bytes(32), approved.selections)
    with pytest.raises((TypeError, ValueError)):
        replace(approved, rank=9)
    with pytest.raises((TypeError, ValueError)):
        replace(appraisal, rank=9, level="high")


# E1: an empty profile rejects


def test_no_stack_on_file_means_no(host: Host) -> None:
    refused(judge(host("good"), profile()), "E2", "stack-none")


# E2: whole stacks


@pytest.mark.parametrize("boot", ["kernel", "initrd", "cmdline", "release-2", "secure-boot-off"])
def test_another_boot_matches_no_stack(host: Host, stack: Stack, boot: str) -> None:
    refused(judge(host(boot), profile(), release(stack("good"))), "E2", "stack-none")


@pytest.mark.parametrize("boot", ["kernel", "initrd"])
def test_mixed_stack_of_two_good_halves(host: Host, stack: Stack, boot: str) -> None:
    both = (release(stack("good")), release(stack("release-2")))
    refused(judge(host(boot), profile(), *both), "E2", "stack-none")
    assert judge(host("good"), profile(), *both).rank == 1
    assert judge(host("release-2"), profile(), *both).rank == 1


def test_mixed_halves_as_variants_of_one_stack(host: Host, stack: Stack) -> None:
    document, other = stack("good"), stack("release-2")
    for component, more in zip(document["components"], other["components"], strict=True):
        if component["variants"][0]["events"] != more["variants"][0]["events"]:
            component["variants"].append({**more["variants"][0], "name": "second"})
    document["runtime"]["files"].update(other["runtime"]["files"])
    refused(judge(host("kernel"), profile(runtime="ignored"), release(document)), "E2", "stack-none")
    assert judge(host("good"), profile(runtime="ignored"), release(document)).rank == 1
    assert judge(host("release-2"), profile(runtime="ignored"), release(document)).rank == 1


def test_the_nearest_stack_is_named(host: Host, stack: Stack) -> None:
    other = copy.deepcopy(stack("secure-boot-on"))
    appraisal = judge(host("cmdline"), profile(), release(other), release(stack("good")))
    assert appraisal.nearest == "compute good"
    finding = appraisal.findings[0]
    assert finding.code == "stack-none"
    assert "pcr " in finding.subject
    assert finding.expected != finding.actual


def test_a_stack_that_the_level_does_not_name(host: Host, stack: Stack) -> None:
    refused(judge(host("good"), profile(stacks=["storage"]), release(stack("good"))), "E2", "stack-none")


def test_a_stack_that_covers_too_little(host: Host, stack: Stack) -> None:
    document = stack("good")
    document["pcrs"] = [0, 2, 3, 4, 7, 8, 11, 12]
    for component in document["components"]:
        for variant in component["variants"]:
            variant["events"] = [e for e in variant["events"] if e["pcr"] != 9]
    refused(judge(host("good"), profile(), release(document)), "E2", "coverage")


# E3: valid, endorsed, not rolled back, not revoked


@pytest.mark.parametrize(
    ("window", "good"),
    [
        ({"not_before": NOW}, True),
        ({"not_before": NOW + 1}, False),
        ({"not_after": NOW + 1}, True),
        ({"not_after": NOW}, False),
    ],
)
def test_validity_window(host: Host, stack: Stack, window: dict[str, int], good: bool) -> None:
    appraisal = judge(host("good"), profile(), release({**stack("good"), **window}))
    if good:
        assert appraisal.rank == 1
    else:
        refused(appraisal, "E3", "stack-expired")


def test_retirement(host: Host, stack: Stack) -> None:
    later, gone = (release(stack("good"), state="retiring", retire_at=NOW + more) for more in (1, 0))
    assert judge(host("good"), profile(), later).rank == 1
    refused(judge(host("good"), profile(), gone), "E3", "stack-expired")


def test_old_stack_after_revocation(host: Host, stack: Stack) -> None:
    refused(judge(host("good"), profile(), release(stack("good"), state="revoked")), "E3", "stack-revoked")


def test_rollback(host: Host, stack: Stack) -> None:
    known = release({**stack("good"), "serial": 6})
    assert judge(host("good"), profile(min_serial={"compute": 6, "other": 9}), known).rank == 1
    refused(judge(host("good"), profile(min_serial={"compute": 7}), known), "E3", "stack-rolled-back")


def test_endorsers(host: Host, stack: Stack) -> None:
    wanted = profile(stacks=..., endorsers={"keys": KEYS[:2], "threshold": 2})
    good = host("good")
    assert judge(good, wanted, release(stack("good"), *KEYS)).rank == 1
    refused(judge(good, wanted, release(stack("good"), KEYS[0], KEYS[2])), "E3", "stack-endorsers")
    refused(judge(good, wanted, release(stack("good"))), "E3", "stack-endorsers")


def test_an_active_release_counts_beside_a_revoked_one_of_the_same_boot(host: Host, stack: Stack) -> None:
    old = release({**stack("good"), "serial": 1}, state="revoked")
    new = release({**stack("good"), "serial": 2, "version": "fixed"})
    for order in ((old, new), (new, old)):
        assert judge(host("good"), profile(), *order).approve(1).stack_version == "fixed"


def test_the_newest_of_equals_counts(host: Host, stack: Stack) -> None:
    one, two = (release({**stack("good"), "serial": n, "version": str(n)}) for n in (1, 2))
    for order in ((one, two), (two, one)):
        assert judge(host("good"), profile(), *order).approve(1).stack_version == "2"


# E4: age


@pytest.mark.parametrize(("age", "good"), [(0, True), (120, True), (121, False), (-1, False)])
def test_age_of_evidence(host: Host, stack: Stack, age: int, good: bool) -> None:
    appraisal = judge(host("good"), profile(max_age_seconds=120), release(stack("good")), age=age)
    if good:
        assert appraisal.rank == 1
    else:
        refused(appraisal, "E4", "evidence-age")


# E5: identity, Secure Boot, levels


def test_emulated_tpm_where_hardware_is_asked_for(host: Host, stack: Stack) -> None:
    wanted = profile(identity=["hardware", "firmware"])
    refused(judge(host("good"), wanted, release(stack("good"))), "E5", "identity-class")
    assert judge(host("good", ek_class=EkClass.HARDWARE), wanted, release(stack("good"))).rank == 1


@pytest.mark.parametrize(
    ("boot", "rule", "good"),
    [
        ("secure-boot-on", True, True),
        ("secure-boot-on", False, False),
        ("secure-boot-off", False, True),
        ("secure-boot-off", True, False),
    ],
)
def test_secure_boot(host: Host, stack: Stack, boot: str, rule: bool, good: bool) -> None:
    appraisal = judge(host(boot), profile(secure_boot=rule), release(stack(boot)))
    if good:
        assert appraisal.rank == 1
    else:
        refused(appraisal, "E5", "secure-boot")


def test_tpm_firmware(host: Host, stack: Stack) -> None:
    good = host("good")
    version = good.pcrs.firmware_version
    assert judge(good, replace(profile(), tpm_firmware=frozenset({version})), release(stack("good"))).rank == 1
    other = replace(profile(), tpm_firmware=frozenset({version + 1}))
    refused(judge(good, other, release(stack("good"))), "B10", "quote-firmware")


def test_the_highest_level_that_holds(host: Host, stack: Stack) -> None:
    known = release(stack("good"))
    above = profile(second={"identity": ["hardware"]})
    assert judge(host("good"), above, known).level == "base"
    assert judge(host("good", ek_class=EkClass.HARDWARE), profile(second={}, identity=["hardware"]), known).rank == 2


def test_a_level_stands_by_itself(host: Host, stack: Stack) -> None:
    wanted = profile(identity=["hardware"], second={"identity": ["virtual"]})
    appraisal = judge(host("good"), wanted, release(stack("good")))
    assert (appraisal.level, appraisal.rank) == ("high", 2)
    assert appraisal.approve(1).level == "high"


def test_a_level_that_was_not_reached(host: Host, stack: Stack) -> None:
    wanted = profile(second={"identity": ["hardware"], "stacks": ["storage"]})
    appraisal = judge(host("good"), wanted, release(stack("good")))
    with pytest.raises(Rejected) as caught:
        appraisal.approve(2)
    assert [f.code for f in caught.value.findings] == ["identity-class", "stack-none", "profile-level"]
    assert caught.value.findings[-1].actual == "base (rank 1)"


@pytest.mark.parametrize("rank", [-1, 0, 2, 255])
def test_a_rank_that_the_profile_does_not_have(host: Host, stack: Stack, rank: int) -> None:
    appraisal = judge(host("good"), profile(), release(stack("good")))
    with pytest.raises(Rejected) as caught:
        appraisal.approve(rank)
    assert caught.value.code == "profile-level"


def test_policy_collects_every_finding(host: Host, stack: Stack) -> None:
    wanted = profile(identity=["hardware"], min_serial={"compute": 99}, max_age_seconds=1)
    known = release({**stack("good"), "not_after": NOW}, state="revoked")
    codes = {f.code for f in judge(host("good"), wanted, known).findings if f.fatal}
    assert codes == {"identity-class", "stack-expired", "stack-revoked", "stack-rolled-back", "evidence-age"}


def test_a_host_verified_for_another_profile(host: Host, stack: Stack) -> None:
    with pytest.raises(Rejected) as caught:
        judge(host("good"), replace(profile(), pcrs=(*profile().pcrs, 17)), release(stack("good")))
    assert caught.value.code == "profile-level"
    with pytest.raises(Rejected):
        judge(host("good"), replace(profile(), bank=Alg.SHA384), release(stack("good")))
    fewer = replace(profile(), pcrs=profile().pcrs[:-1])
    assert (
        judge(host("good"), fewer, release(stack("good"))).rank
        == judge(host("good"), profile(), release(stack("good"))).rank
    )


# D5: the runtime log


def test_an_altered_binary(host: Host, stack: Stack) -> None:
    appraisal = judge(host("altered-binary"), profile(), release(stack("good")))
    refused(appraisal, "D5", "runtime-file")
    finding = next(f for f in appraisal.findings if f.code == "runtime-file")
    assert finding.subject.startswith("file /")
    assert finding.expected.startswith("sha256:")
    assert judge(host("altered-binary"), profile(runtime="ignored"), release(stack("good"))).rank == 1


def test_a_file_that_is_not_listed(host: Host, stack: Stack) -> None:
    document = stack("good")
    path = next(iter(document["runtime"]["files"]))
    digests = document["runtime"]["files"].pop(path)
    appraisal = judge(host("good"), profile(), release(document))
    refused(appraisal, "D5", "runtime-file")
    assert appraisal.findings[0].subject == f"file {path}"
    document["runtime"]["files"][path + "x"] = digests  # the same content elsewhere does not help
    refused(judge(host("good"), profile(), release(document)), "D5", "runtime-file")
    document["runtime"]["any_path"] = digests
    assert judge(host("good"), profile(), release(document)).rank == 1


def test_a_stack_without_files(host: Host, stack: Stack) -> None:
    document = stack("good")
    del document["runtime"]
    refused(judge(host("good"), profile(), release(document)), "D5", "runtime-file")


def test_a_violation(host: Host, stack: Stack) -> None:
    known = release(stack("violation"))
    refused(judge(host("violation"), profile(), known), "D5", "runtime-violation")
    assert judge(host("violation"), profile(reject_violations=False), known).rank == 1


def test_a_runtime_log_that_is_only_as_strong_as_sha1(host: Host, stack: Stack) -> None:
    """The recorded kernel extends padded SHA-1 digests into this bank, so the listing would prove too little."""
    weak, known = host("good", bank="sha384"), release(stack("good"))
    refused(judge(weak, profile(bank="sha384"), known), "D3", "runtime-log-padded")
    assert judge(weak, profile(bank="sha384", runtime="ignored"), known).rank == 1


def test_findings_are_bounded(host: Host, stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("watchword.policy.runtime._MAX_FILE_FINDINGS", 2)
    document = stack("good")
    count = len(document["runtime"]["files"])
    document["runtime"]["files"] = {"/none": ["sha256:" + "00" * 32]}
    found = [f for f in judge(host("good"), profile(), release(document)).findings if f.code == "runtime-file"]
    assert len(found) == 3
    assert found[-1].message == f"and {count - 2} more files"
