"""``watchword authority endorser|profile|host``: who vouches for software, what tenants may ask for, and the hosts."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from watchword.cli.authority_common import FILE, MAX_SMALL_FILE, emit_rows, one, opened, shown, where
from watchword.cli.output import emit
from watchword.cli.profile import read_bounded
from watchword.cli.public_key import read_public_key

if TYPE_CHECKING:
    from watchword.authority.store import EndorserRow, Host

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
@click.option("--name", help="Who it is; the file's name by default.")
@click.option("--stack", "stacks", multiple=True, help="Count its signatures on stacks of this name only.")
@click.option("--pool", "pools", multiple=True, help="Count its signatures in this pool only.")
@where
def endorser_add(
    file: Path,
    name: str | None,
    stacks: tuple[str, ...],
    pools: tuple[str, ...],
    data: Path,
    passphrase_file: Path | None,
    as_json: bool,
) -> None:
    """Count the signatures of the public key in FILE: Ed25519, P-256 or P-384 (PEM, or as OpenSSH writes it).

    \b
    Example:
      watchword authority endorser add auditor.pub.pem --name auditor --stack compute --pool default
    """
    key = read_public_key(file)
    with opened(data, passphrase_file) as (_, admin):
        row = admin.add_endorser(
            key, name or file.name, stacks=frozenset(stacks) or None, pools=frozenset(pools) or None
        )
    emit(_endorser_document(row), row.key_id, as_json=as_json)


@endorser.command("list")
@where
def endorser_list(data: Path, passphrase_file: Path | None, as_json: bool) -> None:
    """List the endorsers, and what each may sign for ("-": everything).

    \b
    Example:
      watchword authority endorser list --json
    """
    with opened(data, passphrase_file) as (directory, _):
        rows = [_endorser_document(row) for row in directory.store.endorsers()]
    emit_rows("endorsers", rows, as_json)


def _endorser_document(row: EndorserRow) -> dict[str, Any]:
    return {
        "key": row.key_id,
        "key_type": row.key_type,
        "name": row.name,
        "stacks": None if row.stacks is None else sorted(row.stacks),
        "pools": None if row.pools is None else sorted(row.pools),
        "added_at": row.added_at,
    }


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
    """List the profiles, those that tenants published included.

    \b
    Example:
      watchword authority profile list --json
    """
    with opened(data, passphrase_file) as (directory, _):
        rows = [
            {"name": row.name, "id": row.id.hex(), "added_at": row.added_at, "published": row.published}
            for row in directory.store.profiles()
        ]
    emit_rows("profiles", rows, as_json)


@profile_group.command("remove")
@click.argument("profile_id")
@where
def profile_remove(profile_id: str, data: Path, passphrase_file: Path | None, as_json: bool) -> None:
    """Forget a profile: tokens that name it are refused from now on.

    \b
    Example:
      watchword authority profile remove 9f86d081884c7d65
    """
    with opened(data, passphrase_file) as (directory, admin):
        row = one(directory.store.profiles(), profile_id, lambda row: row.id.hex(), "profile")
        admin.remove_profile(row.id)
    emit({"removed": row.id.hex()}, f"removed {row.id.hex()}", as_json=as_json)


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


GROUPS = (endorser, profile_group, host)
