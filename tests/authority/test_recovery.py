"""Backups, and stores that went back: no token has its secret released twice, whatever was copied where."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from faults.load import Token, launch
from faults.service import Service

from watchword.crypto.keylist import verify_chain
from watchword.testing.replayed import Line
from watchword.testing.witness import Witness
from watchword.wire.evidence import Purpose
from watchword.wire.messages import Challenge, ChallengeRequest, Refusal, Release

COMMAND = [sys.executable, "-m", "watchword"]


class Authority(Service):
    """A real process, its operator's commands, and a tenant that has pinned it."""

    def run(self, *arguments: str, data: Path | None = None, **environment: str) -> tuple[int, dict[str, Any]]:
        where = ("--data", str(data or self.data)) if arguments[0] == "authority" else ()
        done = subprocess.run(
            [*COMMAND, *arguments, *where, "--json"],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, **self.home, **environment},
        )
        assert "Traceback" not in done.stderr, done.stderr
        return done.returncode, json.loads(done.stdout)

    @property
    def home(self) -> dict[str, str]:
        return {"XDG_CONFIG_HOME": str(self.folder / "config"), "XDG_STATE_HOME": str(self.folder / "state")}

    def ask(self, token: Token, host: int = 0) -> str:
        with closing(Line(self.url, self.keys)) as line:
            return launch(line, self.hosts[host], token)

    def get(self, path: str) -> tuple[int, bytes]:
        context = ssl.create_default_context(cadata=self.keys.tls_ca)
        try:
            with urllib.request.urlopen(f"{self.url}{path}", context=context, timeout=30) as response:
                return response.status, response.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def starts(self) -> str:
        """Whether it starts again: the code of why not."""
        status, told = self.run("authority", "serve", "--listen", "127.0.0.1:0")
        assert status == 2
        return str(told["error"]["code"])

    def pin(self) -> None:
        fingerprint = json.loads((self.folder / "ready").read_text())["fingerprint"]
        assert self.run("trust", "add", self.url, "--fingerprint", fingerprint, "--name", "a")[0] == 0

    def audit(self) -> tuple[int, str]:
        status, told = self.run("log", "audit", "--authority", "a")
        return status, told["error"]["code"] if status else ""

    def renew_keys(self) -> None:
        lists = [json.dumps(each).encode() for each in json.loads(self.get("/v1/keys")[1])["keys"]]
        self.keys = verify_chain(lists, json.loads((self.folder / "ready").read_text())["fingerprint"])

    def backup(self, *options: str, **environment: str) -> Path:
        file = self.folder / "backup.tar"
        assert self.run("authority", "backup", str(file), *options, **environment)[0] == 0
        assert file.stat().st_mode & 0o777 == 0o600
        return file

    def lose_store(self) -> None:
        for path in self.data.glob("store.sqlite3*"):
            path.unlink()

    def acts(self) -> list[dict[str, Any]]:
        with self.store() as store:
            store.verify_decisions()
            entries = [json.loads(each.entry) for each in store.decisions()]
        return [each for each in entries if "act" in each]


@pytest.fixture
def authority(tmp_path: Path) -> Iterator[Authority]:
    service = Authority(tmp_path, hosts=2)
    try:
        yield service
    finally:
        service.close()


def code(result: tuple[int, dict[str, Any]]) -> tuple[int, str]:
    return result[0], result[1]["error"]["code"]


def test_a_backup_does_not_give_a_release_back(authority: Authority) -> None:
    """One release allowed; backup; released; restore: it is not released again, and everybody can know why."""
    token = Token.seal(authority)
    authority.pin()
    backup = authority.backup()
    assert authority.ask(token) == "released"
    assert authority.audit() == (0, "")
    authority.stop()
    authority.lose_store()
    status, restored = authority.run("authority", "restore", str(backup))
    assert (status, restored["keys"]) == (0, False)

    assert authority.starts() == "releases-held"
    _, shown = authority.run("authority", "recovery", "show")
    assert (shown["problem"], shown["hold"]["why"]) == ("releases-held", "restored")
    assert shown["marked"] > shown["entries"] == restored["entries"]
    (authority.data / "keyring" / "hold.json").unlink()  # somebody knows a short cut
    assert authority.starts() == "store-rolled-back"

    status, opened = authority.run("authority", "recovery", "open-epoch", "--reason", "disk lost")
    assert (status, opened["version"]) == (0, 2)
    authority.start()
    assert authority.ask(token) == "refused token-void"
    assert authority.ask(Token.seal(authority), host=1) == "refused token-void"  # sealed later, to the old key
    authority.renew_keys()
    assert authority.ask(Token.seal(authority)) == "released"
    assert authority.audit() == (3, "log-fork")  # the tenant has seen what was lost
    (act,) = (each for each in authority.acts() if each["act"] == "epoch-open")
    assert act["details"]["known_entries"] == shown["marked"]
    assert act["details"]["reason"] == "disk lost"
    assert list((authority.data / "keyring").glob("high-water.*.lost"))


