"""``watchword authority``: run an authority with one command, and administer it while it runs."""

from __future__ import annotations

import importlib
import json
import os
import pwd
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from watchword.cli.output import emit, json_option, note
from watchword.cli.profile import read_bounded
from watchword.errors import UsageError

if TYPE_CHECKING:  # the authority needs an extra; without it, the help must still work
    from watchword.authority.admin import Admin
    from watchword.authority.data import DataDirectory
    from watchword.authority.keyring import Keyring
    from watchword.authority.store import Host, StackInfo

__all__ = ["authority"]

F = TypeVar("F", bound=Callable[..., Any])
_T = TypeVar("_T")
_EXTRA: Final = {"anyio", "httptools", "sqlalchemy", "starlette", "uvicorn"}
_MAX_SMALL_FILE: Final = 256 * 1024
_MAX_PASSPHRASE: Final = 1024
_MIN_PREFIX: Final = 8  # hex digits of an id that stand for all of it
_FILE = click.Path(path_type=Path)
_EK_CLASS = click.Choice(["hardware", "firmware", "virtual"])


class _NeedsExtra(click.Group):
    """Says what to install when the packages of the service are missing."""

    def invoke(self, ctx: click.Context) -> Any:
        for module in sorted(_EXTRA):
            try:
                importlib.import_module(module)
            except ModuleNotFoundError:
                raise UsageError(
                    "extra-missing",
                    f"running an authority needs the package {module}, which is not installed",
                    hint="install watchword with its extra: pip install 'watchword[authority]'",
                ) from None
        return super().invoke(ctx)


def _default_data() -> Path:
    home = os.environ.get("XDG_DATA_HOME")
    return (Path(home) if home else Path.home() / ".local" / "share") / "watchword" / "authority"


def _where(function: F) -> F:
    """Add ``--data``, ``--passphrase-file`` and ``--json``."""
    data = click.option(
        "--data", type=_FILE, default=_default_data, help="The authority's directory.", show_default="user data"
    )
    passphrase = click.option(
        "--passphrase-file", type=_FILE, help="Opens the key files; or set WATCHWORD_PASSPHRASE."
    )
    return data(passphrase(json_option(function)))


def _passphrase(file: Path | None) -> bytes | None:
    if file is not None:
        text = read_bounded(file, _MAX_PASSPHRASE).rstrip(b"\r\n")
        if not text:
            raise UsageError("passphrase-empty", f"{file} is empty")
        return text
    return os.environ.get("WATCHWORD_PASSPHRASE", "").encode() or None


@contextmanager
def _opened(data: Path, passphrase_file: Path | None) -> Iterator[tuple[DataDirectory, Admin]]:
    from watchword.authority.admin import Admin
    from watchword.authority.data import DataDirectory

    directory = DataDirectory.open(data, passphrase=_passphrase(passphrase_file))
    with directory.store:
        yield directory, Admin(directory.store, int(time.time()), _operator())


def _operator() -> str:
    uid = os.getuid()
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


@click.group(cls=_NeedsExtra)
def authority() -> None:
    """Run and administer an authority.

    \b
    Example:
      watchword authority serve --listen 127.0.0.1:8443
    """


# -- serve -------------------------------------------------------------------------------------------------------


