"""``watchword authority``: run an authority with one command, and administer it while it runs."""

from __future__ import annotations

import importlib
import json
import os
import re
import socket
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from watchword.cli import (
    authority_admin,
    authority_database,
    authority_log,
    authority_stack,
    authority_trust,
    authority_watch,
)
from watchword.cli.authority_common import FILE, database, date, opened, passphrase, shown, where
from watchword.cli.authority_dry_run import dry_run_command
from watchword.cli.output import emit
from watchword.errors import UsageError

if TYPE_CHECKING:  # the authority needs an extra; without it, the help must still work
    from watchword.authority.keyring import Keyring
    from watchword.authority.store import Decision

__all__ = ["authority"]

_EXTRA: Final = ("anyio", "httptools", "prometheus_client", "sqlalchemy", "starlette", "structlog", "uvicorn")

_TRACE: Final = re.compile(r"[0-9a-f]{16,64}")


class _NeedsExtra(click.Group):
    """Says what to install when the packages of the service are missing."""

    def invoke(self, ctx: click.Context) -> Any:
        for module in _EXTRA:
            try:
                importlib.import_module(module)
            except ModuleNotFoundError:
                raise UsageError(
                    "extra-missing",
                    f"running an authority needs the package {module}, which is not installed",
                    hint="install watchword with its extra: pip install 'watchword[authority]'",
                ) from None
        return super().invoke(ctx)


@click.group(cls=_NeedsExtra)
def authority() -> None:
    """Run and administer an authority.

    \b
    Example:
      watchword authority serve --listen 127.0.0.1:8443
    """


_GROUPS: Final = (
    *authority_trust.GROUPS,
    *authority_admin.GROUPS,
    *authority_watch.GROUPS,
    authority_stack.stack_group,
    authority_log.GROUP,
    authority_database.GROUP,
)
for _group in _GROUPS:
    authority.add_command(_group)
authority.add_command(dry_run_command)


# -- serve -------------------------------------------------------------------------------------------------------


@authority.command()
@click.option("--listen", default="127.0.0.1:8443", show_default=True, help="HOST:PORT; port 0 takes a free one.")
@click.option("--name", help="What a new authority is called in receipts; the host's name by default.")
@click.option("--host-name", "host_names", multiple=True, help="Another name or address that clients use.")
@click.option("--ready-file", type=FILE, help="Written, as JSON, once the service answers.")
@click.option(
    "--keep-evidence/--no-keep-evidence",
    default=True,
    show_default=True,
    help="Keep the newest evidence of each host, for dry runs.",
)
@click.option(
    "--drain-seconds",
    default=0.0,
    show_default=True,
    type=click.FloatRange(0, 300),
    help="When told to stop, answer so long as not ready before closing.",
)
@click.option(
    "--per-host",
    default=120,
    show_default=True,
    type=click.IntRange(0, 60_000),
    help="Judge at most so much evidence of one host in a minute; 0 for no limit.",
)
@click.option("--metrics", metavar="HOST:PORT", help="Serve Prometheus metrics there; not at all by default.")
@click.option(
    "--log-format",
    type=click.Choice(["auto", "json", "console"]),
    default="auto",
    show_default=True,
    help="Of the log on stderr; auto is JSON, and for people on a terminal.",
)
@click.option("--client-ca", type=FILE, help="Certificates (PEM) that people's client certificates may be below.")
@where
def serve(
    listen: str,
    name: str | None,
    host_names: tuple[str, ...],
    ready_file: Path | None,
    keep_evidence: bool,
    drain_seconds: float,
    per_host: int,
    metrics: str | None,
    log_format: str,
    client_ca: Path | None,
    data: Path,
    passphrase_file: Path | None,
    as_json: bool,
) -> None:
    """Answer hosts and tenants, until told to stop. A directory that is missing is made, with fresh keys.

    \b
    Example:
      watchword authority serve --listen 0.0.0.0:8443 --host-name authority.example
    """
    from watchword.authority.access import Access
    from watchword.authority.app import Services, create_app
    from watchword.authority.data import ACCESS_FILE, DataDirectory
    from watchword.authority.host_rates import HostRates
    from watchword.authority.keyring import KeyringSource
    from watchword.authority.launches import Launches
    from watchword.authority.server import Address, bind, run
    from watchword.authority.telemetry.service import Telemetry

    os.umask(0o077)
    now = int(time.time())
    telemetry = Telemetry(log_format, metrics)
    wanted = Address.parse(listen)
    directory = DataDirectory.open_or_create(
        data,
        authority=name or socket.gethostname(),
        now=now,
        passphrase=passphrase(passphrase_file),
        database=database(data),
    )
    with directory.store as store:
        names = _server_names(wanted.host, host_names)
        ring = directory.keyring.with_names(names, now)
        listener, address = bind(wanted)
        reached = Address(names[0], address.port)
        keyring = KeyringSource(ring)
        rates = HostRates.of(per_host)
        launches = Launches(store, keyring, keep_evidence=keep_evidence, tell=telemetry.tell, rates=rates)
        access = Access(data / ACCESS_FILE)
        services = Services(launches, store, keyring, tell=telemetry.tell, metrics=telemetry.metrics, access=access)
        app = create_app(services)
        ready = partial(_announce, ring, reached.url, ready_file, as_json)
        with telemetry.running(reached.url, store, keyring, app.state):
            run(app, ring, listener, ready, drain_seconds=drain_seconds, client_ca=client_ca)


