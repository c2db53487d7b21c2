"""A tenant watches the host under its machine, over TLS, with the command it types."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from watchword.authority.app import Services
from watchword.cli.main import run
from watchword.errors import Rejected
from watchword.launch.attest import LEASE
from watchword.tenant import launches, trust
from watchword.tenant.launches import LaunchRecord
from watchword.testing.farm import have_swtpm
from watchword.testing.world import TestHost, World

from .conftest import serving

Watch = Callable[[], tuple[int, dict[str, Any]]]


@pytest.fixture
def world(boots: Path) -> Iterator[World]:
    if not have_swtpm():
        pytest.skip("swtpm is not installed: the hosts have real emulated TPMs")
    with World(boots, clock=int(time.time())) as made:
        made.keys = made.keys.with_names(["127.0.0.1"], made.now)
        made.watch()
        yield made


@pytest.fixture
def launched(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[TestHost, LaunchRecord]]:
    """A launch of the tenant's, released to a good host, and the authority pinned."""
    for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))
    with serving(Services(world.launches, world.store, lambda: world.keys, lambda: world.now), world.keys) as address:
        trust.add(address.url, world.keys.fingerprint, "auditor")
        host = world.host()
        token, record = launches.create(
            authority="auditor",
            keys=world.keys.key_list,
            profile=world.profile,
            rank=2,
            inputs={"disk": bytes(32)},
            now=world.now,
            lifetime=3600,
            releases=2,
            name="web1",
        )
        launches.save(record)
        host.obtain(token)
        yield host, record


@pytest.fixture
def watch(launched: tuple[TestHost, LaunchRecord], capsys: pytest.CaptureFixture[str]) -> Watch:
    def call() -> tuple[int, dict[str, Any]]:
        capsys.readouterr()
        status = run(["watch", "web1", "--json"])
        return status, json.loads(capsys.readouterr().out)

    return call


def test_a_tenant_watches(world: World, launched: tuple[TestHost, LaunchRecord], watch: Watch) -> None:
    host, _ = launched
    status, found = watch()
    assert (status, found["error"]["code"]) == (3, "host-silent")  # it never attested: not known is not good
    host.attest()
    status, found = watch()
    assert status == 0
    [shown] = found["hosts"]
    assert (shown["state"], shown["level"], shown["rebooted"]) == ("trusted", "full", False)
    assert host.host_id.hex() not in json.dumps(found)
    host.machine.run_file(b"/opt/odd", b"odd")
    host.attest()
    assert watch()[1]["error"]["code"] == "host-below-level"
    host.machine.reboot()
    host.attest()
    assert watch()[1]["error"]["code"] == "host-rebooted"


def test_a_host_that_falls_silent(
    world: World, launched: tuple[TestHost, LaunchRecord], watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    host, _ = launched
    host.attest()
    world.now += LEASE
    monkeypatch.setattr(time, "time", lambda: world.now)
    assert watch()[1]["error"]["code"] == "host-silent"


def test_a_revoked_host(world: World, launched: tuple[TestHost, LaunchRecord], watch: Watch) -> None:
    host, _ = launched
    host.attest()
    with world.store.transaction() as tx:
        tx.revoke_host(host.host_id, "sold", world.now)
    error = watch()[1]["error"]
    assert error["code"] == "host-below-level"
    assert "host-revoked" in error["findings"][0]["actual"]


def test_a_launch_that_was_never_released(world: World, launched: tuple[TestHost, LaunchRecord], watch: Watch) -> None:
    _, record = launched
    bad = world.host("kernel")
    token, other = launches.create(
        authority="auditor", keys=world.keys.key_list, profile=world.profile, rank=2, inputs={"disk": bytes(32)},
        now=world.now, lifetime=3600, releases=1, name="web2",
    )  # fmt: skip
    launches.save(other)
    with pytest.raises(Rejected):
        bad.obtain(token)
    assert run(["watch", "web2", "--json"]) == 2
    assert record.name == "web1"