@authority.command()
@click.option("--listen", default="127.0.0.1:8443", show_default=True, help="HOST:PORT; port 0 takes a free one.")
@click.option("--name", help="What a new authority is called in receipts; the host's name by default.")
@click.option("--host-name", "host_names", multiple=True, help="Another name or address that clients use.")
@click.option("--ready-file", type=_FILE, help="Written, as JSON, once the service answers.")
@_where
def serve(
    listen: str,
    name: str | None,
    host_names: tuple[str, ...],
    ready_file: Path | None,
    data: Path,
    passphrase_file: Path | None,
    as_json: bool,
) -> None:
    """Answer hosts and tenants, until told to stop. A directory that is missing is made, with fresh keys.

    \b
    Example:
      watchword authority serve --listen 0.0.0.0:8443 --host-name authority.example
    """
    from watchword.authority.app import Services, create_app
    from watchword.authority.data import DataDirectory
    from watchword.authority.keyring import KeyringSource
    from watchword.authority.launches import Launches
    from watchword.authority.server import Address, bind, run

    os.umask(0o077)
    now = int(time.time())
    wanted = Address.parse(listen)
    directory = DataDirectory.open_or_create(
        data, authority=name or socket.gethostname(), now=now, passphrase=_passphrase(passphrase_file)
    )
    with directory.store as store:
        ring = directory.keyring.with_names(_server_names(wanted.host, host_names), now)
        listener, address = bind(wanted)
        keyring = KeyringSource(ring)
        app = create_app(Services(Launches(store, keyring), store, keyring))
        run(app, ring, listener, lambda: _announce(ring, address.url, ready_file, as_json))
    note("stopped")


def _server_names(host: str, more: tuple[str, ...]) -> list[str]:
    named = [] if host in ("0.0.0.0", "::") else [host]  # noqa: S104 - compared, not bound
    return list(dict.fromkeys((*named, *more, socket.gethostname(), "localhost", "127.0.0.1", "::1")))


def _announce(ring: Keyring, url: str, ready_file: Path | None, as_json: bool) -> None:
    command = f"watchword trust add {url} --fingerprint {ring.fingerprint}"
    document = {
        "url": url,
        "authority": ring.key_list.authority,
        "fingerprint": ring.fingerprint,
        "trust": command,
        "pid": os.getpid(),
    }
    text = f"authority    {document['authority']}\nlistening    {url}\nfingerprint  {ring.fingerprint}\ntenants run  {command}"
    emit(document, text, as_json=as_json)
    click.get_text_stream("stdout").flush()
    if ready_file is not None:
        temporary = ready_file.with_name(f".{ready_file.name}.{os.getpid()}")
        temporary.write_text(json.dumps(document) + "\n")
        temporary.replace(ready_file)


# -- whose TPMs are believed ---------------------------------------------------------------------------------------


@authority.group()
def anchor() -> None:
    """The certificate authorities of TPM makers that are believed."""


@anchor.command("add")
@click.argument("file", type=_FILE)
@click.option("--class", "ek_class", type=_EK_CLASS, required=True, help="What kind of TPM it vouches for.")
@click.option("--label", help="A name for people; the file's name by default.")
@_where
def anchor_add(
    file: Path, ek_class: str, label: str | None, data: Path, passphrase_file: Path | None, as_json: bool
) -> None:
    """Believe EK certificates below the certificate in FILE (PEM or DER).

    \b
    Example:
      watchword authority anchor add tpm-maker-root.pem --class hardware
    """
    from watchword.authority.inputs import read_certificate
    from watchword.verify.ek import EkClass

    certificate, der = read_certificate(read_bounded(file, _MAX_SMALL_FILE))
    with _opened(data, passphrase_file) as (_, admin):
        row = admin.add_anchor(certificate, EkClass(ek_class), label or file.name, der)
    emit({"fingerprint": row.fingerprint.hex()}, row.fingerprint.hex(), as_json=as_json)


@anchor.command("list")
@_where
def anchor_list(data: Path, passphrase_file: Path | None, as_json: bool) -> None:
    """List the trust anchors."""
    with _opened(data, passphrase_file) as (directory, _):
        rows = [
            {
                "fingerprint": row.fingerprint.hex(),
                "class": str(row.anchor.ek_class),
                "label": row.anchor.label,
                "added_at": row.added_at,
            }
            for row in directory.store.anchors()
        ]
    _emit_rows("anchors", rows, as_json)


