"""Which key files are in force: one file that is replaced whole, under a lock, and the tidying up after it."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from watchword.authority.keys.keyfiles import write_file
from watchword.errors import UsageError

__all__ = ["FORMAT", "MANIFEST", "Manifest", "Pending", "changing", "commit", "in_token", "read_manifest", "stamp"]

MANIFEST: Final = "keyring.json"
FORMAT: Final = "watchword-keyring/1"
_LOCK: Final = ".lock"


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Names of files, and the signed key lists."""

    format: str
    fingerprint: str  # of the first root: what tenants pin
    signing: str  # a file, or the pkcs11: URI of a key in a token
    log: str  # likewise
    sealing: tuple[str, ...]  # newest first
    mac: str
    pseudonym: str
    tls_ca: str
    tls_server: str
    tls_chain: str  # PEM file: server certificate, then the authority's
    lists: tuple[str, ...] = ()  # signed key lists, oldest first; none before the first root has signed
    root: str | None = None  # none when the root key is kept elsewhere
    void: tuple[str, ...] = ()  # ids (hex) of sealing keys whose tokens are of an epoch that ended
    pending: Pending | None = None

    def files(self) -> frozenset[str]:
        """Every file that this manifest needs."""
        signers = (name for name in (self.signing, self.log) if not in_token(name))
        plain = (self.mac, self.pseudonym, self.tls_ca, self.tls_server, self.tls_chain)
        files = frozenset((*signers, *plain, *self.sealing, *((self.root,) if self.root else ())))
        return files | self.pending.then.files() if self.pending else files


class Pending(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A change that waits for the root's signature: what it is called, the list to sign, and what is in force then."""

    act: str
    proposed: str  # envelope with the signatures that it has
    then: Manifest


def in_token(name: str) -> bool:
    """Whether a name in the manifest is a key in a token, and no file."""
    return name.startswith("pkcs11:")


@contextmanager
def changing(directory: Path) -> Iterator[None]:
    """For one program at a time."""
    fd = os.open(directory / _LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def commit(directory: Path, manifest: Manifest) -> None:
    """Put ``manifest`` in force and remove the key files that it does not need."""
    write_file(directory / MANIFEST, msgspec.json.format(msgspec.json.encode(manifest), indent=1))
    needed = manifest.files() | {MANIFEST, _LOCK}
    for path in directory.iterdir():
        # Keys that are no longer needed, and what was left half written when somebody pulled the plug.
        if path.name not in needed and (path.suffix == ".pem" or path.name.startswith(".")):
            os.unlink(path)


def read_manifest(directory: Path) -> Manifest:
    """What is in force in ``directory``. Raises :class:`UsageError` (``keyring-missing``, ``keyring-format``)."""
    try:
        manifest = msgspec.json.decode((directory / MANIFEST).read_bytes(), type=Manifest)
    except FileNotFoundError:
        raise UsageError("keyring-missing", f"there is no keyring in {directory}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError("keyring-format", f"{directory / MANIFEST} is not a keyring: {error}") from None
    if manifest.format != FORMAT or not manifest.sealing or not (manifest.lists or manifest.pending):
        raise UsageError("keyring-format", f"{directory / MANIFEST} is not a keyring of a kind this program knows")
    if any("/" in name or name.startswith(".") for name in manifest.files()):
        raise UsageError("keyring-format", f"{directory / MANIFEST} names a file outside the keyring")
    return manifest


def stamp(manifest: str) -> tuple[int, int]:
    """Of the file at ``manifest``: changes whenever :func:`commit` was called."""
    status = os.stat(manifest)
    return status.st_ino, status.st_mtime_ns
