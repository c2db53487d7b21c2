"""``watchword stack files``: what a release may run, from its artifacts."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from watchword.cli.output import emit, json_option
from watchword.cli.stack_measure import write_whole
from watchword.errors import UsageError
from watchword.policy.document import DIGEST_NAMES

if TYPE_CHECKING:
    from watchword.reference.files import Progress

__all__ = ["files"]


@click.command()
@click.argument("sources", nargs=-1, type=click.Path(path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="Where to write the digests.")
@click.option("--at", default="/", show_default=True, help="Where a directory, archive or image is on the host.")
@click.option("--partition", help="Of a disk: a number, a name, or root or usr for the type.")
@click.option("--agent", type=click.Path(path_type=Path), help="Also the agent's virtual environment, at this path.")
@click.option("--exclude", multiple=True, help="Leave out paths like /usr/share/doc/*; * matches / too.")
@click.option("--only-code", is_flag=True, help="Programs, libraries, modules and firmware only.")
@click.option(
    "--usrmerge",
    default="merged",
    show_default=True,
    type=click.Choice(["merged", "split", "both"]),
    help="How a package's /bin, /sbin and /lib are on the host.",
)
@click.option(
    "--algorithm",
    "algorithms",
    multiple=True,
    default=["sha256"],
    show_default=True,
    type=click.Choice(["sha256", "sha384", "sha512"]),
    help="The hash of the host's IMA; several for several.",
)
@click.option("--signer", "signers", multiple=True, type=click.Path(path_type=Path), help="Key that signs files, PEM.")
@click.option("--runtime", is_flag=True, help="Write the member runtime of a stack: the files, and the signers given.")
@json_option
def files(
    sources: tuple[Path, ...],
    output: Path,
    at: str,
    partition: str | None,
    agent: Path | None,
    exclude: tuple[str, ...],
    only_code: bool,
    usrmerge: Literal["merged", "split", "both"],
    algorithms: tuple[str, ...],
    signers: tuple[Path, ...],
    runtime: bool,
    as_json: bool,
) -> None:
    """List what a release may run: the files of .deb and .rpm packages, directories, tar archives and images.

    The result is what 'watchword stack capture --files' reads. Signatures of files are verified with the keys given.

    \b
    Example:
      watchword stack files debs/*.deb disk.img --partition root --exclude '/usr/share/doc/*' -o files.json
    """
    from watchword.reference.files import Options, Source, agent_sources, collect, load_signers

    if not sources and agent is None:
        raise UsageError("reference-source", "name at least one package, directory, archive or image, or --agent")
    texts, keys = load_signers(signers)
    chosen = tuple(DIGEST_NAMES[name] for name in dict.fromkeys(algorithms))
    options = Options(exclude, only_code, usrmerge, chosen, signers=texts, keys=keys or None)
    named = [Source(path, at, _partition_of(path, partition, sources)) for path in sources]
    with _bar() as progress:
        found = collect([*named, *(agent_sources(agent) if agent else ())], options, progress)
    write_whole(output, json.dumps(found.runtime() if runtime else found.listing(), indent=1).encode() + b"\n")
    counts = ", ".join(f"{number} {word}" for word, number in sorted(found.counts.items()))
    document = {"paths": len(found.files), "counts": dict(found.counts)}
    emit(document, f"{len(found.files)} paths ({counts})", as_json=as_json)


def _partition_of(path: Path, partition: str | None, sources: tuple[Path, ...]) -> str | None:
    """The partition, for the disks among several sources; alone, a source that is no disk is refused for it."""
    from watchword.reference.files.source import Source, kind_of

    return partition if len(sources) == 1 or kind_of(Source(path)) == "image" else None


@contextmanager
def _bar() -> Iterator[Progress]:
    """Bytes read of all sources, on a terminal; nothing anywhere else."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Bar(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("reading", total=None)

        def show(name: str, done: int, total: int) -> None:
            bar.update(task, description=f"reading {name}", completed=done, total=total)

        yield show
