"""``watchword authority``: run an authority with one command, and administer it while it runs."""

from __future__ import annotations

import importlib
import json
import os
import socket
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from watchword.cli import (
    authority_admin,
    authority_database,
    authority_events,
    authority_keys,
    authority_log,
    authority_recovery,
    authority_stack,
    authority_trust,
    authority_watch,
)
from watchword.cli.authority_common import FILE, Place, anywhere, database, date, opened, passphrase, tokens, where
from watchword.cli.authority_doctor import doctor_command
from watchword.cli.authority_dry_run import dry_run_command
from watchword.cli.authority_prune import prune_command, retain_option
from watchword.cli.output import emit
from watchword.errors import UsageError

if TYPE_CHECKING:  # the authority needs an extra; without it, the help must still work
    from watchword.authority.keys.keyring import Keyring

__all__ = ["authority"]

_EXTRA: Final = (
    "anyio", "httptools", "jinja2", "joserfc", "prometheus_client", "sqlalchemy", "starlette", "structlog", "uvicorn",
)  # fmt: skip


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
                    hint="install the Debian package watchword-authority, or: pip install 'watchword[authority]'",
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
    authority_keys.GROUP,
    authority_events.GROUP,
)
for _group in _GROUPS:
    authority.add_command(_group)
authority.add_command(dry_run_command)
authority.add_command(prune_command)
authority.add_command(doctor_command)
for _command in (authority_keys.create, authority_events.events_command, *authority_recovery.COMMANDS):
    authority.add_command(_command)


# The C library waits for five seconds twice for each name server that does not answer, and nobody can interrupt it:
# a database, a witness or an identity provider whose name is gone would hold a thread for so long (resolv.conf(5)).
_RESOLVER: Final = "timeout:1 attempts:2"


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
@retain_option
@click.option("--metrics", metavar="HOST:PORT", help="Serve Prometheus metrics there; not at all by default.")
@click.option(
    "--log-format",
    type=click.Choice(["auto", "json", "console"]),
    default="auto",
    show_default=True,
    help="Of the log on stderr; auto is JSON, and for people on a terminal.",
)
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
    help="Leave out of the log what is less severe; debug has a line for attestations that show nothing new.",
)
@click.option("--console", is_flag=True, help="Serve web pages for auditors and operators at /console.")
@click.option("--client-ca", type=FILE, help="Certificates (PEM) that people's client certificates may be below.")
@click.option("--client-crl", type=FILE, help="Revocation lists (PEM) of those; read again when the file changes.")
@where
def serve(
    listen: str,
    name: str | None,
    host_names: tuple[str, ...],
    ready_file: Path | None,
    keep_evidence: bool,
    drain_seconds: float,
    per_host: int,
    retain: tuple[str, ...],
    metrics: str | None,
    log_format: str,
    log_level: str,
    console: bool,
    client_ca: Path | None,
    client_crl: Path | None,
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
    from watchword.authority.console import Console
    from watchword.authority.data import ACCESS_FILE, DataDirectory
    from watchword.authority.deciding.host_rates import HostRates
    from watchword.authority.deciding.launches import Launches
    from watchword.authority.deciding.renewals import Renewals
    from watchword.authority.deciding.snapshot import Snapshots
    from watchword.authority.keys.high_water import HighWater
    from watchword.authority.keys.keyring import KeyringSource
    from watchword.authority.server import Address, bind, run
    from watchword.authority.telemetry.service import Telemetry
    from watchword.authority.upkeep.retention import Retention

    os.umask(0o077)
    os.environ.setdefault("RES_OPTIONS", _RESOLVER)
    now = int(time.time())
    telemetry, retention = Telemetry(log_format, metrics, log_level), Retention.parse(retain)
    wanted, lists = Address.parse(listen), _lists(client_crl, client_ca)
    directory = DataDirectory.open_or_create(
        data,
        authority=name or socket.gethostname(),
        now=now,
        passphrase=passphrase(passphrase_file),
        database=database(data),
        tokens=tokens(),
    )
    with directory.store as store:
        directory.keyring.check_tokens()
        HighWater(store).check(directory.keyring)
        names = _server_names(wanted.host, host_names)
        ring = directory.keyring.with_names(names, now)
        listener, address = bind(wanted)
        reached = Address(names[0], address.port)
        keyring = KeyringSource(ring)
        snapshots, rates, renewals = Snapshots(store), HostRates.of(per_host), Renewals(store)
        launches = Launches(
            store,
            keyring,
            keep_evidence=keep_evidence,
            tell=telemetry.tell,
            snapshots=snapshots,
            rates=rates,
            renewals=renewals,
        )
        snapshots.warm(now)
        access = Access(data / ACCESS_FILE, tell=telemetry.tell, lists=lists)
        services = Services(
            launches,
            store,
            keyring,
            tell=telemetry.tell,
            metrics=telemetry.metrics,
            retention=retention,
            access=access,
            renewals=renewals,
        )
        app = create_app(services, Console(snapshots) if console else None)
        ready = partial(_announce, ring, reached.url, ready_file, as_json)
        with telemetry.running(reached.url, store, keyring, app.state):
            run(app, ring, listener, ready, drain_seconds=drain_seconds, client_ca=client_ca)


def _lists(client_crl: Path | None, client_ca: Path | None) -> tuple[Path, Path] | None:
    if client_crl is None:
        return None
    if client_ca is None:
        raise UsageError("client-crl", "--client-crl is about certificates below those of --client-ca: give both")
    return client_crl, client_ca


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


# -- the record ---------------------------------------------------------------------------------------------------


@authority.command()
@click.option("--verify", is_flag=True, help="Check the whole log, from the first entry on.")
@click.option("--trace", metavar="ID", help="Show decisions about this launch only: the 16 digits of its trace.")
@click.option("--after", default=0, type=click.IntRange(min=0), help="Show entries after this number.")
@click.option("--limit", default=50, type=click.IntRange(min=1), show_default=True, help="Show so many.")
@click.option("--acts", is_flag=True, help="Show administrative acts only: what people did, and who.")
@anywhere
def decisions(verify: bool, trace: str | None, after: int, limit: int, acts: bool, place: Place, as_json: bool) -> None:
    """Show the decision record: every release, refusal and administrative act, and who did it.

    \b
    Example:
      watchword authority decisions --verify
    """
    checked = _verified(place) if verify else {}
    document = {"verified": verify} | place.ask("decisions", after=after, limit=limit, acts=acts, trace=trace) | checked
    head = document["head"]
    lines = [f"{row['seq']:6} {_summary(row['entry'])}" for row in document["decisions"]]
    lines.append(f"head {head['seq']} {head['root']}" + (", the log is whole" if verify else ""))
    emit(document, "\n".join(lines), as_json=as_json)


def _verified(place: Place) -> dict[str, Any]:
    if place.authority is not None:
        raise UsageError(
            "usage", "--verify is done on the authority's machine", hint="from elsewhere: watchword log audit"
        )
    with opened(place.data, place.passphrase_file) as (directory, _):
        head = directory.store.verify_decisions()
    return {"head": {"seq": head.seq, "root": head.root.hex()}}


def _summary(entry: dict[str, Any]) -> str:
    what = entry.get("outcome") or entry.get("act", "?")
    about = entry.get("launch") or entry.get("subject", "")
    by = f" by {entry['by']}" if "by" in entry else ""
    return f"{date(entry['time'])} {what:20} {about}{by}"
