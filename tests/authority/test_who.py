"""Every administrative act is in the record with who did it; one that cannot be recorded does not happen."""

from __future__ import annotations

import getpass
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy.exc import IntegrityError

from watchword.authority.acts.admin import Admin
from watchword.authority.acts.stacks import Activation, StackAdmin
from watchword.authority.store import ProfileRow, Store
from watchword.crypto import dsse
from watchword.launch.attest import HostState, Standing
from watchword.policy.stack import PAYLOAD_TYPE
from watchword.testing.documents import PROFILE, STACK, encode
from watchword.testing.ek_authority import EkAuthority
from watchword.testing.tpm_keys import TpmKeys
from watchword.verify.certificate import Certificate
from watchword.verify.ek import EkClass, host_id
from watchword.verify.roots import Root, RootBundle

from .conftest import Command
from .helpers import NOW, host

MAKERS, TPM, ONE, TWO = EkAuthority.create(), TpmKeys(), Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
ROOT = Certificate.parse(MAKERS.root)
BUNDLE = RootBundle("makers", 3, "for a test", (Root(MAKERS.root, EkClass.HARDWARE, "Maker", "https://maker.example"),))
ENVELOPE = dsse.sign(encode(STACK), PAYLOAD_TYPE, (ONE,))
BOTH = dsse.sign(encode(STACK), PAYLOAD_TYPE, (ONE, TWO))
KEY = dsse.key_id(ONE.public_key())
OTHER = b"\x02" * 32  # a profile by which something is known of the host
PLAIN, WITH_REASON = Activation(), Activation(reason="because")


def only_stack(admin: Admin) -> Any:
    return admin.store.stack_infos()[0]


def only_profile(admin: Admin) -> bytes:
    return next(row.id for row in admin.store.profiles() if row.id != OTHER)


# In an order in which each can happen. The method is named to find out that none was forgotten.
ACTS: list[tuple[str, Callable[[Admin], object]]] = [
    ("add_anchor", lambda a: a.add_anchor(ROOT, EkClass.HARDWARE, "maker")),
    ("remove_anchor", lambda a: a.remove_anchor(a.store.anchors()[0].fingerprint)),
    ("import_bundle", lambda a: a.import_bundle(BUNDLE.encode())),
    ("add_crl", lambda a: a.add_crl(MAKERS.revocation_list(now=NOW), Certificate.parse(MAKERS.intermediates[0]))),
    ("remove_crl", lambda a: a.remove_crl(a.store.crls()[0].fingerprint)),
    ("pin_ek", lambda a: a.pin_ek(TPM.ek, EkClass.VIRTUAL, "lab")),
    ("unpin_ek", lambda a: a.unpin_ek(host_id(TPM.ek))),
    ("add_endorser", lambda a: a.add_endorser(ONE.public_key(), "one")),
    ("add_endorser", lambda a: a.add_endorser(TWO.public_key(), "two")),
    ("set_stack_rule", lambda a: a.set_stack_rule(STACK["name"], "default", frozenset({KEY}), 1)),
    ("remove_stack_rule", lambda a: a.remove_stack_rule(STACK["name"], "default")),
    ("stacks.add", lambda a: a.stacks.add(ENVELOPE, PLAIN, draft=True)),
    ("stacks.add", lambda a: a.stacks.add(BOTH, PLAIN)),
    ("stacks.activate", lambda a: a.stacks.activate(only_stack(a), PLAIN)),
    ("stacks.retire", lambda a: a.stacks.retire(only_stack(a), NOW + 60)),
    ("stacks.revoke", lambda a: a.stacks.revoke(only_stack(a))),
    ("stacks.activate", lambda a: a.stacks.activate(only_stack(a), WITH_REASON)),
    ("remove_endorser", lambda a: a.remove_endorser(KEY)),
    ("add_profile", lambda a: a.add_profile(encode(PROFILE))),
    ("watch", lambda a: a.watch(only_profile(a))),
    ("unwatch", lambda a: a.unwatch(only_profile(a))),
    ("remove_profile", lambda a: a.remove_profile(only_profile(a))),
    ("accept_host", lambda a: a.accept_host(host().host_id, "repaired")),
    ("revoke_host", lambda a: a.revoke_host(host().host_id, "sold")),
]
NOT_HERE = {"change_keys", "record", "stacks"}  # test_command.py; test_recovery.py; StackAdmin, listed above


