"""The doctor: a healthy authority, and each thing that can be wrong with it, one at a time."""

from __future__ import annotations

import asyncio
import json
import os
import re
import resource
import shutil
import sqlite3
import threading
import time
from collections import namedtuple
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.conftest import ROOT

from watchword.authority.app import Services, create_app
from watchword.authority.doctor.examine import examine
from watchword.authority.doctor.report import Subject
from watchword.authority.keys.keyring import Keyring
from watchword.authority.publishing.log import PublicLog
from watchword.authority.server import Address, bind, make_server
from watchword.authority.store import CrlRow, StackRule, StackState
from watchword.cli.main import run
from watchword.crypto.note import COSIGNS, cosign, note_key
from watchword.testing.farm import have_swtpm
from watchword.testing.postgresql import Cluster
from watchword.testing.world import World, profile_document, stack_from_recording

from .conftest import Answers, serving

DAY = 86400
PAGE = ROOT / "docs" / "reference" / "doctor.md"
Harm = Callable[[World, Subject], Subject | None]
Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def world(boots: Path) -> Iterator[World]:
    if not have_swtpm():
        pytest.skip("swtpm is not installed: the hosts have real emulated TPMs")
    with World(boots, clock=int(time.time())) as made:
        yield made


@pytest.fixture
def subject(world: World) -> Subject:
    return Subject(world.folder, world.now)


def codes(subject: Subject) -> list[str]:
    return [trouble.code for trouble in examine(subject).troubles]


def test_nothing_is_wrong_with_a_healthy_authority(world: World, subject: Subject) -> None:
    world.watch()
    world.host().attest()
    backup = world.folder.parent / f"{world.folder.name}.backup"
    backup.write_bytes(b"")
    try:
        found = examine(replace(subject, backup=backup, whole_log=True, now=int(time.time())))
    finally:
        backup.unlink()
    assert (found.troubles, found.healthy) == ([], True)
    assert found.checked == [
        "directory", "disk", "limits", "backup", "access", "keys", "certificates", "store", "log", "clock", "witnesses",
        "retention", "hosts", "crls", "stacks", "profiles",
    ]  # fmt: skip


# -- one thing at a time ------------------------------------------------------------------------------------------


def open_directory(_world: World, subject: Subject) -> None:
    (subject.data / "keyring").chmod(0o750)


def open_store(_world: World, subject: Subject) -> None:
    subject.store.chmod(0o604)


def readable_key(_world: World, subject: Subject) -> None:
    next((subject.data / "keyring").glob("signing-*.pem")).chmod(0o644)


def no_keyring(_world: World, subject: Subject) -> None:
    (subject.data / "keyring" / "keyring.json").unlink()


def old_keys(world: World, subject: Subject) -> Subject:
    later = world.now + 401 * DAY
    world.keys.with_names(["127.0.0.1"], later)
    return replace(subject, now=later)


def in_days(days: int) -> Harm:
    return lambda world, subject: replace(subject, now=world.now + days * DAY)


def no_store(world: World, subject: Subject) -> None:
    world.store.close()
    subject.store.unlink()


def wrong_access_file(_world: World, subject: Subject) -> None:
    file = subject.data / "access.toml"
    file.write_text("admins = []")
    file.chmod(0o600)


def not_a_store(world: World, subject: Subject) -> None:
    no_store(world, subject)
    subject.store.write_bytes(b"x" * 4096)
    subject.store.chmod(0o600)


def damaged_store(world: World, subject: Subject) -> None:
    """One page of an index, which is found by looking at all pages only."""
    world.store.close()
    with sqlite3.connect(subject.store) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (size,) = connection.execute("PRAGMA page_size").fetchone()
        find = "SELECT rootpage FROM sqlite_master WHERE name = 'decisions_launch_key'"
        (page,) = connection.execute(find).fetchone()
    with subject.store.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xff" * size)


def with_entries(world: World, count: int) -> None:
    with world.store.transaction() as tx:
        for number in range(count):
            tx.append_act(world.now, "host-revoke", f"{number:064x}")


def by_hand(subject: Subject, statement: str, trigger: str) -> None:
    with sqlite3.connect(subject.store) as connection:
        connection.execute(f"DROP TRIGGER {trigger}")
        assert connection.execute(statement).rowcount == 1


def altered_entry(world: World, subject: Subject) -> None:
    with_entries(world, 3)
    changed = "CAST(replace(entry, 'host-revoke', 'host-revoked') AS BLOB)"
    by_hand(subject, f"UPDATE decisions SET entry = {changed} WHERE seq = 3", "decisions_no_update")


def text_for_bytes(world: World, subject: Subject) -> None:
    with_entries(world, 3)
    by_hand(subject, "UPDATE decisions SET entry = CAST(entry AS TEXT) WHERE seq = 3", "decisions_no_update")


