"""The keys that an authority begins with."""

from __future__ import annotations

import secrets
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from watchword.authority.keys import tls
from watchword.authority.keys.high_water import HIGH_WATER, first_mark
from watchword.authority.keys.keyfiles import make_private_directory, write_file, write_key
from watchword.authority.keys.manifest import FORMAT, MANIFEST, Manifest, Pending, changing, commit
from watchword.crypto import keylist
from watchword.crypto.keylist import KeyList
from watchword.errors import UsageError

__all__ = ["create", "write_chain"]


def create(directory: Path, authority: str, now: int, passphrase: bytes | None, root: Ed25519PublicKey | None) -> None:
    """Fresh keys in ``directory``, and their first list; ``root`` must still sign it when that key is kept elsewhere.

    Raises :class:`UsageError` (``keyring-exists``).
    """
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
        tls_chain=write_chain(directory, tls.issue_server(server, ["localhost"], ca, ca_key, now)),
    )
    if root:
        return msgspec.structs.replace(manifest, lists=(envelope,))
    return msgspec.structs.replace(manifest, pending=Pending("keys-create", envelope, manifest))


def write_chain(directory: Path, chain: str) -> str:
    """Keep a certificate chain (PEM) in a file of its own, and return its name."""
    name = f"tls-chain-{secrets.token_hex(8)}.pem"
    write_file(directory / name, chain.encode())
    return name