def with_host(path: Path) -> Store:
    store = Store.open(path)
    with store.transaction() as tx:
        tx.put_host(host())
        tx.put_profile(ProfileRow(OTHER, b"{}", "other", NOW))
        tx.put_state(host().host_id, OTHER, HostState(Standing.DEGRADED, "silver", 1, 2, NOW, NOW, NOW + 60, 1, b""))
    return store


def entries(store: Store) -> list[dict[str, Any]]:
    store.verify_decisions()
    return [json.loads(each.entry) for each in store.decisions()]


def test_no_act_is_forgotten() -> None:
    listed = {name for name, _ in ACTS}
    methods = {name for name in vars(Admin) if not name.startswith("_")} - {"store", "now", "actor"} - NOT_HERE
    steps = {name for name in vars(StackAdmin) if not name.startswith("_")} - {"store", "now", "actor"}
    assert listed == methods | {f"stacks.{name}" for name in steps}


def test_every_act_says_who_did_it_and_the_public_log_does_not(tmp_path: Path) -> None:
    with with_host(tmp_path / "store.sqlite3") as store:
        for number, (_, act) in enumerate(ACTS):
            act(Admin(store, NOW, f"certificate:person-{number}"))
        found = entries(store)
        assert [each["by"] for each in found] == [f"certificate:person-{number}" for number in range(len(ACTS))]
        assert all(b"person-" not in each.leaf for each in store.decisions())


def test_what_cannot_be_recorded_does_not_happen(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite3"
    with with_host(path) as store:
        for name, act in ACTS:
            before = _stop_recording(path)
            with pytest.raises(IntegrityError, match="no room"):
                act(Admin(store, NOW, "certificate:eve"))
            assert _go_on(path) == before, name
            act(Admin(store, NOW, "certificate:alice"))
        assert {each["by"] for each in entries(store)} == {"certificate:alice"}


def _stop_recording(path: Path) -> list[str]:
    with sqlite3.connect(path) as raw:
        raw.execute("CREATE TRIGGER stop BEFORE INSERT ON decisions BEGIN SELECT RAISE(ABORT, 'no room'); END")
    return _content(raw)


def _go_on(path: Path) -> list[str]:
    raw = sqlite3.connect(path)
    content = _content(raw)
    raw = sqlite3.connect(path)
    raw.execute("DROP TRIGGER stop")
    raw.close()
    return content


def _content(raw: sqlite3.Connection) -> list[str]:
    try:
        return list(raw.iterdump())
    finally:
        raw.close()


def test_on_the_machine_it_is_the_login_name(command: Command, data: Path) -> None:
    profile = data.parent / "profile.json"
    profile.write_bytes(encode(PROFILE))
    assert command("profile", "add", str(profile))[0] == 0
    _, shown = command("decisions", "--acts")
    assert [row["entry"]["by"] for row in shown["decisions"]] == [f"local:{getpass.getuser()}"]


def test_acts_are_listed_alone(command: Command, data: Path) -> None:
    with Store.open(data / "store.sqlite3") as store, store.transaction() as tx:
        launch = b"\x01" * 32
        tx.append_decision(NOW, launch, json.dumps({"time": NOW, "launch": launch.hex()}).encode())
        tx.append_act(NOW, "host-accept", "ab" * 32, by="certificate:alice")
    assert [row["seq"] for row in command("decisions")[1]["decisions"]] == [1, 2]
    assert [row["seq"] for row in command("decisions", "--acts")[1]["decisions"]] == [2]
