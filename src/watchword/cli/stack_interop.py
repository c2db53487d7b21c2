"""``watchword stack import`` and ``export``: reference values in other people's formats."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import NamedTemporaryFile

import click

from watchword.cli.output import emit, json_option, note, printable
from watchword.cli.profile import read_bounded
from watchword.errors import UsageError
from watchword.policy.explain import explain_stack
from watchword.policy.stack import MAX_STACK_SIZE, CompiledStack
from watchword.reference.interop.draft import Draft, Heading, build, components_of
from watchword.reference.interop.expect import MAX_EXPECTATION, read_compute_pcrs
from watchword.reference.interop.keylime import MAX_POLICY, read_policy
from watchword.reference.interop.manifest import MAX_MANIFEST, read_manifest
from watchword.reference.interop.records import (
    MAX_RECORDS_FILE,
    not_in_pcrlock,
    read_cel,
    read_pcrlock,
    write_pcrlock,
)

__all__ = ["export", "import_"]

_READERS = {
    "keylime": (read_policy, MAX_POLICY),
    "sha256sum": (read_manifest, MAX_MANIFEST),
    "compute-pcrs": (read_compute_pcrs, MAX_EXPECTATION),
    "cel": (read_cel, MAX_RECORDS_FILE),
}
_Given = tuple[str | None, str | None, int | None, str | None]  # name, version, serial, origin
_MAX_FOLDER = 4096  # files of a pcrlock folder


@click.command("import")
@click.argument("form", metavar="FORMAT", type=click.Choice(["pcrlock", *_READERS, "corim"]))
@click.argument("source", type=click.Path(path_type=Path))
@click.option("--base", type=click.Path(path_type=Path), help="A stack to which the rest is added.")
@click.option("--name", help="Name of the stack, the same for all its releases.")
@click.option("--version", help="Version of this release.")
@click.option("--serial", type=click.IntRange(min=1), help="Counts releases up.")
@click.option("--origin", type=click.Choice(["captured", "computed"]),
              help="Where the values came from: captured, or computed if you know it.")  # fmt: skip
@click.option("--key", type=click.Path(path_type=Path), help="corim: the signer's public key, PEM, to verify it.")
@click.option("--require-signature", is_flag=True, help="corim: take nothing that was not verified with --key.")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="Where to write the stack.")
@json_option
def import_(
    form: str, source: Path, base: Path | None, name: str | None, version: str | None, serial: int | None,
    origin: str | None, key: Path | None, require_signature: bool, output: Path, as_json: bool,
) -> None:  # fmt: skip
    """Make a stack from other people's reference values. What a stack cannot say is left out and named.

    FORMAT is pcrlock (a folder of systemd-pcrlock components), cel (a canonical event log in JSON), compute-pcrs,
    keylime (a runtime policy), sha256sum (a list of files) or corim (draft-ietf-rats-corim). All need --name,
    --version and --serial, only a CoRIM that "stack export corim" wrote is a whole stack and takes none of them.

    \b
    Example:
      watchword stack import keylime policy.json --base boot.json --name compute --version 1.1 --serial 2 -o new.json
    """
    given = name, version, serial, origin
    told: dict[str, object] = {}
    if form == "corim":
        document, draft = _import_corim(source, given, base, (key, require_signature), told)
    elif key is not None or require_signature:
        raise UsageError("import-signature", "only a CoRIM has a signature here", hint="leave out --key")
    else:
        draft = _read(form, source)
        document = _build(draft, given, base)
    parsed = CompiledStack.parse(document)
    _write(output, document)
    for sentence in draft.left_out:
        note(printable(f"left out: {sentence}"))
    result: dict[str, object] = {
        "digest": parsed.digest.hex(),
        "origin": parsed.origin,
        "left_out": list(draft.left_out),
    }
    emit(result | told, "\n".join(explain_stack(parsed)), as_json=as_json)


@click.command()
@click.argument("form", metavar="FORMAT", type=click.Choice(["pcrlock", "corim"]))
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--key", type=click.Path(path_type=Path), help="corim: a private key, PEM, to sign it with.")
@click.option("--passphrase-file", type=click.Path(path_type=Path), help="Opens an encrypted key; else asked for.")
@click.option("--signer", help="corim: the name of whoever signs.")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="A file or folder that is made.")
@json_option
def export(
    form: str, file: Path, key: Path | None, passphrase_file: Path | None, signer: str | None, output: Path,
    as_json: bool,
) -> None:  # fmt: skip
    """Write a stack in another format: pcrlock, a folder of systemd-pcrlock components, or corim, a file.

    A CoRIM has everything that the stack has. It is signed with Ed25519, P-256 or P-384.

    \b
    Example:
      watchword stack export corim compute.json --key signer.pem --signer "Example Ltd" -o compute.corim
    """
    data = read_bounded(file, MAX_STACK_SIZE)
    parsed = CompiledStack.parse(data)
    if form == "corim":
        _export_corim(data, (key, passphrase_file, signer), output, as_json)
        return
    if key is not None or signer is not None:
        raise UsageError("import-signature", "only a CoRIM has a signature here", hint="leave out --key and --signer")
    files = write_pcrlock(components_of(parsed))
    if output.exists():
        raise UsageError("output-exists", f"{output} exists already", hint="name a folder that does not exist")
    output.mkdir()
    for name, data in files.items():
        (output / name).parent.mkdir(exist_ok=True)
        _write(output / name, data)
    lost = not_in_pcrlock(parsed)
    for what in lost:
        note(printable(f"left out: {what}"))
    emit({"files": sorted(files), "left_out": lost}, "\n".join(sorted(files)), as_json=as_json)


def _export_corim(
    data: bytes, signing: tuple[Path | None, Path | None, str | None], output: Path, as_json: bool
) -> None:
    from watchword.cli.stack_corim import write_corim

    if output.exists():
        raise UsageError("output-exists", f"{output} exists already", hint="name a file that does not exist")
    written, lost = write_corim(data, *signing)
    _write(output, written)
    for what in lost:
        note(printable(f"left out: {what}"))
    emit({"files": [output.name], "left_out": lost, "signed": signing[0] is not None}, output.name, as_json=as_json)


def _import_corim(
    source: Path, given: _Given, base: Path | None, trust: tuple[Path | None, bool], told: dict[str, object]
) -> tuple[bytes, Draft]:
    from watchword.cli.stack_corim import read_corim

    found = read_corim(source, *trust)
    told |= {"verified": found.signer is not None, "signer": found.signer}
    if found.stack is None:
        return _build(found.draft, given, base), found.draft
    if base is not None or any(each is not None for each in given):
        hint = "leave out --name, --version, --serial, --origin and --base"
        raise UsageError("import-heading", "this CoRIM is a whole stack and says these things itself", hint=hint)
    return found.stack, found.draft


def _build(draft: Draft, given: _Given, base: Path | None) -> bytes:
    name, version, serial, origin = given
    if name is None or version is None or serial is None:
        hint = "--name NAME --version VERSION --serial NUMBER"
        raise UsageError("import-heading", "only you can say what the stack is called", hint=hint)
    heading = Heading(name, version, serial, origin or "captured")
    return build(draft, heading, None if base is None else read_bounded(base, MAX_STACK_SIZE))


def _read(form: str, source: Path) -> Draft:
    if form == "pcrlock":
        found = sorted((*source.glob("*.pcrlock"), *source.glob("*.pcrlock.d/*.pcrlock")))[: _MAX_FOLDER + 1]
        if len(found) > _MAX_FOLDER:
            raise UsageError("pcrlock-many", f"{source} has more than {_MAX_FOLDER} files", hint="name another folder")
        return read_pcrlock({str(f.relative_to(source)): read_bounded(f, MAX_RECORDS_FILE) for f in found})
    reader, limit = _READERS[form]
    return reader(read_bounded(source, limit))


def _write(file: Path, data: bytes) -> None:
    """The whole file or none of it."""
    with NamedTemporaryFile(dir=file.parent, prefix=f".{file.name}.", delete=False) as stream:
        try:
            stream.write(data)
            stream.flush()
            os.fchmod(stream.fileno(), 0o644)
            os.replace(stream.name, file)
        except BaseException:
            os.unlink(stream.name)
            raise
