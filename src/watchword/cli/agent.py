"""``watchword agent``: what runs on a compute host."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import secrets
import signal
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn, TypeVar

import click

from watchword.agent import config as settings
from watchword.agent.attest import Follower, keep_attesting
from watchword.agent.config import Config, Enrolment
from watchword.agent.enrol import choose_ek, enrol, introduce
from watchword.agent.export import export, parse_selection
from watchword.agent.host import Host
from watchword.agent.hypervisor import Running, stop_process
from watchword.agent.inputs import read_user_data
from watchword.agent.journal import show_steps
from watchword.agent.launch import BootKind, Delivery, Order, check_order, launch
from watchword.agent.status import report
from watchword.agent.tpm.client import Tpm
from watchword.cli.agent_serve import doctor, serve
from watchword.cli.output import emit, json_option, note, printable, report_error
from watchword.errors import Rejected, UsageError, WatchwordError
from watchword.wire.inputs import parse_names
from watchword.wire.messages import Attested
from watchword.wire.share import MAX_BUNDLE
from watchword.wire.tpm.templates import EkKind

__all__ = ["agent"]

_PATH = click.Path(path_type=Path)
_EK_KINDS = {kind.name.lower().replace("_", "-"): kind for kind in EkKind}
_F = TypeVar("_F", bound=Callable[..., Any])


@click.group()
def agent() -> None:
    """Run on a compute host: enrol it, launch machines with secrets, show its evidence.

    Settings come from /etc/watchword/agent.toml or --config; every flag replaces one of them.

    \b
    Example:
      watchword agent enrol
      watchword agent launch --token-file token.txt --disk guest.img --instance web-1
    """


def _tpm_options(function: _F) -> _F:
    for option in (
        click.option("--state", type=_PATH, metavar="FOLDER", help="What the agent remembers."),
        click.option("--runtime-log", type=_PATH, metavar="FILE", help="The kernel's binary IMA log."),
        click.option("--event-log", type=_PATH, metavar="FILE", help="The firmware's binary event log."),
        click.option("--tpm", metavar="ADDRESS", help="device:/dev/tpmrm0, unix:PATH or tcp:HOST:PORT."),
        click.option("--config", type=_PATH, metavar="FILE", help="Settings (TOML)."),
    ):
        function = option(function)
    return function


def _authority_options(function: _F) -> _F:
    for option in (
        click.option("--relay", metavar="URL", help="Reach the authority through this relay."),
        click.option("--fingerprint", metavar="SHA256:...", help="Of the authority's first root key."),
        click.option(
            "--keys", type=_PATH, metavar="FILE", help="The authority's key lists, as GET /v1/keys gives them."
        ),
        click.option(
            "--trust",
            type=_PATH,
            multiple=True,
            metavar="FILE",
            help="An authority as 'watchword trust add' keeps it; again for each further one.",
        ),
        click.option("--authority", "url", metavar="URL", help="Address of the authority, https://HOST:PORT."),
        click.option("--verbose", is_flag=True, help="A line on stderr for each step, with the trace id."),
    ):
        function = option(function)
    return _tpm_options(function)


def _settings(flags: dict[str, Any]) -> Config:
    if flags.pop("verbose", False):
        show_steps()
    return settings.load(flags.pop("config")).with_flags(**flags)


@contextlib.contextmanager
def _host(config: Config, kind: EkKind) -> Iterator[Host]:
    """The host with its TPM open and a way to each authority."""
    with config.links() as (first, *others), Tpm.open(config.tpm, ek_kind=kind) as tpm:
        logs = (config.event_log, config.runtime_log)
        yield Host(tpm, first.exchange, first.keys, kind, *logs, config.state / "lock", tuple(others))


def _choose(config: Config, wanted: str) -> EkKind:
    if wanted != "auto":
        return _EK_KINDS[wanted]
    with Tpm.open(config.tpm) as tpm:
        return choose_ek(tpm)


@agent.command("enrol")
@_authority_options
@click.option("--ek", default="auto", type=click.Choice(["auto", *_EK_KINDS]), help="Which endorsement key to enrol.")
@json_option
def enrol_command(ek: str, as_json: bool, **flags: Any) -> None:
    """Make this host known to the authority, or to each that the settings name.

    Needed once, and again after the TPM was cleared. Doing it twice is harmless.

    \b
    Example:
      watchword agent enrol --trust /etc/watchword/authority.json
    """
    config = _settings(flags)
    config.pinned()  # first what costs nothing
    kind = _choose(config, ek)
    intermediates = config.intermediate_certificates()
    with _host(config, kind) as host:
        names, failed = [], None
        for link in host.links:
            try:
                host_id = enrol(host.towards(link), intermediates)
            except WatchwordError as error:
                if not host.others:
                    raise
                note(f"not enrolled with {link.keys.authority}: {error.message}")
                failed = failed or error
                continue
            # The id is a hash of this host's own key: it is the same everywhere.
            Enrolment(host_id, kind).save(config.state)
            names.append(link.keys.authority)
    if names:
        document = {"host_id": host_id.hex(), "ek": kind.name.lower(), "authority": names[0], "authorities": names}
        emit(document, f"enrolled with {', '.join(names)} as host {host_id.hex()}", as_json=as_json)
    if failed is not None:
        raise failed


@agent.command()
@_authority_options
@json_option
def status(as_json: bool, **flags: Any) -> int:
    """Show whether this host could launch: TPM, logs, pinned keys, enrolment. Exit status 2 when it could not.

    \b
    Example:
      watchword agent status --json
    """
    found = report(_settings(flags))
    emit(found.document(), found.text(), as_json=as_json)
    return 0 if found.ready else 2


@agent.command("attest")
@_authority_options
@click.option("--follow", is_flag=True, help="Go on for ever, and come back before the verdict ends.")
@click.option("--every", type=click.FloatRange(5, 86400), metavar="SECONDS", help="With --follow: a fixed interval.")
@json_option
def attest_command(follow: bool, every: float | None, as_json: bool, **flags: Any) -> int:
    """Show this host's state to the authority. Exit status 3 when it is not good.

    With --follow it prints one line for each attempt and ends with SIGTERM or SIGINT.

    \b
    Example:
      watchword agent attest --json
    """
    config = _settings(flags)
    enrolment = _enrolment(config)
    end = threading.Event()
    follower = Follower(enrolment.host_id, time.time)

    def once() -> Attested:
        with _host(config, enrolment.ek_kind) as host:
            return follower.attest(host)

    if not follow:
        found = once()
        emit(_attested_document(found), _attested_text(found), as_json=as_json)
        return 0 if found.state == "trusted" else Rejected.exit_status
    with _sigterm_interrupts(), contextlib.suppress(KeyboardInterrupt):
        for outcome in keep_attesting(once, time.time, end.wait, every):
            if outcome.attested is not None:
                emit(_attested_document(outcome.attested), _attested_text(outcome.attested), as_json=as_json)
            elif outcome.error is not None:
                report_error(outcome.error, as_json=as_json)
            sys.stdout.flush()
    return 0


def _enrolment(config: Config) -> Enrolment:
    enrolment = Enrolment.read(config.state)
    if enrolment is None:
        raise UsageError("not-enrolled", "this host is not enrolled", hint="Enrol it first: watchword agent enrol")
    return enrolment


def _attested_document(found: Attested) -> dict[str, Any]:
    return {
        "state": found.state,
        "level": found.level,
        "rank": found.rank,
        "until": found.until,
        "code": found.code,
        "reason": found.reason,
    }


def _attested_text(found: Attested) -> str:
    level = f" at level {found.level}" if found.level else ""
    reason = f": {found.code}: {found.reason}" if found.code else ""
    until = datetime.fromtimestamp(found.until, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return f"{found.state}{level} until {until}{reason}"


@agent.command("launch")
@_authority_options
@click.option(
    "--token-file", metavar="FILE",
    help="The launch token, or the tokens of a split secret with their launch set; - is stdin. Else $WATCHWORD_TOKEN.",
)  # fmt: skip
@click.option("--disk", type=_PATH, required=True, metavar="FILE", help="Raw disk image; it is not changed.")
@click.option("--user-data", type=_PATH, metavar="FILE", help="User-data for the config drive.")
@click.option(
    "--inputs", metavar="NAMES", help="Inputs that the token names, e.g. disk,user-data. Default: all in use."
)
@click.option("--instance", metavar="ID", help="The provider's name of the machine. Default: a random UUID.")
@click.option("--name", default="vm", show_default=True, help="Host name of the machine.")
@click.option(
    "--deliver", type=click.Choice([str(way) for way in Delivery]), default="config-drive", help="How the key travels."
)
@click.option(
    "--boot",
    type=click.Choice([str(kind) for kind in BootKind]),
    default="fresh",
    help="Only fresh boots get a secret.",
)
@click.option("--ssh-address", default="127.0.0.1", show_default=True, help="Where the machine's SSH port appears.")
@click.option("--ssh-port", type=click.IntRange(0, 65535), default=0, help="0: any free one.")
@click.option("--memory", "memory_mib", type=click.IntRange(64, 1 << 20), default=256, show_default=True, help="MiB.")
@click.option("--cpus", type=click.IntRange(1, 255), default=1, show_default=True, help="Virtual processors.")
@click.option(
    "--accel", type=click.Choice(["tcg", "kvm", "kvm:tcg"]), default="tcg", show_default=True, help="Of QEMU."
)
@click.option("--outbound", is_flag=True, help="Let the machine open connections.")
@click.option("--folder", type=_PATH, metavar="FOLDER", help="For logs and the overlay. Default: below --state.")
@click.option("--detach", is_flag=True, help="Return once the machine runs; end it with 'watchword agent stop'.")
@json_option
def launch_command(
    token_file: str | None, disk: Path, user_data: Path | None, inputs: str | None, instance: str | None, name: str,
    deliver: str, boot: str, ssh_address: str, ssh_port: int, memory_mib: int, cpus: int, accel: str, outbound: bool,
    folder: Path | None, detach: bool, as_json: bool, **flags: Any,
) -> int:  # fmt: skip
    """Start a machine that holds the tenant's secret, if this host may have it.

    Prints where the machine answers once QEMU runs, then stays until the machine ends (or SIGINT, which ends it).

    \b
    Example:
      watchword agent launch --token-file token.txt --disk guest.img --user-data user-data --instance web-1
    """
    config = _settings(flags)
    order = Order(
        token=_token(token_file),
        instance=instance or str(uuid.uuid4()),
        disk=disk,
        folder=(folder or config.state / "machines" / secrets.token_hex(8)).absolute(),
        user_data=read_user_data(user_data) if user_data is not None else None,
        inputs=parse_names(inputs) if inputs is not None else None,
        deliver=Delivery(deliver),
        boot=BootKind(boot),
        name=name,
        ssh_address=ssh_address,
        ssh_port=ssh_port,
        memory_mib=memory_mib,
        cpus=cpus,
        accelerator=accel,
        outbound=outbound,
    )
    check_order(order)
    enrolment = _enrolment(config)
    # A core file would hold the secret; QEMU inherits this.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with _sigterm_interrupts():
        with _host(config, enrolment.ek_kind) as host:
            running = launch(host, enrolment.host_id, order, _complain)
        return _run(running, order, detach=detach, as_json=as_json)


def _complain(authority: str, error: WatchwordError) -> None:
    """The launch may do without this authority; whoever runs the host should know all the same."""
    note(f"no share from {printable(authority)}: {printable(error.message)}")


def _token(source: str | None) -> str:
    """Tokens from a file, stdin or the environment: never from an argument, which everybody on the host can see."""
    if source is None:
        text = os.environ.get("WATCHWORD_TOKEN", "")
        if not text:
            raise UsageError(
                "token-missing", "there is no token", hint="Give --token-file FILE or set WATCHWORD_TOKEN."
            )
        return text.strip()
    try:
        with click.open_file(source, "rb") as file:
            data: bytes = file.read(MAX_BUNDLE + 1)
    except OSError as error:
        raise UsageError("token-unreadable", f"{source} cannot be read: {error.strerror}") from None
    return data.decode("utf-8", "replace").strip()


def _run(running: Running, order: Order, *, detach: bool, as_json: bool) -> int:
    machine = running.machine
    document = {
        "instance": order.instance,
        "name": machine.name,
        "pid": running.pid,
        "ssh": {"address": machine.ssh_address, "port": running.ssh_port},
        "folder": str(machine.folder),
        "serial_log": str(machine.serial_log),
        "qemu_log": str(machine.qemu_log),
    }
    where = f"{machine.ssh_address} port {running.ssh_port}"
    text = f"machine {order.instance} runs; SSH at {where}; process {running.pid}; logs in {machine.folder}"
    if detach:
        (machine.folder / "machine.json").write_text(json.dumps(document) + "\n")
        emit(document, text, as_json=as_json)
        running.detach()
        return 0
    with running, contextlib.suppress(KeyboardInterrupt):
        emit(document, text, as_json=as_json)
        running.wait()
    return 0


@contextlib.contextmanager
def _sigterm_interrupts() -> Iterator[None]:
    """SIGTERM does what SIGINT does, so that no machine is left behind."""

    def end(number: int, frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


@agent.command()
@click.argument("folder", type=_PATH)
@json_option
def stop(folder: Path, as_json: bool) -> None:
    """End a detached machine. FOLDER is what 'launch' printed; a machine that has ended already is fine.

    \b
    Example:
      watchword agent stop /var/lib/watchword-agent/machines/0123456789abcdef
    """
    try:
        document = json.loads((folder / "machine.json").read_text())
        pid, name = int(document["pid"]), str(document["name"])
    except (OSError, ValueError, KeyError, TypeError):
        raise UsageError("machine-unknown", f"{folder} is not the folder of a detached machine") from None
    ended = stop_process(pid, name)
    emit({"stopped": ended, "pid": pid}, "stopped" if ended else "it did not run any more", as_json=as_json)


@agent.command()
@_tpm_options
@click.argument("output", type=_PATH)
@click.option(
    "--pcrs",
    default="sha256:0,1,2,3,4,5,6,7,8,9,10",
    show_default=True,
    metavar="BANK:N,N,...",
    help="What to quote.",
)
@json_option
def evidence(output: Path, pcrs: str, as_json: bool, **flags: Any) -> None:
    """Collect this host's evidence into the new folder OUTPUT, for people and for 'watchword inspect'.

    The quote is over a random nonce of its own, so nobody can take it for an answer to a challenge.

    \b
    Example:
      watchword agent evidence ./evidence
    """
    config = _settings(flags)
    selections = (parse_selection(pcrs),)
    kind = _choose(config, "auto")
    with Tpm.open(config.tpm, ek_kind=kind) as tpm:
        identity = introduce(tpm, kind)
        names = export(tpm, selections, identity, output, event_log=config.event_log, runtime_log=config.runtime_log)
    emit({"folder": str(output), "files": names}, "\n".join(str(output / name) for name in names), as_json=as_json)


agent.add_command(serve)
agent.add_command(doctor)
