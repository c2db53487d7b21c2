"""``watchword authority anchor|crl|ek``: whose TPMs an authority believes."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from watchword.cli.authority_bundles import EK_CLASS, anchor_collect, anchor_import
from watchword.cli.authority_common import FILE, MAX_SMALL_FILE, Place, anywhere, date, emit_rows
from watchword.cli.output import emit, printable
from watchword.cli.profile import read_bounded

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
@anywhere
def anchor_add(file: Path, ek_class: str, label: str | None, place: Place, as_json: bool) -> None:
    """Believe EK certificates below the certificate in FILE (PEM or DER).

    \b
    Example:
      watchword authority anchor add tpm-maker-root.pem --class hardware
    """
    content = read_bounded(file, MAX_SMALL_FILE)
    document = place.ask("anchor add", certificate=content, ek_class=ek_class, label=label or file.name)
    emit(document, document["fingerprint"], as_json=as_json)


@anchor.command("list")
@anywhere
def anchor_list(place: Place, as_json: bool) -> None:
    """List the trust anchors, and which editions of bundles name them.

    \b
    Example:
      watchword authority anchor list --json
    """
    emit_rows("anchors", place.ask("anchor list")["anchors"], as_json)


@anchor.command("remove")
@click.argument("fingerprint")
@anywhere
def anchor_remove(fingerprint: str, place: Place, as_json: bool) -> None:
    """Stop believing a certificate authority; enrolled hosts stay until they are revoked.

    \b
    Example:
      watchword authority anchor remove 5d2c01f7
    """
    document = place.ask("anchor remove", fingerprint=fingerprint)
    emit(document, f"removed {document['removed']}", as_json=as_json)


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
@anywhere
def crl_add(file: Path, issuer: Path | None, place: Place, as_json: bool) -> None:
    """Refuse to enrol TPMs whose certificates the list in FILE (PEM or DER) revokes.

    It takes the place of an older list of the same issuer. When it runs out, nothing below its issuer can be enrolled
    until the next one is here. Hosts that are enrolled already are not looked at again: revoke them one by one.

    \b
    Example:
      watchword authority crl add tpm-maker.crl
    """
    by = read_bounded(issuer, MAX_SMALL_FILE) if issuer else None
    document = place.ask("crl add", crl=read_bounded(file, MAX_CRL_FILE), issuer=by)
    text = f"{document['fingerprint']} {document['revoked']} revoked, good until {date(document['next_update'])}"
    emit(document, text, as_json=as_json)


@crl.command("list")
@anywhere
def crl_list(place: Place, as_json: bool) -> None:
    """List the revocation lists, and which of them ran out.

    \b
    Example:
      watchword authority crl list --json
    """
    rows = place.ask("crl list")["crls"]
    lines = [
        f"{row['fingerprint']}  {row['revoked']} revoked  {'ended' if row['expired'] else 'until'} "
        f"{date(row['next_update'])}  {printable(row['issuer'])}"
        for row in rows
    ]
    emit({"crls": rows}, "\n".join(lines) or "no crls", as_json=as_json)


@crl.command("remove")
@click.argument("fingerprint")
@anywhere
def crl_remove(fingerprint: str, place: Place, as_json: bool) -> None:
    """Stop using a revocation list; what it revoked can be enrolled again.

    \b
    Example:
      watchword authority crl remove 5d2c01f7
    """
    document = place.ask("crl remove", fingerprint=fingerprint)
    emit(document, f"removed {document['removed']}", as_json=as_json)


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
@anywhere
def ek_pin(file: Path, ek_class: str, label: str | None, place: Place, as_json: bool) -> None:
    """Believe the EK whose public area is in FILE (TPM2B_PUBLIC or TPMT_PUBLIC).

    \b
    Example:
      watchword authority ek pin compute7-ek.pub --class virtual
    """
    content = read_bounded(file, MAX_SMALL_FILE)
    document = place.ask("ek pin", public=content, ek_class=ek_class, label=label or file.name)
    emit(document, document["host"], as_json=as_json)


@ek.command("list")
@anywhere
def ek_list(place: Place, as_json: bool) -> None:
    """List the pinned EKs.

    \b
    Example:
      watchword authority ek list --json
    """
    emit_rows("pins", place.ask("ek list")["pins"], as_json)


@ek.command("unpin")
@click.argument("host")
@anywhere
def ek_unpin(host: str, place: Place, as_json: bool) -> None:
    """Stop believing a pinned EK; an enrolled host stays until it is revoked.

    \b
    Example:
      watchword authority ek unpin 0f3c9a12
    """
    document = place.ask("ek unpin", host=host)
    emit(document, f"removed {document['removed']}", as_json=as_json)


for _command in (anchor_import, anchor_collect):
    anchor.add_command(_command)

GROUPS = (anchor, crl, ek)
