"""``watchword authority anchor import|collect``: the certificates of many TPM makers at once."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from watchword.cli.authority_common import FILE, date, opened, where
from watchword.cli.output import emit, json_option, note, printable
from watchword.cli.profile import read_bounded
from watchword.errors import UsageError

if TYPE_CHECKING:
    from watchword.authority.store import Store
    from watchword.verify.roots import Root, RootBundle

__all__ = ["EK_CLASS", "anchor_collect", "anchor_import"]

EK_CLASS = click.Choice(["hardware", "firmware", "virtual"])
_MAX_FILES: Final = 4096
_MAX_BYTES: Final = 16 << 20  # of all files together


@click.command("import")
@click.argument("bundle", type=FILE)
@click.option("--dry-run", is_flag=True, help="Check it, show what is in it and change nothing.")
@where
def anchor_import(bundle: Path, dry_run: bool, data: Path, passphrase_file: Path | None, as_json: bool) -> None:
    """Believe the anchors in BUNDLE, a JSON document of roots, and keep its intermediates for hosts that lack them.

    All of it, or nothing. An edition with a smaller serial than the one before is refused. Anchors that a new edition
    does not name any more are listed, and are believed until they are removed with 'anchor remove'.

    \b
    Example:
      watchword authority anchor import makers.json --dry-run
      watchword authority anchor import makers.json
    """
    from watchword.verify.roots import MAX_BUNDLE, RootBundle

    content = read_bounded(bundle, MAX_BUNDLE)
    parsed = RootBundle.parse(content)
    with opened(data, passphrase_file) as (directory, admin):
        known = {row.anchor.certificate_der for row in directory.store.anchors()}, {*directory.store.intermediates()}
        certificates = [_entry(root, known[0 if root.is_anchor else 1], admin.now) for root in parsed.roots]
        dropped = _dropped(parsed, directory.store)
        admin.import_bundle(content, dry_run=dry_run)
    document = {
        "name": parsed.name,
        "serial": parsed.serial,
        "about": parsed.about,
        "sha256": hashlib.sha256(content).hexdigest(),
        "imported": not dry_run,
        "certificates": certificates,
        "dropped": dropped,
    }
    emit(document, _text(document), as_json=as_json)
    if dropped:
        note(f"{len(dropped)} anchors are not in this edition any more; they are believed until 'anchor remove'")


def _entry(root: Root, known: set[bytes], now: int) -> dict[str, Any]:
    from watchword.verify.certificate import Certificate, fingerprint

    certificate = Certificate.parse(root.der)
    return {
        "label": root.label,
        "class": str(root.ek_class),
        "role": "anchor" if root.is_anchor else "intermediate",
        "source": root.source,
        "sha256": fingerprint(root.der),
        "until": certificate.not_after,
        "expired": now > certificate.not_after,
        "new": root.der not in known,
    }


def _dropped(bundle: RootBundle, store: Store) -> list[str]:
    """Fingerprints of anchors that are believed, that the edition before names and this one does not."""
    kept = {hashlib.sha256(anchor.certificate_der).digest() for anchor in bundle.anchors()}
    before = next((row.anchors for row in store.bundles() if row.name == bundle.name), frozenset())
    return sorted(row.fingerprint.hex() for row in store.anchors() if row.fingerprint in before - kept)


def _text(document: dict[str, Any]) -> str:
    lines = [
        f"{each['sha256']}  {each['class']:8}  {each['role']:12}  "
        f"{'new  ' if each['new'] else 'known'}  {'ended' if each['expired'] else 'until'} {date(each['until'])[:10]}  "
        f"{each['label']}  ({each['source']})"
        for each in document["certificates"]
    ]
    lines += [f"{each}  not in this edition any more" for each in document["dropped"]]
    roles = Counter(each["role"] for each in document["certificates"])
    what = "imported" if document["imported"] else "would import"
    lines.append(
        f"{what} {document['name']}, edition {document['serial']}: "
        f"{roles['anchor']} anchors, {roles['intermediate']} intermediates; sha256 {document['sha256']}"
    )
    return "\n".join(map(printable, lines))


@click.command("collect")
@click.argument("paths", type=FILE, nargs=-1, required=True)
@click.option("--class", "ek_class", type=EK_CLASS, required=True, help="What kind of TPMs they all certify.")
@click.option("--source", required=True, help="Where the files come from; kept with every certificate.")
@click.option("--all-anchors", is_flag=True, help="Make intermediates anchors too.")
@click.option("--name", help="Of the bundle; by default the name of the file that is written.")
@click.option("--serial", type=click.IntRange(1, (1 << 53) - 1), default=1, show_default=True, help="Its edition.")
@click.option("--about", help="What others should know of it; by default where it was collected.")
@click.option("-o", "--output", "bundle", type=FILE, required=True, metavar="BUNDLE", help="Write it there.")
@json_option
def anchor_collect(
    paths: tuple[Path, ...], ek_class: str, source: str, all_anchors: bool, name: str | None, serial: int,
    about: str | None, bundle: Path, as_json: bool,
) -> None:  # fmt: skip
    """Make a bundle of the certificates in PATHS: files (DER, or PEM with any number), and folders of such files.

    What may not certify endorsement keys is left out, and named. Nothing is believed until the bundle is imported.

    \b
    Example:
      watchword authority anchor collect ./makers --class hardware --source https://makers.example -o makers.json
    """
    from watchword.verify.ek import EkClass
    from watchword.verify.roots import RootBundle, collect

    found = collect(_files(paths), EkClass(ek_class), source, all_anchors=all_anchors)
    for each in found.skipped:
        note(f"left out: {printable(each.source)}: {printable(each.reason)}")
    if not found.roots:
        raise UsageError("roots-none", "no certificate there may certify endorsement keys", hint="look at the paths")
    content = RootBundle(name or bundle.stem, serial, about or f"collected from {source}"[:300], found.roots).encode()
    RootBundle.parse(content)  # nothing is written that could not be imported
    bundle.write_bytes(content)
    document = {
        "bundle": str(bundle),
        "sha256": hashlib.sha256(content).hexdigest(),
        "anchors": sum(root.is_anchor for root in found.roots),
        "intermediates": sum(not root.is_anchor for root in found.roots),
        "skipped": [{"source": each.source, "reason": each.reason} for each in found.skipped],
    }
    text = f"{document['anchors']} anchors, {document['intermediates']} intermediates, {len(found.skipped)} left out"
    emit(document, f"{text}; sha256 {document['sha256']}", as_json=as_json)


def _files(paths: tuple[Path, ...]) -> dict[str, bytes]:
    """Contents by name: a file's own, or its place in the folder that was given."""
    found: dict[str, bytes] = {}
    left = _MAX_BYTES
    for path in paths:
        inside = _inside(path) if path.is_dir() else [path]
        for file in inside:
            name = file.relative_to(path).as_posix() if path.is_dir() else file.name
            content = read_bounded(file, left)
            left -= len(content)
            found[name if name not in found else str(file)] = content
            if len(found) > _MAX_FILES:
                raise UsageError("roots-files", f"there are more than {_MAX_FILES} files", hint="give fewer paths")
    return found


def _inside(folder: Path) -> list[Path]:
    """The files below ``folder``, hidden ones (a version control's) left out."""
    listed = (each.relative_to(folder) for each in folder.rglob("*") if each.is_file())
    return [folder / each for each in sorted(listed) if not any(part.startswith(".") for part in each.parts)]