@anchor.command("remove")
@click.argument("fingerprint")
@_where
def anchor_remove(fingerprint: str, data: Path, passphrase_file: Path | None, as_json: bool) -> None:
    """Stop believing a certificate authority; enrolled hosts stay until they are revoked."""
    with _opened(data, passphrase_file) as (directory, admin):
        found = _one(directory.store.anchors(), fingerprint, lambda row: row.fingerprint.hex(), "anchor")
        admin.remove_anchor(found.fingerprint)
    emit({"removed": found.fingerprint.hex()}, f"removed {found.fingerprint.hex()}", as_json=as_json)


@authority.group()
def ek() -> None:
    """Endorsement keys that are believed one by one, without a certificate."""


@ek.command("pin")
@click.argument("file", type=_FILE)
@click.option("--class", "ek_class", type=_EK_CLASS, required=True, help="What kind of TPM it is.")
@click.option("--label", help="A name for people; the file's name by default.")
@_where
def ek_pin(
    file: Path, ek_class: str, label: str | None, data: Path, passphrase_file: Path | None, as_json: bool
) -> None:
    """Believe the EK whose public area is in FILE (TPM2B_PUBLIC or TPMT_PUBLIC).

    \b
    Example:
      watchword authority ek pin compute7-ek.pub --class virtual
    """
    from watchword.authority.inputs import read_public
    from watchword.verify.ek import EkClass

    public = read_public(read_bounded(file, _MAX_SMALL_FILE))
    with _opened(data, passphrase_file) as (_, admin):
        pin = admin.pin_ek(public, EkClass(ek_class), label or file.name)
    emit({"host": pin.host_id.hex()}, pin.host_id.hex(), as_json=as_json)


@ek.command("list")
@_where
def ek_list(data: Path, passphrase_file: Path | None, as_json: bool) -> None:
    """List the pinned EKs."""
    with _opened(data, passphrase_file) as (directory, _):
        rows = [
            {"host": p.host_id.hex(), "class": str(p.ek_class), "label": p.label, "added_at": p.added_at}
            for p in directory.store.pins()
        ]
    _emit_rows("pins", rows, as_json)


@ek.command("unpin")
@click.argument("host")
@_where
def ek_unpin(host: str, data: Path, passphrase_file: Path | None, as_json: bool) -> None:
    """Stop believing a pinned EK; an enrolled host stays until it is revoked."""
    with _opened(data, passphrase_file) as (directory, admin):
        found = _one(directory.store.pins(), host, lambda pin: pin.host_id.hex(), "pinned EK")
        admin.unpin_ek(found.host_id)
    emit({"removed": found.host_id.hex()}, f"removed {found.host_id.hex()}", as_json=as_json)


# -- what hosts may run ----------------------------------------------------------------------------------------------


@authority.group()
def endorser() -> None:
    """Whose signatures on stacks count."""


@endorser.command("add")
@click.argument("file", type=_FILE)
@click.option("--label", help="A name for people; the file's name by default.")
@_where
def endorser_add(file: Path, label: str | None, data: Path, passphrase_file: Path | None, as_json: bool) -> None:
    """Count the signatures of the Ed25519 public key in FILE (PEM, or as OpenSSH writes it).

    \b
    Example:
      watchword authority endorser add auditor.pub.pem
    """
    from watchword.authority.inputs import read_endorser_key

    key = read_endorser_key(read_bounded(file, _MAX_SMALL_FILE))
    with _opened(data, passphrase_file) as (_, admin):
        row = admin.add_endorser(key, label or file.name)
    emit({"key": row.key_id}, row.key_id, as_json=as_json)


@endorser.command("list")
@_where
def endorser_list(data: Path, passphrase_file: Path | None, as_json: bool) -> None:
    """List the endorsers."""
    with _opened(data, passphrase_file) as (directory, _):
        rows = [
            {"key": row.key_id, "label": row.label, "added_at": row.added_at}
            for row in directory.store.endorsers()
        ]
    _emit_rows("endorsers", rows, as_json)


