"""``watchword root``: on the machine that holds an authority's root key, which needs no network and no service."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, Final

import click
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    PublicFormat,
)

from watchword.cli.output import emit, json_option, printable
from watchword.cli.private_key import read_secret
from watchword.cli.profile import read_bounded
from watchword.cli.signer import opened_signer
from watchword.crypto.keylist import root_fingerprint
from watchword.crypto.root_record import RootRecord
from watchword.crypto.root_request import MAX_REQUEST, RootRequest
from watchword.errors import UsageError
from watchword.tenant.files import write_private, write_whole

__all__ = ["root", "show_request"]

FILE = click.Path(path_type=Path)
_MAX_RECORD: Final = 4096


@click.group()
def root() -> None:
    """Keep an authority's root key on a machine of its own.

    \b
    Example:
      watchword root sign request.json --key root.pem -o signed.json
    """


@root.command("create")
@click.argument("file", type=FILE)
@click.option("--passphrase-file", type=FILE, help="What the key is encrypted with; else asked for.")
@json_option
def create(file: Path, passphrase_file: Path | None, as_json: bool) -> None:
    """Make a root key in FILE, encrypted, and its public half in FILE.pub, which the authority gets.

    \b
    Example:
      watchword root create root.pem
    """
    secret = read_secret(passphrase_file, f"passphrase for {file.name}", twice=True).encode()
    if not secret:
        raise UsageError("passphrase-empty", "a root key is never kept without a passphrase")
    key, public_file = Ed25519PrivateKey.generate(), file.with_name(f"{file.name}.pub")
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(secret))
    try:
        write_private(file, pem, replace=False)
    except FileExistsError:
        raise UsageError("file-exists", f"{file} is there already") from None
    write_whole(public_file, key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    fingerprint = root_fingerprint(key.public_key())
    document = {"key": str(file), "public": str(public_file), "fingerprint": fingerprint}
    emit(document, f"{fingerprint}\npublic half in {public_file}", as_json=as_json)


@root.command("show")
@click.argument("file", type=FILE)
@json_option
def show(file: Path, as_json: bool) -> None:
    """Show what a request asks the root to sign: which keys are new, stay, retire and go.

    \b
    Example:
      watchword root show request.json
    """
    request = RootRequest.parse(read_bounded(file, MAX_REQUEST))
    request.check()
    show_request(request, as_json)


@root.command("sign")
@click.argument("file", type=FILE)
@click.option("--key", required=True, help="The root's private key: a PEM file, or a pkcs11: URI.")
@click.option(
    "--passphrase-file", type=FILE, help="Opens an encrypted PEM file, or is the token's PIN; else asked for."
)
@click.option("--record", type=FILE, help="Remembers what the key signed last; KEY.record for a PEM file.")
@click.option("--instead", is_flag=True, help="The list with that number which it signed before was never installed.")
@click.option("--yes", is_flag=True, help="Do not ask: you have read it with 'watchword root show'.")
@click.option("-o", "--output", required=True, type=FILE, help="Where to write the signed request.")
@json_option
def sign(
    file: Path,
    key: str,
    passphrase_file: Path | None,
    record: Path | None,
    instead: bool,
    yes: bool,
    output: Path,
    as_json: bool,
) -> None:
    """Sign the list of keys that an authority proposes in FILE, after it was shown and you agreed.

    The record stops the key from signing two different lists with one number, which would be a fork.

    \b
    Example:
      watchword root sign request.json --key root.pem -o signed.json
      watchword root sign request.json --key 'pkcs11:token=root;object=root' --record root.record -o signed.json
    """
    request = RootRequest.parse(read_bounded(file, MAX_REQUEST))
    _, proposed = request.check()
    record = record or _beside(key)
    known = _read_record(record)
    known.check(proposed, instead=instead)
    if not yes:
        click.echo(_text(request), err=True)
        click.confirm("sign this list?", err=True, abort=True)
    with opened_signer(key, passphrase_file) as signer:
        signed = request.sign(signer)
    # First the record: pulled out in between, the key has promised more than it signed, and may sign the same again.
    write_private(record, known.after(proposed).encode())
    write_whole(output, signed.encode())
    show_request(signed, as_json)


def _beside(key: str) -> Path:
    if key.startswith("pkcs11:"):
        raise UsageError("root-record", "a key in a token needs a file for its record", hint="add --record FILE")
    return Path(f"{key}.record")


def _read_record(file: Path) -> RootRecord:
    return RootRecord.parse(read_bounded(file, _MAX_RECORD)) if file.exists() else RootRecord({})


def show_request(request: RootRequest, as_json: bool) -> None:
    """Print what a request proposes, and which signatures it lacks."""
    _, proposed = request.lists()
    document: dict[str, Any] = {
        "authority": proposed.authority,
        "version": proposed.version,
        "issued": proposed.issued,
        "changes": [{"what": each.what, "kind": each.kind, "key": each.key} for each in request.changes()],
        "missing": [root_fingerprint(each) for each in request.missing()],
    }
    emit(document, _text(request), as_json=as_json)


def _text(request: RootRequest) -> str:
    previous, proposed = request.lists()
    before = "the first" if previous is None else f"after version {previous.version}"
    issued = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(proposed.issued))
    lines = [f"keys of {json.dumps(proposed.authority)}, version {proposed.version} ({before}), made {issued}"]
    lines += [f"  {printable(str(change))}" for change in request.changes()]
    missing = " ".join(root_fingerprint(each) for each in request.missing())
    lines.append(f"signatures missing: {missing or 'none, install it'}")
    return "\n".join(lines)
