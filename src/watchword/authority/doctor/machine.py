"""What the machine gives the authority: a private directory, room on the disk, file descriptors, a backup."""

from __future__ import annotations

import resource
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from watchword.authority.doctor.report import Report, Subject
from watchword.authority.server import MAX_CONNECTIONS
from watchword.authority.store import Store

__all__ = ["RESTORE", "check_backup", "check_directory", "check_disk", "check_limits", "check_server"]

RESTORE: Final = "docs/howto/back-up-an-authority.md."

_MIB: Final = 1 << 20
_LEAST: Final = 256 * _MIB  # free bytes: less is no room for the store's own journal
_FILES: Final = MAX_CONNECTIONS + 128  # connections, and what the store and the program keep open
_BACKUP_DAYS: Final = 2
_DAY: Final = 86400


def check_directory(subject: Subject, report: Report) -> None:
    """Nobody else may look into the directory or the store, and everything in it belongs to the one user."""
    owner = subject.data.stat().st_uid
    for path in _files(subject.data):
        status = path.lstat()
        secret = path.is_dir() or path.name.startswith(subject.store.name)
        if secret and stat.S_IMODE(status.st_mode) & 0o077:
            mode = f"{stat.S_IMODE(status.st_mode):04o}"
            report.problem("data-open", f"{path} is open to other users (mode {mode})", f"chmod go= {path}")
        if status.st_uid != owner:
            report.problem(
                "data-owner",
                f"{path} belongs to user {status.st_uid}, its directory to user {owner}",
                f"chown it back: chown --reference={subject.data} {path}. Run commands as the service's user.",
            )


def _files(data: Path) -> Iterator[Path]:
    yield data
    yield from sorted(data.iterdir())
    yield from sorted((data / "keyring").glob("*"))


def check_disk(subject: Subject, report: Report) -> None:
    """There is room for more decisions: what cannot be recorded is not released.

    With the store elsewhere, what must be written here is the mark of each release, and keys when they are changed.
    """
    free = shutil.disk_usage(subject.data).free
    size = sum(path.stat().st_size for path in subject.data.glob("store.sqlite3*"))
    if free < _LEAST:
        report.problem("disk-full", f"{free // _MIB} MiB are free on the disk of {subject.data}", "Make room.")
    elif free < size:
        text = f"{free // _MIB} MiB are free, less than the store has ({size // _MIB} MiB)"
        report.warning("disk-low", text, "Make room, or keep less: watchword authority prune --dry-run.")


def check_server(store: Store, report: Report) -> None:
    """How large a store on a server is; how much room there is, only somebody on that machine can see."""
    size = store.size_on_server()
    if size is not None:
        text = f"the store has {size // _MIB} MiB on a database server, whose disk cannot be seen from here"
        hint = "Watch that disk there: when it is full, nothing can be recorded, and nothing is released."
        report.note("disk-elsewhere", text, hint)


def check_limits(report: Report) -> None:
    """As many files may be open as there may be connections; the limit is that of the process that asks."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < _FILES:
        report.warning(
            "files-limit",
            f"a process started from here may open {soft} files; the service may need {_FILES}",
            f"Raise it for the service: LimitNOFILE={2 * _FILES} in its unit, or ulimit -n.",
        )


def check_backup(subject: Subject, report: Report) -> None:
    """There is a backup where somebody said that there is one, and it is of these days."""
    path = subject.backup
    assert path is not None
    times = [each.stat().st_mtime for each in (path.iterdir() if path.is_dir() else [path]) if each.exists()]
    if not times:
        report.problem("backup-missing", f"there is no backup at {path}", f"Make one: {RESTORE}")
        return
    days = int(subject.now - max(times)) // _DAY
    if days >= _BACKUP_DAYS:
        report.warning("backup-old", f"the newest backup at {path} is {days} days old", "Look at what makes backups.")
