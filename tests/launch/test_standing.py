"""W4 and W5: a statement about the hosts of a launch, and each thing that may be wrong with one."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from watchword.crypto import dsse
from watchword.errors import MalformedError, Rejected
from watchword.launch.standing import (
    MAX_AGE,
    PAYLOAD_TYPE,
    HostStanding,
    Statement,
    check_hosts,
    make_statement,
    verify_statement,
)
from watchword.testing.signed_authority import SignedAuthority

NOW = 1_800_000_000
LAUNCH, PROFILE, HOST, OTHER = "ab" * 32, "cd" * 32, "11" * 16, "22" * 16
GOOD = HostStanding(HOST, "trusted", "full", 2, NOW, NOW, NOW + 300, False)


@pytest.fixture(scope="module")
def authority() -> Any:
    with SignedAuthority() as made:
        yield made


def statement(by: SignedAuthority, /, **fields: Any) -> Statement:
    values = {"authority": by.keys.authority, "time": NOW, "launch": LAUNCH, "profile": PROFILE}
    return Statement(**{**values, "hosts": (GOOD,), **fields})  # type: ignore[arg-type]


def verify(authority: SignedAuthority, envelope: bytes, now: int = NOW) -> Statement:
    return verify_statement(envelope, authority.keys, launch=LAUNCH, profile=PROFILE, now=now)


def signed(by: SignedAuthority, /, **fields: Any) -> bytes:
    return make_statement(statement(by, **fields), by.signing)


def test_a_fresh_statement_about_this_launch(authority: SignedAuthority) -> None:
    for now in (NOW - MAX_AGE, NOW, NOW + MAX_AGE):
        check_hosts(verify(authority, signed(authority), now), [HOST], 2)


@pytest.mark.parametrize("field", ["authority", "launch", "profile"])
def test_w4_about_something_else(authority: SignedAuthority, field: str) -> None:
    with pytest.raises(Rejected) as caught:
        verify(authority, signed(authority, **{field: "another"}))
    assert (caught.value.clause, caught.value.code) == ("W4", "standing-mismatch")


@pytest.mark.parametrize("now", [NOW - MAX_AGE - 1, NOW + MAX_AGE + 1])
def test_w4_an_old_answer(authority: SignedAuthority, now: int) -> None:
    with pytest.raises(Rejected) as caught:
        verify(authority, signed(authority), now)
    assert (caught.value.clause, caught.value.code) == ("W4", "standing-old")


def test_w4_signed_by_somebody_else(authority: SignedAuthority) -> None:
    with pytest.raises(Rejected) as caught:
        verify(authority, make_statement(statement(authority), Ed25519PrivateKey.generate()))
    assert caught.value.code == "document-signers"


@pytest.mark.parametrize("change", [{"format": "watchword-standing/2"}, {"more": 1}, {"hosts": 5}])
def test_a_statement_of_another_form(authority: SignedAuthority, change: dict[str, Any]) -> None:
    document = msgspec.to_builtins(statement(authority)) | change
    envelope = dsse.sign(msgspec.json.encode(document), PAYLOAD_TYPE, [authority.signing])
    with pytest.raises(MalformedError):
        verify(authority, envelope)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"host": OTHER}, "host-unmentioned"),
        ({"rebooted": True}, "host-rebooted"),
        ({"state": "stale"}, "host-silent"),
        ({"state": "unknown"}, "host-silent"),
        ({"state": "failed"}, "host-below-level"),
        ({"state": "anything"}, "host-below-level"),
        ({"rank": 1}, "host-below-level"),
        ({"state": "degraded", "rank": 1, "code": "runtime-file"}, "host-below-level"),
    ],
)
def test_w5_a_host_that_is_not_good_any_more(authority: SignedAuthority, change: dict[str, Any], code: str) -> None:
    found = statement(authority, hosts=(msgspec.structs.replace(GOOD, **change),))
    with pytest.raises(Rejected) as caught:
        check_hosts(found, [HOST], 2)
    assert (caught.value.clause, caught.value.code) == ("W5", code)


def test_w5_every_host_counts(authority: SignedAuthority) -> None:
    bad = msgspec.structs.replace(GOOD, host=OTHER, state="failed")
    with pytest.raises(Rejected) as caught:
        check_hosts(statement(authority, hosts=(GOOD, bad)), [HOST, OTHER], 2)
    assert [finding.subject for finding in caught.value.findings] == [f"host {OTHER}"]
    check_hosts(statement(authority, hosts=(GOOD, bad)), [HOST], 2)


def test_a_degraded_host_may_be_good_enough(authority: SignedAuthority) -> None:
    degraded = msgspec.structs.replace(GOOD, state="degraded", rank=1)
    check_hosts(statement(authority, hosts=(degraded,)), [HOST], 1)