@endorser.command("remove")
@click.argument("key")
@_where
def endorser_remove(key: str, data: Path, passphrase_file: Path | None, as_json: bool) -> None:
    """Stop counting a key's signatures, on all stacks and at once."""
    with _opened(data, passphrase_file) as (directory, admin):
        found = _one(directory.store.endorsers(), key, lambda row: row.key_id, "endorser")
        admin.remove_endorser(found.key_id)
    emit({"removed": found.key_id}, f"removed {found.key_id}", as_json=as_json)


@authority.group("stack")
def stack_group() -> None:
    """Releases of host software that hosts are measured against."""


@stack_group.command("add")
@click.argument("file", type=_FILE)
@click.option("--unendorsed", is_flag=True, help="FILE is the bare document: nobody has signed it.")
@_where
def stack_add(file: Path, unendorsed: bool, data: Path, passphrase_file: Path | None, as_json: bool) -> None:
    """Keep the endorsed stack in FILE, as 'watchword stack endorse' writes it.

    \b
    Example:
      watchword authority stack add compute-2026.11.stack.json
    """
    from watchword.authority.endorsement import MAX_ENVELOPE

    content = read_bounded(file, MAX_ENVELOPE)
    with _opened(data, passphrase_file) as (_, admin):
        row = admin.add_stack(content, endorsed=not unendorsed)
    emit(_stack_document(row), f"{row.name} {row.version} {row.digest.hex()}", as_json=as_json)


@stack_group.command("list")
@_where
def stack_list(data: Path, passphrase_file: Path | None, as_json: bool) -> None:
    """List the stack releases."""
    with _opened(data, passphrase_file) as (directory, _):
        rows = [_stack_document(row) for row in directory.store.stack_infos()]
    _emit_rows("stacks", rows, as_json)


@stack_group.command("retire")
@click.argument("stack")
@click.option("--at", "at", required=True, help="When it ends: 2026-12-31T00:00:00+00:00, or Unix seconds.")
@_where
def stack_retire(stack: str, at: str, data: Path, passphrase_file: Path | None, as_json: bool) -> None:
    """Let STACK (digest, or NAME@VERSION) be accepted until a date and no longer.

    \b
    Example:
      watchword authority stack retire compute@2026.10 --at 2026-12-31T00:00:00+00:00
    """
    _change_stack(stack, "retiring", _unix_time(at), data, passphrase_file, as_json)


@stack_group.command("revoke")
@click.argument("stack")
@_where
def stack_revoke(stack: str, data: Path, passphrase_file: Path | None, as_json: bool) -> None:
    """Refuse STACK (digest, or NAME@VERSION) from now on, for good."""
    _change_stack(stack, "revoked", None, data, passphrase_file, as_json)


def _change_stack(
    name: str, state: str, retire_at: int | None, data: Path, passphrase_file: Path | None, as_json: bool
) -> None:
    from watchword.authority.store import StackState

    with _opened(data, passphrase_file) as (directory, admin):
        rows = directory.store.stack_infos()
        named = [row for row in rows if f"{row.name}@{row.version}" == name]
        row = named[0] if len(named) == 1 else _one(rows, name, lambda row: row.digest.hex(), "stack")
        admin.change_stack(row, StackState(state), retire_at)
    document = {"digest": row.digest.hex(), "state": state, "retire_at": retire_at}
    emit(document, f"{row.name} {row.version} is {state}", as_json=as_json)


def _stack_document(row: StackInfo) -> dict[str, Any]:
    return {
        "name": row.name,
        "version": row.version,
        "serial": row.serial,
        "state": str(row.state),
        "digest": row.digest.hex(),
        "retire_at": row.retire_at,
        "endorsed_by": sorted(row.endorsed_by),
        "added_at": row.added_at,
    }


@authority.group("profile")
def profile_group() -> None:
    """Profiles that tokens may ask for."""


@profile_group.command("add")
@click.argument("file", type=_FILE)
@_where
def profile_add(file: Path, data: Path, passphrase_file: Path | None, as_json: bool) -> None:
    """Keep the profile in FILE; its id is the hash of the file's exact content.

    \b
    Example:
      watchword authority profile add gold.json
    """
    with _opened(data, passphrase_file) as (_, admin):
        row = admin.add_profile(read_bounded(file, _MAX_SMALL_FILE))
    emit({"id": row.id.hex(), "name": row.name}, row.id.hex(), as_json=as_json)


