"""The authority's keys: a directory of key files, and one manifest that says which of them are in force.

Every change first writes new key files, then replaces the manifest in one rename, then removes what nobody needs.
Killed anywhere in between, the keyring is the old one or the new one, whole; files the manifest does not name are
dead weight and removed at the next change. The layout is described in ``docs/reference/authority-files.md``.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Self

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from watchword.authority import tls
from watchword.authority.high_water import HIGH_WATER, first_mark
from watchword.authority.keyfiles import (
    encode_key,
    make_private_directory,
    read_ed25519,
    read_p256,
    read_x25519,
    write_file,
    write_key,
)
from watchword.authority.manifest import (
    FORMAT,
    MANIFEST,
    Manifest,
    Pending,
    changing,
    commit,
    in_token,
    read_manifest,
    stamp,
)
from watchword.crypto import keylist
from watchword.crypto.ed25519 import Ed25519Signer
from watchword.crypto.keylist import KeyList
from watchword.crypto.root_request import RootRequest
from watchword.crypto.token import sealing_key_id
from watchword.errors import Finding, Rejected, UsageError
from watchword.pkcs11.held import TokenKey, Tokens
from watchword.pkcs11.uri import Pkcs11Uri

__all__ = ["Keyring", "KeyringSource"]

MAX_SEALING: Final = 32  # the newest and those that still open old tokens


@dataclass(frozen=True, slots=True)
class Keyring:
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
        _create(directory, authority, now, passphrase, None)
        return cls.load(directory, passphrase=passphrase)

    @classmethod
    def create_unsigned(
        cls, directory: Path, *, authority: str, now: int, root: Ed25519PublicKey, passphrase: bytes | None = None
    ) -> RootRequest:
        """Like :meth:`create` for a ``root`` key that is kept elsewhere, which must sign what is returned.

        Until :meth:`install` the keyring cannot be loaded.
        """
        _create(directory, authority, now, passphrase, root)
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
        """This keyring with a server certificate that is good for ``names``; issued anew only when it must be."""
        if tls.covers(self.tls_files[0].read_text(), names, now):
            return self
        with changing(self.directory):
            manifest = read_manifest(self.directory)
            ca_key = read_p256(self.directory / manifest.tls_ca, self._passphrase)
            server = tls.new_key()
            chain = tls.issue_server(server, names, self.key_list.tls_ca, ca_key, now)
            manifest = msgspec.structs.replace(
                manifest,
                tls_server=write_key(self.directory, "tls-server", server, self._passphrase),
                tls_chain=_write_chain(self.directory, chain),
            )
            commit(self.directory, manifest)
        return self.reloaded()

    # -- rotation -----------------------------------------------------------------------------------------------

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
            replace(now_on_disk, _by_request=self._by_request).check_changeable()
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

    def by_request(self) -> Self:
        """This keyring, for changes that only prepare what the root must sign: see :meth:`requested`."""
        return replace(self, _by_request=True)

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


class KeyringSource:
    """The keyring as it is now: a rotation by another process is noticed at the next call."""

    def __init__(self, ring: Keyring) -> None:
        self._ring = ring
        self._stamp = stamp(ring.directory)
        self._lock = threading.Lock()

    def __call__(self) -> Keyring:
        now = stamp(self._ring.directory)
        if now != self._stamp:
            with self._lock:
                self._ring = self._ring.reloaded()
                self._stamp = now
        return self._ring


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


def _create(directory: Path, authority: str, now: int, passphrase: bytes | None, root: Ed25519PublicKey | None) -> None:
    make_private_directory(directory)
    with changing(directory):
        if (directory / MANIFEST).exists():
            raise UsageError("keyring-exists", f"{directory} has a keyring already")
        commit(directory, _fresh(directory, authority, now, passphrase, root))


def _fresh(
    directory: Path, authority: str, now: int, passphrase: bytes | None, offline: Ed25519PublicKey | None
) -> Manifest:
    root = None if offline else Ed25519PrivateKey.generate()
    public = root.public_key() if root else offline
    assert public is not None
    signing, log, sealing = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate(), X25519PrivateKey.generate()
    ca_key, server = tls.new_key(), tls.new_key()
    ca = tls.issue_ca(ca_key, authority, now)
    named = KeyList(
        authority=authority,
        version=1,
        issued=now,
        root=public,
        signing=(signing.public_key(),),
        sealing=(sealing.public_key(),),
        tls_ca=ca,
        log=(log.public_key(),),
    )
    envelope = keylist.sign(named, [root] if root else []).decode()
    write_file(directory / HIGH_WATER, first_mark(authority, log))
    manifest = Manifest(
        format=FORMAT,
        fingerprint=keylist.root_fingerprint(public),
        root=write_key(directory, "root", root, passphrase) if root else None,
        signing=write_key(directory, "signing", signing, passphrase),
        log=write_key(directory, "log", log, passphrase),
        sealing=(write_key(directory, "sealing", sealing, passphrase),),
        # Plain 32-byte secrets, kept in the form of an X25519 key so that one file format and one passphrase serve all.
        mac=write_key(directory, "mac", X25519PrivateKey.generate(), passphrase),
        pseudonym=write_key(directory, "pseudonym", X25519PrivateKey.generate(), passphrase),
        tls_ca=write_key(directory, "tls-ca", ca_key, passphrase),
        tls_server=write_key(directory, "tls-server", server, passphrase),
        tls_chain=_write_chain(directory, tls.issue_server(server, ["localhost"], ca, ca_key, now)),
    )
    if root:
        return msgspec.structs.replace(manifest, lists=(envelope,))
    return msgspec.structs.replace(manifest, pending=Pending("keys-create", envelope, manifest))


def _new_sealing(taken: Collection[bytes]) -> X25519PrivateKey:
    while True:  # ids have four bytes: rarely, two keys would share one
        key = X25519PrivateKey.generate()
        if sealing_key_id(key.public_key()) not in taken:
            return key


def _write_chain(directory: Path, chain: str) -> str:
    name = f"tls-chain-{secrets.token_hex(8)}.pem"
    write_file(directory / name, chain.encode())
    return name
