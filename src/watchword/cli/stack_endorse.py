"""``watchword stack endorse`` and ``endorsements``: signing a stack with keys from files or tokens, and who signed."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import click

from watchword.cli.output import emit, json_option
from watchword.cli.profile import read_bounded
from watchword.cli.public_key import read_public_key
from watchword.cli.signer import opened_signer
from watchword.crypto import dsse
from watchword.errors import MalformedError, UsageError
from watchword.policy.stack import MAX_STACK_SIZE, PAYLOAD_TYPE, CompiledStack
from watchword.tenant.files import write_whole

__all__ = ["endorse", "endorsements"]

_MAX_ENVELOPE: Final = MAX_STACK_SIZE * 3 // 2
FILE = click.Path(path_type=Path)


@click.command()
@click.argument("file", type=FILE)
@click.option("--key", "keys", required=True, multiple=True, help="Private key: a PEM file, or a pkcs11: URI.")
@click.option(
    "--passphrase-file", type=FILE, help="Opens an encrypted PEM file, or is the token's PIN; else asked for."
)
@click.option("-o", "--output", required=True, type=FILE, help="Where to write the envelope.")
@json_option
def endorse(file: Path, keys: tuple[str, ...], passphrase_file: Path | None, output: Path, as_json: bool) -> None:
    """Sign a stack, or add a signature to an endorsed one: you vouch for that software. Ed25519, P-256 or P-384.

    The result is a DSSE envelope that contains the stack.

    \b
    Example:
      watchword stack endorse compute.json --key endorser.pem -o compute.dsse.json
      watchword stack endorse compute.dsse.json --key 'pkcs11:token=hsm;object=second' -o compute.dsse.json
    """
    envelope, document = _content(file)
    parsed = CompiledStack.parse(document)
    with ExitStack() as stack:
        signers = [stack.enter_context(opened_signer(key, passphrase_file)) for key in keys]
        if envelope is None:
            result = dsse.sign(document, PAYLOAD_TYPE, signers)
        else:
            result = dsse.add_signature(envelope, signers, max_size=_MAX_ENVELOPE)
    trusted = {dsse.key_id(signer.public): signer.public for signer in signers}
    # What was signed somewhere else is checked before anybody gets it.
    dsse.verify(result, PAYLOAD_TYPE, trusted, len(trusted), max_size=_MAX_ENVELOPE)
    write_whole(output, result)
    ids = list(trusted)
    shown = {**_summary(parsed), "key_id": ids[0], "key_ids": ids, "signatures": _signers_of(result)}
    emit(shown, "\n".join(f"{parsed.label} endorsed by key {each}" for each in ids), as_json=as_json)


@click.command()
@click.argument("file", type=FILE)
@click.option("--key", "keys", multiple=True, type=FILE, help="A public key to check a signature with.")
@json_option
def endorsements(file: Path, keys: tuple[Path, ...], as_json: bool) -> None:
    """Show who signed an endorsed stack. Only a signature whose public key is given is checked.

    \b
    Example:
      watchword stack endorsements compute.dsse.json --key auditor.pub
    """
    envelope, document = _content(file)
    parsed = CompiledStack.parse(document)
    if envelope is None:
        raise UsageError("stack-bare", f"{file.name} is a bare stack document: nobody has signed it")
    given = {dsse.key_id(key): (path.name, key) for path in keys for key in [read_public_key(path)]}
    rows = [_row(envelope, key_id, given.get(key_id)) for key_id in _signers_of(envelope)]
    absent = sorted(set(given) - {row["key_id"] for row in rows})
    if absent:
        names = " ".join(given[key_id][0] for key_id in absent)
        raise UsageError("stack-not-signed", f"not signed by {names}", hint="see the ids without --key")
    lines = [f"{row['key_id']}  {row['key_type'] or '-':10}  {row['checked']}" for row in rows]
    emit({**_summary(parsed), "endorsements": rows}, "\n".join([parsed.label, *lines]), as_json=as_json)


def _row(envelope: bytes, key_id: str, given: tuple[str, dsse.PublicKey] | None) -> dict[str, Any]:
    if given is None:
        return {"key_id": key_id, "key_type": "", "checked": "not checked", "file": ""}
    name, key = given
    dsse.verify(envelope, PAYLOAD_TYPE, {key_id: key}, 1, max_size=_MAX_ENVELOPE)
    return {"key_id": key_id, "key_type": dsse.key_type(key), "checked": f"good, {name}", "file": name}


def _signers_of(envelope: bytes) -> list[str]:
    return list(dict.fromkeys(dsse.open_unverified(envelope, max_size=_MAX_ENVELOPE)[2]))


def _content(file: Path) -> tuple[bytes | None, bytes]:
    """The envelope, if ``file`` is one, and the stack document."""
    data = read_bounded(file, _MAX_ENVELOPE)
    try:
        kind, payload, _ = dsse.open_unverified(data, max_size=_MAX_ENVELOPE)
    except MalformedError:
        return None, data
    if kind != PAYLOAD_TYPE:
        raise MalformedError(f"{file.name}: is a signed {kind[:80]!r}, not a stack")
    return data, payload


def _summary(parsed: CompiledStack) -> dict[str, Any]:
    return {
        "name": parsed.name,
        "version": parsed.version,
        "serial": parsed.serial,
        "pool": parsed.pool,
        "channel": parsed.channel,
        "digest": parsed.digest.hex(),
    }
