"""V1 to V5: one verdict. Each test breaks one thing in a launch that would be trusted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import asyncssh
import msgspec
import pytest

from watchword.crypto.ssh_key import derive
from watchword.errors import MalformedError, Rejected, Unavailable, UsageError
from watchword.launch.receipt import FindingRecord, launch_key
from watchword.policy.profile import Profile
from watchword.tenant import launches
from watchword.tenant.client import AuthorityClient
from watchword.tenant.launches import LaunchRecord
from watchword.tenant.ssh import Address
from watchword.tenant.verdict import Verdict, check_receipts, verify_launch
from watchword.testing.signed_authority import SignedAuthority
from watchword.testing.ssh_server import SshServer

SECRET = bytes(range(32))
NOW = 1_700_000_000
REFUSAL = FindingRecord("E2", "stack-none", "no stack fits what the host booted", "compute 1", "an unknown kernel")
NOWHERE = Address("127.0.0.1", 1)


@dataclass
class Scene:
    authority: SignedAuthority
    record: LaunchRecord
    address: Address

    def verify(self, **changes: Any) -> Verdict:
        arguments: dict[str, Any] = {"address": self.address, "timeout": 10.0, **changes}
        record = arguments.pop("record", self.record)
        client = AuthorityClient(self.authority.url, self.authority.keys)
        return verify_launch(record, client, arguments.pop("address"), **arguments)

    def rejected(self, **changes: Any) -> Rejected:
        with pytest.raises(Rejected) as caught:
            self.verify(**changes)
        return caught.value


def _record(authority: SignedAuthority, profile: Profile, **changes: Any) -> LaunchRecord:
    arguments: dict[str, Any] = {"rank": 2, "releases": 1, "secret": SECRET, "name": "web1", **changes}
    _, record = launches.create(
        authority="a",
        keys=authority.keys,
        profile=profile,
        inputs={"disk": bytes(32)},
        now=NOW,
        lifetime=3600,
        **arguments,
    )
    return record


@pytest.fixture
def scene(authority: SignedAuthority, profile: Profile) -> Iterator[Scene]:
    record = _record(authority, profile)
    key = derive(SECRET, bytes.fromhex(record.launch_id))
    with SshServer([asyncssh.import_private_key(key.private_openssh)]) as server:
        yield Scene(authority, record, Address(server.host, server.port))


def test_a_genuine_machine_is_trusted(scene: Scene) -> None:
    scene.authority.decide(scene.record)
    document = scene.verify().document()
    assert (document["verdict"], document["level"], document["releases"]) == ("trusted", "full", 1)
    assert document["stack"]["name"] == "compute"
    assert document["host"] == "cd" * 16


def test_a_wrong_machine_is_rejected_with_the_reasons_of_the_authority(scene: Scene) -> None:
    """The provider ignored the refusal and booted the machine anyway."""
    scene.authority.refuse(scene.record, REFUSAL)
    with SshServer([asyncssh.generate_private_key("ssh-ed25519")]) as other:
        error = scene.rejected(address=Address(other.host, other.port))
    assert [(f.clause, f.code) for f in error.findings] == [("V1", "ssh-host-key"), ("E2", "stack-none")]


def test_a_wrong_machine_is_rejected_whatever_the_receipts_say(scene: Scene) -> None:
    scene.authority.decide(scene.record)
    with SshServer([asyncssh.generate_private_key("ssh-ed25519")]) as other:
        assert scene.rejected(address=Address(other.host, other.port)).code == "ssh-host-key"


def test_a_refused_launch_shows_why(scene: Scene) -> None:
    scene.authority.refuse(scene.record, REFUSAL)
    error = scene.rejected(address=None)
    assert [f.code for f in error.findings] == ["launch-refused", "stack-none"]
    assert error.findings[1].actual == "an unknown kernel"


def test_a_refused_launch_without_a_machine_is_rejected(scene: Scene) -> None:
    scene.authority.refuse(scene.record, REFUSAL)
    assert scene.rejected(address=NOWHERE, timeout=1.0).code == "launch-refused"


def test_a_released_launch_whose_machine_is_silent_is_not_proven(scene: Scene) -> None:
    scene.authority.decide(scene.record)
    with pytest.raises(Unavailable) as caught:
        scene.verify(address=NOWHERE, timeout=1.0)
    assert caught.value.code == "ssh-no-handshake"


def test_a_silent_machine_comes_with_what_the_authority_refused_since(scene: Scene) -> None:
    """A rebuild with a token that is used up: the first machine is gone, the second one never started."""
    scene.authority.decide(scene.record)
    scene.authority.refuse(scene.record, FindingRecord("F4", "token-used-up", "the token has no release left"))
    with pytest.raises(Unavailable) as caught:
        scene.verify(address=NOWHERE, timeout=1.0)
    assert caught.value.code == "ssh-no-handshake"
    assert [(f.clause, f.code) for f in caught.value.findings] == [("F4", "token-used-up")]


def test_an_unknown_address_is_asked_for(scene: Scene) -> None:
    scene.authority.decide(scene.record)
    with pytest.raises(UsageError) as caught:
        scene.verify(address=None)
    assert caught.value.code == "address-unknown"


def test_a_key_without_a_release_is_rejected(scene: Scene) -> None:
    assert scene.rejected().code == "receipt-missing"


def test_a_key_with_only_refusals_is_rejected_with_them(scene: Scene) -> None:
    scene.authority.refuse(scene.record, REFUSAL)
    assert [f.code for f in scene.rejected().findings] == ["receipt-missing", "stack-none"]


def test_later_refusals_do_not_spoil_a_good_launch(scene: Scene) -> None:
    """A replayed token is refused and reported; the machine is still the one released to."""
    scene.authority.decide(scene.record)
    scene.authority.refuse(scene.record, FindingRecord("F4", "token-used", "no release is left"))
    verdict = scene.verify()
    assert [receipt.decision.findings[0].clause for receipt in verdict.refused] == ["F4"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("launch", "00" * 32),
        ("token", "00" * 32),
        ("profile", "00" * 32),
        ("inputs", "00" * 32),
        ("required", 1),
        ("allowed", 9),
    ],
)
def test_a_receipt_about_something_else_is_rejected(scene: Scene, field: str, value: Any) -> None:
    scene.authority.decide(scene.record, **{field: value})
    error = scene.rejected()
    assert (error.clause, error.code) == ("V3", "receipt-mismatch")


def test_the_genuine_receipt_of_another_launch_is_rejected(scene: Scene, profile: Profile) -> None:
    other = _record(scene.authority, profile)
    receipt = scene.authority.decide(other)
    path = f"/v1/launches/{scene.record.launch_id}"
    scene.authority.answers[path] = (200, b'{"decisions":[' + receipt + b"]}")
    assert scene.rejected().findings[0].subject == "launch"


@pytest.mark.parametrize(("level", "rank"), [("boot", 1), ("", 0)])
def test_a_host_below_the_level_is_rejected(scene: Scene, level: str, rank: int) -> None:
    scene.authority.decide(scene.record, level=level, rank=rank)
    error = scene.rejected()
    assert (error.clause, error.code) == ("V5", "level-too-low")


def test_a_release_without_a_stack_is_rejected(scene: Scene) -> None:
    scene.authority.decide(scene.record, stack=None)
    assert scene.rejected().code == "level-too-low"


def test_a_higher_level_than_demanded_is_good(authority: SignedAuthority, profile: Profile) -> None:
    record = _record(authority, profile, rank=1)
    authority.decide(record, level="full", rank=2)
    key = derive(SECRET, bytes.fromhex(record.launch_id))
    with SshServer([asyncssh.import_private_key(key.private_openssh)]) as server:
        scene = Scene(authority, record, Address(server.host, server.port))
        assert scene.verify().document()["level"] == "full"


def test_a_release_after_the_token_expired_is_rejected(scene: Scene) -> None:
    scene.authority.decide(scene.record, time=scene.record.expires)
    assert scene.rejected().code == "released-late"


def test_a_second_release_is_rejected_unless_expected(authority: SignedAuthority, profile: Profile) -> None:
    record = _record(authority, profile, releases=2)
    authority.decide(record)
    authority.decide(record)
    key = derive(SECRET, bytes.fromhex(record.launch_id))
    with SshServer([asyncssh.import_private_key(key.private_openssh)]) as server:
        scene = Scene(authority, record, Address(server.host, server.port))
        assert scene.rejected().code == "releases-count"
        assert len(scene.verify(releases=2).released) == 2
        assert scene.rejected(releases=3).code == "releases-count"


def test_a_withheld_receipt_shows_in_the_count(scene: Scene) -> None:
    scene.authority.decide(scene.record, releases=2)
    assert scene.rejected().code == "releases-count"


def test_receipts_of_two_logs_are_not_of_one_launch(authority: SignedAuthority, profile: Profile) -> None:
    """The authority has two logs of one size, and shows a decision of each."""
    record = _record(authority, profile, releases=2)
    authority.log.append(b"only in the first")
    authority.decide(record)
    first = authority.decide(record)
    leaves = authority.log.leaves
    authority.log.leaves = [leaves[1], leaves[1]]
    authority.log._counts.subtract([launch_key(bytes.fromhex(record.launch_id))] * 2)
    second = authority.decide(record)
    authority.answers[f"/v1/launches/{record.launch_id}"] = (200, b'{"decisions":[' + second + b"," + first + b"]}")
    with pytest.raises(Rejected) as caught:
        check_receipts(
            AuthorityClient(authority.url, authority.keys).decisions(bytes.fromhex(record.launch_id)),
            record,
            authority.keys,
        )
    assert (caught.value.clause, caught.value.code) == ("T3", "log-fork")


def test_the_same_receipt_twice_is_not_two_releases(authority: SignedAuthority, profile: Profile) -> None:
    record = _record(authority, profile, releases=2)
    receipt = authority.decide(record)
    authority.answers[f"/v1/launches/{record.launch_id}"] = (
        200,
        b'{"decisions":[' + receipt + b"," + receipt + b"]}",
    )
    key = derive(SECRET, bytes.fromhex(record.launch_id))
    with SshServer([asyncssh.import_private_key(key.private_openssh)]) as server:
        assert Scene(authority, record, Address(server.host, server.port)).rejected(releases=2).code == "receipt-gap"


def test_a_forged_receipt_is_rejected(scene: Scene) -> None:
    with SignedAuthority() as forger:
        receipt = forger.decide(scene.record)
    scene.authority.answers[f"/v1/launches/{scene.record.launch_id}"] = (200, b'{"decisions":[' + receipt + b"]}")
    error = scene.rejected()
    assert error.code == "document-signers"
    assert "trust update" in error.hint


def test_an_altered_receipt_is_rejected(scene: Scene) -> None:
    import base64

    envelope = json.loads(scene.authority.decide(scene.record, level="boot", rank=1))
    payload = base64.b64decode(envelope["payload"]).replace(b'\\"rank\\":1', b'\\"rank\\":2')
    assert payload != base64.b64decode(envelope["payload"])
    envelope["payload"] = base64.b64encode(payload).decode()
    body = json.dumps({"decisions": [envelope]}).encode()
    scene.authority.answers[f"/v1/launches/{scene.record.launch_id}"] = (200, body)
    assert scene.rejected().code == "document-signature"


def test_receipts_of_a_retired_key_stay_good(scene: Scene) -> None:
    scene.authority.decide(scene.record)
    scene.authority.rotate()
    assert scene.verify().document()["verdict"] == "trusted"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"decisions":null}',
        b'{"decisions":[1]}',
        b'{"decisions":[{}]}',
        b'{"decisions":[],"next":"x"}',
        b'{"decisions":[],"next":0}',
        b'{"decisions":[],"next":-5}',
        b"[" * 100_000,
        b"\xff",
    ],
)
def test_hostile_answers(scene: Scene, body: bytes) -> None:
    scene.authority.answers[f"/v1/launches/{scene.record.launch_id}"] = (200, body)
    with pytest.raises(MalformedError):
        scene.verify()


def test_pages_are_followed(scene: Scene) -> None:
    receipt = scene.authority.decide(scene.record)
    path = f"/v1/launches/{scene.record.launch_id}"
    scene.authority.answers[path] = (200, b'{"decisions":[],"next":7}')
    scene.authority.answers[path + "?after=7"] = (200, b'{"decisions":[' + receipt + b'],"next":null}')
    assert scene.verify().document()["releases"] == 1


def test_pages_without_end_are_given_up(scene: Scene) -> None:
    path = f"/v1/launches/{scene.record.launch_id}"
    for number in range(60):
        key = path + (f"?after={number}" if number else "")
        scene.authority.answers[key] = (200, b'{"decisions":[],"next":%d}' % (number + 1))
    with pytest.raises(Unavailable) as caught:
        scene.verify()
    assert caught.value.code == "decisions-too-many"


@pytest.mark.parametrize(("status", "code"), [(404, "not-found"), (500, "internal")])
def test_only_the_authority_saying_so_means_no_decision(scene: Scene, status: int, code: str) -> None:
    problem = json.dumps({"type": f"urn:watchword:problem:{code}"}).encode()
    scene.authority.answers[f"/v1/launches/{scene.record.launch_id}"] = (status, problem)
    with pytest.raises(Unavailable) as caught:
        scene.verify()
    assert caught.value.code == code


def test_a_record_that_demands_nothing_is_damaged(scene: Scene) -> None:
    for changes in ({"rank": 0}, {"releases": 0}, {"profile": ""}, {"token": "zz"}, {"ssh_public_key": ""}):
        launches.save(msgspec.structs.replace(scene.record, **changes), replace=True)
        with pytest.raises(UsageError) as caught:
            launches.load("web1")
        assert caught.value.code == "launch-file"