def test_hosts_notice_nothing_of_an_epoch(authority: Authority) -> None:
    """A request sealed to a key of the old epoch opens; only tokens are void."""
    assert authority.run("authority", "recovery", "open-epoch", "--reason", "drill")[0] == 0
    old = authority.keys
    authority.renew_keys()
    token = Token.seal(authority)
    authority.keys = old
    assert authority.ask(token) == "released"


def test_a_store_copied_back_by_hand(authority: Authority) -> None:
    token = Token.seal(authority)
    authority.stop()
    shutil.copytree(authority.data, authority.folder / "old")
    authority.start()
    assert authority.ask(token) == "released"
    authority.stop()
    authority.lose_store()
    shutil.copy(authority.folder / "old" / "store.sqlite3", authority.data)
    assert authority.starts() == "store-rolled-back"


def test_a_store_that_goes_back_while_the_service_runs(authority: Authority) -> None:
    token = Token.seal(authority)
    assert authority.ask(token) == "released"
    with closing(sqlite3.connect(authority.data / "store.sqlite3")) as database, database:
        for (name,) in database.execute("select name from sqlite_master where type = 'trigger'").fetchall():
            database.execute(f'drop trigger "{name}"')
        database.execute("delete from releases")
        database.execute("delete from decisions where seq = (select max(seq) from decisions)")
    assert authority.ask(token) == "refused store-rolled-back"
    assert authority.ask(Token.seal(authority), host=1) == "refused store-rolled-back"
    assert authority.get("/v1/ready")[0] == 503
    assert authority.get("/v1/health")[0] == 200


def test_everything_copied_back_by_hand_is_seen_by_a_witness(authority: Authority) -> None:
    """Store and keys went back together, so nothing here can know; whoever kept a checkpoint does."""
    token = Token.seal(authority)
    with Witness("w", authority.keys) as witness:
        authority.command("log", "witness", "add", witness.verifier_key, "--url", witness.url)
        authority.pin()
        authority.stop()
        shutil.copytree(authority.data, authority.folder / "old")
        authority.start()
        assert authority.ask(token) == "released"
        authority.stop()
        authority.start()  # asks the witness before it answers anybody
        assert authority.audit() == (0, "")
        assert witness.seen is not None
        seen = witness.seen.size
        authority.stop()
        shutil.rmtree(authority.data)
        shutil.copytree(authority.folder / "old", authority.data)
        authority.start()
        assert authority.ask(token) == "refused releases-held"
        assert authority.get("/v1/ready")[0] == 503
        assert witness.seen.size == seen
        assert authority.audit() == (3, "log-rollback")
        authority.stop()
        assert authority.starts() == "releases-held"
        _, shown = authority.run("authority", "recovery", "show")
        assert shown["hold"]["why"] == "witness"
        note = authority.folder / "note"
        note.write_bytes(witness.seen.note.encode())
    resume = ("authority", "recovery", "resume", "--reason", "none", "--checkpoint", str(note))
    assert code(authority.run(*resume)) == (1, "recovery-behind")


def test_a_store_that_is_the_newest_goes_on(authority: Authority) -> None:
    """Moved with its keys to another machine: the newest checkpoint that anybody has is in its log."""
    token = Token.seal(authority, allowed=2)
    assert authority.ask(token) == "released"
    assert code(authority.run("authority", "backup", str(authority.folder / "b"), "--with-keys")) == (
        1,
        "backup-plain-keys",
    )
    note = authority.folder / "note"
    note.write_bytes(authority.get("/v1/checkpoint")[1])
    authority.stop()
    backup = authority.backup()
    moved = authority.folder / "moved"
    assert code(authority.run("authority", "restore", str(backup), data=moved)) == (1, "restore-keys")
    shutil.copytree(authority.data / "keyring", moved / "keyring")
    assert authority.run("authority", "restore", str(backup), data=moved)[0] == 0
    authority.data = moved
    assert authority.starts() == "releases-held"
    resume = ("authority", "recovery", "resume", "--reason", "new hardware", "--checkpoint")
    assert authority.run(*resume, str(note))[0] == 0
    assert code(authority.run(*resume, str(note))) == (1, "recovery-not-held")
    authority.start()
    assert authority.ask(token) == "released"
    assert authority.ask(token, host=1) == "refused token-used-up"
    assert [each["act"] for each in authority.acts()][-1] == "recovery-resume"


