"""The authority's keys: a directory of key files, and one manifest that says which of them are in force.

Every change first writes new key files, then replaces the manifest in one rename, then removes what nobody needs.
Killed anywhere in between, the keyring is the old one or the new one, whole; files the manifest does not name are
dead weight and removed at the next change. The layout is described in ``docs/reference/authority-files.md``.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from watchword.authority.keys import tls
from watchword.authority.keys.keyfiles import read_ed25519, read_p256, read_x25519, write_key
from watchword.authority.keys.manifest import MANIFEST, Manifest, changing, commit, in_token, read_manifest, stamp
from watchword.authority.keys.newkeys import create, write_chain
from watchword.authority.keys.rotations import Rotations
from watchword.crypto import keylist
from watchword.crypto.ed25519 import Ed25519Signer
from watchword.crypto.keylist import KeyList
from watchword.crypto.root_request import RootRequest
from watchword.crypto.token import sealing_key_id
from watchword.errors import UsageError
from watchword.pkcs11.held import TokenKey, Tokens
from watchword.pkcs11.uri import Pkcs11Uri

__all__ = ["Keyring", "KeyringSource"]


@dataclass(frozen=True, slots=True)
class Keyring(Rotations):
    """The keys in force, loaded. The root key stays where it is: only a change of keys needs it.

    ``sealing_keys`` maps 4-byte key ids to keys, newest first; ``log_key`` signs checkpoints of the log;
    both are in a file or in a token (``pkcs11.held``), which is asked when they first sign;
    ``mac_key`` (32 bytes) authenticates challenges and enrolment cookies; ``pseudonym_key`` (32 bytes) turns host ids
    into the pseudonyms in receipts; ``key_list`` is the
    newest signed list and ``chain`` all of them, oldest first; ``fingerprint`` is what a tenant pins.
    """

    directory: Path
    signing_key: Ed25519Signer = field(repr=False)
    log_key: Ed25519Signer = field(repr=False)
    sealing_keys: Mapping[bytes, X25519PrivateKey] = field(repr=False)
    mac_key: bytes = field(repr=False)
    pseudonym_key: bytes = field(repr=False)
    key_list: KeyList
    chain: tuple[bytes, ...] = field(repr=False)
    fingerprint: str
    _manifest: Manifest = field(repr=False)
    _passphrase: bytes | None = field(repr=False)
    _tokens: Tokens = field(repr=False)
    _by_request: bool = False

    @classmethod
    def create(cls, directory: Path, *, authority: str, now: int, passphrase: bytes | None = None) -> Self:
        """Make a keyring in ``directory`` (0700), with fresh keys and a first key list issued at ``now``.

        ``authority`` is the name that receipts and certificates show. Raises :class:`UsageError`
        (``keyring-exists``) when there is one already.
        """
        create(directory, authority, now, passphrase, None)
        return cls.load(directory, passphrase=passphrase)

    @classmethod
    def create_unsigned(
        cls, directory: Path, *, authority: str, now: int, root: Ed25519PublicKey, passphrase: bytes | None = None
    ) -> RootRequest:
        """Like :meth:`create` for a ``root`` key that is kept elsewhere, which must sign what is returned.

        Until :meth:`install` the keyring cannot be loaded.
        """
        create(directory, authority, now, passphrase, root)
        return cls.requested(directory)

    @classmethod
    def open_or_create(
        cls,
        directory: Path,
        *,
        authority: str,
        now: int,
        passphrase: bytes | None = None,
        tokens: Tokens | None = None,
    ) -> Self:
        """The keyring in ``directory``, made first when there is none; two programs may do this at once."""
        if not (directory / MANIFEST).exists():
            try:
                return cls.create(directory, authority=authority, now=now, passphrase=passphrase)
            except UsageError as error:
                if error.code != "keyring-exists":
                    raise
        return cls.load(directory, passphrase=passphrase, tokens=tokens)

    @classmethod
    def load(cls, directory: Path, *, passphrase: bytes | None = None, tokens: Tokens | None = None) -> Self:
        """Read the keyring in ``directory`` and check that its key lists lead from the first root to the keys here.

        ``tokens`` is how its keys in tokens are reached, if it has such; without it they do not sign.

        Raises :class:`UsageError` (``keyring-missing``, ``keyring-format``, ``keyring-unsigned``, ``key-…``).
        """
        for _ in range(3):  # a rotation may remove a file between our reading of the manifest and of the file
            manifest = read_manifest(directory)
            if not manifest.lists:
                raise UsageError(
                    "keyring-unsigned",
                    f"the root key has not signed the keys in {directory} yet",
                    hint="sign the request where the root key is, then: watchword authority keys install FILE",
                )
            with suppress(FileNotFoundError):
                return cls._load(directory, manifest, passphrase, tokens or Tokens())
        raise UsageError("keyring-format", f"a key file that {directory / MANIFEST} names is missing")

    @classmethod
    def _load(cls, directory: Path, manifest: Manifest, passphrase: bytes | None, tokens: Tokens) -> Self:
        sealing = [read_x25519(directory / name, passphrase) for name in manifest.sealing]
        chain = tuple(text.encode() for text in manifest.lists)
        named = keylist.verify_chain(chain, manifest.fingerprint)

        def signer(name: str, public: Ed25519PublicKey) -> Ed25519Signer:
            if in_token(name):
                return tokens.key(Pkcs11Uri.parse(name), public)
            return read_ed25519(directory / name, passphrase)

        ring = cls(
            directory=directory,
            signing_key=signer(manifest.signing, named.signing[0]),
            log_key=signer(manifest.log, named.log[0]),
            sealing_keys={sealing_key_id(key.public_key()): key for key in sealing},
            mac_key=read_x25519(directory / manifest.mac, passphrase).private_bytes_raw(),
            pseudonym_key=read_x25519(directory / manifest.pseudonym, passphrase).private_bytes_raw(),
            key_list=named,
            chain=chain,
            fingerprint=manifest.fingerprint,
            _manifest=manifest,
            _passphrase=passphrase,
            _tokens=tokens,
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

    def reloaded(self) -> Self:
        """The keyring as it is on the disk now."""
        return self.load(self.directory, passphrase=self._passphrase, tokens=self._tokens)

    @property
    def has_tokens(self) -> bool:
        """Whether any of its keys is in a token."""
        return any(isinstance(key, TokenKey) for key in (self.signing_key, self.log_key))

    def check_tokens(self) -> None:
        """Whether the tokens answer and have the keys that sign; raises as :meth:`Tokens.use` does."""
        for key in (self.signing_key, self.log_key):
            if isinstance(key, TokenKey):
                key.check()

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
        """This keyring with a server certificate that is good for ``names``; issued anew only when it must be.

        Services that share a directory may do this at once: the first issues it, the others take that.
        """
        with suppress(FileNotFoundError):  # another has just put a new one in its place
            if tls.covers(self.tls_files[0].read_text(), names, now):
                return self
        with changing(self.directory):
            manifest = read_manifest(self.directory)
            if tls.covers((self.directory / manifest.tls_chain).read_text(), names, now):
                return self.reloaded()
            ca_key = read_p256(self.directory / manifest.tls_ca, self._passphrase)
            server = tls.new_key()
            chain = tls.issue_server(server, names, self.key_list.tls_ca, ca_key, now)
            manifest = msgspec.structs.replace(
                manifest,
                tls_server=write_key(self.directory, "tls-server", server, self._passphrase),
                tls_chain=write_chain(self.directory, chain),
            )
            commit(self.directory, manifest)
        return self.reloaded()

    def by_request(self) -> Self:
        """This keyring, for changes that only prepare what the root must sign: see :meth:`requested`."""
        return replace(self, _by_request=True)


class KeyringSource:
    """The keyring as it is now: a rotation by another process is noticed at the next call."""

    def __init__(self, ring: Keyring) -> None:
        self._ring = ring
        self._manifest = os.fspath(ring.directory / MANIFEST)  # looked at for every message
        self._stamp = stamp(self._manifest)
        self._lock = threading.Lock()

    def __call__(self) -> Keyring:
        now = stamp(self._manifest)
        if now != self._stamp:
            with self._lock:
                self._ring = self._ring.reloaded()
                self._stamp = now
        return self._ring
