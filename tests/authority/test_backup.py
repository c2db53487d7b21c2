"""The backup file: a consistent copy, no key in clear, and nothing of it in place before all was checked."""

from __future__ import annotations

import io
import json
import tarfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from watchword.authority.data import STORE_FILE, DataDirectory
from watchword.authority.keys.high_water import HighWater, read_hold
from watchword.authority.keys.keyring import Keyring
from watchword.authority.store import Store
from watchword.authority.upkeep.backup import restore, write_backup
from watchword.errors import MalformedError, Unavailable, UsageError, WatchwordError

from .helpers import NOW, entry

PHRASE = b"correct horse"
Members = dict[str, bytes]


@pytest.fixture
def directory(tmp_path: Path) -> DataDirectory:
    made = DataDirectory.create(tmp_path / "data", authority="test", now=NOW, passphrase=PHRASE)
    with made.store.transaction() as tx:
        tx.count_release(b"t" * 32)
        tx.append_decision(NOW, b"", entry())
    return made


def taken(directory: DataDirectory, *, keys: bool = True) -> bytes:
    out = io.BytesIO()
    write_backup(directory, out, now=NOW, keys=keys)
    return out.getvalue()


def members(data: bytes) -> Members:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return {each.name: (tar.extractfile(each) or io.BytesIO()).read() for each in tar}


def packed(files: Members) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return out.getvalue()


def put_back(data: bytes, path: Path) -> None:
    restore(io.BytesIO(data), path, now=NOW, passphrase=PHRASE)


def test_everything_comes_back_and_is_held(directory: DataDirectory, tmp_path: Path) -> None:
    put_back(taken(directory), tmp_path / "new")
    back = DataDirectory.open(tmp_path / "new", passphrase=PHRASE)
    with back.store as store:
        assert store.releases(b"t" * 32) == 1
        assert store.verify_decisions() == directory.store.head()
        assert back.keyring.fingerprint == directory.keyring.fingerprint
        with pytest.raises(Unavailable) as caught:
            HighWater(store).check(back.keyring)
    assert caught.value.code == "releases-held"
    hold = read_hold(back.keyring.directory)
    assert hold is not None
    assert hold.why == "restored"
    for path in (tmp_path / "new").rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path
    assert [path.name for path in (tmp_path / "new").glob(".*")] == []


def test_a_backup_has_no_mark_and_no_key_in_clear(directory: DataDirectory) -> None:
    data = taken(directory)
    assert not {name for name in members(data) if "high-water" in name or "hold" in name or ".lock" in name}
    ring = directory.keyring
    for secret in (ring.mac_key, ring.pseudonym_key, ring.signing_key.private_bytes_raw(), PHRASE):
        assert secret not in data
    assert set(members(taken(directory, keys=False))) == {"backup.json", STORE_FILE}


def test_keys_without_a_passphrase_stay_out(tmp_path: Path) -> None:
    made = DataDirectory.create(tmp_path / "data", authority="test", now=NOW, passphrase=None)
    with pytest.raises(UsageError) as caught:
        taken(made)
    assert caught.value.code == "backup-plain-keys"
    assert "keyring/" not in "".join(members(taken(made, keys=False)))


def test_a_copy_is_of_one_moment_whoever_writes(directory: DataDirectory, tmp_path: Path) -> None:
    done = threading.Event()

    def write() -> None:
        while not done.wait(0.002):
            with directory.store.transaction() as tx:
                tx.append_decision(NOW, b"", entry())

    writer = threading.Thread(target=write)
    writer.start()
    try:
        copies = [taken(directory) for _ in range(3)]
    finally:
        done.set()
        writer.join()
    sizes = []
    for number, copy in enumerate(copies):
        put_back(copy, tmp_path / f"{number}")  # verifies the whole log
        sizes.append(json.loads(members(copy)["backup.json"])["entries"])
    assert sizes == sorted(sizes)


def test_keys_that_are_there_are_used(directory: DataDirectory, tmp_path: Path) -> None:
    """They may be newer than those in the backup."""
    copy = taken(directory)
    rotated = directory.keyring.rotate_signing(NOW)
    directory.store.close()
    for path in directory.path.glob("store.*"):
        path.unlink()
    put_back(copy, directory.path)
    assert Keyring.load(directory.path / "keyring", passphrase=PHRASE).chain == rotated.chain


