"""How operators and providers see hosts: the commands on a living authority, and the HTTP resource."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from watchword.authority.store import ProfileRow
from watchword.cli.main import run
from watchword.launch.attest import HostState, Standing
from watchword.testing.farm import have_swtpm
from watchword.testing.world import World, profile_document, stack_from_recording

from .conftest import Service
from .helpers import NOW
from .helpers import host as enrolled

Operator = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture
def world(boots: Path) -> Iterator[World]:
    if not have_swtpm():
        pytest.skip("swtpm is not installed: the hosts have real emulated TPMs")
    with World(boots, clock=int(time.time())) as made:
        yield made


@pytest.fixture
def operator(world: World, capsys: pytest.CaptureFixture[str]) -> Operator:
    def call(*arguments: str) -> tuple[int, dict[str, Any]]:
        status = run(["authority", *arguments, "--data", str(world.folder), "--json"])
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return status, json.loads(captured.out)

    return call


def test_an_operator_watches_hosts(world: World, operator: Operator) -> None:
    profile = world.profile.id.hex()
    assert operator("watch", "add", profile[:12]) == (0, {"watched": profile, "name": "test"})
    assert operator("watch", "list")[1]["watched"] == [{"id": profile, "name": "test"}]
    good, bad = world.host(), world.host("kernel")
    good.attest(), bad.attest()
    status, found = operator("watch", "hosts")
    assert status == 0
    assert found["counts"] == {"trusted": 1, "failed": 1}
    [failed] = operator("watch", "hosts", "--state", "failed")[1]["hosts"]
    assert failed["host"] == bad.host_id.hex()
    assert "differs" in failed["reason"]
    good.machine.run_file(b"/opt/odd", b"odd")
    good.attest()
    assert operator("watch", "hosts", "--profile", profile)[1]["counts"] == {"degraded": 1, "failed": 1}
    status, _ = operator("watch", "accept", good.host_id.hex(), "--reason", "it is meant to be so")
    assert status == 0
    good.attest()
    assert operator("watch", "hosts")[1]["counts"] == {"trusted": 1, "failed": 1}
    assert operator("watch", "remove", profile)[0] == 0
    assert operator("watch", "remove", profile)[1]["error"]["code"] == "id-unknown"
    assert operator("watch", "hosts")[1]["counts"] == {"unknown": 2}
    assert operator("watch", "add", "0" * 64)[1]["error"]["code"] == "id-unknown"


def test_a_host_that_never_attested_cannot_be_accepted(world: World, operator: Operator) -> None:
    host = world.host()
    status, answer = operator("watch", "accept", host.host_id.hex(), "--reason", "why not")
    assert (status, answer["error"]["code"]) == (1, "host-unknown")


def test_a_change_is_tried_first(world: World, operator: Operator, tmp_path: Path) -> None:
    world.watch()
    world.host().attest()
    world.host("release-2").attest()
    status, found = operator("dry-run")
    assert (status, found["effects"]["same"]) == (0, 2)
    status, found = operator("dry-run", "--revoke", "compute@1", "--hosts")
    assert (status, found["effects"]["refused"]) == (3, 1)
    assert found["reasons"][0]["code"] == "stack-revoked"
    [worse] = found["worse"]
    assert (worse["before"], worse["after"]) == ("full", "")
    second = world.add_stack(stack_from_recording(world.boots / "release-2", version="2", serial=2))
    status, found = operator("dry-run", "--activate", second.digest.hex())
    assert (status, found["effects"]["same"]) == (0, 2)
    stricter = tmp_path / "stricter.json"
    stricter.write_bytes(profile_document(min_serial={"compute": 2}))
    status, found = operator("dry-run", "--profile", str(stricter))
    assert (status, found["effects"]["refused"]) == (3, 1)
    future = str(int(time.time()) + 10)
    assert operator("dry-run", "--end", "compute@1", "--at", future)[1]["effects"]["refused"] == 1
    assert operator("dry-run", "--revoke", "compute@9")[1]["error"]["code"] == "id-unknown"


def test_a_dry_run_needs_a_profile(operator: Operator) -> None:
    status, answer = operator("dry-run")
    assert (status, answer["error"]["code"]) == (1, "watch-none")


# -- POST /v1/host-states ------------------------------------------------------------------------------------------


def ask(service: Service, document: object) -> httpx2.Response:
    with service.client() as client:
        return client.post("/v1/host-states", json=document)


def test_a_provider_asks_how_hosts_stand(service: Service) -> None:
    document = profile_document()
    profile = ProfileRow(bytes([7]) * 32, document, "fleet", NOW)
    base = HostState(Standing.TRUSTED, "gold", 2, 2, NOW, NOW, NOW + 100, 1, b"")
    hosts = [enrolled(number) for number in range(51, 55)]
    with service.store.transaction() as tx:
        tx.put_profile(profile)
        for host in hosts:
            tx.put_host(host)
        tx.put_watched(profile.id, NOW)
        tx.put_state(hosts[0].host_id, profile.id, base)
        tx.put_state(hosts[1].host_id, profile.id, HostState(Standing.TRUSTED, "gold", 2, 2, 1, NOW - 9, NOW, 1, b""))
        tx.put_state(hosts[2].host_id, profile.id, base)
        tx.revoke_host(hosts[2].host_id, "sold", NOW)
    names = [host.host_id.hex() for host in hosts]
    answer = ask(service, {"hosts": [*names, "ff" * 32]})
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    found = answer.json()
    assert found["profile"] == profile.id.hex()
    assert found["states"][names[0]] == {
        "state": "trusted", "level": "gold", "rank": 2, "since": NOW, "checked": NOW, "until": NOW + 100, "reason": "",
    }  # fmt: skip
    assert [found["states"][name]["state"] for name in names[1:]] == ["stale", "failed", "unknown"]
    assert [found["states"][name]["rank"] for name in names[1:]] == [0, 0, 0]
    assert found["states"]["ff" * 32]["state"] == "unknown"
    other = ask(service, {"hosts": names[:1], "profile": "ab" * 32}).json()
    assert other["states"][names[0]]["state"] == "unknown"
    with service.store.transaction() as tx:
        tx.remove_watched(profile.id)
    assert ask(service, {"hosts": names[:1]}).status_code == 404


@pytest.mark.parametrize(
    "document",
    [{}, {"hosts": []}, {"hosts": ["zz"]}, {"hosts": ["00"] * 1001}, {"hosts": ["00" * 32], "more": 1}, [], "x", 5],
)
def test_a_wrong_question_is_a_problem(service: Service, document: object) -> None:
    answer = ask(service, document)
    assert answer.status_code == 400
    assert answer.json()["type"] == "urn:watchword:problem:body-malformed"


def test_a_question_of_another_kind_is_a_problem(service: Service) -> None:
    with service.client() as client:
        assert client.post("/v1/host-states", content=b"{}").status_code == 415
