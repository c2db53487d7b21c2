"""The public log of a real authority, and what a tenant's ``watchword log`` says when its database is tampered with."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from watchword.authority.publishing.log import PublicLog
from watchword.authority.publishing.witness import Witnesses
from watchword.authority.store import Store
from watchword.cli.main import run
from watchword.crypto.note import COSIGNS, cosign, note_key, parse_key
from watchword.errors import Rejected, Unavailable
from watchword.launch.receipt import Decision, StackRecord, launch_key
from watchword.policy.profile import Profile
from watchword.tenant import launches, log_state, trust
from watchword.tenant.launches import LaunchRecord
from watchword.testing.witness import Witness
from watchword.verify.log import check_witnesses, log_origin, verify_checkpoint
from watchword.wire.log_leaf import LogLeaf
from watchword.wire.merkle import Frontier, leaf_hash
from watchword.wire.note import Checkpoint, Note
from watchword.wire.tile import ENTRIES, Tile, parse_entries

from .conftest import Service, authority_in
from .helpers import NOW, entry

KEYID = "ab" * 32
_ENDORSED = (
    f"INSERT INTO endorsers VALUES ('{KEYID}', 'ed25519', zeroblob(32), 'x', 1)",
    "INSERT INTO stacks VALUES (zeroblob(32), x'', NULL, 'compute', '1', 1, 'default', 'stable', 'active', NULL, 1, 1)",
    f"INSERT INTO endorsements VALUES (zeroblob(32), '{KEYID}')",
)


@dataclass
class Tenant:
    """One tenant of one running authority, with files of its own."""

    service: Service
    capsys: pytest.CaptureFixture[str]
    path: Path
    said: str = field(default="")

    def run(self, *arguments: str) -> tuple[int, dict[str, Any]]:
        status = run([*arguments, "--json"])
        captured = self.capsys.readouterr()
        self.said = captured.err
        assert "Traceback" not in captured.err
        return status, json.loads(captured.out)

    def audit(self, *options: str) -> dict[str, Any]:
        status, document = self.run("log", "audit", "--authority", "a", *options)
        assert status == 0, document
        return document

    def refused(self, *options: str, command: str = "audit") -> tuple[str, str]:
        """Clause and code of why the log is refused."""
        status, document = self.run("log", command, "--authority", "a", *options)
        assert status == 3, document
        first = document["error"]["findings"][0]
        return first["clause"], first["code"]

    def fill(self, count: int) -> None:
        with self.service.store.transaction() as tx:
            for number in range(count):
                tx.append_decision(NOW, b"", entry(str(number)))

    def launch(self, name: str = "web1", releases: int = 2) -> LaunchRecord:
        rules = {"identity": ["virtual"], "covers": [4], "stacks": ["compute"], "runtime": "ignored"}
        document = {"format": "watchword-profile/1", "name": "p", "bank": "sha256", "pcrs": [4],
                    "levels": [{"name": "boot", "rules": rules}]}  # fmt: skip
        _, record = launches.create(
            name=name, authority="a", keys=trust.load("a").keys, profile=Profile.parse(json.dumps(document).encode()),
            rank=1, inputs={"disk": bytes(32)}, now=int(time.time()), lifetime=3600, releases=releases,
        )  # fmt: skip
        launches.save(record)
        return record

    def decide(self, record: LaunchRecord, outcome: str = "released", number: int = 1) -> None:
        key = launch_key(bytes.fromhex(record.launch_id))
        decision = Decision(
            outcome=outcome, time=record.created, launch=key.hex(), token=record.token, instance="vm",
            profile=record.profile, inputs=record.inputs, level="boot", rank=1, required=record.rank,
            stack=StackRecord("compute", "1", "cd" * 32), host="ef" * 16, releases=number, allowed=record.releases,
            lease=120, evidence="00" * 32,
        )  # fmt: skip
        with self.service.store.transaction() as tx:
            tx.append_decision(record.created, key, decision.encode())

    def force(self, *statements: str) -> None:
        """Change the database as somebody does who can write the file."""
        raw = sqlite3.connect(self.path / "store.sqlite3")
        for (name,) in raw.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            raw.execute(f"DROP TRIGGER {name}")
        for statement in statements:
            raw.execute(statement)
        raw.commit()
        raw.close()

    def rewrite(self, change: Callable[[int, bytes], bytes | None]) -> None:
        """Rewrite history well: change or drop leaves, and make every frontier and node follow from what is left."""
        self.force()
        raw = sqlite3.connect(self.path / "store.sqlite3")
        rows = raw.execute("SELECT * FROM decisions ORDER BY seq").fetchall()
        raw.execute("DELETE FROM decisions")
        raw.execute("DELETE FROM log_nodes")
        tree = Frontier()
        for seq, moment, key, number, salt, text, leaf, _ in rows:
            changed = change(seq, leaf)
            if changed is None:
                continue
            tree, completed = tree.append(leaf_hash(changed))
            raw.execute(
                "INSERT INTO decisions VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (tree.size, moment, key, number, salt, text, changed, tree.encode()),
            )
            for level, index, hashed in completed:
                if level % 8 == 0:
                    raw.execute("INSERT INTO log_nodes VALUES (?, ?, ?)", (level // 8, index, hashed))
        raw.commit()
        raw.close()


@pytest.fixture
def tenant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Tenant]:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    data = tmp_path / "authority"
    data.mkdir(mode=0o700)
    with authority_in(data) as service:
        trust.add(service.address.url, service.ring.fingerprint, "a")
        yield Tenant(service, capsys, data)


# -- what is served -------------------------------------------------------------------------------------------------


def test_checkpoint_and_tiles_are_served(tenant: Tenant) -> None:
    tenant.fill(300)
    with tenant.service.client() as client:
        answer = client.get("/checkpoint")
        checkpoint = verify_checkpoint(answer.content, tenant.service.ring.key_list)
        assert answer.content == client.get("/v1/checkpoint").content
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"
        full, part = client.get("/tile/0/000"), client.get("/tile/0/001.p/44")
        assert (len(full.content), len(part.content)) == (256 * 32, 44 * 32)
        assert "immutable" in full.headers["cache-control"]
        assert "immutable" not in part.headers["cache-control"]
        assert len(client.get("/tile/1/000.p/1").content) == 32
        bundle = Tile(ENTRIES, 1, 44)
        leaves = parse_entries(bundle, client.get(f"/tile/{bundle.path}").content)
        for missing in ("0/001", "0/001.p/45", "1/000", "2/000.p/1", "entries/002.p/1", "x", "0/000.p/256"):
            gone = client.get(f"/tile/{missing}")
            assert (gone.status_code, gone.json()["type"]) == (404, "urn:watchword:problem:tile-unknown")
    hashes = [full.content[at : at + 32] for at in range(0, len(full.content), 32)]
    tree = Frontier()
    for hashed in (*hashes, *map(leaf_hash, leaves)):
        tree, _ = tree.append(hashed)
    assert (checkpoint.size, checkpoint.root) == (300, tree.root())


def test_an_old_partial_tile_stays_good(tenant: Tenant) -> None:
    tenant.fill(3)
    with tenant.service.client() as client:
        old = client.get("/tile/0/000.p/3").content
        tenant.fill(2)
        assert client.get("/tile/0/000.p/3").content == old


def test_what_everybody_sees_says_nothing_about_a_launch(tenant: Tenant) -> None:
    record = tenant.launch()
    tenant.decide(record)
    tenant.decide(record, "refused")
    seen = b"".join(tenant.service.store.leaves(0, 10))
    private = (record.launch_id, record.token, record.profile, launch_key(bytes.fromhex(record.launch_id)).hex())
    for text in private:
        assert bytes.fromhex(text) not in seen
        assert text.encode() not in seen
    assert {len(leaf) for leaf in tenant.service.store.leaves(0, 10)} == {65}


# -- audit ----------------------------------------------------------------------------------------------------------


def test_a_log_that_only_grows_passes(tenant: Tenant) -> None:
    assert tenant.audit()["size"] == 0
    tenant.fill(3)
    assert (tenant.audit()["checked_from"], tenant.audit()["checked_from"]) == (0, 3)
    tenant.fill(600)
    document = tenant.audit()
    assert (document["checked_from"], document["size"]) == (3, 603)
    assert tenant.audit("--full")["checked_from"] == 0
    assert document["root"] == tenant.service.store.head().root.hex()


def test_a_rollback(tenant: Tenant) -> None:
    tenant.fill(5)
    tenant.audit()
    tenant.force("DELETE FROM decisions WHERE seq = 5")
    assert tenant.refused() == ("T4", "log-rollback")


def test_a_fork_of_the_same_size(tenant: Tenant) -> None:
    tenant.fill(5)
    tenant.audit()
    tenant.rewrite(lambda seq, leaf: leaf if seq != 2 else LogLeaf(bytes(32), bytes(32)).encode())
    assert tenant.refused() == ("T3", "log-fork")
    [kept] = (tenant.path.parent / "state" / "watchword" / "logs").glob("*.contradiction")
    assert str(kept) in tenant.said
    old, new = kept.read_bytes().split(b"\n\ntest/watchword-log\n")
    for note in (old + b"\n", b"test/watchword-log\n" + new):
        assert verify_checkpoint(note, tenant.service.ring.key_list).size == 5
    assert tenant.refused() == ("T3", "log-fork")  # what was seen first stays


@pytest.mark.parametrize("size", [5, 700])
def test_an_entry_dropped_and_the_rest_moved_up(tenant: Tenant, size: int) -> None:
    tenant.fill(size)
    tenant.audit()
    tenant.rewrite(lambda seq, leaf: None if seq == 3 else leaf)
    tenant.fill(4)
    assert tenant.refused() == ("T3", "log-fork")
    assert tenant.refused("--full") == ("T3", "log-fork")


def test_an_entry_dropped_from_the_database(tenant: Tenant) -> None:
    tenant.fill(5)
    tenant.force("DELETE FROM decisions WHERE seq = 3")
    assert tenant.refused() == ("T6", "log-tile")


def test_an_entry_rewritten_in_the_database(tenant: Tenant) -> None:
    tenant.fill(5)
    tenant.force("UPDATE decisions SET leaf = zeroblob(65) WHERE seq = 3")
    assert tenant.refused() == ("T6", "log-tile")


def test_a_tile_rewritten_in_the_database(tenant: Tenant) -> None:
    tenant.fill(300)
    tenant.force("UPDATE log_nodes SET hash = zeroblob(32)")
    assert tenant.refused() == ("T6", "log-tile")


def test_an_entry_rewritten_after_it_was_seen_is_found_by_a_full_audit(tenant: Tenant) -> None:
    tenant.fill(5)
    tenant.audit()
    tenant.force("UPDATE decisions SET leaf = zeroblob(65) WHERE seq = 3")
    assert tenant.refused("--full") == ("T6", "log-tile")


def test_a_checkpoint_signed_with_another_key(tenant: Tenant) -> None:
    tenant.fill(1)
    tenant.service.ring.rotate_log(int(time.time()))  # the tenant has not followed the key lists yet
    assert tenant.refused() == ("T1", "checkpoint-signature")
    assert tenant.run("trust", "update", "a")[0] == 0
    assert tenant.audit()["size"] == 1


def test_a_damaged_memory_is_said_and_never_skipped(tenant: Tenant) -> None:
    tenant.fill(1)
    tenant.audit()
    path = tenant.path.parent / "state" / "watchword" / "logs" / "a.json"
    path.write_text(path.read_text().replace('"frontier":"', '"frontier":"00'))
    status, document = tenant.run("log", "audit", "--authority", "a")
    assert (status, document["error"]["code"]) == (1, "log-file")


# -- witnesses ------------------------------------------------------------------------------------------------------


@pytest.fixture
def witness(tenant: Tenant) -> Iterator[Witness]:
    with Witness("witness.example", tenant.service.ring.key_list) as running:
        yield running


def stranger(name: str) -> str:
    """The key of a witness that nobody has asked."""
    return note_key(name, Ed25519PrivateKey.generate().public_key(), COSIGNS).encode()


def ask(tenant: Tenant) -> int:
    service = tenant.service
    return Witnesses(service.store, PublicLog(service.store)).ask_all(service.ring)


def demand(tenant: Tenant, *keys: str) -> tuple[str, ...]:
    file = tenant.path / "witnesses.txt"
    file.write_text("# mine\n" + "\n".join(keys) + "\n")
    return "--witnesses", str(file)


def add(tenant: Tenant, key: str, url: str = "") -> None:
    with tenant.service.store.transaction() as tx:
        tx.put_witness(key, url, NOW)


def test_missing_witnesses(tenant: Tenant, witness: Witness) -> None:
    tenant.fill(3)
    options = demand(tenant, witness.verifier_key)
    assert tenant.refused(*options) == ("T5", "log-witnesses")
    add(tenant, witness.verifier_key, witness.url)
    assert ask(tenant) == 1
    [cosigned] = tenant.audit(*options)["cosigned"]
    assert cosigned["witness"] == "witness.example"
    tenant.fill(2)
    assert tenant.audit(*options)["size"] == 3  # what the witness has not seen is not published yet
    assert ask(tenant) == 1
    assert tenant.audit(*options)["size"] == 5
    assert ask(tenant) == 0
    both = demand(tenant, witness.verifier_key, stranger("stranger.example"))
    assert tenant.refused(*both) == ("T5", "log-witnesses")
    assert tenant.audit(*both, "--quorum", "1")["size"] == 5


def test_the_service_asks_by_itself(tmp_path: Path) -> None:
    data = tmp_path / "authority"
    data.mkdir(mode=0o700)
    with authority_in(data, witness_seconds=0.05) as service, Witness("w", service.ring.key_list) as witness:
        with service.store.transaction() as tx:
            tx.put_witness(witness.verifier_key, witness.url, NOW)
            tx.append_decision(NOW, b"", entry())
        deadline = time.monotonic() + 20
        while service.store.witnessed_size() != 1 and time.monotonic() < deadline:
            time.sleep(0.05)
        note = PublicLog(service.store).published(service.ring)
        assert len(check_witnesses(note, [parse_key(witness.verifier_key, COSIGNS)], 1)) == 1


def test_a_witness_that_knows_more_or_less_than_we_remember(tenant: Tenant, witness: Witness) -> None:
    add(tenant, witness.verifier_key, witness.url)
    for count in (2, 5):
        tenant.fill(count)
        assert ask(tenant) == 1
    tenant.force("UPDATE log_witnesses SET seen_size = 0")
    tenant.fill(1)
    assert ask(tenant) == 1
    assert witness.seen is not None
    assert witness.seen.size == 8


def test_a_witness_refuses_a_rewritten_log(tenant: Tenant, witness: Witness) -> None:
    add(tenant, witness.verifier_key, witness.url)
    tenant.fill(3)
    assert ask(tenant) == 1
    tenant.rewrite(lambda seq, leaf: None if seq == 2 else leaf)
    tenant.fill(4)
    assert ask(tenant) == 0
    assert witness.refused == ["log-fork"]


def test_only_the_witness_itself_can_cosign(tenant: Tenant, witness: Witness) -> None:
    tenant.fill(1)
    add(tenant, witness.verifier_key, witness.url)
    service = tenant.service
    log = PublicLog(service.store)
    note = log.newest(service.ring)
    asked = Witnesses(service.store, log)
    forged = cosign(note.text, "witness.example", service.ring.log_key, 1)
    with pytest.raises(Unavailable, match="did not sign"):
        asked.add(witness.verifier_key, note, forged.encode().encode())
    early = cosign(note.text, "witness.example", witness.key, int(time.time()) + 3600)
    with pytest.raises(Unavailable, match="clock"):
        asked.add(witness.verifier_key, note, early.encode().encode())
    assert service.store.cosignatures(1) == []


def test_cosignatures_by_hand(tenant: Tenant, witness: Witness) -> None:
    data = ("--data", str(tenant.path))
    assert tenant.run("authority", "log", "witness", "add", witness.verifier_key, *data)[0] == 0
    _, shown = tenant.run("authority", "log", "checkpoint", *data)
    note = Note.parse(shown["checkpoint"].encode())
    line = cosign(note.text, witness.name, witness.key, int(time.time()))
    file = tenant.path / "cosigned.txt"
    file.write_bytes(Note(note.text, (*note.signatures, line)).encode())
    assert tenant.run("authority", "log", "cosign", "add", str(file), *data) == (0, {"cosigned": ["witness.example"]})
    assert tenant.audit(*demand(tenant, witness.verifier_key))["size"] == 1
    _, listed = tenant.run("authority", "log", "witness", "list", *data)
    assert listed["witnesses"][0]["size"] == 1
    file.write_bytes(note.encode())
    assert tenant.run("authority", "log", "cosign", "add", str(file), *data)[1]["error"]["code"] == "witness-unknown"
    assert tenant.run("authority", "log", "witness", "remove", witness.verifier_key, *data)[0] == 0
    assert tenant.service.store.cosignatures(1) == []


def test_a_witness_out_of_reach_delays_nobody(tenant: Tenant, witness: Witness) -> None:
    tenant.fill(1)
    add(tenant, stranger("gone.example"), "http://127.0.0.1:1")
    add(tenant, witness.verifier_key, witness.url)
    assert ask(tenant) == 1


def test_a_receipt_comes_with_the_witnesses(tenant: Tenant, witness: Witness) -> None:
    record = tenant.launch()
    tenant.decide(record)
    add(tenant, witness.verifier_key, witness.url)
    ask(tenant)
    tenant.fill(1)
    file, options = tenant.path / "receipt", demand(tenant, witness.verifier_key)
    assert tenant.run("receipt", "fetch", "web1", "-o", str(file))[0] == 0
    status, shown = tenant.run("receipt", "verify", str(file), "--launch", "web1", *options)
    assert (status, shown["receipts"][0]["log"]["size"]) == (0, 1)
    other = demand(tenant, stranger("other.example"))
    status, shown = tenant.run("receipt", "verify", str(file), *other)
    assert (status, shown["error"]["code"]) == (3, "log-witnesses")


# -- monitor --------------------------------------------------------------------------------------------------------


def monitor(tenant: Tenant, *options: str) -> list[dict[str, Any]]:
    status, document = tenant.run("log", "monitor", "--authority", "a", *options)
    assert status == 0, document
    entries: list[dict[str, Any]] = document["entries"]
    return entries


def test_a_tenant_sees_every_decision_about_its_launches(tenant: Tenant) -> None:
    mine, others = tenant.launch(), tenant.launch("web2")
    assert monitor(tenant) == []
    tenant.fill(300)
    tenant.decide(mine)
    tenant.fill(2)
    tenant.decide(mine, "refused")
    tenant.decide(others)
    told = monitor(tenant)
    assert [(each["launch"], each["seq"], each["outcome"]) for each in told] == [
        ("web1", 301, "released"),
        ("web1", 304, "refused"),
        ("web2", 305, "released"),
    ]


def test_a_monitor_follows_and_misses_nothing_that_another_audit_saw(tenant: Tenant) -> None:
    record = tenant.launch()
    told: list[str] = []

    def sleep(_seconds: float) -> None:
        told.append(tenant.capsys.readouterr().out)
        if len(told) == 3:
            raise KeyboardInterrupt
        if len(told) == 1:
            tenant.decide(record)
            tenant.audit()

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("watchword.cli.log.time.sleep", sleep)
        assert run(["log", "monitor", "--authority", "a", "--follow", "--json"]) == 1  # interrupted
    assert [json.loads(text)["entries"] for text in told[:1]] == [[]]
    assert [each["launch"] for each in json.loads(told[1])["entries"]] == ["web1"]
    assert told[2] == ""  # nothing new: nothing said


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_decision_that_is_kept_back(tenant: Tenant, number: int) -> None:
    """The database no longer knows which launch it was about: the service does not show it, but the log has it."""
    record = tenant.launch(releases=3)
    for count in (1, 2, 3):
        tenant.decide(record, number=count)
    tenant.force(f"UPDATE decisions SET launch_key = x'00' WHERE seq = {number}")
    found = tenant.refused(command="monitor")
    # Without the last one, what is shown looks whole: only the log tells.
    assert found == (("T7", "log-withheld") if number == 3 else ("V3", "receipt-gap"))


def test_an_endorser_sees_every_use_of_its_name(tenant: Tenant) -> None:
    with tenant.service.store.transaction() as tx:
        tx.append_act(NOW, "endorser-add", KEYID, label="private")
        tx.append_act(NOW, "stack-add", "11" * 32, name="compute", version="1", endorsed_by=[KEYID])
        tx.append_act(NOW, "stack-add", "22" * 32, name="other", version="1", endorsed_by=["cd" * 32])
        tx.append_act(NOW, "stack-revoked", "11" * 32, name="compute", version="1")
        tx.append_act(NOW, "stack-revoked", "22" * 32, name="other", version="1")
    told = monitor(tenant, "--endorser", KEYID)
    assert [(each["seq"], each["act"]) for each in told] == [
        (1, "endorser-add"),
        (2, "stack-add"),
        (4, "stack-revoked"),
    ]
    assert "private" not in json.dumps(told)


def test_an_endorser_sees_stacks_that_were_there_before_its_key(tenant: Tenant) -> None:
    with tenant.service.store.transaction() as tx:
        tx.append_act(NOW, "stack-add", "00" * 32, name="compute", version="1", endorsed_by=[])
        tx.append_act(NOW, "endorser-add", KEYID)
    tenant.force(*_ENDORSED)
    assert [each["act"] for each in monitor(tenant, "--endorser", KEYID)] == ["stack-add", "endorser-add"]


def test_a_stack_used_outside_of_the_log(tenant: Tenant) -> None:
    tenant.fill(1)
    tenant.force(*_ENDORSED)
    assert tenant.refused("--endorser", KEYID, command="monitor") == ("T7", "log-unlisted")


@pytest.mark.parametrize("key", ["xyz", "AB" * 32])
def test_a_key_id_that_is_none(tenant: Tenant, key: str) -> None:
    status, document = tenant.run("log", "monitor", "--authority", "a", "--endorser", key)
    assert (status, document["error"]["code"]) == (1, "bad-key-id")


# -- the database is stolen -----------------------------------------------------------------------------------------


def test_the_database_alone_makes_no_receipt_and_no_checkpoint(tenant: Tenant, tmp_path: Path) -> None:
    """A thief has every row, and none of the keys: what it can sign, nobody accepts."""
    tenant.decide(tenant.launch())
    tenant.service.store.head()
    ring = tenant.service.ring
    raw = (tenant.path / "store.sqlite3").read_bytes() + (tenant.path / "store.sqlite3-wal").read_bytes()
    secrets = [
        ring.signing_key.private_bytes_raw(),
        ring.log_key.private_bytes_raw(),
        ring.mac_key,
        ring.pseudonym_key,
        *(key.private_bytes_raw() for key in ring.sealing_keys.values()),
    ]
    assert [secret for secret in secrets if secret in raw] == []
    thief = tmp_path / "thief"
    thief.mkdir(mode=0o700)
    for name in ("store.sqlite3", "store.sqlite3-wal"):
        (thief / name).write_bytes((tenant.path / name).read_bytes())
    with Store.open(thief / "store.sqlite3") as stolen:
        own = type(ring).create(thief / "keyring", authority="test", now=NOW)
        note = PublicLog(stolen).newest(own)
    assert Checkpoint.parse(note.text).origin == log_origin("test")
    with pytest.raises(Rejected) as caught:
        verify_checkpoint(note.encode(), ring.key_list)
    assert caught.value.code == "checkpoint-signature"


def test_a_quorum_of_nobody(tenant: Tenant) -> None:
    assert log_state.load("a") is None
    for options in (("--quorum", "1"), demand(tenant)):
        status, document = tenant.run("log", "audit", "--authority", "a", *options)
        assert (status, document["error"]["code"]) == (1, "bad-quorum")
    note = PublicLog(tenant.service.store).newest(tenant.service.ring)
    with pytest.raises(Rejected):
        check_witnesses(note, [parse_key(stranger("w"), COSIGNS)], 1)