def test_a_store_that_is_there_is_not_replaced(directory: DataDirectory) -> None:
    before = directory.store.head()
    with pytest.raises(UsageError) as caught:
        put_back(taken(directory), directory.path)
    assert caught.value.code == "restore-exists"
    assert directory.store.head() == before
    assert read_hold(directory.keyring.directory) is None


def test_the_store_of_another_authority_is_refused(directory: DataDirectory, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir(mode=0o700)
    Keyring.create(tmp_path / "other" / "keyring", authority="test", now=NOW, passphrase=PHRASE)
    with pytest.raises(UsageError) as caught:
        put_back(taken(directory), tmp_path / "other")
    assert caught.value.code == "restore-other"
    assert not (tmp_path / "other" / STORE_FILE).exists()


def _store_of_another(files: Members, tmp_path: Path) -> Members:
    with Store.open(tmp_path / "x.sqlite3") as store, store.transaction() as tx:
        tx.append_decision(NOW, b"", entry("another"))
    import hashlib
    import sqlite3

    sqlite3.connect(tmp_path / "x.sqlite3").execute("PRAGMA journal_mode = DELETE")
    raw = (tmp_path / "x.sqlite3").read_bytes()
    contents = json.loads(files["backup.json"]) | {"store": hashlib.sha256(raw).hexdigest()}
    return files | {STORE_FILE: raw, "backup.json": json.dumps(contents).encode()}


def _edited(files: Members, **changes: Any) -> Members:
    return files | {"backup.json": json.dumps(json.loads(files["backup.json"]) | changes).encode()}


@pytest.mark.parametrize(
    "damage",
    [
        lambda f, _: f | {"../evil": b"x"},
        lambda f, _: f | {"keyring/../../evil.pem": b"x"},
        lambda f, _: f | {"keyring/high-water": b"x"},
        lambda f, _: f | {"keyring/.lock": b"x"},
        lambda f, _: f | {"/etc/evil": b"x"},
        lambda f, _: {name: content for name, content in f.items() if name != STORE_FILE},
        lambda f, _: {name: content for name, content in f.items() if name != "backup.json"},
        lambda f, _: _edited(f, format="watchword-backup/2"),
        lambda f, _: _edited(f, entries=7),
        lambda f, _: _edited(f, root="00" * 32),
        lambda f, _: f | {STORE_FILE: f[STORE_FILE][:-1] + b"x"},
        _store_of_another,
        lambda f, _: f | {f"keyring/{n}.pem": b"x" for n in range(300)},
    ],
)
def test_a_damaged_backup_leaves_nothing(
    directory: DataDirectory, tmp_path: Path, damage: Callable[[Members, Path], Members]
) -> None:
    data = packed(damage(members(taken(directory)), tmp_path))
    with pytest.raises(MalformedError) as caught:
        put_back(data, tmp_path / "new")
    assert caught.value.code == "backup-malformed"
    assert list((tmp_path / "new").iterdir()) == []
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize("kind", ["link", "twice", "cut", "nothing"])
def test_a_tar_that_is_no_backup(directory: DataDirectory, tmp_path: Path, kind: str) -> None:
    data = taken(directory)
    if kind in ("link", "twice"):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as tar:
            member = tarfile.TarInfo("access.toml")
            if kind == "link":
                member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
            tar.addfile(member)
            tar.addfile(member)
        data = out.getvalue()
    elif kind == "cut":
        data = data[: len(data) // 2]
    else:
        data = b"nothing"
    with pytest.raises(WatchwordError) as caught:
        put_back(data, tmp_path / "new")
    assert caught.value.code == "backup-malformed"
    assert list((tmp_path / "new").iterdir()) == []


def test_a_store_that_was_tampered_with_before(directory: DataDirectory, tmp_path: Path) -> None:
    """The copy is faithful; what was copied is not what was logged."""
    import sqlite3

    with sqlite3.connect(directory.path / STORE_FILE) as database:
        for (name,) in database.execute("select name from sqlite_master where type = 'trigger'").fetchall():
            database.execute(f'drop trigger "{name}"')
        database.execute("update decisions set entry = cast(replace(entry, 'x', 'y') as blob)")
    with pytest.raises(WatchwordError) as caught:
        put_back(taken(directory), tmp_path / "new")
    assert caught.value.code == "decision-log"
    assert list((tmp_path / "new").iterdir()) == []