@profile_group.command("list")
@_where
def profile_list(data: Path, passphrase_file: Path | None, as_json: bool) -> None:
    """List the profiles."""
    with _opened(data, passphrase_file) as (directory, _):
        rows = [
            {"name": row.name, "id": row.id.hex(), "added_at": row.added_at} for row in directory.store.profiles()
        ]
    _emit_rows("profiles", rows, as_json)


# -- hosts -----------------------------------------------------------------------------------------------------------


@authority.group()
def host() -> None:
    """Enrolled hosts."""


@host.command("list")
@_where
def host_list(data: Path, passphrase_file: Path | None, as_json: bool) -> None:
    """List the enrolled hosts."""
    with _opened(data, passphrase_file) as (directory, _):
        rows = [_host_document(row) for row in directory.store.hosts()]
    _emit_rows("hosts", rows, as_json)


@host.command("show")
@click.argument("host_id")
@_where
def host_show(host_id: str, data: Path, passphrase_file: Path | None, as_json: bool) -> None:
    """Show what is known about a host."""
    with _opened(data, passphrase_file) as (directory, _):
        row = _one(directory.store.hosts(), host_id, lambda row: row.host_id.hex(), "host")
    document = _host_document(row) | {
        "ek_public": row.ek_public.hex(),
        "ak_public": row.ak_public.hex(),
        "last": asdict(row.last) if row.last else None,
        "runtime_entries": row.runtime.entries if row.runtime else None,
    }
    emit(document, "\n".join(f"{name:16} {_shown(value)}" for name, value in document.items()), as_json=as_json)


@host.command("revoke")
@click.argument("host_id")
@click.option("--reason", required=True, help="Why; kept in the record.")
@_where
def host_revoke(host_id: str, reason: str, data: Path, passphrase_file: Path | None, as_json: bool) -> None:
    """Refuse a host from now on, for good.

    \b
    Example:
      watchword authority host revoke 0f3c9a12 --reason "returned to the vendor"
    """
    with _opened(data, passphrase_file) as (directory, admin):
        row = _one(directory.store.hosts(), host_id, lambda row: row.host_id.hex(), "host")
        revoked = admin.revoke_host(row.host_id, reason)
    emit(_host_document(revoked), f"revoked {row.host_id.hex()}", as_json=as_json)


def _host_document(row: Host) -> dict[str, Any]:
    return {
        "host": row.host_id.hex(),
        "class": str(row.ek_class),
        "enrolled_at": row.enrolled_at,
        "last_seen": row.last_time,
        "revoked_at": row.revoked_at,
        "revoked_reason": row.revoked_reason,
    }


# -- keys and the record ------------------------------------------------------------------------------------------


@authority.group()
def keys() -> None:
    """The authority's own keys."""


@keys.command("show")
@_where
def keys_show(data: Path, passphrase_file: Path | None, as_json: bool) -> None:
    """Show which public keys are in force, and the fingerprint that tenants pin."""
    with _opened(data, passphrase_file) as (directory, _):
        _emit_keys(directory.keyring, as_json)


@keys.command("rotate")
@click.argument("kind", type=click.Choice(["signing", "sealing", "root"]))
@_where
def keys_rotate(kind: str, data: Path, passphrase_file: Path | None, as_json: bool) -> None:
    """Put a new key in force. Old sealing keys still open old tokens; pins and old receipts stay good.

    \b
    Example:
      watchword authority keys rotate sealing
    """
    with _opened(data, passphrase_file) as (directory, admin):
        ring = directory.keyring
        change = {"signing": ring.rotate_signing, "sealing": ring.rotate_sealing, "root": ring.rotate_root}[kind]
        _emit_keys(admin.change_keys(f"keys-rotate-{kind}", ring, change), as_json)


