"""``watchword stack measure`` and ``watchword stack sheet``: a stack from a release's artifacts, before any boot."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import Progress as Bar

from watchword.cli.output import emit, json_option, note
from watchword.cli.profile import read_bounded
from watchword.errors import UsageError
from watchword.policy.explain import explain_stack
from watchword.policy.stack import CompiledStack
from watchword.reference.boot.sheet import DEFAULT_PCRS, Sheet, capture_sheet
from watchword.reference.compute import Computed, Progress, compute_stack
from watchword.reference.release_file import MAX_RELEASE_SIZE, parse_release
from watchword.wire.tcg_log import MAX_LOG

__all__ = ["measure", "sheet"]


@click.command()
@click.argument("release", type=click.Path(path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="Where to write the stack.")
@click.option("--pcrs", "show_pcrs", is_flag=True, help="Also print the predicted PCR values, for each variant.")
@json_option
def measure(release: Path, output: Path, show_pcrs: bool, as_json: bool) -> None:
    """Compute a stack from a release's artifacts, before any host has booted them. RELEASE is a TOML file.

    \b
    Example:
      watchword stack measure release.toml -o compute.json --pcrs
    """
    parsed = parse_release(read_bounded(release, MAX_RELEASE_SIZE))
    counts: dict[str, int] = {}
    with _bar() as progress:

        def read_runtime(table: Mapping[str, Any], folder: Path) -> Mapping[str, Any]:
            from watchword.reference.files import files_from_table

            found = files_from_table(table, folder, progress)
            counts.update(found.counts)
            return found.runtime()

        computed = compute_stack(parsed, release.parent, read_runtime=read_runtime, progress=progress)
    stack = CompiledStack.parse(computed.document)
    write_whole(output, computed.document)
    if parsed.firmware is None:
        note("no firmware sheets: PCRs 0, 2 and 3 are not covered, so any firmware is accepted")
    if counts:
        note("files: " + ", ".join(f"{number} {word}" for word, number in sorted(counts.items())))
    document = {
        "name": stack.name,
        "version": stack.version,
        "serial": stack.serial,
        "origin": stack.origin,
        "digest": stack.digest.hex(),
        "pcrs": list(stack.pcrs),
        "components": {name: [v.name for v in variants] for name, variants in computed.components},
        "predictions": computed.pcrs(),
        "files": {"paths": len(stack.files), "counts": counts},
    }
    lines = [*explain_stack(stack), *_events(computed), *(_values(computed) if show_pcrs else ())]
    emit(document, "\n".join(lines), as_json=as_json)


@click.command()
@click.option("--eventlog", required=True, type=click.Path(path_type=Path), help="The event log of a good machine.")
@click.option("--model", required=True, help="Model of the machine.")
@click.option("--version", required=True, help="Version of its firmware.")
@click.option("--pcr", "pcrs", multiple=True, type=click.IntRange(0, 23), help="PCRs of the firmware; 0, 2 and 3.")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="Where to write the sheet.")
@json_option
def sheet(eventlog: Path, model: str, version: str, pcrs: tuple[int, ...], output: Path, as_json: bool) -> None:
    """Capture what one model's firmware measures, for release files. It says what that machine did.

    \b
    Example:
      watchword stack sheet --eventlog eventlog.bin --model r750 --version 2.19.1 -o r750-2.19.1.json
    """
    log = read_bounded(eventlog, MAX_LOG)
    data = capture_sheet(log, model=model, version=version, pcrs=tuple(sorted(set(pcrs))) or DEFAULT_PCRS)
    parsed = Sheet.parse(data)
    write_whole(output, data)
    note("this sheet was captured, not computed: it is as good as the machine that it came from")
    document = {"model": parsed.model, "version": parsed.version, "log": parsed.log.hex(), "pcrs": list(parsed.pcrs)}
    text = f"firmware {parsed.name}: {len(parsed.events)} events in PCRs {', '.join(map(str, parsed.pcrs))}"
    emit({**document, "events": len(parsed.events)}, text, as_json=as_json)


def write_whole(path: Path, data: bytes) -> None:
    """Replace ``path`` by ``data`` in one step: a reader sees the old file or the new one."""
    if not path.parent.is_dir():
        raise UsageError("os-error", f"{path.parent}: no such directory")
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        try:
            file.write(data)
            file.flush()
            os.fchmod(file.fileno(), 0o644)
            os.replace(file.name, path)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise


@contextmanager
def _bar() -> Iterator[Progress]:
    """A progress bar on a terminal; nothing anywhere else."""
    with Bar(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("measuring", total=None)

        def show(what: str, done: int, total: int) -> None:
            bar.update(task, description=f"measuring {what}", completed=done, total=total)

        yield show


def _events(computed: Computed) -> Iterator[str]:
    for name, variants in computed.components:
        for variant in variants:
            yield f"{name} {variant.name}"
            for event in variant.events:
                yield f"  pcr {event.pcr:2}  {event.note[:120]}"


def _values(computed: Computed) -> Iterator[str]:
    for choice in computed.pcrs():
        yield "predicted with " + ", ".join(f"{name} {variant}" for name, variant in choice["variants"].items())
        for bank, values in choice["pcrs"].items():
            for pcr, value in values.items():
                yield f"  {bank} pcr {int(pcr):2} {value}"
