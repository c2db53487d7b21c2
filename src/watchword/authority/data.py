"""The data directory: everything that one authority is, in one place that can be copied and put back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from watchword.authority.keyfiles import make_private_directory
from watchword.authority.keyring import Keyring
from watchword.authority.store import Store
from watchword.errors import UsageError

__all__ = ["ACCESS_FILE", "DataDirectory"]

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
        return cls(path, ring, Store.open(path / "store.sqlite3"))

    @classmethod
    def open_or_create(cls, path: Path, *, authority: str, now: int, passphrase: bytes | None) -> Self:
        """Open what is there, or make a new authority called ``authority``."""
        make_private_directory(path)
        ring = Keyring.open_or_create(path / "keyring", authority=authority, now=now, passphrase=passphrase)
        return cls(path, ring, Store.open(path / "store.sqlite3"))
