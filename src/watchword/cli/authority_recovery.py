"""``watchword authority backup``, ``restore`` and ``recovery``: a copy, and what to do after it was put back."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from watchword.cli.authority_common import FILE, date, opened, passphrase, unix_time, where
from watchword.cli.authority_keys import REQUEST, for_request, write_request
from watchword.cli.output import emit, note
from watchword.cli.profile import read_bounded
from watchword.errors import UsageError

if TYPE_CHECKING:  # the authority needs an extra; without it, the help must still work
    from watchword.authority.upkeep.backup import Contents

__all__ = ["COMMANDS"]

_MAX_NOTE: Final = 64 * 1024


@click.command("backup")
@click.argument("file", type=FILE)
@click.option("--with-keys", is_flag=True, help="The key files too; they must be encrypted with a passphrase.")
@where
def backup(file: Path, with_keys: bool, data: Path, passphrase_file: Path | None, as_json: bool) -> None:
    """Write a copy of the store to FILE, a tar, while the service runs; "-" is standard output, for encryption.

    \b
    Example:
      watchword authority backup /srv/backup/authority.tar
      watchword authority backup --with-keys /srv/backup/with-keys.tar
    """
    from watchword.authority.upkeep.backup import write_backup

    os.umask(0o077)
    with opened(data, passphrase_file) as (directory, _):
        if str(file) == "-":
            contents = write_backup(directory, sys.stdout.buffer, now=int(time.time()), keys=with_keys)
            note(_told(contents))
            return
        temporary = file.with_name(f".{file.name}.{os.getpid()}")
        try:
            with temporary.open("xb") as out:
                contents = write_backup(directory, out, now=int(time.time()), keys=with_keys)
                out.flush()
                os.fsync(out.fileno())
            temporary.replace(file)
        except OSError as error:
            raise UsageError("backup-file", f"cannot write {file}: {error.strerror}") from None
        finally:
            temporary.unlink(missing_ok=True)
    emit(_document(contents), _told(contents), as_json=as_json)


@click.command("restore")
@click.argument("file", type=FILE)
@where
def restore(file: Path, data: Path, passphrase_file: Path | None, as_json: bool) -> None:
    """Put the copy in FILE ("-": standard input) into a directory that has no store. The authority is held afterwards.

    Nobody can see in a copy how many releases came after it, so nothing is decided until 'recovery' says how to go on.

    \b
    Example:
      watchword authority restore /srv/backup/authority.tar --data /var/lib/watchword
    """
    from watchword.authority.upkeep.backup import restore as put_back

    os.umask(0o077)
    secret, now = passphrase(passphrase_file), int(time.time())
    try:
        if str(file) == "-":
            contents = put_back(sys.stdin.buffer, data, now=now, passphrase=secret)
        else:
            with file.open("rb") as source:
                contents = put_back(source, data, now=now, passphrase=secret)
    except OSError as error:
        raise UsageError("backup-file", f"cannot restore {file}: {error.strerror}") from None
    emit(_document(contents), _told(contents), as_json=as_json)
    note("nothing is decided yet: watchword authority recovery show")


def _document(contents: Contents) -> dict[str, Any]:
    return {
        "authority": contents.authority,
        "fingerprint": contents.fingerprint,
        "made": contents.made,
        "entries": contents.entries,
        "root": contents.root,
        "keys": contents.keys,
    }


def _told(contents: Contents) -> str:
    keys = "with its keys" if contents.keys else "without keys"
    return f"{contents.authority}, {contents.entries} entries, {keys}, copied {date(contents.made)}"


@click.group("recovery")
def recovery() -> None:
    """After a store was put back, or was found to have gone back, or a clock was ahead.

    \b
    Example:
      watchword authority recovery show
    """


@recovery.command("show")
@where
def show(data: Path, passphrase_file: Path | None, as_json: bool) -> None:
    """Show whether something keeps the authority from deciding, and what is known.

    \b
    Example:
      watchword authority recovery show --json
    """
    from watchword.authority.upkeep.recovery import Recovery

    with opened(data, passphrase_file) as (directory, admin):
        standing = Recovery(directory, admin).standing()
    marked = "unknown" if standing.marked is None else f"{standing.marked} entries"
    lines = [
        f"decides     {'no: ' + standing.message if standing.problem else 'yes'}",
        f"log         {standing.entries} entries",
        f"high water  {marked}",
    ]
    emit(asdict(standing) | {"hold": _hold(standing.hold)}, "\n".join(lines), as_json=as_json)


def _hold(hold: Any) -> dict[str, Any] | None:
    return None if hold is None else {"why": hold.why, "since": hold.since, "detail": hold.detail}


@recovery.command("resume")
@click.option("--checkpoint", required=True, type=FILE, help="The newest checkpoint that anybody has of this log.")
@click.option("--reason", required=True, help="Why this is the newest; everybody can read it.")
@where
def resume(checkpoint: Path, reason: str, data: Path, passphrase_file: Path | None, as_json: bool) -> None:
    """Go on with a store that is the newest there is: its log continues the newest checkpoint that anybody has.

    \b
    Example:
      watchword authority recovery resume --checkpoint witness.note --reason "new hardware, service stopped"
    """
    from watchword.authority.upkeep.recovery import Recovery

    given = read_bounded(checkpoint, _MAX_NOTE)
    with opened(data, passphrase_file) as (directory, admin):
        Recovery(directory, admin).resume(given, reason)
    emit({"resumed": True}, "the authority decides again", as_json=as_json)


@recovery.command("open-epoch")
@click.option("--reason", required=True, help="What happened; everybody can read it.")
@REQUEST
@where
def open_epoch(reason: str, request: Path | None, data: Path, passphrase_file: Path | None, as_json: bool) -> None:
    """Make every token void that was sealed until now, and go on. Lost counts cannot matter then; hosts notice nothing.

    Where the root key is kept elsewhere, this writes what it must sign; 'keys install' begins the epoch.

    \b
    Example:
      watchword authority recovery open-epoch --reason "disk lost, restored from last night"
    """
    from watchword.authority.upkeep.recovery import Recovery

    with opened(data, passphrase_file) as (directory, admin):
        ring = for_request(directory.keyring, request)
        ring = Recovery(directory, admin).open_epoch(ring, reason, requested=request is not None)
        if request is not None:
            write_request(ring.requested(ring.directory), request, as_json)
            return
    document = {"version": ring.key_list.version, "sealing": next(iter(ring.sealing_keys)).hex()}
    emit(document, f"a new epoch, keys version {ring.key_list.version}: older tokens are void", as_json=as_json)


@recovery.command("void-challenges")
@click.option("--time", "told", required=True, help="What time it is, by another clock than this machine's.")
@click.option("--reason", required=True, help="What happened to the clock; everybody can read it.")
@where
def void_challenges(told: str, reason: str, data: Path, passphrase_file: Path | None, as_json: bool) -> None:
    """Make every challenge void that was given out until now. For launches refused because the clock had been ahead.

    Right the clock first. The times must agree within a minute; a service that runs goes on without a restart.

    \b
    Example:
      watchword authority recovery void-challenges --time 2026-11-28T11:05+00:00 --reason "NTP server an hour ahead"
    """
    from watchword.authority.upkeep.recovery import Recovery

    moment = unix_time(told)
    with opened(data, passphrase_file) as (directory, admin):
        Recovery(directory, admin).void_challenges(moment, reason)
    emit({"void": True}, "hosts launch again, with new challenges", as_json=as_json)


COMMANDS: Final = (backup, restore, recovery)
