"""What every ``watchword authority`` command shares: options, the opened data directory, ids, and tables."""

from __future__ import annotations

import os
import pwd
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from datetime import datetime
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

import click

from watchword.cli.output import emit, json_option
from watchword.cli.profile import read_bounded
from watchword.errors import UsageError

if TYPE_CHECKING:  # the authority needs an extra; without it, the help must still work
    from watchword.authority.acts.admin import Admin
    from watchword.authority.data import DataDirectory
    from watchword.authority.store import DatabaseUrl
    from watchword.pkcs11.held import Tokens

__all__ = [
    "FILE",
    "Place",
    "MAX_SMALL_FILE",
    "anywhere",
    "database",
    "date",
    "duration",
    "emit_rows",
    "operator",
    "opened",
    "passphrase",
    "shown",
    "tokens",
    "unix_time",
    "where",
]

F = TypeVar("F", bound=Callable[..., Any])
FILE = click.Path(path_type=Path)
MAX_SMALL_FILE: Final = 256 * 1024  # bytes
_MAX_PASSPHRASE: Final = 1024
_MAX_URL: Final = 4096
_META: Final = "watchword.authority"  # where the options that every command has wait for ``opened``
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def _default_data() -> Path:
    home = os.environ.get("XDG_DATA_HOME")
    return (Path(home) if home else Path.home() / ".local" / "share") / "watchword" / "authority"


def where(function: F) -> F:
    """Add ``--data``, ``--database``, ``--database-file``, ``--passphrase-file``, ``--pin-file`` and ``--json``."""
    at = click.option(
        "--data", type=FILE, default=_default_data, help="The authority's directory.", show_default="user data"
    )
    server = click.option(
        "--database",
        metavar="URL",
        expose_value=False,
        callback=_remember,
        help="PostgreSQL, in place of a file; or set WATCHWORD_DATABASE.",
    )
    server_file = click.option(
        "--database-file", type=FILE, expose_value=False, callback=_remember, help="Holds that URL, with a password."
    )
    secret = click.option(
        "--passphrase-file",
        type=FILE,
        envvar="WATCHWORD_PASSPHRASE_FILE",
        help="Opens the key files; or set WATCHWORD_PASSPHRASE.",
    )
    pin = click.option(
        "--pin-file",
        type=FILE,
        expose_value=False,
        callback=_remember,
        help="PIN of the token that has keys, if one has; or set WATCHWORD_PIN.",
    )
    return at(server(server_file(secret(pin(json_option(function))))))


def _remember(context: click.Context, parameter: click.Parameter, value: Any) -> Any:
    context.meta[f"{_META}.{parameter.name}"] = value
    return value


def database(data: Path) -> DatabaseUrl | None:
    """Where the store of the authority in ``data`` is: what is said here, or in ``database.url``; None for its file.

    Raises :class:`UsageError` (``database-…``).
    """
    from watchword.authority.data import DATABASE_FILE
    from watchword.authority.store import DatabaseUrl

    meta = click.get_current_context().meta
    text, file = meta.get(f"{_META}.database"), meta.get(f"{_META}.database_file")
    if text:
        return DatabaseUrl.parse(text, visible=True)
    if file is None and (text := os.environ.get("WATCHWORD_DATABASE")):
        return DatabaseUrl.parse(text)
    file = file or data / DATABASE_FILE
    if file == data / DATABASE_FILE and not file.exists():
        return None
    if stat.S_IMODE(file.stat().st_mode) & 0o077:
        raise UsageError("database-open", f"{file} is open to other users", hint=f"chmod 600 {file}")
    return DatabaseUrl.parse(read_bounded(file, _MAX_URL).decode("utf-8", "replace").strip())


@dataclass(frozen=True, slots=True)
class Place:
    """Where a command works: on a directory of this machine, or as somebody on an authority elsewhere."""

    data: Path
    passphrase_file: Path | None
    authority: str | None
    client_cert: Path | None
    client_key: Path | None
    token_file: Path | None

    def ask(self, name: str, /, **fields: Any) -> dict[str, Any]:
        """The answer of the operation ``name`` to ``fields``, the same wherever it is done."""
        from watchword.authority.operations import OPERATIONS, Desk

        operation = OPERATIONS[name]
        question = operation.question(**fields)
        if self.authority is not None:
            from watchword.cli.authority_remote import Remote

            return Remote.open(self, passphrase(self.passphrase_file)).ask(operation, question)
        if self.client_cert or self.client_key or self.token_file:
            raise UsageError("usage", "a certificate or token is for an authority elsewhere: --authority NAME")
        with opened(self.data, self.passphrase_file) as (directory, admin):
            return operation.run(Desk(directory.store, admin.now, admin.actor), question)


