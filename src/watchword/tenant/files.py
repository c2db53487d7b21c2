"""The tenant's own files: where they are, and how they are written so that no reader ever sees half of one.

Authorities are kept below ``$XDG_CONFIG_HOME/watchword``, launches below ``$XDG_STATE_HOME/watchword`` (XDG Base
Directory Specification). Neither holds a secret, but both decide whom the tenant believes: mode 0600 in 0700.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path

from watchword.errors import UsageError

__all__ = [
    "authorities_folder",
    "check_name",
    "launches_folder",
    "listed",
    "logs_folder",
    "read_bounded",
    "write_private",
    "write_whole",
]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")


def authorities_folder() -> Path:
    """Where pinned authorities are kept."""
    return _base("XDG_CONFIG_HOME", ".config") / "authorities"


def launches_folder() -> Path:
    """Where launch records are kept."""
    return _base("XDG_STATE_HOME", ".local/state") / "launches"


def logs_folder() -> Path:
    """Where it is kept what was seen of authorities' logs."""
    return _base("XDG_STATE_HOME", ".local/state") / "logs"


def _base(variable: str, default: str) -> Path:
    given = os.environ.get(variable, "")
    # The specification: a relative path is invalid and must be ignored.
    root = Path(given) if given.startswith("/") else Path.home() / default
    return root / "watchword"


def check_name(name: str, what: str) -> str:
    """``name`` if it can be a file name on every system; raises :class:`UsageError` (``bad-name``)."""
    if not _NAME.match(name):
        raise UsageError(
            "bad-name",
            f"{name[:80]!r} cannot be the name of {what}",
            hint="use up to 64 letters, digits, dots, hyphens and underscores, beginning with a letter or digit",
        )
    return name


def listed(folder: Path) -> Iterator[str]:
    """The names that have a ``NAME.json`` in ``folder``, sorted."""
    if folder.is_dir():
        yield from sorted(path.stem for path in folder.glob("*.json") if _NAME.match(path.stem))


def read_bounded(path: Path, limit: int, what: str) -> bytes:
    """The content of ``path``, at most ``limit`` bytes; raises :class:`UsageError` when it is longer or unreadable."""
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it cannot be a path"
        raise UsageError("file-unreadable", f"{what} {path} cannot be read: {reason}") from None
    if len(data) > limit:
        raise UsageError("file-too-large", f"{what} {path} is larger than {limit} bytes")
    return data


def write_private(path: Path, data: bytes, *, replace: bool = True) -> None:
    """Put ``data`` at ``path``, mode 0600, whole or not at all; without ``replace`` an existing file is kept.

    Raises :class:`FileExistsError` in that case, and :class:`UsageError` when the folder cannot be written.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        _write_new(temporary, data)
    except OSError as error:
        raise UsageError("file-unwritable", f"{path} cannot be written: {error.strerror}") from None
    try:
        if replace:
            temporary.replace(path)
        else:
            path.hardlink_to(temporary)  # unlike a rename it fails when the name is taken
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()


def write_whole(path: Path, data: bytes) -> None:
    """Put ``data``, which is no secret, at ``path``: whole, or not at all and what was there stays."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("xb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _write_new(path: Path, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
