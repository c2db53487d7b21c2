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
_MAX_FOLDER = 4096  # files of a pcrlock folder


@click.command("import")
@click.argument("form", metavar="FORMAT", type=click.Choice(["pcrlock", *_READERS]))
@click.argument("source", type=click.Path(path_type=Path))
@click.option("--base", type=click.Path(path_type=Path), help="A stack to which the rest is added.")
@click.option("--name", required=True, help="Name of the stack, the same for all its releases.")
@click.option("--version", required=True, help="Version of this release.")
@click.option("--serial", required=True, type=click.IntRange(min=1), help="Counts releases up.")
@click.option("--origin", default="captured", show_default=True, type=click.Choice(["captured", "computed"]),
              help="Where the values came from; computed only if you know it.")  # fmt: skip
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="Where to write the stack.")
@json_option
def import_(
    form: str, source: Path, base: Path | None, name: str, version: str, serial: int, origin: str, output: Path,
    as_json: bool,
) -> None:  # fmt: skip
    """Make a stack from other people's reference values. What a stack cannot say is left out and named.

    FORMAT is pcrlock (a folder of systemd-pcrlock components), cel (a canonical event log in JSON), compute-pcrs,
    keylime (a runtime policy) or sha256sum (a list of files).

    \b
    Example:
      watchword stack import keylime policy.json --base boot.json --name compute --version 1.1 --serial 2 -o new.json
    """
    draft = _read(form, source)
    document = build(
        draft,
        Heading(name, version, serial, origin),
        None if base is None else read_bounded(base, MAX_STACK_SIZE),
    )
    parsed = CompiledStack.parse(document)
    _write(output, document)
    for sentence in draft.left_out:
        note(printable(f"left out: {sentence}"))
    result = {"digest": parsed.digest.hex(), "origin": parsed.origin, "left_out": list(draft.left_out)}
    emit(result, "\n".join(explain_stack(parsed)), as_json=as_json)


@click.command()
@click.argument("form", metavar="FORMAT", type=click.Choice(["pcrlock"]))
@click.argument("file", type=click.Path(path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="A folder that is made.")
@json_option
def export(form: str, file: Path, output: Path, as_json: bool) -> None:
    """Write a stack in another format: pcrlock, a folder of systemd-pcrlock components.

    \b
    Example:
      watchword stack export pcrlock compute.json -o pcrlock.d
    """
    parsed = CompiledStack.parse(read_bounded(file, MAX_STACK_SIZE))
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
