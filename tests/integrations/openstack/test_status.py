"""The status service, what the scheduler makes of it, and what a watcher does in the cloud."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.integrations.openstack.helpers import ask_in_process

from watchword.agent.attest import attest
from watchword.errors import Unavailable
from watchword.integrations.openstack.status_service import StatusConfig, Statuses, StatusServer
from watchword.integrations.openstack.traits import wanted_traits
from watchword.integrations.openstack.trust_query import Hosts, StatusClient, demands, satisfies
from watchword.testing.world import TestHost, World


class Served:
    """A running status service about one host, ``cmp1``, and its clock."""

    def __init__(self, world: World, host: TestHost) -> None:
        self.now = float(world.now)
        self.gone = False
        ask = ask_in_process(world)

        def maybe(question: Mapping[str, Any]) -> Mapping[str, Any]:
            if self.gone:
                raise Unavailable("http-unreachable", "the authority is gone")
            return ask(question)

        config = StatusConfig("", "", ("boot", "full"), {host.host_id.hex(): "cmp1"})
        self.statuses = Statuses(config, maybe, lambda: self.now)
        self.server = StatusServer("127.0.0.1", 0, self.statuses)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def entry(self) -> dict[str, Any]:
        found: dict[str, Any] = httpx2.get(f"{self.url}/v1/hosts").json()["hosts"]["cmp1"]
        return found


@pytest.fixture
def served(world: World) -> Iterator[tuple[Served, TestHost]]:
    world.watch()
    host = world.host()
    service = Served(world, host)
    with service.server:
        thread = threading.Thread(target=service.server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield service, host
        service.server.shutdown()
        thread.join()


def show(host: TestHost) -> None:
    host.use(lambda view: attest(view, host.host_id))


def test_a_host_is_trusted_until_its_state_ends(served: tuple[Served, TestHost]) -> None:
    service, host = served
    assert (service.entry()["state"], service.entry()["rank"]) == ("unknown", 0)
    show(host)
    service.statuses.refresh()
    assert (service.entry()["state"], service.entry()["rank"], service.entry()["level"]) == ("trusted", 2, "full")
    service.gone = True
    with pytest.raises(Unavailable):
        service.statuses.refresh()
    assert service.entry()["state"] == "trusted"
    service.now += 3600
    assert (service.entry()["state"], service.entry()["rank"]) == ("unknown", 0)


def test_a_host_that_changed_is_untrusted(served: tuple[Served, TestHost], boots: Path) -> None:
    service, host = served
    show(host)
    service.statuses.refresh()
    host.machine.reboot(boots / "kernel")
    show(host)
    service.statuses.refresh()
    assert (service.entry()["state"], service.entry()["rank"]) == ("untrusted", 0)


def test_openattestations_question(served: tuple[Served, TestHost]) -> None:
    service, host = served
    show(host)
    service.statuses.refresh()
    url = f"{service.url}/OpenAttestationWebServices/V1.0/PollHosts"
    answer = httpx2.post(url, json={"count": 2, "hosts": ["cmp1", "cmp9"]}).json()["hosts"]
    assert [(each["host_name"], each["trust_lvl"]) for each in answer] == [("cmp1", "trusted"), ("cmp9", "unknown")]
    assert answer[0]["vtime"].startswith("2027-")
    assert httpx2.post(url, content=b"{}").status_code == 400


@pytest.mark.parametrize(
    "state", [{}, {"state": "trusted"}, {"state": "trusted", "rank": "x"}, {"rank": 2, "until": []}]
)
def test_an_answer_that_says_nothing_is_no_trust(world: World, state: dict[str, Any]) -> None:
    config = StatusConfig("", "", (), {"a": "cmp1"})
    statuses = Statuses(config, lambda _: {"a": state, "b": {"state": "trusted"}}, lambda: 0.0)
    statuses.refresh()
    assert {name: entry["rank"] for name, entry in statuses.document()["hosts"].items()} == {"cmp1": 0}


def test_what_a_request_demands() -> None:
    assert demands(None, None) == demands({}, {}) == ()
    assert demands({"trust:level": "full"}, {"watchword_level": ["2"]}) == ("full", "2")
    assert demands({"hw:x": "1"}, {"watchword_level": "boot"}) == ("boot",)


@pytest.mark.parametrize(
    ("rank", "demand", "good"),
    [(2, "full", True), (1, "full", False), (1, "boot", True), (0, "trusted", False), (1, "trusted", True),
     (2, "2", True), (1, "2", False), (0, "0", False), (9, "golden", False), (9, "", False), (1, "²", False)],
)  # fmt: skip
def test_a_demand_is_met(rank: int, demand: str, good: bool) -> None:
    assert satisfies(rank, demand, ("boot", "full")) is good


@pytest.mark.parametrize("entry", [None, {}, {"rank": 2}, {"rank": "x", "expires": 9}, {"rank": 2, "expires": 1}, 5])
def test_what_is_not_known_has_no_level(entry: Any) -> None:
    assert Hosts({"levels": [], "hosts": {"a": entry}}).rank("a", 2.0) == 0


def test_a_service_that_is_gone_gives_no_levels() -> None:
    client = StatusClient("http://127.0.0.1:9", 0.2)
    assert client.hosts().rank("cmp1", time.time()) == 0


def test_traits_are_a_ladder() -> None:
    assert wanted_traits(0) == set()
    assert wanted_traits(2) == {"CUSTOM_WATCHWORD_LEVEL_1", "CUSTOM_WATCHWORD_LEVEL_2"}