@keys.command("drop-old-sealing")
@_where
def keys_drop(data: Path, passphrase_file: Path | None, as_json: bool) -> None:
    """Forget all sealing keys but the newest: tokens sealed to the others can never be opened again."""
    with _opened(data, passphrase_file) as (directory, admin):
        ring = directory.keyring
        _emit_keys(admin.change_keys("keys-drop-sealing", ring, ring.drop_sealing), as_json)


def _emit_keys(ring: Keyring, as_json: bool) -> None:
    from watchword.crypto.dsse import key_id

    named = ring.key_list
    document: dict[str, Any] = {
        "authority": named.authority,
        "fingerprint": ring.fingerprint,
        "version": named.version,
        "issued": named.issued,
        "signing": [key_id(key) for key in named.signing],
        "retired_signing": [key_id(key) for key in named.retired_signing],
        "sealing": [identity.hex() for identity in ring.sealing_keys],
    }
    emit(document, "\n".join(f"{name:16} {_shown(value)}" for name, value in document.items()), as_json=as_json)


@authority.command()
@click.option("--verify", is_flag=True, help="Check the whole chain, from the first entry on.")
@click.option("--after", default=0, type=click.IntRange(min=0), help="Show entries after this number.")
@click.option("--limit", default=50, type=click.IntRange(min=1), show_default=True, help="Show so many.")
@_where
def decisions(
    verify: bool, after: int, limit: int, data: Path, passphrase_file: Path | None, as_json: bool
) -> None:
    """Show the decision record: every release, refusal and administrative act.

    \b
    Example:
      watchword authority decisions --verify
    """
    from itertools import islice

    with _opened(data, passphrase_file) as (directory, _):
        head = directory.store.verify_decisions() if verify else directory.store.head()
        rows = [
            {"seq": d.seq, "hash": d.entry_hash.hex(), "entry": json.loads(d.entry)}
            for d in islice(directory.store.decisions(after=after), limit)
        ]
    position = {"seq": head.seq, "hash": head.entry_hash.hex()}
    lines = [f"{row['seq']:6} {_summary(row['entry'])}" for row in rows]
    lines.append(f"head {head.seq} {head.entry_hash.hex()}" + (", the chain is whole" if verify else ""))
    emit({"verified": verify, "head": position, "decisions": rows}, "\n".join(lines), as_json=as_json)


def _summary(entry: dict[str, Any]) -> str:
    what = entry.get("outcome") or entry.get("act", "?")
    about = entry.get("launch") or entry.get("subject", "")
    return f"{_date(entry['time'])} {what:20} {about}"


# -- small things ------------------------------------------------------------------------------------------------------


def _one(rows: tuple[_T, ...], text: str, identity: Callable[[_T], str], what: str) -> _T:
    """The one row whose id is ``text`` or starts with it. Raises :class:`UsageError`."""
    found = [row for row in rows if identity(row).startswith(text.lower())] if len(text) >= _MIN_PREFIX else []
    if len(found) != 1:
        why = f"{len(found)} of them fit" if found else "none fits"
        raise UsageError(
            "id-unknown", f"no single {what} is {text!r}: {why}", hint=f"give its id, or {_MIN_PREFIX} digits of it or more"
        )
    return found[0]


def _unix_time(text: str) -> int:
    if text.isascii() and text.isdigit() and len(text) <= 12:
        return int(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError("time", f"{text!r} is not a time", hint="for example 2026-12-31T00:00:00+00:00") from None
    if moment.tzinfo is None:
        raise UsageError("time", f"{text!r} does not say its time zone", hint="add +00:00")
    return int(moment.timestamp())


def _date(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def _shown(value: object) -> str:
    if isinstance(value, list):
        return " ".join(map(str, value)) or "-"
    return "-" if value is None else str(value)


def _emit_rows(name: str, rows: list[dict[str, Any]], as_json: bool) -> None:
    emit({name: rows}, "\n".join("  ".join(map(_shown, row.values())) for row in rows) or f"no {name}", as_json=as_json)
