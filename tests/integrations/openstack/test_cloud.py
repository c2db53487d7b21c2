"""The tenant's and the provider's commands through openstacksdk, against services that answer over HTTP."""

from __future__ import annotations

import base64
import gc
import hashlib
import json
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.integrations.openstack.helpers import IMAGE, ask, body, start

from watchword.cli.main import run
from watchword.errors import Finding, Rejected, WatchwordError
from watchword.integrations.openstack.refusals import Refusal, Refusals, Reporter
from watchword.integrations.openstack.status_service import StatusConfig, Statuses, StatusServer
from watchword.tenant import launches
from watchword.testing.cloud import FakeCloud
from watchword.testing.compute import ComputeHost
from watchword.testing.scripted import serve
from watchword.testing.signed_authority import SignedAuthority

pytest.importorskip("openstack", reason="openstacksdk is not installed")

pytestmark = pytest.mark.filterwarnings("ignore")  # openstacksdk warns about itself, in many classes
_DISK = b"a disk"
_RULES = {"identity": ["virtual"], "covers": [4], "stacks": ["compute"], "runtime": "ignored"}
_LAUNCH = (
    "openstack", "launch", "--authority", "a", "--profile", "gold.json", "--disk", "guest.img", "--image", "guest",
    "--flavor", "m1.small", "--network", "none", "--name", "web1",
)  # fmt: skip


@pytest.fixture
def cloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCloud]:
    with FakeCloud() as running:
        for name, value in running.environment().items():
            monkeypatch.setenv(name, value)
        monkeypatch.delenv("OS_CLOUD", raising=False)
        monkeypatch.setenv("HOME", str(tmp_path))
        yield running
    with warnings.catch_warnings():  # openstacksdk leaves its connections to the garbage collector
        warnings.simplefilter("ignore")
        gc.collect()


