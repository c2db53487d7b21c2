"""``watchword authority keys`` and ``create``: the authority's own keys, with the root key here or elsewhere."""

from __future__ import annotations

import os
import socket
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from watchword.cli.authority_common import FILE, database, opened, passphrase, shown, tokens, where
from watchword.cli.output import emit, note
from watchword.cli.private_key import read_secret
from watchword.cli.profile import read_bounded
from watchword.cli.public_key import read_public_key
from watchword.cli.root import show_request
from watchword.crypto.root_request import MAX_REQUEST, RootRequest
from watchword.errors import UsageError
from watchword.pkcs11.uri import Pkcs11Uri
from watchword.tenant.files import write_whole

if TYPE_CHECKING:  # the authority needs an extra; without it, the help must still work
    from watchword.authority.keys.keyring import Keyring

__all__ = ["GROUP", "REQUEST", "create", "for_request", "write_request"]

REQUEST = click.option("--request", type=FILE, help="With the root elsewhere: what it must sign goes here.")


@click.command("create")
@click.option("--name", help="What the authority is called in receipts; the host's name by default.")
@click.option("--root", "root", type=FILE, help="Public half of a root key that is kept elsewhere.")
@REQUEST
@where
def create(
    name: str | None, root: Path | None, request: Path | None, data: Path, passphrase_file: Path | None, as_json: bool
) -> None:
    """Make an authority without starting it; with --root, one whose root key never was on this machine.

    \b
    Example:
      watchword authority create --name authority.example --root root.pem.pub --request request.json
    """
    from watchword.authority.data import DataDirectory

    os.umask(0o077)
    called, now, secret = name or socket.gethostname(), int(time.time()), passphrase(passphrase_file)
    if root is None:
        if request is not None:
            raise UsageError("root-here", "the root key will be on this machine: there is nothing to request")
        directory = DataDirectory.create(data, authority=called, now=now, passphrase=secret, database=database(data))
        with directory.store:
            _emit_keys(directory.keyring, as_json)
        return
    if request is None:
        raise UsageError("root-offline", "the root must sign the first list of keys", hint="add --request FILE")
    asked = DataDirectory.create_unsigned(data, authority=called, now=now, root=_root(root), passphrase=secret)
    write_request(asked, request, as_json)


@click.group("keys")
def GROUP() -> None:
    """The authority's own keys.

    \b
    Example:
      watchword authority keys show
    """


@GROUP.command("show")
@where
def show(data: Path, passphrase_file: Path | None, as_json: bool) -> None:
    """Show which public keys are in force, and the fingerprint that tenants pin.

    \b
    Example:
      watchword authority keys show --json
    """
    with opened(data, passphrase_file) as (directory, _):
        _emit_keys(directory.keyring, as_json)


@GROUP.command("rotate")
@click.argument("kind", type=click.Choice(["signing", "sealing", "log", "root"]))
@click.option("--new-root", type=FILE, help="For root: public half of a new root key that is kept elsewhere.")
@click.option("--pkcs11", "uri", metavar="URI", help="For signing and log: make the key in a token, under this name.")
@click.option("--existing", is_flag=True, help="With --pkcs11: take the key that the token has under this name.")
@REQUEST
@where
def rotate(
    kind: str,
    new_root: Path | None,
    uri: str | None,
    existing: bool,
    request: Path | None,
    data: Path,
    passphrase_file: Path | None,
    as_json: bool,
) -> None:
    """Put a new key in force. Old sealing keys still open old tokens; pins and old receipts stay good.

    With --pkcs11 the token makes the key, and it can never leave. WATCHWORD_PKCS11_MODULE names the token's library.

    Where the root key is kept elsewhere, this writes what it must sign; 'keys install' puts the new key in force.

    \b
    Example:
      watchword authority keys rotate sealing
      watchword authority keys rotate sealing --request request.json
      watchword authority keys rotate signing --pkcs11 'pkcs11:token=hsm;object=signing' --pin-file pin
    """
    if new_root is not None and kind != "root":
        raise UsageError("new-root", "--new-root belongs to 'rotate root'")
    if (uri is not None and kind not in ("signing", "log")) or (existing and uri is None):
        raise UsageError("usage", "--pkcs11 belongs to 'rotate signing' and 'rotate log', --existing to --pkcs11")
    target = _root(new_root) if new_root is not None else None
    named = _uri(uri) if uri is not None else None
    with opened(data, passphrase_file) as (directory, admin):
        ring = for_request(directory.keyring, request, leaves=target is not None)
        if kind == "root" and target is None and not ring.root_is_here:
            raise UsageError(
                "root-offline", "the root key of this authority is kept elsewhere", hint="name the new one: --new-root"
            )
        changes = {"signing": ring.rotate_signing, "sealing": ring.rotate_sealing, "log": ring.rotate_log}
        change = changes.get(kind, ring.rotate_root)
        if target is not None:
            change = partial(ring.rotate_root_to, target)
        act = f"keys-rotate-{kind}"
        if named is not None:
            into = ring.rotate_signing if kind == "signing" else ring.rotate_log
            change = partial(into, key=tokens().existing(named) if existing else tokens().generate(named))
        _done(admin.change_keys(act, ring, change, requested=request is not None), request, as_json)


@GROUP.command("drop-old-sealing")
@REQUEST
@where
def drop(request: Path | None, data: Path, passphrase_file: Path | None, as_json: bool) -> None:
    """Forget all sealing keys but the newest: tokens sealed to the others can never be opened again.

    \b
    Example:
      watchword authority keys drop-old-sealing
    """
    with opened(data, passphrase_file) as (directory, admin):
        ring = for_request(directory.keyring, request)
        _done(
            admin.change_keys("keys-drop-sealing", ring, ring.drop_sealing, requested=request is not None),
            request,
            as_json,
        )


