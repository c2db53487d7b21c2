"""The data directory: everything that one authority is, in one place that can be copied and put back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from watchword.authority.keyfiles import make_private_directory
from watchword.authority.keyring import Keyring
from watchword.authority.store import Store
from watchword.crypto.root_request import RootRequest
from watchword.errors import UsageError

__all__ = ["ACCESS_FILE", "STORE_FILE", "DataDirectory"]

STORE_FILE: Final = "store.sqlite3"
ACCESS_FILE: Final = "access.toml"  # who people are; may be missing


@dataclass(frozen=True, slots=True)
class DataDirectory:
    """An opened data directory: its keys and its store."""

    path: Path
    keyring: Keyring
    store: Store

    @classmethod
    def open(cls, path: Path, *, passphrase: bytes | None) -> Self:
        """Open what is there. Raises :class:`UsageError` (``authority-missing``) when no authority lives here."""
        if not (path / "keyring" / "keyring.json").exists():
            raise UsageError(
                "authority-missing",
                f"there is no authority in {path}",
                hint="'watchword authority serve' makes one; --data names another directory",
            )
        make_private_directory(path)
        ring = Keyring.load(path / "keyring", passphrase=passphrase)
        return cls(path, ring, Store.open(path / STORE_FILE))

    @classmethod
    def create(cls, path: Path, *, authority: str, now: int, passphrase: bytes | None) -> Self:
        """A new authority called ``authority``. Raises :class:`UsageError` (``keyring-exists``)."""
        make_private_directory(path)
        ring = Keyring.create(path / "keyring", authority=authority, now=now, passphrase=passphrase)
        return cls(path, ring, Store.open(path / STORE_FILE))

    @staticmethod
    def create_unsigned(
        path: Path, *, authority: str, now: int, root: Ed25519PublicKey, passphrase: bytes | None
    ) -> RootRequest:
        """A new authority whose ``root`` key is kept elsewhere, and what that must sign before it can be opened."""
        make_private_directory(path)
        return Keyring.create_unsigned(path / "keyring", authority=authority, now=now, root=root, passphrase=passphrase)

    @classmethod
    def install_first(cls, path: Path, request: RootRequest, *, passphrase: bytes | None) -> Self:
        """Put the first list of keys in force, which the root has signed. Raises as :meth:`Keyring.install` does."""
        ring = Keyring.install(path / "keyring", request, passphrase=passphrase)
        return cls(path, ring, Store.open(path / STORE_FILE))

    @classmethod
    def open_or_create(cls, path: Path, *, authority: str, now: int, passphrase: bytes | None) -> Self:
        """Open what is there, or make a new authority called ``authority``."""
        make_private_directory(path)
        ring = Keyring.open_or_create(path / "keyring", authority=authority, now=now, passphrase=passphrase)
        return cls(path, ring, Store.open(path / STORE_FILE))