@pytest.fixture
def tenant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A tenant with a pinned authority, a profile, and an image file."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    profile = {"format": "watchword-profile/1", "name": "p", "bank": "sha256", "pcrs": [4],
               "levels": [{"name": name, "rules": _RULES} for name in ("boot", "full")]}  # fmt: skip
    (tmp_path / "gold.json").write_text(json.dumps(profile))
    (tmp_path / "guest.img").write_bytes(_DISK)
    (tmp_path / "user-data").write_bytes(b"#cloud-config\n")
    with SignedAuthority() as authority:
        assert run(["trust", "add", authority.url, "--fingerprint", authority.fingerprint, "--name", "a"]) == 0
        yield tmp_path


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Any:
    """Run a command line; returns exit status, stdout and stderr."""

    def command(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        status = run([*arguments, "--json"])
        return (status, *capsys.readouterr())

    return command


def test_a_launch_orders_what_the_token_names(cloud: FakeCloud, tenant: Path, say: Any) -> None:
    digest = hashlib.sha512(_DISK).hexdigest()
    image = cloud.add_image("guest", os_hash_algo="sha512", os_hash_value=digest)
    floating = {"addr": "192.0.2.7", "version": 4, "OS-EXT-IPS:type": "floating"}
    fixed = {"addr": "10.0.0.7", "version": 4, "OS-EXT-IPS:type": "fixed"}
    cloud.build = lambda server: server.update(status="ACTIVE", addresses={"private": [fixed, floating]})
    status, out, err = say(*_LAUNCH, "--user-data", "user-data", "--schedule-level", "full")
    assert status == 0, err
    found = json.loads(out)
    assert (found["image_service_agrees"], found["status"], found["address"]) == (True, "ACTIVE", "192.0.2.7")
    (order,) = cloud.ordered
    server = order["server"]
    assert (server["imageRef"], server["config_drive"], server["networks"]) == (image, True, "none")
    assert base64.b64decode(server["user_data"]) == b"#cloud-config\n"
    assert server["metadata"]["watchword"].startswith("WWT1")
    assert len(server["metadata"]["watchword"]) <= 255
    assert order["OS-SCH-HNT:scheduler_hints"] == {"watchword_level": "full"}
    assert server["metadata"]["watchword"] not in out + err
    record = launches.load("web1")
    assert (record.server, record.address, record.port) == (found["server"], "192.0.2.7", 22)


@pytest.mark.parametrize(
    ("about", "agrees", "sentence"),
    [({"os_hash_algo": "sha256", "os_hash_value": "0" * 64}, False, "has another file than yours"),
     ({"checksum": hashlib.md5(_DISK, usedforsecurity=False).hexdigest()}, True, "claims to have your file"),
     ({"os_hash_algo": "rot13", "os_hash_value": "x"}, None, "names no digest"), ({}, None, "names no digest")],
)  # fmt: skip
def test_what_the_image_service_says_is_told_and_decides_nothing(
    cloud: FakeCloud, tenant: Path, say: Any, about: dict[str, str], agrees: bool | None, sentence: str
) -> None:
    cloud.add_image("guest", **about)
    status, out, err = say(*_LAUNCH)
    assert (status, json.loads(out)["image_service_agrees"]) == (0, agrees)
    assert sentence in err


def test_a_server_that_fails_is_told_with_the_providers_words(cloud: FakeCloud, tenant: Path, say: Any) -> None:
    cloud.add_image("guest")
    cloud.build = lambda server: server.update(status="ERROR", fault={"message": "No valid host \x1b[31mwas found"})
    status, _, err = say(*_LAUNCH)
    assert (status, "No valid host" in err, "watchword openstack verify web1" in err) == (2, True, True), err
    assert "\x1b" not in err
    status, out, err = say("openstack", "verify", "web1")
    found = json.loads(out)
    assert (status, found["error"]["code"], found["error"].get("findings")) == (2, "address-none", None)
    assert found["provider"] == {"status": "ERROR", "fault": "No valid host \x1b[31mwas found", "reason": ""}
    assert "prove nothing" in err
    assert "\x1b" not in err


def test_a_server_that_never_ends_building_is_waited_for_so_long(cloud: FakeCloud, tenant: Path, say: Any) -> None:
    cloud.add_image("guest")
    cloud.build = lambda server: None
    status, _, err = say(*_LAUNCH, "--timeout", "1")
    assert status == 2
    assert "WWT1" not in err


@pytest.mark.parametrize(
    ("images", "more", "code"),
    [((), (), "has no image"), (("guest",), ("--flavor", "huge"), "has no flavor"),
     (("guest", "guest"), (), "the provider answered")],
)  # fmt: skip
def test_mistakes_are_told(
    cloud: FakeCloud, tenant: Path, say: Any, images: tuple[str, ...], more: tuple[str, ...], code: str
) -> None:
    for name in images:
        cloud.add_image(name)
    status, _, err = say(*_LAUNCH, *more)
    assert (status, code in err, cloud.ordered) == (1 if "has no" in code else 2, True, []), err


def test_a_cloud_that_is_not_well(cloud: FakeCloud, tenant: Path, say: Any) -> None:
    cloud.add_image("guest")
    cloud.broken = {"/compute/v2.1/servers"}
    status, _, err = say(*_LAUNCH)
    assert (status, "answered" in err) == (2, True), err


def levels(**ranks: int) -> Any:
    """A status service that says these ranks, over HTTP."""
    hosts = {name: {"state": "trusted" if rank else "untrusted", "rank": rank, "reason": "stack-none"}
             for name, rank in ranks.items()}  # fmt: skip
    return serve(lambda *_: (200, json.dumps({"hosts": hosts}).encode()), get=True)


def test_traits_and_services_follow_the_levels(cloud: FakeCloud, say: Any) -> None:
    first, second = cloud.add_host("cmp1"), cloud.add_host("cmp2")
    machine = cloud.add_server("web1", "cmp2")
    elsewhere = cloud.add_server("web2", "cmp1")
    watch = ("openstack", "watch", "--once", "--rank", "2", "--action", "stop")
    with levels(cmp1=2, cmp2=1) as url:
        status, _, err = say(*watch, "--status-url", url)
    assert status == 2, err
    ladder = {"HW_CPU_X86_AVX2", "CUSTOM_WATCHWORD_LEVEL_1", "CUSTOM_WATCHWORD_LEVEL_2"}
    assert cloud.providers["cmp1"] == ladder, err
    assert cloud.providers["cmp2"] == ladder - {"CUSTOM_WATCHWORD_LEVEL_2"}
    assert (first["status"], second["status"]) == ("enabled", "disabled")
    assert second["disabled_reason"] == "watchword: the host is not trusted: stack-none"
    assert cloud.actions == [(machine["id"], "os-stop")]
    assert elsewhere["status"] == "ACTIVE"
    with levels(cmp1=0, cmp2=2) as url:
        say(*watch[:-1], "disable", "--status-url", url)
    assert cloud.providers["cmp1"] == {"HW_CPU_X86_AVX2"}
    assert (first["status"], second["status"]) == ("disabled", "enabled")


def test_what_an_operator_disabled_stays_disabled(cloud: FakeCloud, say: Any) -> None:
    service = cloud.add_host("cmp1")
    service.update(status="disabled", disabled_reason="new memory")
    with levels(cmp1=2) as url:
        assert say("openstack", "watch", "--once", "--action", "disable", "--status-url", url)[0] == 0
    assert (service["status"], service["disabled_reason"]) == ("disabled", "new memory")


def test_notify_changes_no_service(cloud: FakeCloud, say: Any) -> None:
    service = cloud.add_host("cmp1")
    with levels(cmp1=0) as url:
        status, out, _ = say("openstack", "watch", "--once", "--status-url", url)
    assert (status, service["status"]) == (2, "enabled")
    assert json.loads(out)["below"] == 1


@pytest.mark.parametrize(
    "content", [b"[]", b'{"hosts": []}', b'{"hosts": {"a": 5}}', b'{"hosts": {"a": {"rank": "x"}}}']
)
def test_a_status_service_that_talks_nonsense(cloud: FakeCloud, say: Any, content: bytes) -> None:
    cloud.add_host("a")
    with serve(lambda *_: (200, content), get=True) as url:
        status, _, err = say("openstack", "watch", "--once", "--status-url", url)
    assert (status, "status service" in err) == (2, True), err


def test_placement_that_is_not_well(cloud: FakeCloud, say: Any) -> None:
    cloud.add_host("cmp1")
    cloud.broken = {"/placement/traits"}
    with levels(cmp1=1) as url:
        status, _, err = say("openstack", "watch", "--once", "--status-url", url)
    assert (status, "answered" in err) == (2, True), err
    assert cloud.providers["cmp1"] == {"HW_CPU_X86_AVX2"}


def test_the_identity_service_decides_who_may_ask(cloud: FakeCloud, compute: ComputeHost) -> None:
    compute.write_settings(serve=f'keystone = "{cloud.url}/v3"')
    document = body(compute.spawn(compute.image(IMAGE)), None)
    with start(compute) as agent:
        assert ask(agent, document, **{"X-Auth-Token": cloud.issue("nova")}).status_code == 200
        for token in (cloud.issue("mallory"), "t" * 32):
            answer = ask(agent, document, **{"X-Auth-Token": token})
            assert (answer.status_code, answer.headers["x-watchword-code"]) == (401, "caller-unknown")


@contextmanager
def status_service() -> Iterator[str]:
    """The real status service, which knows no host."""
    statuses = Statuses(StatusConfig("", "", (), {}), lambda _: {})
    with StatusServer("127.0.0.1", 0, statuses) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def tell(url: str, instance: str, error: WatchwordError, code: str) -> None:
    """As an agent does, until the status service has it."""
    Reporter(url).report(instance, error)
    for _ in range(100):
        answer = httpx2.get(f"{url}/v1/refusals/{instance}")
        if answer.status_code == 200 and answer.json()["code"] == code:
            return
        time.sleep(0.1)
    raise AssertionError("it never arrived")


BAD_HOST = Rejected(Finding("O2", "host-level", "this host does not reach the level", "2", "/usr/bin/secret path"))


def test_the_tenant_reads_what_the_agents_refused(cloud: FakeCloud, tenant: Path, say: Any) -> None:
    cloud.add_image("guest")
    cloud.build = lambda server: server.update(status="ERROR", fault={"message": "libvirtError"})
    assert say(*_LAUNCH)[0] == 2
    (server,) = cloud.servers
    with status_service() as cloud.status_url:
        before = json.loads(say("openstack", "verify", "web1")[1])
        tell(cloud.status_url, server, BAD_HOST, "host-level")
        status, out, err = say("openstack", "verify", "web1")
    found = json.loads(out)
    assert before["provider"] == {"status": "ERROR", "fault": "libvirtError", "reason": ""}
    assert found["provider"]["reason"] == "[O2] host-level: this host does not reach the level"
    assert (status, found["error"]["code"], found["error"].get("findings")) == (2, "address-none", None)
    assert "the provider says of its hosts, which proves nothing: [O2] host-level" in err


@pytest.mark.parametrize("content", [b"[]", b"{", b'{"instance": "x"}', b'{"message": "\x1b"}', b"[" * 100_000])
def test_a_reason_that_cannot_be_read_is_none(cloud: FakeCloud, tenant: Path, say: Any, content: bytes) -> None:
    cloud.add_image("guest")
    say(*_LAUNCH)
    with serve(lambda *_: (200, content), get=True) as cloud.status_url:
        assert json.loads(say("openstack", "verify", "web1")[1])["provider"]["reason"] == ""


def test_the_watcher_writes_reasons_where_nova_takes_them(cloud: FakeCloud, say: Any) -> None:
    stopped = cloud.add_server("web1", status="SHUTOFF", metadata={"own": "kept"})
    failed = cloud.add_server("web2", status="ERROR")
    watch = ("openstack", "watch", "--once")
    with status_service() as url:
        for instance in (stopped["id"], failed["id"], "6a8f3b3e-0000-4000-8000-000000000000"):
            tell(url, instance, BAD_HOST, "host-level")
        assert say(*watch, "--status-url", url)[0] == 0
        assert stopped["metadata"] == {"own": "kept"}
        assert say(*watch, "--reasons", "--status-url", url)[0] == 0
    assert stopped["metadata"] == {
        "own": "kept",
        "watchword_reason": "[O2] host-level: this host does not reach the level",
    }
    assert "metadata" not in failed


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b'{"instance": "web1", "code": "c", "message": "m"}', b" " * 3000,
     b'{"instance": "6a8f3b3e-0000-4000-8000-000000000000", "code": "c", "message": "\\u001b[31m"}',
     b'{"instance": "6a8f3b3e-0000-4000-8000-000000000000", "code": 5, "message": "m"}'],
)  # fmt: skip
def test_what_is_no_refusal_is_not_kept(body: bytes) -> None:
    with status_service() as url:
        assert httpx2.post(f"{url}/v1/refusals", content=body).status_code == (400 if body else 413)
        assert httpx2.get(f"{url}/v1/refusals").json() == {"refusals": []}


def test_refusals_are_bounded_and_the_newest_counts() -> None:
    kept = Refusals(clock=lambda: 7.0)
    ids = [f"6a8f3b3e-0000-4000-8000-{number:012}" for number in range(5000)]
    for instance in (*ids, ids[-1]):
        kept.add(Refusal(instance, "c", f"about {instance}"))
    kept.add(Refusal(ids[-1], "d", "newer"))
    assert len(kept.all()) == 4096
    assert kept.of(ids[0]) is None
    assert kept.of(ids[-1]) == {"instance": ids[-1], "code": "d", "message": "newer", "time": 7}
