"""``watchword profile``: check what a tenant demands of a host, compare two of them, give one to an authority."""

from __future__ import annotations

from pathlib import Path

import click

from watchword.cli.output import emit, json_option
from watchword.errors import MalformedError
from watchword.policy.explain import compare_profiles, explain_profile
from watchword.policy.profile import MAX_PROFILE_SIZE, Profile

__all__ = ["profile"]


@click.group()
def profile() -> None:
    """Check, compare and publish what you demand of a host.

    \b
    Example:
      watchword profile check gold.json
    """


@profile.command()
@click.argument("file", type=click.Path(path_type=Path))
@json_option
def check(file: Path, as_json: bool) -> None:
    """Say in words what a profile means; refuse one that accepts everything.

    \b
    Example:
      watchword profile check gold.json
    """
    parsed = Profile.parse(read_bounded(file, MAX_PROFILE_SIZE))
    lines = explain_profile(parsed)
    document = {
        "id": parsed.id.hex(),
        "name": parsed.name,
        "pcrs": list(parsed.pcrs),
        "levels": [level.name for level in parsed.levels],
        "words": lines,
    }
    emit(document, "\n".join(lines), as_json=as_json)


@profile.command("id")
@click.argument("file", type=click.Path(path_type=Path))
@json_option
def identity(file: Path, as_json: bool) -> None:
    """Print the id of a profile: the SHA-256 of its exact bytes.

    \b
    Example:
      watchword profile id gold.json
    """
    parsed = Profile.parse(read_bounded(file, MAX_PROFILE_SIZE))
    emit({"id": parsed.id.hex()}, parsed.id.hex(), as_json=as_json)


@profile.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--authority", required=True, metavar="NAME", help="A pinned authority.")
@json_option
def publish(file: Path, authority: str, as_json: bool) -> None:
    """Give a profile to an authority, so that your tokens can name it. Nobody can change or remove it from outside.

    \b
    Example:
      watchword profile publish gold.json --authority auditor
    """
    from watchword.tenant import trust

    document = read_bounded(file, MAX_PROFILE_SIZE)
    parsed = Profile.parse(document)
    new = trust.load(authority).client().publish_profile(document)
    shown = {"id": parsed.id.hex(), "name": parsed.name, "authority": authority, "new": new}
    told = "published" if new else "was there already"
    emit(shown, f"{parsed.id.hex()} {told}", as_json=as_json)


@profile.command()
@click.argument("first", type=click.Path(path_type=Path))
@click.argument("second", type=click.Path(path_type=Path))
@json_option
def diff(first: Path, second: Path, as_json: bool) -> None:
    """Say in words what the SECOND profile demands otherwise than the FIRST, level by level.

    \b
    Example:
      watchword profile diff gold.json gold-2027.json
    """
    before, after = (Profile.parse(read_bounded(file, MAX_PROFILE_SIZE)) for file in (first, second))
    changes = compare_profiles(before, after)
    lines = [f"{change.sign} {change.place}: {change.words}" for change in changes]
    document = {
        "first": before.id.hex(),
        "second": after.id.hex(),
        "gone": [[change.place, change.words] for change in changes if change.sign == "-"],
        "new": [[change.place, change.words] for change in changes if change.sign == "+"],
    }
    emit(document, "\n".join(lines) or "both demand the same", as_json=as_json)


def read_bounded(file: Path, limit: int) -> bytes:
    """The content of ``file``, which may have ``limit`` bytes at most."""
    with file.open("rb") as stream:
        data = stream.read(limit + 1)
    if len(data) > limit:
        raise MalformedError(f"{file.name}: is longer than the {limit} bytes that are allowed", code="file-too-large")
    return data