def anywhere(function: F) -> F:
    """Add ``--data``, ``--passphrase-file``, ``--json`` and what it takes to work on an authority elsewhere.

    The command gets ``place`` and ``as_json``.
    """

    @wraps(function)
    def call(*arguments: Any, **values: Any) -> Any:
        place = Place(**{each.name: values.pop(each.name) for each in fields(Place)})
        return function(*arguments, place=place, **values)

    for option in (
        click.option("--token-file", type=FILE, help="Who you are to it: a bearer token, in a file of yours."),
        click.option("--client-key", type=FILE, help="The certificate's key, if it is in another file."),
        click.option("--client-cert", type=FILE, help="Who you are to it: a client certificate (PEM)."),
        click.option("--authority", help="Work on this authority, elsewhere, as pinned with 'watchword trust add'."),
    ):
        call = option(call)
    return cast(F, where(call))


def passphrase(file: Path | None) -> bytes | None:
    if file is not None:
        text = read_bounded(file, _MAX_PASSPHRASE).rstrip(b"\r\n")
        if not text:
            raise UsageError("passphrase-empty", f"{file} is empty")
        return text
    return os.environ.get("WATCHWORD_PASSPHRASE", "").encode() or None


def tokens() -> Tokens:
    """How keys in tokens are reached: with the PIN in ``--pin-file`` or WATCHWORD_PIN, read at each login."""
    from watchword.pkcs11.held import Tokens

    file: Path | None = click.get_current_context().meta.get(f"{_META}.pin_file")

    def pin() -> str:
        if file is None:
            return os.environ.get("WATCHWORD_PIN", "")
        text = read_bounded(file, _MAX_PASSPHRASE).rstrip(b"\r\n").decode("utf-8", "surrogateescape")
        if stat.S_IMODE(file.stat().st_mode) & 0o077:
            raise UsageError("pin-open", f"{file} is open to other users", hint=f"chmod 600 {file}")
        return text

    return Tokens(pin)


@contextmanager
def opened(data: Path, passphrase_file: Path | None) -> Iterator[tuple[DataDirectory, Admin]]:
    from watchword.authority.acts.admin import Admin
    from watchword.authority.data import DataDirectory

    directory = DataDirectory.open(
        data, passphrase=passphrase(passphrase_file), database=database(data), tokens=tokens()
    )
    with directory.store:
        yield directory, Admin(directory.store, int(time.time()), operator())


def operator() -> str:
    """What the record calls whoever works on the machine itself: "local:" and the login name, or the number."""
    uid = os.getuid()
    try:
        return f"local:{pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f"local:{uid}"


def unix_time(text: str) -> int:
    if text.isascii() and text.isdigit() and len(text) <= 12:
        return int(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError("time", f"{text!r} is not a time", hint="for example 2026-12-31T00:00:00+00:00") from None
    if moment.tzinfo is None:
        raise UsageError("time", f"{text!r} does not say its time zone", hint="add +00:00")
    return int(moment.timestamp())


def duration(text: str) -> int:
    """Seconds of "90s", "30m", "2h" or "7d". Raises :class:`UsageError`."""
    number, unit = text[:-1], text[-1:]
    if not (number.isascii() and number.isdigit() and len(number) <= 6 and unit in _UNITS):
        raise UsageError("time", f"{text!r} is not a length of time", hint="for example 30m, 2h or 7d")
    return int(number) * _UNITS[unit]


def date(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def shown(value: object) -> str:
    if isinstance(value, list):
        return " ".join(map(str, value)) or "-"
    return "-" if value is None else str(value)


def emit_rows(name: str, rows: list[dict[str, Any]], as_json: bool) -> None:
    emit({name: rows}, "\n".join("  ".join(map(shown, row.values())) for row in rows) or f"no {name}", as_json=as_json)
