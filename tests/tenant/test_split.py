"""Splitting a secret, and V6: what the authorities of a split secret must say together."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import asyncssh
import msgspec
import pytest

from watchword.crypto.ssh_key import derive
from watchword.errors import Rejected, Unavailable, UsageError
from watchword.launch.receipt import ShareRecord
from watchword.policy.profile import Profile
from watchword.tenant import launches
from watchword.tenant.client import AuthorityClient
from watchword.tenant.split import check_authorities, create_split, majority
from watchword.tenant.split_verdict import hear_all, judge_split
from watchword.tenant.ssh import Address
from watchword.tenant.verdict import Verdict
from watchword.testing.signed_authority import SignedAuthority
from watchword.wire.share import Bundle
from watchword.wire.token import MAX_TEXT

SECRET = bytes(range(32))
NOWHERE = Address("127.0.0.1", 22)


@dataclass
class Three:
    """Three authorities with a share each; two are needed."""

    authorities: list[SignedAuthority]
    profile: Profile
    releases: int = 1
    bundle: Bundle = field(init=False)
    record: launches.LaunchRecord = field(init=False)

    def __post_init__(self) -> None:
        self.bundle, self.record = create_split(
            name="web1", authorities=[(a.name, a.keys) for a in self.authorities], threshold=2, profile=self.profile,
            rank=2, inputs={"disk": bytes(32)}, now=1_700_000_000, lifetime=3600, releases=self.releases, secret=SECRET,
        )  # fmt: skip

    def release(self, number: int, run: str = "0a", **changes: Any) -> None:
        place = ShareRecord(number + 1, 2, 3, run * 16)
        self.authorities[number].decide(self.record.parts()[number], **{"share": place, **changes})

    def judge(self, releases: int = 1) -> Verdict:
        clients = [AuthorityClient(a.url, a.keys) for a in self.authorities]
        words = hear_all(list(zip(self.record.parts(), clients, strict=True)), 2)
        return judge_split(self.record, NOWHERE, words, releases)

    def rejected(self, **arguments: Any) -> Rejected:
        with pytest.raises(Rejected) as caught:
            self.judge(**arguments)
        return caught.value


@pytest.fixture
def three(profile: Profile) -> Iterator[Three]:
    with ExitStack() as stack:
        yield Three([stack.enter_context(SignedAuthority(name)) for name in ("a", "b", "c")], profile)


def test_tokens_and_set_fit_metadata_and_the_record_keeps_no_secret(three: Three) -> None:
    assert sorted(three.bundle.metadata()) == ["watchword", "watchword_2", "watchword_3", "watchword_set"]
    assert all(len(value) <= MAX_TEXT for value in three.bundle.metadata().values())
    launches.save(three.record)
    assert launches.load("web1") == three.record
    assert SECRET.hex() not in msgspec.json.encode(three.record).decode()
    key = derive(SECRET, bytes.fromhex(three.record.launch_id))
    assert three.record.ssh_public_key == key.public_openssh
    assert asyncssh.import_private_key(key.private_openssh) is not None


@pytest.mark.parametrize(
    "change", [{"threshold": 1}, {"threshold": 0}, {"authority": "a"}, {"share": 1}, {"shares": ()}]
)
def test_a_damaged_record_of_a_split_secret(three: Three, change: dict[str, Any]) -> None:
    launches.save(msgspec.structs.replace(three.record, **change))
    with pytest.raises(UsageError, match="damaged"):
        launches.load("web1")


def test_one_authority_never_has_two_shares(three: Three) -> None:
    a, b, _ = ((each.name, each.keys) for each in three.authorities)
    for twice in ([a, a], [a, ("other", a[1])], [a, b, a]):
        with pytest.raises(UsageError) as caught:
            check_authorities(twice, 2)
        assert caught.value.code == "authority-twice"


@pytest.mark.parametrize("threshold", [0, 1, 4])
def test_a_threshold_is_more_than_half(three: Three, threshold: int) -> None:
    with pytest.raises(UsageError) as caught:
        check_authorities([(each.name, each.keys) for each in three.authorities], threshold)
    assert caught.value.code == "bad-threshold"
    assert [majority(count) for count in range(2, 9)] == [2, 2, 3, 3, 4, 4, 5]


def test_two_of_three_released_to_one_attempt(three: Three) -> None:
    three.release(0)
    three.release(2)
    document = three.judge().document()
    assert (document["verdict"], document["threshold"]) == ("trusted", 2)
    assert [len(word["receipts"]) for word in document["authorities"]] == [1, 0, 1]


def test_v6_too_few_released(three: Three) -> None:
    three.release(0)
    found = three.rejected()
    assert (found.clause, found.code) == ("V6", "shares-unreleased")


def test_v6_releases_to_two_attempts_are_not_two_of_one(three: Three) -> None:
    """Shares collected by two hosts: a dishonest authority hides its part of both, the honest two released once."""
    three.release(1, run="0b")
    three.release(2, run="0c")
    assert three.rejected().code == "shares-unreleased"


def test_v6_a_share_that_went_elsewhere(three: Three) -> None:
    """Shares collected by two hosts."""
    three.release(0)
    three.release(1)
    three.release(2, run="0c")
    found = three.rejected()
    assert (found.clause, found.code, found.findings[0].subject) == ("V6", "share-run", "c")


def test_v4_more_attempts_than_machines(profile: Profile, three: Three) -> None:
    more = Three(three.authorities, profile, releases=2)
    for run in ("0a", "0b"):
        more.release(0, run)
        more.release(1, run)
    assert more.rejected().code == "releases-count"
    assert len(more.judge(releases=2).released) == 4


def test_v4_fewer_attempts_than_machines(profile: Profile, three: Three) -> None:
    """Two machines were started, and one of them never got the secret."""
    more = Three(three.authorities, profile, releases=2)
    more.release(0)
    more.release(1)
    found = more.rejected(releases=2)
    assert (found.clause, found.code) == ("V4", "releases-count")


def test_v4_a_release_repeated_in_one_attempt(profile: Profile, three: Three) -> None:
    more = Three(three.authorities, profile, releases=2)
    more.release(0)
    more.release(0)
    more.release(1)
    assert more.rejected().code == "releases-count"


def test_v5_every_authority_saw_the_level(three: Three) -> None:
    three.release(0)
    three.release(1, rank=1, level="boot")
    assert three.rejected().code == "level-too-low"


@pytest.mark.parametrize(
    "share", [msgspec.UNSET, ShareRecord(2, 2, 3, ""), ShareRecord(1, 3, 3, ""), ShareRecord(1, 2, 2, "")]
)
def test_v3_a_receipt_is_about_this_very_share(three: Three, share: object) -> None:
    three.release(0, share=share)
    three.release(1)
    assert three.rejected().code == "shares-unreleased"  # the word of the first does not count


def test_a_receipt_of_a_share_is_none_of_a_whole_secret(three: Three) -> None:
    from watchword.tenant.verdict import check_receipts

    three.release(0)
    part, authority = three.record.parts()[0], three.authorities[0]
    envelopes = AuthorityClient(authority.url, authority.keys).decisions(bytes.fromhex(part.launch_id))
    with pytest.raises(Rejected) as caught:
        check_receipts(envelopes, msgspec.structs.replace(part, share=0), authority.keys)
    assert (caught.value.code, caught.value.findings[0].subject) == ("receipt-mismatch", "share")


def test_v6_one_authority_may_be_silent_and_two_may_not(three: Three) -> None:
    three.release(0)
    three.release(1)
    path = f"/v1/launches/{three.record.launch_id}"
    three.authorities[2].answers[path] = (503, b"{}")
    silent = three.judge().words[2]
    assert silent.error is not None
    three.authorities[1].answers[path] = (503, b"{}")
    with pytest.raises(Unavailable) as caught:
        three.judge()
    assert caught.value.code == "authorities-silent"
    three.authorities[1].answers[path] = (200, b'{"decisions":[{}]}')
    found = three.rejected()
    assert (found.clause, found.code) == ("V6", "authorities-silent")
