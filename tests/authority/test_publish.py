"""``POST /v1/profiles``: tenants publish profiles; bounded in size, number and rate, and none can touch another's."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx2
import pytest

from watchword.authority.serving.limits import Limits, Rate
from watchword.authority.serving.problems import Problem
from watchword.cli.main import run
from watchword.policy.profile import MAX_PROFILE_SIZE, Profile
from watchword.testing.documents import PROFILE, encode

from .conftest import Service, authority_in
from .test_app import problem

JSON = {"Content-Type": "application/json"}


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with authority_in(
        tmp_path, limits=Limits(body_seconds=1.0, published=3, publish_burst=1000, publish_seconds=60)
    ) as made:
        yield made


@pytest.fixture
def client(service: Service) -> Iterator[httpx2.Client]:
    with service.client() as made:
        yield made


def post(client: httpx2.Client, document: bytes, headers: dict[str, str] = JSON) -> httpx2.Response:
    return client.post("/v1/profiles", content=document, headers=headers)


def named(name: str, **fields: Any) -> bytes:
    return encode({**PROFILE, "name": name, **fields})


def test_publishing(service: Service, client: httpx2.Client) -> None:
    document = named("gold")
    answer = post(client, document)
    identity = Profile.parse(document).id.hex()
    assert (answer.status_code, answer.json()) == (201, {"id": identity, "name": "gold", "levels": ["silver", "gold"]})
    assert answer.headers["location"] == f"/v1/profiles/{identity}"
    assert client.get(answer.headers["location"]).content == document
    (act,) = [json.loads(decision.entry) for decision in service.store.decisions()]
    assert (act["act"], act["subject"], act["by"]) == ("profile-publish", identity, "tenant")


def test_publishing_again_changes_nothing(service: Service, client: httpx2.Client) -> None:
    first = post(client, named("gold"))
    before = service.store.profiles(), service.store.head()
    again = post(client, named("gold"))
    assert (again.status_code, again.json()) == (200, first.json())
    assert (service.store.profiles(), service.store.head()) == before


def test_tenants_cannot_touch_each_other(service: Service, client: httpx2.Client) -> None:
    """Another tenant's profile of the same name is another profile, and nothing replaces or removes the first."""
    strict, soft = named("gold"), named("gold").replace(b'"listed"', b'"ignored"')
    first, second = (post(client, document).json()["id"] for document in (strict, soft))
    assert first != second
    for path in ("/v1/profiles", f"/v1/profiles/{first}"):
        for method in ("PUT", "PATCH", "DELETE"):
            problem(client.request(method, path, content=soft, headers=JSON), 405, "method-not-allowed")
    assert client.post(f"/v1/profiles/{first}", content=soft, headers=JSON).status_code == 405
    assert client.get(f"/v1/profiles/{first}").content == strict
    assert client.get(f"/v1/profiles/{second}").content == soft


@pytest.mark.parametrize(
    ("document", "headers", "status", "code"),
    [
        (b"", JSON, 400, "body-empty"),
        (b"{", JSON, 400, "malformed"),
        (encode({**PROFILE, "levels": []}), JSON, 400, "malformed"),
        (named("gold") + b" " * MAX_PROFILE_SIZE, JSON, 413, "body-too-large"),
        (named("gold"), {"Content-Type": "application/octet-stream"}, 415, "body-type"),
    ],
)
def test_what_is_refused(
    service: Service, client: httpx2.Client, document: bytes, headers: dict[str, str], status: int, code: str
) -> None:
    problem(post(client, document, headers), status, code)
    assert service.store.profiles() == ()
    assert service.store.head().seq == 0


def test_a_mistake_is_told_to_its_author(client: httpx2.Client) -> None:
    document = json.dumps(json.loads(named("gold").replace(b'"endorsers"', b'"endorserz"')), indent=1).encode()
    told = problem(post(client, document), 400, "malformed")
    assert "did you mean 'endorsers'" in str(told["detail"])
    assert "(line " in str(told["detail"])


def test_there_is_an_end_to_profiles(service: Service, client: httpx2.Client) -> None:
    for number in range(3):
        assert post(client, named(f"p{number}")).status_code == 201
    problem(post(client, named("p3")), 507, "profiles-full")
    assert post(client, named("p0")).status_code == 200, "one that is here is no new one"
    assert len(service.store.profiles()) == 3


def test_too_often(tmp_path: Path) -> None:
    with (
        authority_in(tmp_path, limits=Limits(publish_burst=2, publish_seconds=60)) as service,
        service.client() as client,
    ):
        assert [post(client, named("gold")).status_code for _ in range(2)] == [201, 200]
        answer = post(client, named("other"))
        problem(answer, 429, "rate-limited")
        assert int(answer.headers["retry-after"]) > 0
        assert client.get("/v1/status").json()["counts"]["profiles"] == 1


def asking(address: str) -> Any:
    return SimpleNamespace(client=SimpleNamespace(host=address))


def test_a_rate_is_for_each_address() -> None:
    now = [0.0]
    rate = Rate(2, 10.0, lambda: now[0])

    def spent(address: str) -> bool:
        try:
            rate.spend(asking(address))
        except Problem as refused:
            return refused.code != "rate-limited"
        return True

    assert [spent("192.0.2.1") for _ in range(3)] == [True, True, False]
    assert spent("192.0.2.2")
    assert [spent("2001:db8::1"), spent("2001:db8::2"), spent("2001:db8::3")] == [True, True, False]
    assert spent("2001:db8:0:1::1")
    now[0] = 10.0
    assert [spent("192.0.2.1") for _ in range(2)] == [True, False]
    now[0] = 100.0
    assert [spent("192.0.2.1") for _ in range(3)] == [True, True, False]


def test_a_rate_remembers_so_many_addresses() -> None:
    rate = Rate(1, 10.0, lambda: 0.0)
    for number in range(5000):
        rate.spend(asking(f"10.0.{number >> 8}.{number & 255}"))
    assert len(rate._full_at) == 4096


# -- the tenant's command --------------------------------------------------------------------------------------------


def test_the_command(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    trust = ["trust", "add", service.address.url, "--fingerprint", service.ring.fingerprint, "--name", "auditor"]
    assert run(trust) == 0
    capsys.readouterr()
    file = tmp_path / "gold.json"
    file.write_bytes(named("gold"))
    publish = ["profile", "publish", str(file), "--authority", "auditor", "--json"]
    for new in (True, False):
        assert run(publish) == 0
        told = json.loads(capsys.readouterr().out)
        assert (told["id"], told["new"]) == (Profile.parse(named("gold")).id.hex(), new)
    assert [row.published for row in service.store.profiles()] == [True]
    file.write_bytes(encode({**PROFILE, "levels": []}))
    assert run(publish) == 3
    for number in range(3):
        file.write_bytes(named(f"p{number}"))
        status = run(publish)
    assert status == 2
    captured = capsys.readouterr()
    assert json.loads(captured.out.splitlines()[-1])["error"]["code"] == "profiles-full"
    assert "watchword authority profile add" in captured.err