@GROUP.command("export-root")
@click.argument("file", type=FILE)
@click.option("--root-passphrase-file", type=FILE, help="What FILE is encrypted with; else asked for.")
@where
def export_root(
    file: Path, root_passphrase_file: Path | None, data: Path, passphrase_file: Path | None, as_json: bool
) -> None:
    """Move the root key out of the authority into FILE, which you carry to where it will be kept.

    This disk has held it: for a root that no service ever knew, 'keys rotate root --new-root' afterwards.

    \b
    Example:
      watchword authority keys export-root /media/stick/root.pem
    """
    secret = read_secret(root_passphrase_file, f"passphrase for {file.name}", twice=True).encode()
    if not secret:
        raise UsageError("passphrase-empty", "a root key is never kept without a passphrase")
    with opened(data, passphrase_file) as (directory, admin):
        ring = directory.keyring
        ring.check_exportable(file)
        _emit_keys(admin.change_keys("keys-export-root", ring, lambda _: ring.export_root(file, secret)), as_json)


@GROUP.command("request")
@click.argument("file", type=FILE)
@where
def write_again(file: Path, data: Path, passphrase_file: Path | None, as_json: bool) -> None:
    """Write once more what waits for the root's signature.

    \b
    Example:
      watchword authority keys request request.json
    """
    from watchword.authority.keys.keyring import Keyring

    write_request(Keyring.requested(data / "keyring"), file, as_json)


@GROUP.command("install")
@click.argument("file", type=FILE)
@where
def install(file: Path, data: Path, passphrase_file: Path | None, as_json: bool) -> None:
    """Put in force what the root has signed in FILE, after it was verified.

    \b
    Example:
      watchword authority keys install signed.json
    """
    from watchword.authority.data import DataDirectory
    from watchword.authority.upkeep.recovery import EPOCH, Recovery

    signed = RootRequest.parse(read_bounded(file, MAX_REQUEST))
    secret = passphrase(passphrase_file)
    if signed.before is None:
        directory = DataDirectory.install_first(data, signed, passphrase=secret, database=database(data))
        with directory.store:
            _emit_keys(directory.keyring, as_json)
        return
    with opened(data, passphrase_file) as (directory, admin):
        ring = directory.keyring
        act = ring.check_install(signed)
        ring = admin.change_keys(
            act, ring, lambda _: ring.install(directory.keyring.directory, signed, passphrase=secret, tokens=tokens())
        )
        if act == EPOCH:
            Recovery(directory, admin).settle(ring)
        _emit_keys(ring, as_json)


@GROUP.command("cancel")
@where
def cancel(data: Path, passphrase_file: Path | None, as_json: bool) -> None:
    """Give up what waits for the root's signature, and forget the keys that were made for it.

    \b
    Example:
      watchword authority keys cancel
    """
    with opened(data, passphrase_file) as (directory, admin):
        ring = directory.keyring
        ring.requested(ring.directory)
        _emit_keys(admin.change_keys("keys-cancel", ring, lambda _: ring.cancel()), as_json)


def _uri(text: str) -> Pkcs11Uri:
    uri = Pkcs11Uri.parse(text)
    if uri.module is not None or uri.pin_file is not None:
        raise UsageError(
            "pkcs11-uri",
            "the PKCS#11 URI of an authority's key says which key, and not how to get at it",
            hint="leave out what follows '?': set WATCHWORD_PKCS11_MODULE and use --pin-file",
        )
    return uri


def _root(file: Path) -> Ed25519PublicKey:
    key = read_public_key(file)
    if not isinstance(key, Ed25519PublicKey):
        raise UsageError("root-key", f"{file.name} is no Ed25519 key, which a root key is")
    return key


def for_request(ring: Keyring, file: Path | None, *, leaves: bool = False) -> Keyring:
    """The keyring for this change, which it can make; ``leaves`` when the root goes elsewhere with it."""
    if leaves and file is None:
        raise UsageError("root-offline", "the new root must sign this", hint="add --request FILE")
    if file is not None and ring.root_is_here and not leaves:
        raise UsageError("root-here", "the root key is on this machine and signs at once", hint="leave out --request")
    ring = ring if file is None else ring.by_request()
    ring.check_changeable()
    return ring


def _done(ring: Keyring, file: Path | None, as_json: bool) -> None:
    if file is None:
        _emit_keys(ring, as_json)
        return
    write_request(ring.requested(ring.directory), file, as_json)


def write_request(request: RootRequest, file: Path, as_json: bool) -> None:
    """Write what the root must sign to ``file``, show it and say what to do with it."""
    write_whole(file, request.encode())
    show_request(request, as_json)
    note(f"sign it where the root key is: watchword root sign {file.name} --key KEY -o signed.json")
    note("then here: watchword authority keys install signed.json")


def _emit_keys(ring: Keyring, as_json: bool) -> None:
    from watchword.crypto.dsse import key_id
    from watchword.verify.log import log_keys

    named = ring.key_list
    document: dict[str, Any] = {
        "authority": named.authority,
        "fingerprint": ring.fingerprint,
        "version": named.version,
        "issued": named.issued,
        "signing": [key_id(key) for key in named.signing],
        "retired_signing": [key_id(key) for key in named.retired_signing],
        "sealing": [identity.hex() for identity in ring.sealing_keys],
        "log": [key.encode() for key in log_keys(named)],
        "root": "here" if ring.root_is_here else "elsewhere",
        "pending": ring.pending,
    }
    emit(document, "\n".join(f"{name:16} {shown(value)}" for name, value in document.items()), as_json=as_json)
