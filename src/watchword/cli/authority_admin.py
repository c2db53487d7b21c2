"""``watchword authority endorser|stack|profile|host``: what hosts may run, and the hosts."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from watchword.cli.authority_common import FILE, MAX_SMALL_FILE, emit_rows, one, opened, shown, unix_time, where
from watchword.cli.output import emit
from watchword.cli.profile import read_bounded

if TYPE_CHECKING:
    from watchword.authority.store import Host, StackInfo

__all__ = ["GROUPS"]

# -- what hosts may run ----------------------------------------------------------------------------------------------


@click.group()
def endorser() -> None:
    """Whose signatures on stacks count.

    \b
    Example:
      watchword authority endorser list
    """


@endorser.command("add")
@click.argument("file", type=FILE)
@click.option("--label", help="A name for people; the file's name by default.")
@where
def endorser_add(file: Path, label: str | None, data: Path, passphrase_file: Path | None, as_json: bool) -> None:
    """Count the signatures of the Ed25519 public key in FILE (PEM, or as OpenSSH writes it).

    \b
    Example:
      watchword authority endorser add auditor.pub.pem
    """
    from watchword.authority.inputs import read_endorser_key

    key = read_endorser_key(read_bounded(file, MAX_SMALL_FILE))
    with opened(data, passphrase_file) as (_, admin):
        row = admin.add_endorser(key, label or file.name)
    emit({"key": row.key_id}, row.key_id, as_json=as_json)


@endorser.command("list")
@where
def endorser_list(data: Path, passphrase_file: Path | None, as_json: bool) -> None:
    """List the endorsers.

    \b
    Example:
      watchword authority endorser list --json
    """
    with opened(data, passphrase_file) as (directory, _):
        rows = [
            {"key": row.key_id, "label": row.label, "added_at": row.added_at} for row in directory.store.endorsers()
        ]
    emit_rows("endorsers", rows, as_json)


@endorser.command("remove")
@click.argument("key")
@where
def endorser_remove(key: str, data: Path, passphrase_file: Path | None, as_json: bool) -> None:
    """Stop counting a key's signatures, on all stacks and at once.

    \b
    Example:
      watchword authority endorser remove 71b0e44d
    """
    with opened(data, passphrase_file) as (directory, admin):
        found = one(directory.store.endorsers(), key, lambda row: row.key_id, "endorser")
        admin.remove_endorser(found.key_id)
    emit({"removed": found.key_id}, f"removed {found.key_id}", as_json=as_json)


@click.group("stack")
def stack_group() -> None:
    """Releases of host software that hosts are measured against.

    \b
    Example:
      watchword authority stack list
    """


@stack_group.command("add")
@click.argument("file", type=FILE)
@click.option("--unendorsed", is_flag=True, help="FILE is the bare document: nobody has signed it.")
@where
def stack_add(file: Path, unendorsed: bool, data: Path, passphrase_file: Path | None, as_json: bool) -> None:
    """Keep the endorsed stack in FILE, as 'watchword stack endorse' writes it.

    \b
    Example:
      watchword authority stack add compute-2026.11.stack.json
    """
    from watchword.authority.endorsement import MAX_ENVELOPE

    content = read_bounded(file, MAX_ENVELOPE)
    with opened(data, passphrase_file) as (_, admin):
        row = admin.add_stack(content, endorsed=not unendorsed)
    emit(_stack_document(row), f"{row.name} {row.version} {row.digest.hex()}", as_json=as_json)


@stack_group.command("list")
@where
def stack_list(data: Path, passphrase_file: Path | None, as_json: bool) -> None:
    """List the stack releases.

    \b
    Example:
      watchword authority stack list --json
    """
    with opened(data, passphrase_file) as (directory, _):
        rows = [_stack_document(row) for row in directory.store.stack_infos()]
    emit_rows("stacks", rows, as_json)


@stack_group.command("retire")
@click.argument("stack")
@click.option("--at", "at", required=True, help="When it ends: 2026-12-31T00:00:00+00:00, or Unix seconds.")
@where
def stack_retire(stack: str, at: str, data: Path, passphrase_file: Path | None, as_json: bool) -> None:
    """Let STACK (digest, or NAME@VERSION) be accepted until a date and no longer.

    \b
    Example:
      watchword authority stack retire compute@2026.10 --at 2026-12-31T00:00:00+00:00
    """
    _change_stack(stack, "retiring", unix_time(at), data, passphrase_file, as_json)


@stack_group.command("revoke")
@click.argument("stack")
@where
def stack_revoke(stack: str, data: Path, passphrase_file: Path | None, as_json: bool) -> None:
    """Refuse STACK (digest, or NAME@VERSION) from now on, for good.

    \b
    Example:
      watchword authority stack revoke compute@2026.10
    """
    _change_stack(stack, "revoked", None, data, passphrase_file, as_json)


def _change_stack(
    name: str, state: str, retire_at: int | None, data: Path, passphrase_file: Path | None, as_json: bool
) -> None:
    from watchword.authority.store import StackState

    with opened(data, passphrase_file) as (directory, admin):
        rows = directory.store.stack_infos()
        named = [row for row in rows if f"{row.name}@{row.version}" == name]
        row = named[0] if len(named) == 1 else one(rows, name, lambda row: row.digest.hex(), "stack")
        admin.change_stack(row, StackState(state), retire_at)
    document = {"digest": row.digest.hex(), "state": state, "retire_at": retire_at}
    emit(document, f"{row.name} {row.version} is {state}", as_json=as_json)


def _stack_document(row: StackInfo) -> dict[str, Any]:
    return {
        "name": row.name,
        "version": row.version,
        "serial": row.serial,
        "state": str(row.state),
        "digest": row.digest.hex(),
        "retire_at": row.retire_at,
        "endorsed_by": sorted(row.endorsed_by),
        "added_at": row.added_at,
    }


@click.group("profile")
def profile_group() -> None:
    """Profiles that tokens may ask for.

    \b
    Example:
      watchword authority profile list
    """


@profile_group.command("add")
@click.argument("file", type=FILE)
@where
def profile_add(file: Path, data: Path, passphrase_file: Path | None, as_json: bool) -> None:
    """Keep the profile in FILE; its id is the hash of the file's exact content.

    \b
    Example:
      watchword authority profile add gold.json
    """
    with opened(data, passphrase_file) as (_, admin):
        row = admin.add_profile(read_bounded(file, MAX_SMALL_FILE))
    emit({"id": row.id.hex(), "name": row.name}, row.id.hex(), as_json=as_json)


@profile_group.command("list")
@where
def profile_list(data: Path, passphrase_file: Path | None, as_json: bool) -> None:
    """List the profiles.

    \b
    Example:
      watchword authority profile list --json
    """
    with opened(data, passphrase_file) as (directory, _):
        rows = [{"name": row.name, "id": row.id.hex(), "added_at": row.added_at} for row in directory.store.profiles()]
    emit_rows("profiles", rows, as_json)


# -- hosts -----------------------------------------------------------------------------------------------------------


@click.group()
def host() -> None:
    """Enrolled hosts.

    \b
    Example:
      watchword authority host list
    """


@host.command("list")
@where
def host_list(data: Path, passphrase_file: Path | None, as_json: bool) -> None:
    """List the enrolled hosts.

    \b
    Example:
      watchword authority host list --json
    """
    with opened(data, passphrase_file) as (directory, _):
        rows = [_host_document(row) for row in directory.store.hosts()]
    emit_rows("hosts", rows, as_json)


@host.command("show")
@click.argument("host_id")
@where
def host_show(host_id: str, data: Path, passphrase_file: Path | None, as_json: bool) -> None:
    """Show what is known about a host.

    \b
    Example:
      watchword authority host show 0f3c9a12
    """
    with opened(data, passphrase_file) as (directory, _):
        row = one(directory.store.hosts(), host_id, lambda row: row.host_id.hex(), "host")
    document = _host_document(row) | {
        "ek_public": row.ek_public.hex(),
        "ak_public": row.ak_public.hex(),
        "last": asdict(row.last) if row.last else None,
        "runtime_entries": row.runtime.entries if row.runtime else None,
    }
    emit(document, "\n".join(f"{name:16} {shown(value)}" for name, value in document.items()), as_json=as_json)


@host.command("revoke")
@click.argument("host_id")
@click.option("--reason", required=True, help="Why; kept in the record.")
@where
def host_revoke(host_id: str, reason: str, data: Path, passphrase_file: Path | None, as_json: bool) -> None:
    """Refuse a host from now on, for good.

    \b
    Example:
      watchword authority host revoke 0f3c9a12 --reason "returned to the vendor"
    """
    with opened(data, passphrase_file) as (directory, admin):
        row = one(directory.store.hosts(), host_id, lambda row: row.host_id.hex(), "host")
        revoked = admin.revoke_host(row.host_id, reason)
    emit(_host_document(revoked), f"revoked {row.host_id.hex()}", as_json=as_json)


def _host_document(row: Host) -> dict[str, Any]:
    return {
        "host": row.host_id.hex(),
        "class": str(row.ek_class),
        "enrolled_at": row.enrolled_at,
        "last_seen": row.last_time,
        "revoked_at": row.revoked_at,
        "revoked_reason": row.revoked_reason,
    }


GROUPS = (endorser, stack_group, profile_group, host)
