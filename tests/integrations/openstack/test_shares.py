"""A server whose secret is split over several authorities: its metadata, its build, and what nova is told."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.integrations.openstack.helpers import IMAGE, ask, body, start
from tests.integrations.openstack.test_vendordata import launch_file

from watchword.crypto.ssh_key import derive
from watchword.errors import Finding, MalformedError, Rejected
from watchword.integrations.openstack.builds import is_request_at_fault
from watchword.integrations.openstack.request import VendordataRequest
from watchword.testing.circle import Circle, SplitSecret
from watchword.testing.compute import ComputeHost, Instance
from watchword.testing.farm import have_swtpm
from watchword.testing.world import TestHost

DEAD = "http://127.0.0.1:9"


@pytest.fixture(scope="module")
def circle(boots: Path) -> Iterator[Circle]:
    if not have_swtpm() or shutil.which("virsh") is None:
        pytest.skip("swtpm and virsh are needed")
    with Circle(boots, relayed=True) as found:
        yield found


@pytest.fixture
def split(circle: Circle) -> SplitSecret:
    return circle.split(inputs={"disk": hashlib.sha256(IMAGE).digest()})


def compute_host(circle: Circle, folder: Path, recording: str = "good") -> ComputeHost:
    """A host of a cloud that is enrolled with all of them."""
    enrolled = circle.host(recording)
    host = TestHost(enrolled.machine, circle.worlds[0], circle.worlds[0].exchange())
    host.host_id = enrolled.host_id
    compute = ComputeHost(circle.worlds[0], host, folder)
    name_authorities(compute, circle)
    return compute


@pytest.fixture
def compute(circle: Circle, tmp_path: Path) -> ComputeHost:
    return compute_host(circle, tmp_path)


def name_authorities(compute: ComputeHost, circle: Circle, *dead: int) -> None:
    """A section [[authority]] for each, with no way to the ``dead`` ones."""
    sections = ""
    for number, world in enumerate(circle.worlds):
        keys = compute.folder / f"keys-{number}.json"
        keys.write_text(json.dumps({"keys": [json.loads(envelope) for envelope in world.keys.chain]}))
        relay = DEAD if number in dead else world.relay_url
        sections += f'[[authority]]\nrelay = "{relay}"\nkeys = "{keys}"\nfingerprint = "{world.keys.fingerprint}"\n'
    compute.write_settings()
    text = compute.config.read_text()
    compute.config.write_text(sections + text[text.index("[tpm]") :])


def asked(instance: Instance, split: SplitSecret, *without: str) -> dict[str, Any]:
    """What nova posts for a server with the metadata of a split secret."""
    metadata = {key: value for key, value in split.bundle.metadata().items() if key not in without}
    return body(instance, metadata.pop("watchword", None), **metadata)


def answer_of(compute: ComputeHost, document: dict[str, Any]) -> Any:
    """The answer of an agent that was started for it."""
    with start(compute) as agent:
        return ask(agent, document)


# -- metadata ----------------------------------------------------------------------------------------------------------


def test_the_tokens_are_read_in_order_and_nothing_else_is() -> None:
    metadata = {"watchword_set": "s", "watchword_9": "n", "watchword_8": "h", "watchword": "a", "watchword_2": "b"}
    parsed = VendordataRequest.parse(json.dumps({"instance-id": "i", "metadata": {"x": "y", **metadata}}).encode())
    assert parsed.token == "a\nb\nh\ns"
    assert "watchword" not in repr(parsed)
    assert VendordataRequest.parse(b'{"instance-id": "i", "metadata": {"watchword_9": "n"}}').token is None


@pytest.mark.parametrize("key", ["watchword", "watchword_2", "watchword_set"])
@pytest.mark.parametrize("value", [None, 1, ["a"]])
def test_a_token_that_is_no_text(key: str, value: object) -> None:
    document = {"instance-id": "i", "metadata": {"watchword": "a", key: value}}
    with pytest.raises(MalformedError):
        VendordataRequest.parse(json.dumps(document).encode())


@pytest.mark.parametrize("without", [("watchword_set",), ("watchword_2", "watchword_3", "watchword_set"),
                                     ("watchword", "watchword_2")])  # fmt: skip
def test_metadata_that_do_not_go_together_ask_nobody(
    circle: Circle, compute: ComputeHost, split: SplitSecret, without: tuple[str, ...]
) -> None:
    answer = answer_of(compute, asked(compute.spawn(compute.image(IMAGE)), split, *without))
    assert (answer.status_code, launch_file(answer.json())["code"]) == (200, "bundle")
    assert circle.released(split) == [0, 0, 0]


# -- builds ------------------------------------------------------------------------------------------------------------


def test_the_machine_gets_its_key_and_enough_released(circle: Circle, compute: ComputeHost, split: SplitSecret) -> None:
    instance = compute.spawn(compute.image(IMAGE))
    with start(compute) as agent:
        answers = [ask(agent, asked(instance, split)) for _ in range(3)]
    key = derive(split.secret, bytes.fromhex(split.record.launch_id))
    assert all(key.public_openssh in answer.json() for answer in answers)
    assert sorted(circle.released(split)) == [0, 1, 1]


def test_a_restarted_agent_opens_the_kept_shares(circle: Circle, compute: ComputeHost, split: SplitSecret) -> None:
    instance = compute.spawn(compute.image(IMAGE))
    before, after = (answer_of(compute, asked(instance, split)) for _ in range(2))
    assert launch_file(before.json()) == launch_file(after.json())
    assert "ssh_keys" in after.json()
    assert sorted(circle.released(split)) == [0, 1, 1]
    kept = b"".join(path.read_bytes() for path in (compute.folder / "state").rglob("*") if path.is_file())
    assert split.secret.hex().encode() not in kept
    assert b"PRIVATE KEY" not in kept


def drop(releases: list[Any]) -> list[Any]:
    return releases[:1]


def twice(releases: list[Any]) -> list[Any]:
    return [releases[0], releases[0]]


@pytest.mark.parametrize("change", [drop, twice])
def test_shares_that_were_kept_are_enough_and_different(
    circle: Circle, compute: ComputeHost, split: SplitSecret, change: Callable[[list[Any]], list[Any]]
) -> None:
    """A record that was tampered with opens nothing; the authorities are asked anew, and have released already."""
    instance = compute.spawn(compute.image(IMAGE))
    assert "ssh_keys" in answer_of(compute, asked(instance, split)).json()
    (record,) = (path for path in (compute.folder / "state").rglob("*.json") if b'"releases"' in path.read_bytes())
    document = json.loads(record.read_bytes())
    record.write_text(json.dumps({**document, "releases": change(document["releases"])}))
    answer = answer_of(compute, asked(instance, split))
    assert launch_file(answer.json())["code"] == "shares-few"
    assert "ssh_keys" not in answer.json()


def test_one_that_is_down_is_done_without(circle: Circle, compute: ComputeHost, split: SplitSecret) -> None:
    name_authorities(compute, circle, 1)
    answer = answer_of(compute, asked(compute.spawn(compute.image(IMAGE)), split))
    assert "ssh_keys" in answer.json()
    assert circle.released(split) == [1, 0, 1]


def test_two_that_are_down_are_named_and_nothing_is_spent(
    circle: Circle, compute: ComputeHost, split: SplitSecret, capfd: pytest.CaptureFixture[str]
) -> None:
    name_authorities(compute, circle, 0, 2)
    instance = compute.spawn(compute.image(IMAGE))
    answer = answer_of(compute, asked(instance, split))
    assert (answer.status_code, answer.headers["x-watchword-code"]) == (503, "shares-few")
    logged = [line for line in capfd.readouterr().err.splitlines() if "share-missing" in line]
    for name in ("one.test", "three.test"):
        assert f"{name}: exchange-failed" in answer.text
        assert sum(name in line for line in logged) == 1
    assert circle.released(split) == [0, 0, 0]
    name_authorities(compute, circle)
    assert "ssh_keys" in answer_of(compute, asked(instance, split)).json()


def test_a_bad_host_makes_nova_try_another(circle: Circle, split: SplitSecret, tmp_path: Path) -> None:
    compute = compute_host(circle, tmp_path, "kernel")
    answer = answer_of(compute, asked(compute.spawn(compute.image(IMAGE)), split))
    assert (answer.status_code, answer.headers["x-watchword-code"]) == (503, "shares-few")
    assert circle.released(split) == [0, 0, 0]


def test_a_second_server_with_the_same_metadata(circle: Circle, compute: ComputeHost, split: SplitSecret) -> None:
    first, second = (compute.spawn(compute.image(IMAGE)) for _ in range(2))
    with start(compute) as agent:
        assert "ssh_keys" in ask(agent, asked(first, split)).json()
        answer = ask(agent, asked(second, split))
    assert (answer.status_code, launch_file(answer.json())["code"]) == (200, "shares-few")
    assert max(circle.released(split)) == 1


USED_UP, CHANGED = ("F4", "token-used-up"), ("E2", "stack-none")


@pytest.mark.parametrize(
    ("words", "at_fault"),
    [
        ([USED_UP, USED_UP], True),
        ([USED_UP, ("F6", "purpose")], True),
        ([USED_UP, CHANGED], False),
        ([CHANGED, USED_UP], False),
        ([USED_UP, ("L3", "share-missing")], False),
    ],
)
def test_another_host_is_tried_unless_each_authority_blames_the_request(
    words: list[tuple[str, str]], at_fault: bool
) -> None:
    findings = [Finding(clause, code, "said") for clause, code in words]
    assert is_request_at_fault(Rejected(Finding("L3", "shares-few", "few"), *findings)) is at_fault
