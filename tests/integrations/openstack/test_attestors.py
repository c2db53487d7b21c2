"""A host with several authorities: it shows its state to each, and enough of them must find it good at a start."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integrations.openstack.test_shares import compute_host, name_authorities

from watchword.agent import config
from watchword.errors import Rejected, Unavailable, UsageError
from watchword.integrations.openstack import attestor
from watchword.integrations.openstack.attestor import Attestors
from watchword.integrations.openstack.opener import Opener
from watchword.integrations.openstack.settings import StatusSettings, load_sections
from watchword.testing.circle import Circle
from watchword.testing.compute import ComputeHost
from watchword.testing.farm import have_swtpm


@pytest.fixture
def circle(boots: Path) -> Iterator[Circle]:
    if not have_swtpm() or shutil.which("virsh") is None:
        pytest.skip("swtpm and virsh are needed")
    with Circle(boots, relayed=True) as found:
        for world in found.worlds:
            world.watch()
        yield found


@pytest.fixture
def compute(circle: Circle, tmp_path: Path) -> ComputeHost:
    return compute_host(circle, tmp_path)


def attestors(compute: ComputeHost, needed: int = 0, count: int = 3) -> Attestors:
    status = StatusSettings(rank=2, needed=needed, interval=86400)
    return Attestors(Opener(config.load(compute.config)), status, count)


def revoke(circle: Circle, compute: ComputeHost, *numbers: int) -> None:
    for number in numbers:
        with circle.worlds[number].store.transaction() as tx:
            tx.revoke_host(compute.host.host_id, "stolen", circle.worlds[number].now)


def attested(circle: Circle, compute: ComputeHost) -> list[bool]:
    """At which authorities the host has a state."""
    return [bool(world.store.host_file(compute.host.host_id).states) for world in circle.worlds]


def test_all_are_asked_and_all_must_agree(circle: Circle, compute: ComputeHost) -> None:
    attestors(compute).check(30)
    assert attested(circle, compute) == [True] * 3
    revoke(circle, compute, 1)
    with pytest.raises(Rejected) as caught:
        attestors(compute).check(30)
    assert caught.value.code == "host-revoked"
    attestors(compute, needed=2).check(30)


def test_as_many_must_agree_as_the_operator_says(circle: Circle, compute: ComputeHost) -> None:
    revoke(circle, compute, 0, 2)
    attestors(compute, needed=1).check(30)
    with pytest.raises(Rejected) as caught:
        attestors(compute, needed=2).check(30)
    assert caught.value.code == "host-revoked"


def test_one_that_cannot_be_asked_is_not_one_that_agrees(circle: Circle, compute: ComputeHost) -> None:
    name_authorities(compute, circle, 0)
    with pytest.raises(Unavailable):
        attestors(compute).check(30)
    attestors(compute, needed=2).check(30)
    revoke(circle, compute, 1)
    with pytest.raises(Rejected, match="revoked"):  # what one said is told before that another said nothing
        attestors(compute, needed=2).check(30)


def test_a_level_is_demanded_of_each_and_says_whose_it_is(circle: Circle, compute: ComputeHost, boots: Path) -> None:
    compute.host.machine.reboot(boots / "kernel")
    with pytest.raises(Rejected, match="level") as caught:
        attestors(compute).check(30)
    assert caught.value.code == "host-level"
    assert caught.value.findings[0].actual.startswith("one.test: failed")


def test_one_that_is_gone_does_not_keep_the_others_from_it(circle: Circle, compute: ComputeHost) -> None:
    name_authorities(compute, circle, 0)
    running = attestors(compute)
    running.start()
    try:
        end = time.monotonic() + 30
        while attested(circle, compute) != [False, True, True] and time.monotonic() < end:
            time.sleep(0.1)
        assert attested(circle, compute) == [False, True, True]
    finally:
        running.stop()


def test_more_than_there_are_cannot_be_needed(compute: ComputeHost) -> None:
    with pytest.raises(UsageError, match="needed is 4") as caught:
        attestors(compute, needed=4)
    assert caught.value.code == "config"


def test_the_number_is_a_setting(tmp_path: Path) -> None:
    path = tmp_path / "agent.toml"
    path.write_text("[status]\nneeded = 2\n")
    assert load_sections(path)[1].needed == 2


def test_every_attestation_but_the_first_is_one_request(
    circle: Circle, compute: ComputeHost, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attestor, "_FRESH", 0.0)
    caplog.set_level("DEBUG", logger="watchword.authority")
    asked = attestors(compute, count=1)
    for _ in range(3):
        asked.check(30)
    events = [record.msg["event"] for record in caplog.records if isinstance(record.msg, dict)]
    assert events.count("attestation") == 3
    assert events.count("challenge") == 1
