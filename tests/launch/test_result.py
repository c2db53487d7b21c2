"""Attestation results of decisions: the same words for every relying party, signed like the receipt."""

from __future__ import annotations

from pathlib import Path

import pytest

from watchword.errors import Rejected
from watchword.launch.receipt import launch_key
from watchword.launch.result import make_result
from watchword.policy import ear
from watchword.policy.trustworthiness import Claim, Tier
from watchword.testing.farm import have_swtpm
from watchword.testing.world import Token, World

pytestmark = pytest.mark.skipif(not have_swtpm(), reason="swtpm is not installed")


def result(world: World, token: Token) -> ear.Submodule:
    decision = world.decisions(token)[-1]
    signed = make_result(decision, "0.1.0", world.keys.signing_key)
    found = ear.verify(signed, world.keys.key_list.receipt_keys(), world.now)
    assert (found.issued, found.verifier.build) == (decision.time, "0.1.0")
    return found.submodules[ear.SUBMODULE]


def test_a_release_affirms(boots: Path) -> None:
    with World(boots) as world:
        token = world.token()
        world.host().obtain(token)
        found = result(world, token)
        assert found.status is Tier.AFFIRMING
        assert found.vector == {Claim.INSTANCE_IDENTITY: 2, Claim.CONFIGURATION: 2, Claim.EXECUTABLES: 2}
        about = found.extensions[ear.EXTENSION]
        assert (about["level"], about["stack"]["name"]) == ("full", "compute")
        assert about["launch"] == launch_key(token.body.launch_id).hex()
        assert found.policy_ids == (f"urn:watchword:profile:{world.profile.id.hex()}",)


def test_another_kernel_is_contraindicated(boots: Path) -> None:
    with World(boots) as world:
        token = world.token()
        with pytest.raises(Rejected):
            world.host("kernel").obtain(token)
        found = result(world, token)
        assert found.status is Tier.CONTRAINDICATED
        assert next(f["code"] for f in found.extensions[ear.EXTENSION]["findings"]) == "stack-none"


def test_a_token_that_is_used_up_says_nothing_about_the_host(boots: Path) -> None:
    with World(boots) as world:
        token, host = world.token(), world.host()
        host.obtain(token)
        with pytest.raises(Rejected, match="token-used-up"):
            host.obtain(token, "vm-2")
        found = result(world, token)
        assert (found.status, found.vector) == (Tier.NONE, {})


def test_a_refusal_before_appraisal(boots: Path) -> None:
    with World(boots) as world:
        token, host = world.token(), world.host()
        host.host_id = b"x" * 32
        with pytest.raises(Rejected, match="host-unknown"):
            host.obtain(token)
        found = result(world, token)
        assert found.status is Tier.CONTRAINDICATED
        assert b"x" * 32 not in str(found).encode()
        assert (b"x" * 32).hex() not in str(found)