def altered_tile(world: World, subject: Subject) -> None:
    with_entries(world, 300)
    by_hand(subject, "UPDATE log_nodes SET hash = zeroblob(32) WHERE tile_level = 1", "log_nodes_no_update")


def entry_from_the_future(world: World, _subject: Subject) -> None:
    with world.store.transaction() as tx:
        tx.append_act(world.now + 1, "host-revoke", "ab" * 32)


def forgotten_by_a_clock_ahead(world: World, _subject: Subject) -> None:
    with world.store.transaction() as tx:
        tx.use_nonce(b"n" * 32, world.now + 3600)
        assert tx.prune_nonces(world.now + 3600) == 1


def sleepy_witness(world: World, subject: Subject) -> Subject:
    key = note_key("w.example", Ed25519PrivateKey.generate().public_key(), COSIGNS).encode()
    with world.store.transaction() as tx:
        tx.put_witness(key, "", world.now)
        tx.append_act(world.now, "witness-add", "w")
    assert codes(subject) == []  # it has ten minutes
    return replace(subject, now=world.now + 601)


def slow_clock_of_a_witness(world: World, subject: Subject) -> None:
    """The witness has a clock of its own, and signed when it was earlier there than our newest entry."""
    key = Ed25519PrivateKey.generate()
    witness = note_key("w.example", key.public_key(), COSIGNS).encode()
    with world.store.transaction() as tx:
        tx.put_witness(witness, "", world.now)
        tx.append_act(world.now, "witness-add", "w")
    note = PublicLog(world.store).newest(world.keys)
    for early in (300, 301):
        assert codes(subject) == []
        line = cosign(note.text, "w.example", key, world.now - early).encode().rstrip("\n")
        with world.store.transaction() as tx:
            tx.put_cosignature(1, witness, line)


def old_evidence(world: World, subject: Subject) -> Subject:
    world.host().obtain(world.token())
    assert codes(replace(subject, now=world.now + 31 * DAY)) == []
    return replace(subject, now=world.now + 31 * DAY + 1)


def failed_host(world: World, _subject: Subject) -> None:
    world.watch()
    world.host("kernel").attest()


def silent_host(world: World, subject: Subject) -> Subject:
    world.watch()
    world.host().attest()
    return replace(subject, now=world.now + 3600)


def ending_list(world: World, subject: Subject) -> None:
    row = CrlRow(b"i" * 32, b"f" * 32, b"der", "maker", world.now, world.now + 7 * DAY, world.now)
    with world.store.transaction() as tx:
        tx.put_crl(row)
    assert codes(subject) == []
    with world.store.transaction() as tx:
        tx.put_crl(replace(row, fingerprint=b"g" * 32, this_update=world.now + 1, next_update=world.now + 7 * DAY - 1))


def no_stack(world: World, _subject: Subject) -> None:
    world.set_stack_state(world.stack, StackState.REVOKED)


def ending_stack(world: World, subject: Subject) -> None:
    world.set_stack_state(world.stack, StackState.RETIRING, world.now + DAY)
    assert codes(subject) == []
    world.set_stack_state(world.stack, StackState.RETIRING, world.now + DAY - 1)


def ended_stack(world: World, subject: Subject) -> None:
    document = json.loads(stack_from_recording(world.boots / "good", version="0", serial=2))
    world.add_stack(json.dumps(document | {"not_after": world.now}).encode())
    assert codes(subject) == []  # it is over, and nobody waits for its end
    no_stack(world, subject)


def new_rule(world: World, _subject: Subject) -> None:
    with world.store.transaction() as tx:
        tx.put_stack_rule(StackRule("compute", "default", 1, frozenset({"ab" * 32}), world.now))


def strange_profile(world: World, _subject: Subject) -> None:
    world.add_profile(profile_document(stacks=("another",)))


def no_backup(_world: World, subject: Subject) -> Subject:
    return replace(subject, backup=subject.data / "nothing")


def old_backup(world: World, subject: Subject) -> Subject:
    folder = subject.data.parent / f"{subject.data.name}.backups"
    folder.mkdir(exist_ok=True)
    (folder / "one").write_bytes(b"")
    os.utime(folder / "one", (world.now - 2 * DAY + 60, world.now - 2 * DAY + 60))
    subject = replace(subject, backup=folder)
    assert codes(subject) == []
    os.utime(folder / "one", (world.now - 2 * DAY, world.now - 2 * DAY))
    return subject


