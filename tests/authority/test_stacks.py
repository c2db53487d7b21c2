"""Admission of stack releases (G1 to G6) and their life, with nothing half-registered."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from watchword.authority.acts.admin import Admin
from watchword.authority.acts.admission import FUTURE_SECONDS
from watchword.authority.acts.stacks import Activation
from watchword.authority.store import StackInfo, Store
from watchword.crypto import dsse
from watchword.errors import MalformedError, Rejected, UsageError, WatchwordError
from watchword.policy.stack import PAYLOAD_TYPE, CompiledStack
from watchword.policy.twins import same_boot
from watchword.testing.documents import STACK, encode, event

from .helpers import NOW

ONE, TWO, STRANGER = Ed25519PrivateKey.generate(), ec.generate_private_key(ec.SECP384R1()), Ed25519PrivateKey.generate()
PLAIN = Activation()


@pytest.fixture
def admin(tmp_path: Path) -> Iterator[Admin]:
    """An authority that knows the endorsers ONE and TWO."""
    with Store.open(tmp_path / "store.sqlite3") as store:
        made = Admin(store, NOW, "eve")
        made.add_endorser(ONE.public_key(), "one")
        made.add_endorser(TWO.public_key(), "two")
        yield made


def document(serial: int = 1, **fields: Any) -> dict[str, Any]:
    """A release that boots like no other."""
    fw = {"name": "firmware", "variants": [{"name": "a", "events": [event(0, f"fw {serial} {fields.get('pool')}")]}]}
    return {**STACK, "serial": serial, "version": f"v{serial}", "components": [fw, STACK["components"][1]], **fields}


def signed(content: dict[str, Any], *keys: Any) -> bytes:
    return dsse.sign(encode(content), PAYLOAD_TYPE, keys or (ONE,))


def digest(content: dict[str, Any]) -> str:
    return "sha256:" + CompiledStack.parse(encode(content)).digest.hex()


def state(admin: Admin) -> tuple[Any, ...]:
    store = admin.store
    rows = store.stacks()
    return store.head(), store.generation(), rows, [store.stack_history(row.digest) for row in rows]


def refused(admin: Admin, code: str, act: Any) -> WatchwordError:
    """``act`` is refused for this reason, and nothing changed."""
    before = state(admin)
    with pytest.raises((Rejected, UsageError)) as caught:
        act()
    assert caught.value.code == code
    assert state(admin) == before
    return caught.value


def states(admin: Admin) -> dict[str, str]:
    return {f"{row.version}/{row.pool}/{row.channel}": str(row.state) for row in admin.store.stack_infos()}


def info(admin: Admin, version: str) -> StackInfo:
    return next(row for row in admin.store.stack_infos() if row.version == version)


def acts(admin: Admin) -> list[dict[str, Any]]:
    admin.store.verify_decisions()
    return [json.loads(decision.entry) for decision in admin.store.decisions()]


# -- G1 and G2: who signed -----------------------------------------------------------------------------------------


def test_unsigned(admin: Admin) -> None:
    refused(admin, "stack-unsigned", lambda: admin.stacks.add(encode(document()), PLAIN))
    with pytest.raises(MalformedError):
        admin.stacks.add(b"{}", PLAIN)


def test_signed_by_a_stranger(admin: Admin) -> None:
    refused(admin, "stack-endorser", lambda: admin.stacks.add(signed(document(), STRANGER), PLAIN))


def test_signed_by_one_who_may_not(admin: Admin) -> None:
    admin.add_endorser(STRANGER.public_key(), "s", stacks=frozenset({"compute"}), pools=frozenset({"special"}))
    for content in (document(), document(name="storage", pool="special")):
        envelope = signed(content, STRANGER)
        refused(admin, "stack-endorser-limit", partial(admin.stacks.add, envelope, PLAIN))
    taken = admin.stacks.add(signed(document(pool="special"), STRANGER), PLAIN)
    assert taken.row.endorsed_by == {dsse.key_id(STRANGER.public_key())}


def test_a_signature_outside_of_its_limits_does_not_count(admin: Admin) -> None:
    admin.add_endorser(TWO.public_key(), "two", pools=frozenset({"special"}))
    taken = admin.stacks.add(signed(document(), ONE, TWO), PLAIN)
    assert taken.row.endorsed_by == {dsse.key_id(ONE.public_key())}
    admin.add_endorser(TWO.public_key(), "two")
    assert len(admin.store.stack_infos()[0].endorsed_by) == 2
    admin.add_endorser(TWO.public_key(), "two", stacks=frozenset({"storage"}))
    assert len(admin.store.stack_infos()[0].endorsed_by) == 1


def rule(admin: Admin, threshold: int, *keys: Any, pool: str = "default") -> None:
    ids = frozenset(dsse.key_id(key.public_key()) for key in keys)
    admin.set_stack_rule("compute", pool, ids, threshold)


def test_under_signed(admin: Admin) -> None:
    rule(admin, 2, ONE, TWO)
    content = document()
    error = refused(admin, "stack-threshold", lambda: admin.stacks.add(signed(content, ONE), PLAIN))
    assert dsse.key_id(ONE.public_key()) in str(error)
    assert len(admin.stacks.add(signed(content, ONE, TWO), PLAIN).row.endorsed_by) == 2


def test_a_rule_is_for_one_name_and_pool(admin: Admin) -> None:
    rule(admin, 1, TWO)
    admin.stacks.add(signed(document(pool="special")), PLAIN)
    admin.stacks.add(signed(document(name="storage")), PLAIN)
    refused(admin, "stack-threshold", lambda: admin.stacks.add(signed(document()), PLAIN))
    admin.remove_stack_rule("compute", "default")
    admin.stacks.add(signed(document()), PLAIN)


def test_a_rule_applies_to_bare_documents_too(admin: Admin) -> None:
    rule(admin, 1, ONE)
    refused(admin, "stack-threshold", lambda: admin.stacks.add(encode(document()), PLAIN, endorsed=False))


def test_rules_that_are_none(admin: Admin) -> None:
    for threshold, keys in ((0, (ONE,)), (2, (ONE,)), (1, ())):
        with pytest.raises(UsageError) as caught:
            rule(admin, threshold, *keys)
        assert caught.value.code == "stack-rule"


def test_the_second_endorser_signs_later(admin: Admin) -> None:
    content = document()
    first = signed(content, ONE)
    admin.stacks.add(first, PLAIN)
    refused(admin, "stack-known", lambda: admin.stacks.add(first, PLAIN))
    both = dsse.add_signature(first, [TWO])
    assert len(admin.stacks.add(both, PLAIN).row.endorsed_by) == 2
    assert admin.store.stacks()[0].envelope == both
    refused(admin, "stack-known", lambda: admin.stacks.add(dsse.add_signature(both, [STRANGER]), PLAIN))


# -- G3: time --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"not_after": NOW}, "stack-ended"),
        ({"not_after": NOW + 1}, ""),
        ({"issued": NOW + FUTURE_SECONDS + 1}, "stack-issued"),
        ({"issued": NOW + FUTURE_SECONDS}, ""),
        ({"not_before": NOW + 9999}, ""),
    ],
)
def test_time(admin: Admin, fields: dict[str, int], code: str) -> None:
    if code:
        refused(admin, code, lambda: admin.stacks.add(signed(document(**fields)), PLAIN))
    else:
        admin.stacks.add(signed(document(**fields)), PLAIN)


# -- G4 to G6: the other releases ------------------------------------------------------------------------------------


def test_one_serial_is_one_document(admin: Admin) -> None:
    admin.stacks.add(signed(document(1)), PLAIN, draft=True)
    other = document(1, version="other")
    refused(admin, "stack-serial", lambda: admin.stacks.add(signed(other), PLAIN))
    admin.stacks.add(signed(document(1, pool="special")), PLAIN)
    admin.stacks.add(signed(document(1, channel="testing")), PLAIN)


def test_rolled_back(admin: Admin) -> None:
    admin.stacks.add(signed(document(5)), PLAIN)
    old = signed(document(4, supersedes=[digest(document(5))]))
    refused(admin, "stack-older", lambda: admin.stacks.add(old, PLAIN))
    refused(admin, "stack-reason", lambda: admin.stacks.add(old, Activation(allow_rollback=True)))
    admin.stacks.add(old, Activation(allow_rollback=True, reason="5 does not boot"))
    assert acts(admin)[-1]["details"]["rollback"] is True
    assert acts(admin)[-1]["details"]["reason"] == "5 does not boot"


def test_a_draft_that_was_never_active_is_no_rollback(admin: Admin) -> None:
    admin.stacks.add(signed(document(5)), PLAIN, draft=True)
    admin.stacks.add(signed(document(4)), PLAIN)


def test_rolled_back_counts_what_was_active_once(admin: Admin) -> None:
    admin.stacks.add(signed(document(5)), PLAIN)
    admin.stacks.revoke(info(admin, "v5"))
    refused(admin, "stack-older", lambda: admin.stacks.add(signed(document(4)), PLAIN))


def test_overlap_by_mistake(admin: Admin) -> None:
    admin.stacks.add(signed(document(1)), PLAIN)
    error = refused(admin, "stack-overlap", lambda: admin.stacks.add(signed(document(2)), PLAIN))
    assert digest(document(1)) in str(error)
    admin.stacks.add(signed(document(2, pool="special")), PLAIN)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({}, {"supersedes": [digest(document(1))]}),
        ({"not_after": NOW + 60}, {}),
    ],
)
def test_overlap_on_purpose(admin: Admin, first: dict[str, Any], second: dict[str, Any]) -> None:
    admin.stacks.add(signed(document(1, **first)), PLAIN)
    assert admin.stacks.add(signed(document(2, **second)), PLAIN).retiring == ()
    assert set(states(admin).values()) == {"active"}


def test_overlap_with_what_is_retiring_already(admin: Admin) -> None:
    admin.stacks.add(signed(document(1)), PLAIN)
    admin.stacks.retire(info(admin, "v1"), NOW + 60)
    admin.stacks.add(signed(document(2)), PLAIN)


def test_the_old_release_retires_in_the_same_step(admin: Admin) -> None:
    admin.stacks.add(signed(document(1)), PLAIN)
    admin.stacks.add(signed(document(1, pool="special")), PLAIN)
    taken = admin.stacks.add(signed(document(2)), Activation(overlap_until=NOW + 7200))
    assert [row.version for row in taken.retiring] == ["v1"]
    expected = {"v1/default/stable": "retiring", "v2/default/stable": "active", "v1/special/stable": "active"}
    assert states(admin) == expected
    ends = {row.pool: row.retire_at for row in admin.store.stack_infos() if row.version == "v1"}
    assert ends == {"default": NOW + 7200, "special": None}
    assert [act["act"] for act in acts(admin)[-2:]] == ["stack-retiring", "stack-add"]


def test_a_refusal_leaves_the_old_release_alone(admin: Admin) -> None:
    admin.stacks.add(signed(document(2)), PLAIN)
    refused(admin, "stack-older", lambda: admin.stacks.add(signed(document(1)), Activation(overlap_until=NOW + 60)))
    refused(admin, "text", lambda: admin.stacks.add(signed(document(3)), Activation(NOW + 60, reason="x\n")))


# -- life ------------------------------------------------------------------------------------------------------------


def test_draft_active_retiring_revoked_and_back(admin: Admin) -> None:
    desk = admin.stacks
    desk.add(signed(document(1)), PLAIN, draft=True)
    desk.activate(info(admin, "v1"), PLAIN)
    desk.retire(info(admin, "v1"), NOW + 60, "old")
    desk.retire(info(admin, "v1"), NOW + 90)
    refused(admin, "stack-reason", lambda: desk.activate(info(admin, "v1"), PLAIN))
    desk.activate(info(admin, "v1"), Activation(reason="not yet"))
    desk.revoke(info(admin, "v1"), "a hole")
    desk.activate(info(admin, "v1"), Activation(reason="no hole"))
    history = admin.store.stack_history(info(admin, "v1").digest)
    assert [str(change.state) for change in history] == [
        *("draft", "active", "retiring", "retiring", "active", "revoked", "active"),
    ]
    assert [change.reason for change in history] == ["", "", "old", "", "not yet", "a hole", "no hole"]
    assert {change.by for change in history} == {"eve"}
    assert [act["act"] for act in acts(admin)[2:]] == [
        *("stack-add", "stack-active", "stack-retiring", "stack-retiring", "stack-active", "stack-revoked"),
        "stack-active",
    ]


@pytest.mark.parametrize("act", ["activate", "retire"])
def test_steps_that_make_no_sense(admin: Admin, act: str) -> None:
    desk = admin.stacks
    desk.add(signed(document(1)), PLAIN, draft=act == "retire")
    if act == "activate":
        refused(admin, "stack-state", lambda: desk.activate(info(admin, "v1"), PLAIN))
    else:
        refused(admin, "stack-state", lambda: desk.retire(info(admin, "v1"), NOW + 60))
        desk.revoke(info(admin, "v1"))
        refused(admin, "stack-state", lambda: desk.revoke(info(admin, "v1")))


def test_activating_asks_everything_again(admin: Admin) -> None:
    desk = admin.stacks
    desk.add(signed(document(2, not_after=NOW + 10)), PLAIN, draft=True)
    later = replace(desk, now=NOW + 10)
    refused(admin, "stack-ended", lambda: later.activate(info(admin, "v2"), PLAIN))
    rule(admin, 1, TWO)
    refused(admin, "stack-threshold", lambda: desk.activate(info(admin, "v2"), PLAIN))
    admin.remove_stack_rule("compute", "default")
    admin.remove_endorser(dsse.key_id(ONE.public_key()))
    refused(admin, "stack-endorser", lambda: desk.activate(info(admin, "v2"), PLAIN))


def test_going_back_to_the_old_release(admin: Admin) -> None:
    desk = admin.stacks
    desk.add(signed(document(1)), PLAIN)
    desk.add(signed(document(2)), Activation(overlap_until=NOW))
    old = info(admin, "v1")
    refused(admin, "stack-older", lambda: desk.activate(old, Activation(NOW, reason="2 does not boot")))
    desk.activate(old, Activation(NOW, allow_rollback=True, reason="2 does not boot"))
    assert states(admin) == {"v1/default/stable": "active", "v2/default/stable": "retiring"}


# -- two stacks that match the same boot -----------------------------------------------------------------------------


def test_twins_are_noticed(admin: Admin) -> None:
    admin.stacks.add(signed(document(1)), PLAIN)
    twin = {**document(1), "name": "storage"}
    assert [row.name for row in admin.stacks.add(signed(twin), PLAIN).twins] == ["compute"]
    assert admin.stacks.add(signed(document(2)), Activation(NOW)).twins == ()


def test_same_boot() -> None:
    def stack(*variants: list[dict[str, Any]], pcrs: tuple[int, ...] = (0, 4)) -> CompiledStack:
        parts = [{"name": str(i), "events": events} for i, events in enumerate(variants)]
        content = {**STACK, "pcrs": list(pcrs), "components": [{"name": "c", "variants": parts}]}
        del content["runtime"]
        return CompiledStack.parse(encode(content))

    a, b = [event(0, "a"), event(4, "x")], [event(0, "b"), event(4, "x")]
    assert same_boot(stack(a), stack(b, a)) is True
    assert same_boot(stack(a), stack(b)) is False
    assert same_boot(stack(a), stack([event(4, "x")], pcrs=(4,))) is True
    assert same_boot(stack(a), stack([event(7, "x")], pcrs=(7,))) is None
    assert same_boot(stack([event(0, "a"), event(0, "b")]), stack([event(0, "b"), event(0, "a")])) is False


def test_too_many_boots_to_compare() -> None:
    parts = [
        {"name": f"c{i}", "variants": [{"name": str(j), "events": [event(0, f"{i} {j}")]} for j in range(8)]}
        for i in range(5)
    ]
    stack = CompiledStack.parse(encode({**STACK, "pcrs": [0], "components": parts}))
    assert same_boot(stack, stack) is None
