"""``watchword stack``: describe the software of a host, check a description, endorse it."""

from __future__ import annotations

import re
from pathlib import Path

import click

from watchword.cli.output import emit, json_option, note
from watchword.cli.profile import read_bounded
from watchword.cli.stack_diff import diff
from watchword.cli.stack_endorse import endorse, endorsements
from watchword.cli.stack_expect import compare_with, in_json, in_words
from watchword.cli.stack_files import files as list_files
from watchword.cli.stack_interop import export, import_
from watchword.cli.stack_measure import measure, sheet
from watchword.errors import UsageError
from watchword.policy.capture import (
    DEFAULT_COMPONENTS,
    CapturedFile,
    capture_stack,
    captured_events,
    captured_files,
    captured_keys,
)
from watchword.policy.explain import explain_stack
from watchword.policy.stack import MAX_STACK_SIZE, CompiledStack
from watchword.reference.files.listing import MAX_LISTING, parse_listing
from watchword.verify.loaded_key import LoadedKey
from watchword.wire.ima_log import ImaLog
from watchword.wire.tcg_log import EventLog

__all__ = ["stack"]

_MAX_LOG = 64 * 1024 * 1024
_COMPONENT = re.compile(r"([A-Za-z0-9][A-Za-z0-9._+-]{0,63})=([0-9]{1,2}(?:,[0-9]{1,2})*)")


@click.group()
def stack() -> None:
    """Describe and endorse the software of a host.

    \b
    Example:
      watchword stack check compute.json
    """


@stack.command()
@click.option("--eventlog", required=True, type=click.Path(path_type=Path), help="The firmware's event log.")
@click.option("--ima", type=click.Path(path_type=Path), help="The kernel's binary runtime measurement list.")
@click.option("--files", type=click.Path(path_type=Path), help='More files: JSON, {"/path": "sha256:…"}.')
@click.option("--name", required=True, help="Name of the stack, the same for all its releases.")
@click.option("--version", required=True, help="Version of this release.")
@click.option("--serial", default=1, type=click.IntRange(min=1), show_default=True, help="Counts releases up.")
@click.option("--component", "components", multiple=True, help="NAME=PCR[,PCR…]; replaces the default components.")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="Where to write the stack.")
@json_option
def capture(
    eventlog: Path,
    ima: Path | None,
    files: Path | None,
    name: str,
    version: str,
    serial: int,
    components: tuple[str, ...],
    output: Path,
    as_json: bool,
) -> None:
    """Make a first stack from a host's own logs. It says what that host did, so look at it before you endorse it.

    \b
    Example:
      watchword stack capture --eventlog eventlog.bin --ima ima.bin --name compute --version 1.0 -o compute.json
    """
    listed: list[CapturedFile] = []
    keys: list[LoadedKey] = []
    if ima is not None:
        log = ImaLog.parse(read_bounded(ima, _MAX_LOG))
        listed += captured_files(log)
        keys = captured_keys(log)
    if files is not None:
        listed += parse_listing(read_bounded(files, MAX_LISTING))
    document = capture_stack(
        name=name,
        version=version,
        serial=serial,
        events=captured_events(EventLog.parse(read_bounded(eventlog, _MAX_LOG))),
        files=None if ima is None and files is None else listed,
        components=_components(components) if components else DEFAULT_COMPONENTS,
        keys=keys,
    )
    parsed = CompiledStack.parse(document)
    output.write_bytes(document)
    note("this stack was captured, not computed: it is as good as the host that it came from")
    emit(_summary(parsed), "\n".join(explain_stack(parsed)), as_json=as_json)


@stack.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--expect", multiple=True, type=click.Path(path_type=Path), help="PCR values that somebody computed.")
@json_option
def check(file: Path, expect: tuple[Path, ...], as_json: bool) -> int:
    """Say in words what a stack means, and whether it leads to expected PCR values. Ends with 3 when it does not.

    \b
    Example:
      watchword stack check compute.json --expect all-pcrs.json
    """
    parsed = CompiledStack.parse(read_bounded(file, MAX_STACK_SIZE))
    found = [(path.name, each) for path in expect for each in compare_with(parsed, path)]
    document = _summary(parsed) | ({"expected": [in_json(*each) for each in found]} if expect else {})
    lines = explain_stack(parsed) + [line for each in found for line in in_words(*each)]
    emit(document, "\n".join(lines), as_json=as_json)
    return 0 if all(each.holds == "yes" for _, each in found) else 3


def _summary(parsed: CompiledStack) -> dict[str, object]:
    return {
        "name": parsed.name,
        "version": parsed.version,
        "serial": parsed.serial,
        "pool": parsed.pool,
        "channel": parsed.channel,
        "origin": parsed.origin,
        "digest": parsed.digest.hex(),
        "pcrs": list(parsed.pcrs),
        "components": {c.name: [v.name for v in c.variants] for c in parsed.components},
        "files": len(parsed.files),
    }


def _components(texts: tuple[str, ...]) -> dict[str, tuple[int, ...]]:
    components: dict[str, tuple[int, ...]] = {}
    for text in texts:
        found = _COMPONENT.fullmatch(text)
        if found is None or found[1] in components:
            raise UsageError("capture-components", f"--component {text}: write NAME=PCR,PCR and each name once")
        components[found[1]] = tuple(int(pcr) for pcr in found[2].split(","))
    return components


for _command in (measure, sheet, endorse, endorsements, diff, export, list_files, import_):
    stack.add_command(_command)
