"""``watchword authority log``: the public log and its witnesses, as the operator sees them."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import click

from watchword.cli.authority_common import FILE, MAX_SMALL_FILE, emit_rows, opened, where
from watchword.cli.output import emit
from watchword.cli.profile import read_bounded
from watchword.crypto.note import COSIGNS, parse_key
from watchword.errors import UsageError

__all__ = ["GROUP"]


@click.group("log")
def GROUP() -> None:
    """The public log: its checkpoint, its witnesses, what they signed.

    \b
    Example:
      watchword authority log checkpoint
    """


@GROUP.command()
@where
def checkpoint(data: Path, passphrase_file: Path | None, as_json: bool) -> None:
    """Print the checkpoint of everything decided so far.

    \b
    Example:
      watchword authority log checkpoint
    """
    from watchword.authority.publishing.log import PublicLog

    with opened(data, passphrase_file) as (directory, _):
        note = PublicLog(directory.store).newest(directory.keyring).encode().decode()
    emit({"checkpoint": note}, note.rstrip("\n"), as_json=as_json)


@GROUP.group()
def witness() -> None:
    """Who is asked to cosign checkpoints.

    \b
    Example:
      watchword authority log witness list
    """


@witness.command("add")
@click.argument("key")
@click.option("--url", default="", help="Where it takes checkpoints (add-checkpoint is put after it).")
@where
def witness_add(key: str, url: str, data: Path, passphrase_file: Path | None, as_json: bool) -> None:
    """Ask the witness with this verifier KEY (NAME+ID+KEY), while the service runs.

    \b
    Example:
      watchword authority log witness add witness.example+5a8f0a3c+BAZq... --url https://witness.example
    """
    found = parse_key(key, COSIGNS).encode()
    if url and not url.startswith(("https://", "http://")):
        raise UsageError("bad-url", f"{url[:100]!r} is not a web address")
    with opened(data, passphrase_file) as (directory, admin), directory.store.transaction() as tx:
        tx.put_witness(found, url, admin.now)
        tx.append_act(admin.now, "witness-add", found, by=admin.actor, url=url)
    emit({"key": found, "url": url}, found, as_json=as_json)


@witness.command("list")
@where
def witness_list(data: Path, passphrase_file: Path | None, as_json: bool) -> None:
    """List the witnesses, and the newest size that each of them cosigned.

    \b
    Example:
      watchword authority log witness list --json
    """
    with opened(data, passphrase_file) as (directory, _):
        rows = [{"key": row.key, "url": row.url, "size": row.seen_size} for row in directory.store.witnesses()]
    emit_rows("witnesses", rows, as_json)


@witness.command("remove")
@click.argument("key")
@where
def witness_remove(key: str, data: Path, passphrase_file: Path | None, as_json: bool) -> None:
    """Stop asking a witness, and stop showing its cosignatures.

    \b
    Example:
      watchword authority log witness remove witness.example+5a8f0a3c+BAZq...
    """
    with opened(data, passphrase_file) as (directory, admin), directory.store.transaction() as tx:
        tx.remove_witness(key)
        tx.append_act(admin.now, "witness-remove", key, by=admin.actor)
    emit({"removed": key}, f"removed {key}", as_json=as_json)


@GROUP.group()
def cosign() -> None:
    """Cosignatures that came another way than by asking.

    \b
    Example:
      watchword authority log cosign add cosigned.txt
    """


@cosign.command("add")
@click.argument("file", type=FILE, required=False)
@where
def cosign_add(file: Path | None, data: Path, passphrase_file: Path | None, as_json: bool) -> None:
    """Keep the cosignatures on the checkpoint in FILE (standard input without one), of witnesses that were added.

    \b
    Example:
      watchword authority log cosign add cosigned.txt
    """
    from watchword.authority.publishing.log import PublicLog
    from watchword.authority.publishing.witness import Witnesses

    content = read_bounded(file, MAX_SMALL_FILE) if file else sys.stdin.buffer.read(MAX_SMALL_FILE)
    with opened(data, passphrase_file) as (directory, _):
        witnesses = Witnesses(directory.store, PublicLog(directory.store), time.time)
        names = witnesses.add_note(content, directory.keyring)
    emit({"cosigned": names}, "\n".join(names), as_json=as_json)
