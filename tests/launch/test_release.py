"""Sealing: only for an approved host, only what the token grants, only for one boot and a while."""

from __future__ import annotations

from dataclasses import replace

import pytest

from watchword.crypto.envelope import open_payload
from watchword.crypto.tpm_seal import boot_policy
from watchword.errors import MalformedError, Rejected
from watchword.launch import release
from watchword.launch.machine import Launch
from watchword.policy.appraise import Approved, appraise
from watchword.wire.tpm.algorithms import Alg
from watchword.wire.tpm.pcr import pcr_digest
from watchword.wire.tpm.public import Attributes, Public

from .helpers import DATA_KEY, MAC_KEY, NOW, Case

CONTEXT = b"c" * 32


def approved(case: Case, rank: int = 2) -> Approved:
    launch: Launch = case.launch()
    launch.open_token(case.keys)
    launch.accept_nonce(MAC_KEY)
    launch.appraise(case.known())
    assert launch.host is not None
    return appraise(launch.host, case.profile, case.releases, NOW, challenged_at=NOW).approve(rank)


def test_a_release(case: Case) -> None:
    host = approved(case)
    sealed = release.seal(host, case.body, context=CONTEXT, data_key=DATA_KEY, lease=7)
    clock = host.host.pcrs.clock_info
    assert (sealed.reset_count, sealed.clock_limit) == (clock.reset_count, clock.clock + 7000)
    assert sealed.selections == case.profile.boot_selections()
    assert 10 not in sealed.selections[0].pcrs
    values = pcr_digest(Alg.SHA256, sealed.selections, host.host.pcrs.values)
    public = Public.parse_2b(sealed.public)
    assert public.auth_policy == boot_policy(sealed.selections, values, clock.reset_count, clock.clock + 7000)
    assert not public.attributes & Attributes.USER_WITH_AUTH  # the policy is the only way in
    opened = open_payload(DATA_KEY, sealed.payload, CONTEXT)
    assert (opened.secret, opened.launch_id) == (case.body.secret, case.body.launch_id)
    assert opened.inputs == case.body.inputs


def test_a_payload_fits_one_request(case: Case) -> None:
    sealed = release.seal(approved(case), case.body, context=CONTEXT, data_key=DATA_KEY)
    with pytest.raises(MalformedError):
        open_payload(DATA_KEY, sealed.payload, b"d" * 32)


def test_nothing_but_an_approved_host_can_be_sealed_to(case: Case) -> None:
    good = approved(case)
    names = ("host", "profile_id", "level", "rank", "stack_name", "stack_version", "stack_digest", "selections")
    fields = {name: getattr(good, name) for name in names}
    for proof in (None, object(), True):
        with pytest.raises(TypeError):
            Approved(_proof=proof, **fields)
    with pytest.raises(TypeError):
        replace(good, _proof=object(), rank=9)


def test_a_token_for_another_profile_or_a_higher_level(case: Case) -> None:
    for host, grant in (
        (approved(case), replace(case.body, profile=bytes(32))),
        (approved(case), replace(case.body, level=3)),
    ):
        with pytest.raises(Rejected) as caught:
            release.seal(host, grant, context=CONTEXT, data_key=DATA_KEY)
        assert (caught.value.clause, caught.value.code) == ("F2", "token-profile")


@pytest.mark.parametrize("now", [NOW + 600, NOW + 601])
def test_an_expired_grant(case: Case, now: int) -> None:
    release.check_grant(case.body, NOW + 599)
    with pytest.raises(Rejected) as caught:
        release.check_grant(case.body, now)
    assert (caught.value.clause, caught.value.code) == ("F3", "token-expired")