CASES: list[tuple[Harm, str, list[str]]] = [
    (open_directory, "problem", ["data-open"]),
    (open_store, "problem", ["data-open"]),
    (readable_key, "problem", ["key-open"]),
    (no_keyring, "problem", ["keyring-missing"]),
    (old_keys, "warning", ["key-old"] * 3),
    (in_days(336), "warning", ["certificate-ends"]),
    (in_days(366), "problem", ["certificate-ended"]),
    (no_store, "problem", ["store-missing"]),
    (wrong_access_file, "problem", ["access-file"]),
    (not_a_store, "problem", ["store-format"]),
    (damaged_store, "problem", ["store-damaged"]),
    (altered_entry, "problem", ["decision-log"]),
    (text_for_bytes, "problem", ["decision-log"]),
    (altered_tile, "problem", ["decision-log"]),
    (entry_from_the_future, "problem", ["clock-behind"]),
    (forgotten_by_a_clock_ahead, "problem", ["launches-blocked"]),
    (sleepy_witness, "warning", ["witness-behind"]),
    (slow_clock_of_a_witness, "warning", ["clock-ahead"]),
    (old_evidence, "warning", ["retention-late"]),
    (failed_host, "warning", ["hosts-failed"]),
    (silent_host, "warning", ["hosts-stale"]),
    (ending_list, "warning", ["crl-ends"]),
    (no_stack, "problem", ["stack-none-active"]),
    (ended_stack, "problem", ["stack-none-active"]),
    (ending_stack, "warning", ["stack-ends"]),
    (new_rule, "warning", ["stack-endorsers-few"]),
    (strange_profile, "warning", ["profile-unsatisfied"] * 2),
    (no_backup, "problem", ["backup-missing"]),
    (old_backup, "warning", ["backup-old"]),
]


@pytest.mark.parametrize(("harm", "severity", "expected"), CASES, ids=lambda each: getattr(each, "__name__", ""))
def test_exactly_what_is_wrong_is_found(
    world: World, subject: Subject, harm: Harm, severity: str, expected: list[str]
) -> None:
    assert codes(subject) == []
    found = examine(harm(world, subject) or subject)
    assert [trouble.code for trouble in found.troubles] == expected
    assert {trouble.severity for trouble in found.troubles} == {severity}
    assert found.healthy == (severity == "warning")
    assert all(trouble.message and trouble.hint for trouble in found.troubles)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a file away")
def test_a_file_of_another_user_is_found(subject: Subject) -> None:
    os.chown(subject.store, 12345, -1)
    assert codes(subject) == ["data-owner"]


def test_a_full_disk_is_found(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    size = sum(path.stat().st_size for path in subject.data.glob("store.sqlite3*"))
    for free, expected in ((256 << 20, []), ((256 << 20) - 1, ["disk-full"])):
        monkeypatch.setattr(shutil, "disk_usage", lambda _path, free=free: Usage(1 << 40, 0, free))
        assert codes(subject) == expected
    with (subject.data / "store.sqlite3-filler").open("wb") as file:
        file.truncate((300 << 20) - size)
    (subject.data / "store.sqlite3-filler").chmod(0o600)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: Usage(1 << 40, 0, (300 << 20) - 1))
    assert codes(subject) == ["disk-low"]


def test_a_store_on_a_server_is_looked_at_as_far_as_one_can(boots: Path, cluster: Cluster) -> None:
    database = cluster.new_database()
    with World(boots, clock=int(time.time()), database=database) as world:
        found = examine(Subject(world.folder, world.now, database=database))
        assert [(each.severity, each.code) for each in found.troubles] == [("note", "disk-elsewhere")]
        assert re.search(r"the store has [1-9]\d* MiB on a database server", found.text())
        assert (found.healthy, found.document()["notes"][0]["code"]) == (True, "disk-elsewhere")


def test_too_few_open_files_are_found(subject: Subject) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1151, before[1]))
    try:
        assert codes(subject) == ["files-limit"]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_an_old_entry_is_found_only_in_the_whole_log(world: World, subject: Subject) -> None:
    with_entries(world, 1010)
    changed = "CAST(replace(entry, 'host-revoke', 'host-revoked') AS BLOB)"
    by_hand(subject, f"UPDATE decisions SET entry = {changed} WHERE seq = 3", "decisions_no_update")
    assert codes(subject) == []
    assert codes(replace(subject, whole_log=True)) == ["decision-log"]
    with sqlite3.connect(subject.store) as connection:
        connection.execute(f"UPDATE decisions SET entry = {changed} WHERE seq = 11")
    assert codes(subject) == ["decision-log"]  # one of the newest thousand


def test_progress_is_told(world: World, subject: Subject) -> None:
    with_entries(world, 5)
    told: list[tuple[int, int]] = []
    examine(subject, lambda done, size: told.append((done, size)))
    assert told == [(number, 5) for number in range(1, 6)]


