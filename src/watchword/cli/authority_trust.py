"""``watchword authority anchor|crl|ek``: whose TPMs an authority believes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from watchword.cli.authority_bundles import EK_CLASS, anchor_collect, anchor_import
from watchword.cli.authority_common import FILE, MAX_SMALL_FILE, date, emit_rows, one, opened, where
from watchword.cli.output import emit, printable
from watchword.cli.profile import read_bounded

if TYPE_CHECKING:
    from watchword.authority.store import CrlRow

__all__ = ["GROUPS"]

MAX_CRL_FILE: Final = 2 << 20  # bytes: the largest list as PEM


@click.group()
def anchor() -> None:
    """The certificate authorities of TPM makers that are believed.

    \b
    Example:
      watchword authority anchor list
    """


@anchor.command("add")
@click.argument("file", type=FILE)
@click.option("--class", "ek_class", type=EK_CLASS, required=True, help="What kind of TPM it vouches for.")
@click.option("--label", help="A name for people; the file's name by default.")
@where
def anchor_add(
    file: Path, ek_class: str, label: str | None, data: Path, passphrase_file: Path | None, as_json: bool
) -> None:
    """Believe EK certificates below the certificate in FILE (PEM or DER).

    \b
    Example:
      watchword authority anchor add tpm-maker-root.pem --class hardware
    """
    from watchword.authority.inputs import read_certificate
    from watchword.verify.ek import EkClass

    certificate = read_certificate(read_bounded(file, MAX_SMALL_FILE))
    with opened(data, passphrase_file) as (_, admin):
        row = admin.add_anchor(certificate, EkClass(ek_class), label or file.name)
    emit({"fingerprint": row.fingerprint.hex()}, row.fingerprint.hex(), as_json=as_json)


@anchor.command("list")
@where
def anchor_list(data: Path, passphrase_file: Path | None, as_json: bool) -> None:
    """List the trust anchors, and which editions of bundles name them.

    \b
    Example:
      watchword authority anchor list --json
    """
    with opened(data, passphrase_file) as (directory, _):
        bundles = directory.store.bundles()
        rows = [
            {
                "fingerprint": row.fingerprint.hex(),
                "class": str(row.anchor.ek_class),
                "label": row.anchor.label,
                "added_at": row.added_at,
                "bundles": [f"{each.name}@{each.serial}" for each in bundles if row.fingerprint in each.anchors],
            }
            for row in directory.store.anchors()
        ]
    emit_rows("anchors", rows, as_json)


@anchor.command("remove")
@click.argument("fingerprint")
@where
def anchor_remove(fingerprint: str, data: Path, passphrase_file: Path | None, as_json: bool) -> None:
    """Stop believing a certificate authority; enrolled hosts stay until they are revoked.

    \b
    Example:
      watchword authority anchor remove 5d2c01f7
    """
    with opened(data, passphrase_file) as (directory, admin):
        found = one(directory.store.anchors(), fingerprint, lambda row: row.fingerprint.hex(), "anchor")
        admin.remove_anchor(found.fingerprint)
    emit({"removed": found.fingerprint.hex()}, f"removed {found.fingerprint.hex()}", as_json=as_json)


@click.group()
def crl() -> None:
    """Lists of what TPM makers have revoked.

    \b
    Example:
      watchword authority crl list
    """


@crl.command("add")
@click.argument("file", type=FILE)
@click.option("--issuer", type=FILE, help="The issuer's certificate, when it is neither an anchor nor in a bundle.")
@where
def crl_add(file: Path, issuer: Path | None, data: Path, passphrase_file: Path | None, as_json: bool) -> None:
    """Refuse to enrol TPMs whose certificates the list in FILE (PEM or DER) revokes.

    It takes the place of an older list of the same issuer. When it runs out, nothing below its issuer can be enrolled
    until the next one is here. Hosts that are enrolled already are not looked at again: revoke them one by one.

    \b
    Example:
      watchword authority crl add tpm-maker.crl
    """
    from watchword.authority.inputs import read_certificate, read_crl

    content = read_crl(read_bounded(file, MAX_CRL_FILE))
    by = read_certificate(read_bounded(issuer, MAX_SMALL_FILE)) if issuer else None
    with opened(data, passphrase_file) as (_, admin):
        row = admin.add_crl(content, by)
    document = _crl_document(row)
    text = f"{document['fingerprint']} {document['revoked']} revoked, good until {date(row.next_update)}"
    emit(document, text, as_json=as_json)


@crl.command("list")
@where
def crl_list(data: Path, passphrase_file: Path | None, as_json: bool) -> None:
    """List the revocation lists, and which of them ran out.

    \b
    Example:
      watchword authority crl list --json
    """
    with opened(data, passphrase_file) as (directory, admin):
        rows = [_crl_document(row) | {"expired": row.next_update < admin.now} for row in directory.store.crls()]
    lines = [
        f"{row['fingerprint']}  {row['revoked']} revoked  {'ended' if row['expired'] else 'until'} "
        f"{date(row['next_update'])}  {printable(row['issuer'])}"
        for row in rows
    ]
    emit({"crls": rows}, "\n".join(lines) or "no crls", as_json=as_json)


@crl.command("remove")
@click.argument("fingerprint")
@where
def crl_remove(fingerprint: str, data: Path, passphrase_file: Path | None, as_json: bool) -> None:
    """Stop using a revocation list; what it revoked can be enrolled again.

    \b
    Example:
      watchword authority crl remove 5d2c01f7
    """
    with opened(data, passphrase_file) as (directory, admin):
        found = one(directory.store.crls(), fingerprint, lambda row: row.fingerprint.hex(), "list")
        admin.remove_crl(found.fingerprint)
    emit({"removed": found.fingerprint.hex()}, f"removed {found.fingerprint.hex()}", as_json=as_json)


def _crl_document(row: CrlRow) -> dict[str, Any]:
    from watchword.verify.crl import RevocationList

    return {
        "fingerprint": row.fingerprint.hex(),
        "issuer": row.issuer_name,
        "this_update": row.this_update,
        "next_update": row.next_update,
        "revoked": len(RevocationList.parse(row.crl).revoked),
        "added_at": row.added_at,
    }


@click.group()
def ek() -> None:
    """Endorsement keys that are believed one by one, without a certificate.

    \b
    Example:
      watchword authority ek list
    """


@ek.command("pin")
@click.argument("file", type=FILE)
@click.option("--class", "ek_class", type=EK_CLASS, required=True, help="What kind of TPM it is.")
@click.option("--label", help="A name for people; the file's name by default.")
@where
def ek_pin(
    file: Path, ek_class: str, label: str | None, data: Path, passphrase_file: Path | None, as_json: bool
) -> None:
    """Believe the EK whose public area is in FILE (TPM2B_PUBLIC or TPMT_PUBLIC).

    \b
    Example:
      watchword authority ek pin compute7-ek.pub --class virtual
    """
    from watchword.authority.inputs import read_public
    from watchword.verify.ek import EkClass

    public = read_public(read_bounded(file, MAX_SMALL_FILE))
    with opened(data, passphrase_file) as (_, admin):
        pin = admin.pin_ek(public, EkClass(ek_class), label or file.name)
    emit({"host": pin.host_id.hex()}, pin.host_id.hex(), as_json=as_json)


@ek.command("list")
@where
def ek_list(data: Path, passphrase_file: Path | None, as_json: bool) -> None:
    """List the pinned EKs.

    \b
    Example:
      watchword authority ek list --json
    """
    with opened(data, passphrase_file) as (directory, _):
        rows = [
            {"host": p.host_id.hex(), "class": str(p.ek_class), "label": p.label, "added_at": p.added_at}
            for p in directory.store.pins()
        ]
    emit_rows("pins", rows, as_json)


@ek.command("unpin")
@click.argument("host")
@where
def ek_unpin(host: str, data: Path, passphrase_file: Path | None, as_json: bool) -> None:
    """Stop believing a pinned EK; an enrolled host stays until it is revoked.

    \b
    Example:
      watchword authority ek unpin 0f3c9a12
    """
    with opened(data, passphrase_file) as (directory, admin):
        found = one(directory.store.pins(), host, lambda pin: pin.host_id.hex(), "pinned EK")
        admin.unpin_ek(found.host_id)
    emit({"removed": found.host_id.hex()}, f"removed {found.host_id.hex()}", as_json=as_json)


for _command in (anchor_import, anchor_collect):
    anchor.add_command(_command)

GROUPS = (anchor, crl, ek)
