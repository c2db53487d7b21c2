"""A backup: one tar with a consistent copy of the store, what its log was then, and the key files if asked for.

Restoring checks all of it before anything is in place, and holds the authority: a copy cannot know how many releases
came after it.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import sqlite3
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

import msgspec

from watchword.authority.data import ACCESS_FILE, ELSEWHERE, STORE_FILE, DataDirectory
from watchword.authority.keys.high_water import Hold, put_hold
from watchword.authority.keys.keyfiles import make_private_directory, write_file
from watchword.authority.keys.keyring import Keyring
from watchword.authority.keys.manifest import MANIFEST, read_manifest
from watchword.authority.store import Head, Store
from watchword.errors import MalformedError, UsageError

__all__ = ["Contents", "restore", "write_backup"]

_FORMAT: Final = "watchword-backup/1"
_CONTENTS: Final = "backup.json"
_KEYRING: Final = "keyring"
_MAX_STORE: Final = 1 << 40  # bytes
_MAX_SMALL: Final = 64 << 20  # of any other file; a keyring with a long chain of lists has some megabytes
_MAX_FILES: Final = 256
_PIECE: Final = 1 << 20


class Contents(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a backup says of itself: ``made`` in Unix seconds, size and root (hex) of the log, SHA-256 of the store."""

    format: str
    authority: str
    fingerprint: str
    made: int
    entries: int
    root: str
    store: str
    keys: bool


def write_backup(directory: DataDirectory, out: IO[bytes], *, now: int, keys: bool = False) -> Contents:
    """Write a backup of a running or stopped authority to ``out``; with ``keys``, its key files as they are.

    Raises :class:`UsageError`: ``backup-store`` when the store is no file here, ``backup-plain-keys`` when key files
    are wanted that no passphrase protects.
    """
    files = _key_files(directory.keyring) if keys else []
    with _snapshot(directory.path / STORE_FILE) as (store, head), tarfile.open(fileobj=out, mode="w|") as tar:
        ring = directory.keyring
        contents = Contents(
            _FORMAT, ring.key_list.authority, ring.fingerprint, now, head.seq, head.root.hex(), _digest(store), keys
        )
        _add(tar, _CONTENTS, msgspec.json.format(msgspec.json.encode(contents), indent=1), now)
        for path in files:
            _add(tar, f"{_KEYRING}/{path.name}", path.read_bytes(), now)
        if (directory.path / ACCESS_FILE).exists():
            _add(tar, ACCESS_FILE, (directory.path / ACCESS_FILE).read_bytes(), now)
        with store.open("rb") as file:
            tar.addfile(_member(STORE_FILE, store.stat().st_size, now), file)
    return contents


def _key_files(ring: Keyring) -> list[Path]:
    manifest = read_manifest(ring.directory)
    files = [ring.directory / name for name in sorted(manifest.files())]
    for path in files:
        pem = path.read_bytes()
        if b"PRIVATE KEY" in pem and b"ENCRYPTED" not in pem:
            raise UsageError(
                "backup-plain-keys",
                f"{path.name} is not encrypted, and would lie in the backup as it is",
                hint="back up the directory 'keyring' apart, or make the authority with a passphrase",
            )
    return [*files, ring.directory / MANIFEST]


