"""The data directory: everything that one authority is, in one place that can be copied and put back.

The store may be on a server instead. Then every program that opens the directory must go there: one that looked at a
file in its place would count releases from nothing again.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from watchword.authority.keys.keyfiles import make_private_directory, write_file
from watchword.authority.keys.keyring import Keyring
from watchword.authority.store import DatabaseUrl, Store
from watchword.crypto.root_request import RootRequest
from watchword.errors import UsageError
from watchword.pkcs11.held import Tokens

__all__ = ["ACCESS_FILE", "DATABASE_FILE", "ELSEWHERE", "STORE_FILE", "DataDirectory", "note_elsewhere", "store_of"]

STORE_FILE: Final = "store.sqlite3"
ACCESS_FILE: Final = "access.toml"  # who people are; may be missing
DATABASE_FILE: Final = "database.url"  # where the store is, for all who open the directory without saying so
ELSEWHERE: Final = "store.postgresql"  # says that the store is on a server
_NOTE: Final = b"The store of this authority is on a PostgreSQL server; this file keeps others from making one here.\n"


@dataclass(frozen=True, slots=True)
class DataDirectory:
    """An opened data directory: its keys and its store."""

    path: Path
    keyring: Keyring
    store: Store

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        passphrase: bytes | None,
        database: DatabaseUrl | None = None,
        tokens: Tokens | None = None,
    ) -> Self:
        """Open what is there, with the store at ``database`` if one is given, and keys in ``tokens``.

        Raises :class:`UsageError`: ``authority-missing`` when no authority lives here, ``store-elsewhere`` when its
        store is not where it is looked for.
        """
        if not (path / "keyring" / "keyring.json").exists():
            raise UsageError(
                "authority-missing",
                f"there is no authority in {path}",
                hint="'watchword authority serve' makes one; --data names another directory",
            )
        make_private_directory(path)
        ring = Keyring.load(path / "keyring", passphrase=passphrase, tokens=tokens)
        return cls(path, ring, _open_store(path, database))

    @classmethod
    def create(
        cls, path: Path, *, authority: str, now: int, passphrase: bytes | None, database: DatabaseUrl | None = None
    ) -> Self:
        """A new one, called ``authority``. Raises :class:`UsageError` (``keyring-exists``), and as :meth:`open`."""
        make_private_directory(path)
        ring = Keyring.create(path / "keyring", authority=authority, now=now, passphrase=passphrase)
        return cls(path, ring, _open_store(path, database))

    @staticmethod
    def create_unsigned(
        path: Path, *, authority: str, now: int, root: Ed25519PublicKey, passphrase: bytes | None
    ) -> RootRequest:
        """A new authority whose ``root`` key is kept elsewhere, and what that must sign before it can be opened."""
        make_private_directory(path)
        return Keyring.create_unsigned(path / "keyring", authority=authority, now=now, root=root, passphrase=passphrase)

    @classmethod
    def install_first(
        cls, path: Path, request: RootRequest, *, passphrase: bytes | None, database: DatabaseUrl | None = None
    ) -> Self:
        """Put the first list of keys in force, which the root has signed. Raises as :meth:`Keyring.install` does."""
        ring = Keyring.install(path / "keyring", request, passphrase=passphrase)
        return cls(path, ring, _open_store(path, database))

    @classmethod
    def open_or_create(
        cls,
        path: Path,
        *,
        authority: str,
        now: int,
        passphrase: bytes | None,
        database: DatabaseUrl | None = None,
        tokens: Tokens | None = None,
    ) -> Self:
        """Open what is there, or make a new authority called ``authority``. Raises as :meth:`open`."""
        make_private_directory(path)
        ring = Keyring.open_or_create(
            path / "keyring", authority=authority, now=now, passphrase=passphrase, tokens=tokens
        )
        return cls(path, ring, _open_store(path, database))


def store_of(path: Path, database: DatabaseUrl | None) -> Path | DatabaseUrl:
    """Where the store of the authority in ``path`` is, if it is where it is looked for.

    Raises :class:`UsageError` (``store-elsewhere``).
    """
    file = path / STORE_FILE
    if database is None and (path / ELSEWHERE).exists():
        raise UsageError(
            "store-elsewhere",
            f"the store of the authority in {path} is on a PostgreSQL server",
            hint=f"say where: --database, --database-file, or {path / DATABASE_FILE}",
        )
    if database is not None and file.exists():
        raise UsageError(
            "store-elsewhere",
            f"the authority in {path} has its store in {file}, and counts releases there",
            hint="move it: watchword authority database move; another authority has a --data of its own",
        )
    return database or file


def _open_store(path: Path, database: DatabaseUrl | None) -> Store:
    store = Store.open(store_of(path, database))
    if database is not None and not (path / ELSEWHERE).exists():
        note_elsewhere(path)
    return store


def note_elsewhere(path: Path) -> None:
    """From now on the store of the authority in ``path`` is on a server."""
    write_file(path / ELSEWHERE, _NOTE)