def test_after_a_clock_that_was_ahead_launches_go_on_with_new_challenges(authority: Authority) -> None:
    """The service runs all the time. What was answered by the wrong clock is not answered again."""
    token, host = Token.seal(authority, allowed=9), authority.hosts[0]
    now = int(time.time())
    with closing(Line(authority.url, authority.keys)) as line:
        challenge = line.ask(ChallengeRequest(host.host_id, Purpose.LAUNCH, token.text))
        assert isinstance(challenge, Challenge)
        used = host.release_request(challenge, token.text, "vm")
        assert isinstance(line.ask(*used), Release)
        with authority.store() as store, store.transaction() as tx:  # as if it had been an hour ahead
            assert tx.use_nonce(b"n" * 32, now + 3600)
            assert tx.prune_nonces(now + 3600) == 2
        assert authority.ask(token) == "refused nonce-used"
        _, shown = authority.run("authority", "recovery", "show")
        assert shown["problem"] == "launches-blocked"

        void = ("authority", "recovery", "void-challenges", "--reason", "a wrong clock", "--time")
        assert code(authority.run(*void, str(now - 3600))) == (1, "clock-disagrees")
        assert authority.ask(token) == "refused nonce-used"
        assert authority.run(*void, str(int(time.time()))) == (0, {"void": True})
        assert authority.ask(token, host=1) == "released"
        again = line.ask(*used)
        assert isinstance(again, Refusal)
        assert again.code == "nonce-unknown"
    assert code(authority.run(*void, str(int(time.time())))) == (1, "launches-not-blocked")
    assert authority.run("authority", "recovery", "show")[1]["problem"] == ""
    assert [each["details"] for each in authority.acts() if each["act"] == "challenges-void"] == [
        {"forgotten": now + 3600, "reason": "a wrong clock"}
    ]


def test_without_its_mark_nobody_can_tell(authority: Authority) -> None:
    authority.stop()
    (authority.data / "keyring" / "high-water").unlink()
    assert authority.starts() == "high-water-missing"
    (authority.data / "keyring" / "high-water").write_bytes(b"damaged")
    assert authority.starts() == "high-water-missing"
    assert authority.run("authority", "recovery", "open-epoch", "--reason", "mark lost")[0] == 0
    authority.start()


def test_nothing_leaves_when_the_mark_cannot_be_written(authority: Authority) -> None:
    token = Token.seal(authority)
    mark = authority.data / "keyring" / "high-water"
    before = mark.read_bytes()
    attribute = shutil.which("chattr")
    if attribute is None or subprocess.run([attribute, "+i", mark], check=False, capture_output=True).returncode:
        pytest.skip("this file system has no immutable files")
    try:
        assert authority.ask(token) == "refused high-water-unwritable"
    finally:
        subprocess.run([attribute, "-i", mark], check=True)
    assert mark.read_bytes() == before
    assert authority.ask(token, host=1) == "refused token-used-up"  # it was counted: the safe side to err on


def test_an_epoch_with_the_root_elsewhere(authority: Authority) -> None:
    phrase, root = authority.folder / "phrase", authority.folder / "root.pem"
    phrase.write_text("a long one")
    request, signed = authority.folder / "request.json", authority.folder / "signed.json"
    exported = ("authority", "keys", "export-root", str(root), "--root-passphrase-file", str(phrase))
    assert authority.run(*exported)[0] == 0
    backup = authority.backup()
    authority.stop()
    authority.lose_store()
    assert authority.run("authority", "restore", str(backup))[0] == 0
    epoch = ("authority", "recovery", "open-epoch", "--reason", "drill")
    assert code(authority.run(*epoch)) == (1, "root-offline")
    assert authority.run(*epoch, "--request", str(request))[0] == 0
    assert authority.starts() == "releases-held"
    sign = ("root", "sign", str(request), "--key", str(root), "--passphrase-file", str(phrase), "--yes")
    assert authority.run(*sign, "-o", str(signed))[0] == 0
    assert authority.run("authority", "keys", "install", str(signed))[0] == 0
    token = Token.seal(authority)
    authority.start()
    assert authority.ask(token) == "refused token-void"