@contextmanager
def _snapshot(path: Path) -> Iterator[tuple[Path, Head]]:
    """A copy of the store at one moment, whoever writes meanwhile, and the end of its log."""
    if not path.exists():
        raise UsageError(
            "backup-store", f"there is no {path}", hint="a store on a database server is backed up with its own tools"
        )
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".backup-") as folder:  # mode 0700
        copy = Path(folder) / STORE_FILE
        with (
            closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as source,
            closing(sqlite3.connect(copy)) as target,
        ):
            source.backup(target)
            target.execute("PRAGMA journal_mode = DELETE")  # all of it in one file
        with Store.open(copy) as store:
            head = store.head()
        with closing(sqlite3.connect(copy)) as target:
            target.execute("PRAGMA journal_mode = DELETE")
        yield copy, head


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _member(name: str, size: int, now: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.mode, member.mtime = size, 0o600, now
    return member


def _add(tar: tarfile.TarFile, name: str, data: bytes, now: int) -> None:
    tar.addfile(_member(name, len(data), now), io.BytesIO(data))


# -- putting it back -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Unpacked:
    contents: Contents
    folder: Path
    names: frozenset[str]


def restore(source: IO[bytes], path: Path, *, now: int, passphrase: bytes | None) -> Contents:
    """Put the backup in ``source`` into the directory ``path``, with the keys that are there or else those in it.

    Nothing is in place before all was checked: digest, the whole log, its end, and that the keys are this
    authority's. The authority is held. Raises MalformedError (``backup-malformed``), :class:`Rejected`
    (``decision-log``), :class:`UsageError`: ``restore-exists``, ``store-elsewhere``, ``restore-keys``,
    ``restore-other``, ``key-…``.
    """
    make_private_directory(path)
    if (path / STORE_FILE).exists():
        raise UsageError(
            "restore-exists", f"{path / STORE_FILE} is there", hint="stop the service and move the store away first"
        )
    if (path / ELSEWHERE).exists():
        raise UsageError(
            "store-elsewhere",
            f"the store of the authority in {path} is on a PostgreSQL server",
            hint="a second one would count releases again: if that server is gone for good, remove store.postgresql",
        )
    with tempfile.TemporaryDirectory(dir=path, prefix=".restore-") as name:
        unpacked = _unpack(source, Path(name))
        _check_store(unpacked)
        ring = _keyring(unpacked, path, passphrase)
        if ring.fingerprint != unpacked.contents.fingerprint:
            raise UsageError("restore-other", f"the keys in {path} are those of another authority than the backup's")
        detail = f"restored from a backup made at {unpacked.contents.made} with {unpacked.contents.entries} entries"
        # The hold first, then the keys, then the store: killed in between, there is no store that counts from less.
        put_hold(ring.directory, Hold("restored", now, detail))
        if ring.directory != path / _KEYRING:
            os.replace(ring.directory, path / _KEYRING)
        if ACCESS_FILE in unpacked.names and not (path / ACCESS_FILE).exists():
            write_file(path / ACCESS_FILE, (unpacked.folder / ACCESS_FILE).read_bytes())
        os.replace(unpacked.folder / STORE_FILE, path / STORE_FILE)
    return unpacked.contents


def _keyring(unpacked: _Unpacked, path: Path, passphrase: bytes | None) -> Keyring:
    if (path / _KEYRING / MANIFEST).exists():
        return Keyring.load(path / _KEYRING, passphrase=passphrase)
    if not unpacked.contents.keys:
        raise UsageError(
            "restore-keys", "the backup has no keys, and neither has the directory", hint="put 'keyring' there first"
        )
    if (path / _KEYRING).exists():
        raise UsageError("restore-keys", f"{path / _KEYRING} is there without {MANIFEST}", hint="move it away first")
    return Keyring.load(unpacked.folder / _KEYRING, passphrase=passphrase)


def _check_store(unpacked: _Unpacked) -> None:
    """The store is the one that was copied, and its whole log leads to the end that the backup says."""
    file = unpacked.folder / STORE_FILE
    if _digest(file) != unpacked.contents.store:
        raise _malformed("the store is not the one that was copied")
    with Store.open(file) as store:
        head = store.verify_decisions()
    if (head.seq, head.root.hex()) != (unpacked.contents.entries, unpacked.contents.root):
        raise _malformed("the store's log ends elsewhere than the backup says")
    with closing(sqlite3.connect(file)) as database:
        database.execute("PRAGMA journal_mode = DELETE")


def _unpack(source: IO[bytes], folder: Path) -> _Unpacked:
    (folder / _KEYRING).mkdir(mode=0o700)
    names: set[str] = set()
    try:
        with tarfile.open(fileobj=source, mode="r|") as tar:
            for member in tar:
                if member.name in names or len(names) >= _MAX_FILES:
                    raise _malformed("a file is in it twice, or there are too many")
                _unpack_one(tar, member, folder)
                names.add(member.name)
        contents = msgspec.json.decode((folder / _CONTENTS).read_bytes(), type=Contents)
    except (tarfile.TarError, EOFError, FileNotFoundError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _malformed(str(error)[:200]) from None
    if contents.format != _FORMAT or STORE_FILE not in names:
        raise _malformed("it is of another kind, or has no store")
    return _Unpacked(contents, folder, frozenset(names))


def _unpack_one(tar: tarfile.TarFile, member: tarfile.TarInfo, folder: Path) -> None:
    """One plain file under a name that belongs here; nothing in a tar decides where it goes."""
    top, slash, name = member.name.partition("/")
    in_keyring = top == _KEYRING and slash and name == Path(name).name and not name.startswith(".")
    if not (member.name in (_CONTENTS, STORE_FILE, ACCESS_FILE) or (in_keyring and name.endswith((".pem", ".json")))):
        raise _malformed(f"it has a file {member.name[:80]!r}")
    file = tar.extractfile(member) if member.isreg() else None
    if file is None or member.size > (_MAX_STORE if member.name == STORE_FILE else _MAX_SMALL):
        raise _malformed(f"{member.name[:80]!r} is no plain file, or too large")
    fd = os.open(folder / member.name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with open(fd, "wb") as out:
        shutil.copyfileobj(file, out, _PIECE)
        out.flush()
        os.fsync(out.fileno())


def _malformed(why: str) -> MalformedError:
    return MalformedError(f"backup: {why}", code="backup-malformed")
