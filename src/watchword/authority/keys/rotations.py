"""Changes of an authority's keys: the part of a :class:`~watchword.authority.keys.keyring.Keyring` that makes new ones.

Each is a new list of keys that the root signs: at once when the root key is here, else after a request to where it is.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final, Self

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from watchword.authority.keys.keyfiles import encode_key, read_ed25519, write_file, write_key
from watchword.authority.keys.manifest import Manifest, Pending, changing, commit, read_manifest
from watchword.crypto import keylist
from watchword.crypto.keylist import KeyList
from watchword.crypto.root_request import RootRequest
from watchword.crypto.token import sealing_key_id
from watchword.errors import Finding, Rejected, UsageError
from watchword.pkcs11.held import TokenKey, Tokens

__all__ = ["Rotations"]

MAX_SEALING: Final = 32  # the newest and those that still open old tokens


class Rotations:
    """See :class:`~watchword.authority.keys.keyring.Keyring`, which is this and everything else."""

    __slots__ = ()

    directory: Path
    chain: tuple[bytes, ...]
    key_list: KeyList
    _manifest: Manifest
    _passphrase: bytes | None
    _by_request: bool

    @classmethod
    def load(cls, directory: Path, *, passphrase: bytes | None = None, tokens: Tokens | None = None) -> Self:
        """The keyring in ``directory``."""
        raise AssertionError("the keyring has this")

    def reloaded(self) -> Self:
        """The keyring as it is on the disk now."""
        raise AssertionError("the keyring has this")

    def by_request(self) -> Self:
        """This keyring, for changes that only prepare what the root must sign."""
        raise AssertionError("the keyring has this")

    @property
    def root_is_here(self) -> bool:
        """Whether the root key is one of our files, and not kept elsewhere."""
        return self._manifest.root is not None

    @property
    def void(self) -> frozenset[bytes]:
        """Ids of sealing keys whose tokens are void: they are of an epoch that ended. Requests still open with them."""
        return frozenset(map(bytes.fromhex, self._manifest.void))

    @property
    def pending(self) -> str | None:
        """The act that waits for the root's signature, if one does."""
        return self._manifest.pending.act if self._manifest.pending else None

    def rotate_signing(self, now: int, key: TokenKey | None = None) -> Self:
        """A new key for receipts, or ``key``; the old one is kept in the list, so that its receipts stay good."""
        with self._rotating() as (manifest, old):
            public, name = self._new_signer("signing", key, old)
            named = replace(old, signing=(public,), retired_signing=(*old.signing, *old.retired_signing))
            self._put("keys-rotate-signing", msgspec.structs.replace(manifest, signing=name), named, now)
        return self.reloaded()

    def rotate_log(self, now: int, key: TokenKey | None = None) -> Self:
        """A new key for checkpoints of the log, or ``key``; the old one's stay good. Tell the witnesses."""
        with self._rotating() as (manifest, old):
            public, name = self._new_signer("log", key, old)
            named = replace(old, log=(public, *old.log))
            self._put("keys-rotate-log", msgspec.structs.replace(manifest, log=name), named, now)
        return self.reloaded()

    def _new_signer(self, kind: str, key: TokenKey | None, old: KeyList) -> tuple[Ed25519PublicKey, str]:
        """The public half of the next key, and what the manifest calls it. One key never has two duties."""
        if key is None:
            made = Ed25519PrivateKey.generate()
            return made.public_key(), write_key(self.directory, kind, made, self._passphrase)
        if key.public_key() in (old.root, *old.signing, *old.retired_signing, *old.log):
            raise UsageError("pkcs11-used", "that key is in the list of keys already", hint="make a new one")
        return key.public_key(), key.uri.text

    def rotate_sealing(self, now: int) -> Self:
        """A new key that tokens and requests are sealed to; old ones still open until :meth:`drop_sealing`."""
        with self._rotating() as (manifest, old):
            manifest, named = self._new_sealing(manifest, old)
            self._put("keys-rotate-sealing", manifest, named, now)
        return self.reloaded()

    def _new_sealing(self, manifest: Manifest, old: KeyList) -> tuple[Manifest, KeyList]:
        if len(old.sealing) >= MAX_SEALING:
            raise UsageError("keyring-full", f"there are {MAX_SEALING} sealing keys", hint="drop the old ones first")
        key = _new_sealing({*(sealing_key_id(known) for known in old.sealing), *map(bytes.fromhex, manifest.void)})
        name = write_key(self.directory, "sealing", key, self._passphrase)
        manifest = msgspec.structs.replace(manifest, sealing=(name, *manifest.sealing))
        return manifest, replace(old, sealing=(key.public_key(), *old.sealing))

    def drop_sealing(self, now: int) -> Self:
        """Forget all sealing keys but the newest: tokens sealed to the others can never be opened again."""
        with self._rotating() as (manifest, old):
            manifest = msgspec.structs.replace(manifest, sealing=manifest.sealing[:1])
            self._put("keys-drop-sealing", manifest, replace(old, sealing=old.sealing[:1]), now)
        return self.reloaded()

    def rotate_root(self, now: int) -> Self:
        """A new root key, introduced by a list that the old and the new root both sign; the old one is forgotten."""
        with self._rotating() as (manifest, old):
            if manifest.root is None:
                raise _root_is_elsewhere("name the public half of a new one as well: --new-root FILE")
            key = Ed25519PrivateKey.generate()
            old_root = read_ed25519(self.directory / manifest.root, self._passphrase)
            manifest = msgspec.structs.replace(manifest, root=write_key(self.directory, "root", key, self._passphrase))
            self._put("keys-rotate-root", manifest, replace(old, root=key.public_key()), now, old_root)
        return self.reloaded()

    def check_changeable(self) -> None:
        """Raise :class:`UsageError` (``root-request-pending``, ``root-offline``) when keys cannot be changed now."""
        if self.pending:
            raise UsageError(
                "root-request-pending",
                f"{self.pending} still waits for the root's signature",
                hint="install it with 'watchword authority keys install', or give it up with '… keys cancel'",
            )
        if not self.root_is_here and not self._by_request:
            raise _root_is_elsewhere("add --request FILE and sign that file where the root key is")

    def open_epoch(self, now: int) -> Self:
        """A new sealing key, and no token that was sealed to an older one is good any more; challenges neither."""
        with self._rotating() as (manifest, old):
            ended = [sealing_key_id(key).hex() for key in old.sealing]
            manifest, named = self._new_sealing(manifest, old)
            manifest = msgspec.structs.replace(
                manifest,
                void=tuple(dict.fromkeys((*manifest.void, *ended))),
                mac=write_key(self.directory, "mac", X25519PrivateKey.generate(), self._passphrase),
            )
            self._put("epoch-open", manifest, named, now)
        return self.reloaded()

    @contextmanager
    def _rotating(self) -> Iterator[tuple[Manifest, KeyList]]:
        # Read again under the lock: another administrator may have rotated since this keyring was loaded.
        with changing(self.directory):
            now_on_disk = self.reloaded()
            if len(now_on_disk.chain) >= keylist.MAX_CHAIN:
                raise UsageError("keyring-full", f"the chain of key lists has its {keylist.MAX_CHAIN} entries")
            (now_on_disk.by_request() if self._by_request else now_on_disk).check_changeable()
            yield now_on_disk._manifest, now_on_disk.key_list

    def _put(
        self, act: str, manifest: Manifest, named: KeyList, now: int, old_root: Ed25519PrivateKey | None = None
    ) -> None:
        """Sign the next list and put it in force; or, when a root is missing, leave it to wait for that."""
        here = [read_ed25519(self.directory / manifest.root, self._passphrase)] if manifest.root else []
        roots = [*([old_root] if old_root else []), *here]
        named = replace(named, version=named.version + 1, issued=now, envelope=b"")
        envelope = keylist.sign(named, roots).decode()
        if here:
            commit(self.directory, msgspec.structs.replace(manifest, lists=(*manifest.lists, envelope)))
            return
        pending = Pending(act, envelope, manifest)
        commit(self.directory, msgspec.structs.replace(read_manifest(self.directory), pending=pending))

    # -- a root that is kept elsewhere ------------------------------------------------------------------------------

    def rotate_root_to(self, new: Ed25519PublicKey, now: int) -> Self:
        """Prepare the change to the root key ``new``, which is kept elsewhere; signed by ours when it is here."""
        with self._rotating() as (manifest, old):
            ours = read_ed25519(self.directory / manifest.root, self._passphrase) if manifest.root else None
            manifest = msgspec.structs.replace(manifest, root=None)
            self._put("keys-rotate-root", manifest, replace(old, root=new), now, ours)
        return self.reloaded()

    @staticmethod
    def requested(directory: Path) -> RootRequest:
        """What the root must sign. Raises :class:`UsageError` (``root-request-none``) when nothing waits."""
        manifest = read_manifest(directory)
        pending = _pending(manifest)
        return RootRequest(manifest.lists[-1].encode() if manifest.lists else None, pending.proposed.encode())

    @classmethod
    def install(
        cls,
        directory: Path,
        request: RootRequest,
        *,
        passphrase: bytes | None = None,
        tokens: Tokens | None = None,
    ) -> Self:
        """Put in force what waited, once the roots have signed it.

        Raises :class:`UsageError` (``root-request-none``); :class:`Rejected` (K6 ``root-request-other``: it is not
        what waits here; K1 and K2 when signatures are missing or wrong).
        """
        with changing(directory):
            manifest = read_manifest(directory)
            pending, lists = _check_signed(manifest, request)
            then = msgspec.structs.replace(
                pending.then,
                lists=lists,
                tls_server=manifest.tls_server,  # may have been issued anew while we waited
                tls_chain=manifest.tls_chain,
            )
            commit(directory, then)
        return cls.load(directory, passphrase=passphrase, tokens=tokens)

    def check_install(self, request: RootRequest) -> str:
        """What :meth:`install` would do: the name of the act. Raises as that does."""
        return _check_signed(self._manifest, request)[0].act

    def cancel(self) -> Self:
        """Give up what waits for the root's signature. Raises :class:`UsageError` (``root-request-none``)."""
        with changing(self.directory):
            manifest = read_manifest(self.directory)
            _pending(manifest)
            commit(self.directory, msgspec.structs.replace(manifest, pending=None))
        return self.reloaded()

    def check_exportable(self, file: Path) -> None:
        """Raise :class:`UsageError` (``root-offline``, ``file-exists``) when :meth:`export_root` would."""
        if not self.root_is_here:
            raise _root_is_elsewhere("there is nothing to export")
        if file.exists():
            raise UsageError("file-exists", f"{file} is there already")

    def export_root(self, file: Path, passphrase: bytes) -> Self:
        """Move the root key into ``file``, encrypted with ``passphrase``; this keyring has none from then on.

        Raises :class:`UsageError` (``root-offline``, ``file-exists``).
        """
        self.check_exportable(file)
        with changing(self.directory):
            manifest = read_manifest(self.directory)
            if manifest.root is None:
                raise _root_is_elsewhere("there is nothing to export")
            write_file(file, encode_key(read_ed25519(self.directory / manifest.root, self._passphrase), passphrase))
            read_ed25519(file, passphrase)  # it opens: only now is ours forgotten
            commit(self.directory, msgspec.structs.replace(manifest, root=None))
        return self.reloaded()


def _pending(manifest: Manifest) -> Pending:
    if manifest.pending is None:
        raise UsageError("root-request-none", "nothing waits for the root's signature")
    return manifest.pending


def _check_signed(manifest: Manifest, request: RootRequest) -> tuple[Pending, tuple[str, ...]]:
    """What waits, and the chain of lists that ends with the signed one."""
    pending = _pending(manifest)
    asked = keylist.open_unverified(pending.proposed.encode())
    if request.lists()[1].encode() != asked.encode():
        raise Rejected(
            Finding("K6", "root-request-other", "the file is not what waits for the root's signature here"),
            hint="write the request again: watchword authority keys request FILE",
        )
    lists = (*manifest.lists, request.envelope.decode())
    keylist.verify_chain([text.encode() for text in lists], manifest.fingerprint)
    return pending, lists


def _root_is_elsewhere(hint: str) -> UsageError:
    return UsageError("root-offline", "the root key of this authority is kept elsewhere", hint=hint)


def _new_sealing(taken: Collection[bytes]) -> X25519PrivateKey:
    while True:  # ids have four bytes: rarely, two keys would share one
        key = X25519PrivateKey.generate()
        if sealing_key_id(key.public_key()) not in taken:
            return key