def test_looking_changes_nothing(world: World, subject: Subject) -> None:
    world.store.close()
    before = {path: path.read_bytes() for path in world.folder.rglob("*") if path.is_file()}
    examine(subject)
    after = {path: path.read_bytes() for path in world.folder.rglob("*") if path.is_file()}
    assert {path for path in before if after[path] != before[path]} == set()


# -- the service --------------------------------------------------------------------------------------------------


@contextmanager
def answering(world: World, ring: Keyring, **options: Any) -> Iterator[str]:
    options = {"clock": lambda: world.now, **options}
    keyring = options.pop("keyring", lambda: ring)
    with serving(Services(Answers(), world.store, keyring, witness_seconds=3600, **options), ring) as address:
        yield address.url


@pytest.fixture
def ring(world: World) -> Keyring:
    world.keys = world.keys.with_names(["127.0.0.1"], world.now)
    return world.keys


def test_a_service_that_answers_is_healthy(world: World, subject: Subject, ring: Keyring) -> None:
    with answering(world, ring) as url:
        found = examine(replace(subject, url=url))
        assert (found.troubles, "service" in found.checked) == ([], True)


def test_a_service_that_does_not_answer_is_found(subject: Subject, ring: Keyring) -> None:
    listener, address = bind(Address("127.0.0.1", 0))
    listener.close()
    assert codes(replace(subject, url=address.url)) == ["service-unreachable"]


def test_a_name_that_the_certificate_lacks_is_found(world: World, subject: Subject, ring: Keyring) -> None:
    with answering(world, ring) as url:
        assert codes(replace(subject, url=url.replace("127.0.0.1", "ip6-localhost"))) == ["certificate-names"]


def test_another_authority_is_found(world: World, subject: Subject, ring: Keyring, tmp_path: Path) -> None:
    other = Keyring.create(tmp_path / "other", authority="other", now=world.now).with_names(["127.0.0.1"], world.now)
    with answering(world, other) as url:
        assert codes(replace(subject, url=url)) == ["service-other"]
    with answering(world, ring, keyring=lambda: other) as url:  # the same TLS, and other keys behind it
        assert codes(replace(subject, url=url)) == ["service-other"]


def test_another_clock_is_found(world: World, subject: Subject, ring: Keyring) -> None:
    with answering(world, ring, clock=lambda: world.now + 61) as url:
        assert codes(replace(subject, url=url)) == ["clock-differs"]


def test_a_service_that_is_not_ready_is_found(world: World, subject: Subject, ring: Keyring) -> None:
    app = create_app(Services(Answers(), world.store, lambda: ring, lambda: world.now, witness_seconds=3600))
    app.state.readiness.stop()
    listener, address = bind(Address("127.0.0.1", 0))
    ready = threading.Event()
    server = make_server(app, ring, ready.set)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])))
    thread.start()
    try:
        assert ready.wait(30)
        assert codes(replace(subject, url=address.url)) == ["service-not-ready"]
    finally:
        server.should_exit = True
        thread.join(30)


# -- the command --------------------------------------------------------------------------------------------------


def test_the_command_says_what_to_do(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["authority", "doctor", "--data", str(world.folder)]
    assert run([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["healthy"] is True
    world.set_stack_state(world.stack, StackState.RETIRING, world.now + 3600)
    assert run(command) == 0
    said = capsys.readouterr().out
    assert "healthy: yes" in said
    assert "warning: stack-ends: compute 1 ends in " in said
    world.set_stack_state(world.stack, StackState.REVOKED)
    assert run([*command, "--json"]) == 2
    document = json.loads(capsys.readouterr().out)
    assert [problem["code"] for problem in document["problems"]] == ["stack-none-active"]
    assert document["warnings"] == []
    assert run(command) == 2
    assert "  hint: watchword authority stack activate" in capsys.readouterr().out


def test_an_authority_that_is_not_there_is_no_crash(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["authority", "doctor", "--data", str(tmp_path / "nowhere"), "--json"]) == 2
    found = {problem["code"] for problem in json.loads(capsys.readouterr().out)["problems"]}
    assert found == {"file-unreadable", "keyring-missing", "store-missing"}
    assert not (tmp_path / "nowhere").exists()


def test_every_finding_is_on_its_page() -> None:
    source = "".join(path.read_text() for path in (ROOT / "src/watchword/authority/doctor").glob("*.py"))
    found = set(re.findall(r'\.(?:problem|warning)\(\s*"([a-z-]+)"', source))
    listed = re.findall(r"^\| `([a-z-]+)` \| (problem|warning) \|", PAGE.read_text(), re.MULTILINE)
    assert sorted(code for code, _ in listed) == sorted(found)
