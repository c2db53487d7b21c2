"""``watchword authority endorser|profile|host``: who vouches for software, what tenants may ask for, and the hosts."""

from __future__ import annotations

from pathlib import Path

import click
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from watchword.cli.authority_common import FILE, MAX_SMALL_FILE, Place, anywhere, emit_rows, shown
from watchword.cli.output import emit
from watchword.cli.profile import read_bounded
from watchword.cli.public_key import read_public_key

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
@anywhere
def endorser_add(
    file: Path,
    name: str | None,
    stacks: tuple[str, ...],
    pools: tuple[str, ...],
    place: Place,
    as_json: bool,
) -> None:
    """Count the signatures of the public key in FILE: Ed25519, P-256 or P-384 (PEM, or as OpenSSH writes it).

    \b
    Example:
      watchword authority endorser add auditor.pub.pem --name auditor --stack compute --pool default
    """
    key = read_public_key(file).public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    row = place.ask("endorser add", key=key, name=name or file.name, stacks=stacks, pools=pools)
    emit(row, row["key"], as_json=as_json)


@endorser.command("list")
@anywhere
def endorser_list(place: Place, as_json: bool) -> None:
    """List the endorsers, and what each may sign for ("-": everything).

    \b
    Example:
      watchword authority endorser list --json
    """
    emit_rows("endorsers", place.ask("endorser list")["endorsers"], as_json)


@endorser.command("remove")
@click.argument("key")
@anywhere
def endorser_remove(key: str, place: Place, as_json: bool) -> None:
    """Stop counting a key's signatures, on all stacks and at once.

    \b
    Example:
      watchword authority endorser remove 71b0e44d
    """
    document = place.ask("endorser remove", key=key)
    emit(document, f"removed {document['removed']}", as_json=as_json)


@click.group("profile")
def profile_group() -> None:
    """Profiles that tokens may ask for.

    \b
    Example:
      watchword authority profile list
    """


@profile_group.command("add")
@click.argument("file", type=FILE)
@anywhere
def profile_add(file: Path, place: Place, as_json: bool) -> None:
    """Keep the profile in FILE; its id is the hash of the file's exact content.

    \b
    Example:
      watchword authority profile add gold.json
    """
    document = place.ask("profile add", document=read_bounded(file, MAX_SMALL_FILE))
    emit(document, document["id"], as_json=as_json)


@profile_group.command("list")
@anywhere
def profile_list(place: Place, as_json: bool) -> None:
    """List the profiles, those that tenants published included.

    \b
    Example:
      watchword authority profile list --json
    """
    emit_rows("profiles", place.ask("profile list")["profiles"], as_json)


@profile_group.command("remove")
@click.argument("profile_id")
@anywhere
def profile_remove(profile_id: str, place: Place, as_json: bool) -> None:
    """Forget a profile: tokens that name it are refused from now on.

    \b
    Example:
      watchword authority profile remove 9f86d081884c7d65
    """
    document = place.ask("profile remove", profile=profile_id)
    emit(document, f"removed {document['removed']}", as_json=as_json)


# -- hosts -----------------------------------------------------------------------------------------------------------


@click.group()
def host() -> None:
    """Enrolled hosts.

    \b
    Example:
      watchword authority host list
    """


@host.command("list")
@anywhere
def host_list(place: Place, as_json: bool) -> None:
    """List the enrolled hosts.

    \b
    Example:
      watchword authority host list --json
    """
    emit_rows("hosts", place.ask("host list")["hosts"], as_json)


@host.command("show")
@click.argument("host_id")
@anywhere
def host_show(host_id: str, place: Place, as_json: bool) -> None:
    """Show what is known about a host.

    \b
    Example:
      watchword authority host show 0f3c9a12
    """
    document = place.ask("host show", host=host_id)
    emit(document, "\n".join(f"{name:16} {shown(value)}" for name, value in document.items()), as_json=as_json)


@host.command("revoke")
@click.argument("host_id")
@click.option("--reason", required=True, help="Why; kept in the record.")
@anywhere
def host_revoke(host_id: str, reason: str, place: Place, as_json: bool) -> None:
    """Refuse a host from now on, for good.

    \b
    Example:
      watchword authority host revoke 0f3c9a12 --reason "returned to the vendor"
    """
    document = place.ask("host revoke", host=host_id, reason=reason)
    emit(document, f"revoked {document['host']}", as_json=as_json)


GROUPS = (endorser, profile_group, host)
