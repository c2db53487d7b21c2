"""The authority's keys: a directory of key files, and one manifest that says which of them are in force.

Every change first writes new key files, then replaces the manifest in one rename, then removes what nobody needs.
Killed anywhere in between, the keyring is the old one or the new one, whole; files the manifest does not name are
dead weight and removed at the next change. The layout is described in ``docs/reference/authority-files.md``.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Self

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from watchword.authority import tls
from watchword.authority.keyfiles import (
    make_private_directory,
    read_ed25519,
    read_p256,
    read_x25519,
    write_file,
    write_key,
)
from watchword.crypto import keylist
from watchword.crypto.keylist import KeyList
from watchword.crypto.token import sealing_key_id
from watchword.errors import UsageError

__all__ = ["Keyring", "KeyringSource"]

MANIFEST: Final = "keyring.json"
MAX_SEALING: Final = 32  # the newest and those that still open old tokens
_FORMAT: Final = "watchword-keyring/1"
_LOCK: Final = ".lock"


class _Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: str
    fingerprint: str  # of the first root: what tenants pin
    root: str
    signing: str
    log: str
    sealing: tuple[str, ...]  # newest first
    mac: str
    pseudonym: str
    tls_ca: str
    tls_server: str
    tls_chain: str  # PEM file: server certificate, then the authority's
    lists: tuple[str, ...]  # signed key lists, oldest first

    def files(self) -> frozenset[str]:
        """Every file that this manifest needs."""
        plain = (self.mac, self.pseudonym, self.tls_ca, self.tls_server, self.tls_chain)
        return frozenset((self.root, self.signing, self.log, *plain, *self.sealing))


@dataclass(frozen=True, slots=True)
class Keyring:
    """The keys in force, loaded. The root key stays on disk: only a rotation reads it.

    ``sealing_keys`` maps 4-byte key ids to keys, newest first; ``log_key`` signs checkpoints of the log;
    ``mac_key`` (32 bytes) authenticates challenges and enrolment cookies; ``pseudonym_key`` (32 bytes) turns host ids
    into the pseudonyms in receipts; ``key_list`` is the
    newest signed list and ``chain`` all of them, oldest first; ``fingerprint`` is what a tenant pins.
    """

    directory: Path
    signing_key: Ed25519PrivateKey = field(repr=False)
    log_key: Ed25519PrivateKey = field(repr=False)
    sealing_keys: Mapping[bytes, X25519PrivateKey] = field(repr=False)
    mac_key: bytes = field(repr=False)
    pseudonym_key: bytes = field(repr=False)
    key_list: KeyList
    chain: tuple[bytes, ...] = field(repr=False)
    fingerprint: str
    _manifest: _Manifest = field(repr=False)
    _passphrase: bytes | None = field(repr=False)

    @classmethod
    def create(cls, directory: Path, *, authority: str, now: int, passphrase: bytes | None = None) -> Self:
        """Make a keyring in ``directory`` (0700), with fresh keys and a first key list issued at ``now``.

        ``authority`` is the name that receipts and certificates show. Raises :class:`UsageError`
        (``keyring-exists``) when there is one already.
        """
        make_private_directory(directory)
        with _changing(directory):
            if (directory / MANIFEST).exists():
                raise UsageError("keyring-exists", f"{directory} has a keyring already")
            _commit(directory, _fresh(directory, authority, now, passphrase))
        return cls.load(directory, passphrase=passphrase)

    @classmethod
    def open_or_create(cls, directory: Path, *, authority: str, now: int, passphrase: bytes | None = None) -> Self:
        """The keyring in ``directory``, made first when there is none; two programs may do this at once."""
        if not (directory / MANIFEST).exists():
            try:
                return cls.create(directory, authority=authority, now=now, passphrase=passphrase)
            except UsageError as error:
                if error.code != "keyring-exists":
                    raise
        return cls.load(directory, passphrase=passphrase)

    @classmethod
    def load(cls, directory: Path, *, passphrase: bytes | None = None) -> Self:
        """Read the keyring in ``directory`` and check that its key lists lead from the first root to the keys here.

        Raises :class:`UsageError` (``keyring-missing``, ``keyring-format``, ``key-…``).
        """
        for _ in range(3):  # a rotation may remove a file between our reading of the manifest and of the file
            manifest = _read_manifest(directory)
            with suppress(FileNotFoundError):
                return cls._load(directory, manifest, passphrase)
        raise UsageError("keyring-format", f"a key file that {directory / MANIFEST} names is missing")

    @classmethod
    def _load(cls, directory: Path, manifest: _Manifest, passphrase: bytes | None) -> Self:
        sealing = [read_x25519(directory / name, passphrase) for name in manifest.sealing]
        chain = tuple(text.encode() for text in manifest.lists)
        ring = cls(
            directory=directory,
            signing_key=read_ed25519(directory / manifest.signing, passphrase),
            log_key=read_ed25519(directory / manifest.log, passphrase),
            sealing_keys={sealing_key_id(key.public_key()): key for key in sealing},
            mac_key=read_x25519(directory / manifest.mac, passphrase).private_bytes_raw(),
            pseudonym_key=read_x25519(directory / manifest.pseudonym, passphrase).private_bytes_raw(),
            key_list=keylist.verify_chain(chain, manifest.fingerprint),
            chain=chain,
            fingerprint=manifest.fingerprint,
            _manifest=manifest,
            _passphrase=passphrase,
        )
        ring._check()
        return ring

    def _check(self) -> None:
        named = self.key_list
        held = (self.signing_key.public_key(), self.log_key.public_key())
        if (named.signing[0], *named.log[:1]) != held or named.sealing != tuple(
            key.public_key() for key in self.sealing_keys.values()
        ):
            raise UsageError(
                "keyring-format", f"the key files in {self.directory} are not those of the newest key list"
            )

    # -- TLS ----------------------------------------------------------------------------------------------------

    @property
    def tls_files(self) -> tuple[Path, Path]:
        """The certificate chain and the private key of the service."""
        return self.directory / self._manifest.tls_chain, self.directory / self._manifest.tls_server

    @property
    def passphrase(self) -> bytes | None:
        """What encrypts the key files, for whoever must open ``tls_files``."""
        return self._passphrase

    def with_names(self, names: Sequence[str], now: int) -> Self:
        """This keyring with a server certificate that is good for ``names``; issued anew only when it must be."""
        if tls.covers(self.tls_files[0].read_text(), names, now):
            return self
        with _changing(self.directory):
            manifest = _read_manifest(self.directory)
            ca_key = read_p256(self.directory / manifest.tls_ca, self._passphrase)
            server = tls.new_key()
            chain = tls.issue_server(server, names, self.key_list.tls_ca, ca_key, now)
            manifest = msgspec.structs.replace(
                manifest,
                tls_server=write_key(self.directory, "tls-server", server, self._passphrase),
                tls_chain=_write_chain(self.directory, chain),
            )
            _commit(self.directory, manifest)
        return self.load(self.directory, passphrase=self._passphrase)

    # -- rotation -----------------------------------------------------------------------------------------------

    def rotate_signing(self, now: int) -> Self:
        """A new key for receipts; the old one is kept in the list, so that its receipts stay good."""
        with self._rotating() as (manifest, old):
            key = Ed25519PrivateKey.generate()
            named = replace(
                old,
                signing=(key.public_key(),),
                retired_signing=(*old.signing, *old.retired_signing),
            )
            manifest = msgspec.structs.replace(
                manifest, signing=write_key(self.directory, "signing", key, self._passphrase)
            )
            self._commit_list(manifest, named, now)
        return self.load(self.directory, passphrase=self._passphrase)

    def rotate_log(self, now: int) -> Self:
        """A new key for checkpoints of the log; what the old one signed stays good. Tell the witnesses."""
        with self._rotating() as (manifest, old):
            key = Ed25519PrivateKey.generate()
            manifest = msgspec.structs.replace(manifest, log=write_key(self.directory, "log", key, self._passphrase))
            self._commit_list(manifest, replace(old, log=(key.public_key(), *old.log)), now)
        return self.load(self.directory, passphrase=self._passphrase)

    def rotate_sealing(self, now: int) -> Self:
        """A new key that tokens and requests are sealed to; old ones still open until :meth:`drop_sealing`."""
        with self._rotating() as (manifest, old):
            if len(old.sealing) >= MAX_SEALING:
                raise UsageError(
                    "keyring-full", f"there are {MAX_SEALING} sealing keys", hint="drop the old ones first"
                )
            key = _new_sealing(sealing_key_id(known) for known in old.sealing)
            name = write_key(self.directory, "sealing", key, self._passphrase)
            manifest = msgspec.structs.replace(manifest, sealing=(name, *manifest.sealing))
            self._commit_list(manifest, replace(old, sealing=(key.public_key(), *old.sealing)), now)
        return self.load(self.directory, passphrase=self._passphrase)

    def drop_sealing(self, now: int) -> Self:
        """Forget all sealing keys but the newest: tokens sealed to the others can never be opened again."""
        with self._rotating() as (manifest, old):
            manifest = msgspec.structs.replace(manifest, sealing=manifest.sealing[:1])
            self._commit_list(manifest, replace(old, sealing=old.sealing[:1]), now)
        return self.load(self.directory, passphrase=self._passphrase)

    def rotate_root(self, now: int) -> Self:
        """A new root key, introduced by a list that the old and the new root both sign; the old one is forgotten."""
        with self._rotating() as (manifest, old):
            key = Ed25519PrivateKey.generate()
            old_root = read_ed25519(self.directory / manifest.root, self._passphrase)
            manifest = msgspec.structs.replace(manifest, root=write_key(self.directory, "root", key, self._passphrase))
            self._commit_list(manifest, replace(old, root=key.public_key()), now, old_root)
        return self.load(self.directory, passphrase=self._passphrase)

    @contextmanager
    def _rotating(self) -> Iterator[tuple[_Manifest, KeyList]]:
        # Read again under the lock: another administrator may have rotated since this keyring was loaded.
        with _changing(self.directory):
            now_on_disk = self.load(self.directory, passphrase=self._passphrase)
            if len(now_on_disk.chain) >= keylist.MAX_CHAIN:
                raise UsageError("keyring-full", f"the chain of key lists has its {keylist.MAX_CHAIN} entries")
            yield now_on_disk._manifest, now_on_disk.key_list

    def _commit_list(
        self, manifest: _Manifest, named: KeyList, now: int, old_root: Ed25519PrivateKey | None = None
    ) -> None:
        roots = [read_ed25519(self.directory / manifest.root, self._passphrase)]
        if old_root is not None:
            roots.insert(0, old_root)
        named = replace(named, version=named.version + 1, issued=now, envelope=b"")
        signed = keylist.sign(named, roots).decode()
        _commit(self.directory, msgspec.structs.replace(manifest, lists=(*manifest.lists, signed)))


class KeyringSource:
    """The keyring as it is now: a rotation by another process is noticed at the next call."""

    def __init__(self, ring: Keyring) -> None:
        self._ring = ring
        self._stamp = _stamp(ring.directory)
        self._lock = threading.Lock()

    def __call__(self) -> Keyring:
        stamp = _stamp(self._ring.directory)
        if stamp != self._stamp:
            with self._lock:
                self._ring = Keyring.load(self._ring.directory, passphrase=self._ring.passphrase)
                self._stamp = stamp
        return self._ring


def _stamp(directory: Path) -> tuple[int, int]:
    status = os.stat(directory / MANIFEST)
    return status.st_ino, status.st_mtime_ns


def _fresh(directory: Path, authority: str, now: int, passphrase: bytes | None) -> _Manifest:
    root, signing, log, sealing = (
        Ed25519PrivateKey.generate(),
        Ed25519PrivateKey.generate(),
        Ed25519PrivateKey.generate(),
        X25519PrivateKey.generate(),
    )
    ca_key, server = tls.new_key(), tls.new_key()
    ca = tls.issue_ca(ca_key, authority, now)
    named = KeyList(
        authority=authority,
        version=1,
        issued=now,
        root=root.public_key(),
        signing=(signing.public_key(),),
        sealing=(sealing.public_key(),),
        tls_ca=ca,
        log=(log.public_key(),),
    )
    return _Manifest(
        format=_FORMAT,
        fingerprint=keylist.root_fingerprint(root.public_key()),
        root=write_key(directory, "root", root, passphrase),
        signing=write_key(directory, "signing", signing, passphrase),
        log=write_key(directory, "log", log, passphrase),
        sealing=(write_key(directory, "sealing", sealing, passphrase),),
        # Plain 32-byte secrets, kept in the form of an X25519 key so that one file format and one passphrase serve all.
        mac=write_key(directory, "mac", X25519PrivateKey.generate(), passphrase),
        pseudonym=write_key(directory, "pseudonym", X25519PrivateKey.generate(), passphrase),
        tls_ca=write_key(directory, "tls-ca", ca_key, passphrase),
        tls_server=write_key(directory, "tls-server", server, passphrase),
        tls_chain=_write_chain(directory, tls.issue_server(server, ["localhost"], ca, ca_key, now)),
        lists=(keylist.sign(named, [root]).decode(),),
    )


def _new_sealing(known: Iterator[bytes]) -> X25519PrivateKey:
    taken = frozenset(known)
    while True:  # ids have four bytes: rarely, two keys would share one
        key = X25519PrivateKey.generate()
        if sealing_key_id(key.public_key()) not in taken:
            return key


def _write_chain(directory: Path, chain: str) -> str:
    name = f"tls-chain-{secrets.token_hex(8)}.pem"
    write_file(directory / name, chain.encode())
    return name


@contextmanager
def _changing(directory: Path) -> Iterator[None]:
    fd = os.open(directory / _LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _commit(directory: Path, manifest: _Manifest) -> None:
    write_file(directory / MANIFEST, msgspec.json.format(msgspec.json.encode(manifest), indent=1))
    needed = manifest.files() | {MANIFEST, _LOCK}
    for path in directory.iterdir():
        # Keys that are no longer needed, and what was left half written when somebody pulled the plug.
        if path.name not in needed and (path.suffix == ".pem" or path.name.startswith(".")):
            os.unlink(path)


def _read_manifest(directory: Path) -> _Manifest:
    try:
        manifest = msgspec.json.decode((directory / MANIFEST).read_bytes(), type=_Manifest)
    except FileNotFoundError:
        raise UsageError("keyring-missing", f"there is no keyring in {directory}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UsageError("keyring-format", f"{directory / MANIFEST} is not a keyring: {error}") from None
    if manifest.format != _FORMAT or not manifest.lists or not manifest.sealing:
        raise UsageError("keyring-format", f"{directory / MANIFEST} is not a keyring of a kind this program knows")
    if any("/" in name or name.startswith(".") for name in manifest.files()):
        raise UsageError("keyring-format", f"{directory / MANIFEST} names a file outside the keyring")
    return manifest