def _server_names(host: str, more: tuple[str, ...]) -> list[str]:
    """The names in the certificate, the one that clients should use first."""
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
    lines = (
        f"authority    {ring.key_list.authority}",
        f"listening    {url}",
        f"fingerprint  {ring.fingerprint}",
        f"tenants run  {command}",
    )
    emit(document, "\n".join(lines), as_json=as_json)
    sys.stdout.flush()
    if ready_file is not None:
        temporary = ready_file.with_name(f".{ready_file.name}.{os.getpid()}")
        temporary.write_text(json.dumps(document) + "\n")
        temporary.replace(ready_file)


# -- keys and the record ------------------------------------------------------------------------------------------


@authority.group()
def keys() -> None:
    """The authority's own keys.

    \b
    Example:
      watchword authority keys show
    """


@keys.command("show")
@where
def keys_show(data: Path, passphrase_file: Path | None, as_json: bool) -> None:
    """Show which public keys are in force, and the fingerprint that tenants pin.

    \b
    Example:
      watchword authority keys show --json
    """
    with opened(data, passphrase_file) as (directory, _):
        _emit_keys(directory.keyring, as_json)


@keys.command("rotate")
@click.argument("kind", type=click.Choice(["signing", "sealing", "log", "root"]))
@where
def keys_rotate(kind: str, data: Path, passphrase_file: Path | None, as_json: bool) -> None:
    """Put a new key in force. Old sealing keys still open old tokens; pins and old receipts stay good.

    \b
    Example:
      watchword authority keys rotate sealing
    """
    with opened(data, passphrase_file) as (directory, admin):
        ring = directory.keyring
        changes = {"signing": ring.rotate_signing, "sealing": ring.rotate_sealing, "log": ring.rotate_log}
        change = changes.get(kind, ring.rotate_root)
        _emit_keys(admin.change_keys(f"keys-rotate-{kind}", ring, change), as_json)


@keys.command("drop-old-sealing")
@where
def keys_drop(data: Path, passphrase_file: Path | None, as_json: bool) -> None:
    """Forget all sealing keys but the newest: tokens sealed to the others can never be opened again.

    \b
    Example:
      watchword authority keys drop-old-sealing
    """
    with opened(data, passphrase_file) as (directory, admin):
        ring = directory.keyring
        _emit_keys(admin.change_keys("keys-drop-sealing", ring, ring.drop_sealing), as_json)


def _emit_keys(ring: Keyring, as_json: bool) -> None:
    from watchword.crypto.dsse import key_id
    from watchword.verify.log import log_keys

    named = ring.key_list
    document: dict[str, Any] = {
        "authority": named.authority,
        "fingerprint": ring.fingerprint,
        "version": named.version,
        "issued": named.issued,
        "signing": [key_id(key) for key in named.signing],
        "retired_signing": [key_id(key) for key in named.retired_signing],
        "sealing": [identity.hex() for identity in ring.sealing_keys],
        "log": [key.encode() for key in log_keys(named)],
    }
    emit(document, "\n".join(f"{name:16} {shown(value)}" for name, value in document.items()), as_json=as_json)


@authority.command()
@click.option("--verify", is_flag=True, help="Check the whole log, from the first entry on.")
@click.option("--trace", metavar="ID", help="Show decisions about this launch only: the 16 digits of its trace.")
@click.option("--after", default=0, type=click.IntRange(min=0), help="Show entries after this number.")
@click.option("--limit", default=50, type=click.IntRange(min=1), show_default=True, help="Show so many.")
@click.option("--acts", is_flag=True, help="Show administrative acts only: what people did, and who.")
@where
def decisions(
    verify: bool,
    trace: str | None,
    after: int,
    limit: int,
    acts: bool,
    data: Path,
    passphrase_file: Path | None,
    as_json: bool,
) -> None:
    """Show the decision record: every release, refusal and administrative act, and who did it.

    \b
    Example:
      watchword authority decisions --verify
    """
    from itertools import islice

    with opened(data, passphrase_file) as (directory, _):
        head = directory.store.verify_decisions() if verify else directory.store.head()
        found = directory.store.decisions(after=after, launch_key=b"" if acts else None)
        rows = [
            {"seq": d.seq, "leaf": d.leaf.hex(), "entry": json.loads(d.entry)}
            for d in islice(filter(_about(trace), found), limit)
        ]
    position = {"seq": head.seq, "root": head.root.hex()}
    lines = [f"{row['seq']:6} {_summary(row['entry'])}" for row in rows]
    lines.append(f"head {head.seq} {head.root.hex()}" + (", the log is whole" if verify else ""))
    emit({"verified": verify, "head": position, "decisions": rows}, "\n".join(lines), as_json=as_json)


def _about(trace: str | None) -> Callable[[Decision], bool]:
    """Whether a decision is about the launch with this trace id, the beginning of its token's id."""
    if trace is None:
        return lambda _: True
    if not _TRACE.fullmatch(trace):
        raise UsageError("bad-trace", f"{trace[:80]!r} is not a trace id", hint="it has 16 to 64 hex digits")
    return lambda d: bool(d.launch_key) and str(json.loads(d.entry).get("token", "")).startswith(trace)


def _summary(entry: dict[str, Any]) -> str:
    what = entry.get("outcome") or entry.get("act", "?")
    about = entry.get("launch") or entry.get("subject", "")
    by = f" by {entry['by']}" if "by" in entry else ""
    return f"{date(entry['time'])} {what:20} {about}{by}"
