"""``watchword token``: seal a launch secret to an authority."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from watchword.cli.output import emit, json_option, note
from watchword.errors import UsageError
from watchword.policy.profile import MAX_PROFILE_SIZE, Profile
from watchword.tenant import launches, trust
from watchword.tenant.files import read_bounded, write_private
from watchword.tenant.split import create_split, majority
from watchword.wire.inputs import DISK, USER_DATA
from watchword.wire.share import Bundle
from watchword.wire.trace import launch_trace

__all__ = ["make_token", "token", "token_options"]

F = TypeVar("F", bound=Callable[..., Any])
_PATH = click.Path(path_type=Path, dir_okay=False)
_DURATION = re.compile(r"([1-9][0-9]{0,8})([smhd]?)\Z")
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_MAX_USER_DATA = 64 * 1024  # bytes
_ID = re.compile(r"[0-9a-f]{64}\Z")


class _Duration(click.ParamType[int]):
    """Seconds, or a number with s, m, h or d."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        match = _DURATION.match(value)
        if match is None:
            self.fail(f"{value!r} is not a time span; write 90s, 30m, 1h or 7d", param, ctx)
        return int(match[1]) * _SECONDS[match[2]]


def token_options(function: F) -> F:
    """The options that say what a launch demands; :func:`make_token` takes them."""
    for option in reversed(
        (
            click.option(
                "--authority",
                "authorities",
                required=True,
                multiple=True,
                metavar="NAME",
                help="A pinned authority; again to split the secret.",
            ),
            click.option(
                "--threshold",
                type=click.IntRange(1, 255),
                metavar="K",
                help="How many of several authorities must release; more than half, which is the default.",
            ),
            click.option("--profile", required=True, metavar="FILE|ID", help="What you demand of a host."),
            click.option("--level", metavar="NAME|RANK", help="Lowest acceptable level; the highest otherwise."),
            click.option("--disk", required=True, type=_PATH, metavar="FILE", help="The disk image, raw."),
            click.option("--user-data", type=_PATH, metavar="FILE", help="The user-data, if there is any."),
            click.option("--input", "inputs", multiple=True, metavar="NAME=FILE", help="Bind another launch input."),
            click.option("--expires", type=_Duration(), default="1h", show_default=True, help="Lifetime: 90s, 1h, 7d."),
            click.option(
                "--releases", type=click.IntRange(1, 65535), default=1, show_default=True, help="Starts allowed."
            ),
            click.option("--name", help="What to call the launch here."),
            click.option("--secret-file", type=_PATH, metavar="FILE", help="Your own secret: 32 bytes or 64 hex."),
        )
    ):
        function = option(function)
    return function


def make_token(
    *,
    authorities: tuple[str, ...],
    threshold: int | None,
    profile: str,
    level: str | None,
    disk: Path,
    user_data: Path | None,
    inputs: tuple[str, ...],
    expires: int,
    releases: int,
    name: str | None,
    secret_file: Path | None,
) -> tuple[Bundle, launches.LaunchRecord]:
    """The token that these options ask for, or the tokens and their launch set, and the record, stored."""
    pinned = [trust.load(each) for each in authorities]
    if len(pinned) == 1 and threshold not in (None, 1):
        raise UsageError("bad-threshold", "one authority has the whole secret", hint="name each with --authority NAME")
    document = _profile(profile, pinned[0])
    digests = {DISK: launches.file_digest(disk)}
    if user_data is not None:
        data = read_bounded(user_data, _MAX_USER_DATA, "the user-data")
        digests[USER_DATA] = hashlib.sha256(data).digest()
    for given in inputs:
        digests.update(_input(given, digests))
    demands: dict[str, Any] = {
        "name": name,
        "profile": document,
        "rank": launches.profile_rank(document, level),
        "inputs": digests,
        "now": int(time.time()),
        "lifetime": expires,
        "releases": releases,
        "secret": launches.read_secret(secret_file) if secret_file else None,
    }
    bundle, record = _create(pinned, threshold, demands)
    launches.save(record)
    return bundle, record


def _create(
    pinned: list[trust.Authority], threshold: int | None, demands: dict[str, Any]
) -> tuple[Bundle, launches.LaunchRecord]:
    if len(pinned) == 1:
        text, record = launches.create(authority=pinned[0].name, keys=pinned[0].keys, **demands)
        return Bundle((text,)), record
    needed = majority(len(pinned)) if threshold is None else threshold
    bundle, record = create_split(authorities=[(each.name, each.keys) for each in pinned], threshold=needed, **demands)
    note(f"the secret is split over {len(pinned)} authorities, {needed} of which must release their share")
    return bundle, record


def _profile(given: str, pinned: trust.Authority) -> Profile:
    if _ID.match(given) and not Path(given).exists():
        return pinned.client().profile(bytes.fromhex(given))
    return Profile.parse(read_bounded(Path(given), MAX_PROFILE_SIZE, "the profile"))


def _input(given: str, known: dict[str, bytes]) -> dict[str, bytes]:
    name, equals, path = given.partition("=")
    if not equals or not path:
        raise UsageError("bad-input", f"--input {given[:80]!r} is not NAME=FILE")
    if name in known:
        raise UsageError("bad-input", f"the launch input {name[:40]!r} is given twice")
    return {name: launches.file_digest(Path(path))}


def _tokens(bundle: Bundle, record: launches.LaunchRecord) -> dict[str, Any]:
    if not record.shares:
        return {"token": bundle.tokens[0]}
    return {
        "tokens": list(bundle.tokens),
        "launch_set": bundle.launch_set,
        "metadata": bundle.metadata(),
        "authorities": [each.authority for each in record.shares],
        "threshold": record.threshold,
    }


@click.group()
def token() -> None:
    """Seal a launch secret to an authority.

    \b
    Example:
      watchword token create --authority auditor --profile gold.json --disk guest.img
    """


@token.command()
@token_options
@click.option("-o", "--output", type=_PATH, metavar="FILE", help="Write the token there, mode 0600.")
@json_option
def create(output: Path | None, as_json: bool, **demands: Any) -> None:
    """Draw a secret, seal it with what you demand, and print the token.

    The secret is forgotten; what stays is the public key that your machine will prove. With several authorities each
    gets a share that says nothing alone; what is printed are the tokens and then their launch set, which belong
    together.

    \b
    Example:
      watchword token create --authority auditor --profile gold.json --level full --disk guest.img --name web1
      watchword token create --authority auditor --authority union --authority lab --threshold 2 \\
        --profile gold.json --disk guest.img --name web2
    """
    bundle, record = make_token(**demands)
    text = bundle.text()
    if output is not None:
        write_private(output, text.encode() + b"\n")
    note(f"launch {record.name!r}; its machine will show the SSH host key {record.ssh_fingerprint}")
    document = {
        "name": record.name,
        **_tokens(bundle, record),
        "trace": launch_trace(text),
        "launch_id": record.launch_id,
        "ssh_public_key": record.ssh_public_key,
        "ssh_fingerprint": record.ssh_fingerprint,
        "profile": record.profile,
        "level": record.level,
        "inputs": record.input_names,
        "expires": record.expires,
        "releases": record.releases,
    }
    if output is None or as_json:
        emit(document, text, as_json=as_json)
