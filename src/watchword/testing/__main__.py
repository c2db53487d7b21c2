"""``python -m watchword.testing``: a compute host and a provider for people who want to try Watchword on one computer.

The host is a real emulated TPM (swtpm) that measured a recorded boot; the provider is the small cloud of
``watchword.testing.provider``, which boots machines with QEMU. Neither is for production, and neither is trusted.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import click

from watchword.cli.output import note, report_error
from watchword.cli.relay import parse_listen
from watchword.errors import UsageError, WatchwordError
from watchword.tenant.client import authority_url, fetch_key_lists
from watchword.tenant.trust import check_fingerprint, follow_chain
from watchword.testing.ek_authority import EkAuthority
from watchword.testing.emulated import EmulatedHost
from watchword.testing.farm import SwTpm
from watchword.testing.provider import ComputeHost, Provider

__all__ = ["cli", "main"]

_FOLDER = click.Path(path_type=Path, file_okay=False)
_FILE = click.Path(path_type=Path, dir_okay=False)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def cli() -> None:
    """Emulated parts to try Watchword with. Everything runs until Ctrl-C.

    \b
    Example:
      python -m watchword.testing host --recording vectors/boots/good --folder host \\
          --authority https://127.0.0.1:8443 --fingerprint SHA256:...
      python -m watchword.testing provider --host host/agent.toml --image guest.img --listen 127.0.0.1:8500
    """


@cli.command()
@click.option("--recording", type=_FOLDER, required=True, help="The boot to replay, a folder of vectors/boots.")
@click.option("--folder", type=_FOLDER, required=True, help="Where the host lives; used again, it is the same TPM.")
@click.option("--authority", "url", required=True, metavar="URL", help="Where the host's agent enrols.")
@click.option("--fingerprint", required=True, metavar="SHA256:...", help="Of the authority's root key.")
def host(recording: Path, folder: Path, url: str, fingerprint: str) -> None:
    """Run a compute host with an emulated TPM, and write its agent's settings to FOLDER/agent.toml.

    \b
    Example:
      python -m watchword.testing host --recording vectors/boots/good --folder host \\
          --authority https://127.0.0.1:8443 --fingerprint SHA256:...
    """
    if not (recording / "pcrs.json").is_file():
        raise UsageError("recording", f"{recording} is not the recording of a boot", hint="see vectors/boots/README.md")
    folder = folder.absolute()
    (folder / "tpm").mkdir(mode=0o700, parents=True, exist_ok=True)
    _write_keys(folder / "keys.json", authority_url(url), check_fingerprint(fingerprint))
    tpm = SwTpm(folder / "tpm").start()
    try:
        if not (folder / "maker-root.der").exists():
            _manufacture(tpm, folder)
        machine = EmulatedHost(tpm, recording)
        _write_settings(folder / "agent.toml", machine, url, fingerprint)
        click.echo(f"booted       {recording.name}\nsettings     {folder / 'agent.toml'}")
        click.echo(f"TPM maker    {folder / 'maker-root.der'}\nlogs         {machine.event_log_path.parent}")
        _until_signal()
        with tpm.client() as client:
            client.shutdown()  # as an operating system does: without it, this emulator's clock may go back far
    finally:
        tpm.power_off()


@cli.command()
@click.option(
    "--host", "hosts", type=_FILE, multiple=True, required=True, help="An agent's settings; the first host works."
)
@click.option("--image", "images", type=_FILE, multiple=True, required=True, help="A disk image to offer, by its name.")
@click.option("--listen", default="127.0.0.1:8500", show_default=True, metavar="127.0.0.1:PORT", help="Port 0: any.")
@click.option("--folder", type=_FOLDER, default=Path("machines"), show_default=True, help="For the machines' files.")
def provider(hosts: tuple[Path, ...], images: tuple[Path, ...], listen: str, folder: Path) -> None:
    """Run a provider that boots machines with QEMU on its first host.

    \b
    Example:
      python -m watchword.testing provider --host host/agent.toml --image guest.img --listen 127.0.0.1:8500
    """
    address, port = parse_listen(listen)
    if address != "127.0.0.1":
        raise UsageError("listen", "this provider knows no users: it listens on 127.0.0.1 only")
    for path in (*hosts, *images):
        if not path.is_file():
            raise UsageError("file-unreadable", f"{path} is not a file")
    folder.mkdir(parents=True, exist_ok=True)
    computes = [ComputeHost(path.absolute().parent.name, path.absolute()) for path in hosts]
    offered = {path.name: path.absolute() for path in images}
    with Provider(computes, offered, folder.absolute(), port=port) as running:
        click.echo(f"provider     {running.url}\nhosts        {' '.join(running.hosts)}")
        click.echo(f"images       {' '.join(offered)}")
        _until_signal()
    note("stopped, and every machine with it")


def _write_keys(path: Path, url: str, fingerprint: str) -> None:
    """The key lists as ``GET /v1/keys`` gives them; the fingerprint is the check, not the connection."""
    envelopes = fetch_key_lists(url)
    follow_chain(envelopes, fingerprint)
    path.write_bytes(b'{"keys":[' + b",".join(envelopes) + b"]}\n")


def _manufacture(tpm: SwTpm, folder: Path) -> None:
    """What the maker does once: certify the endorsement key. The maker's own key is forgotten."""
    maker = EkAuthority.create(f"TPM maker of {folder.name}")
    tpm.manufacture(maker)
    (folder / "maker-intermediate.der").write_bytes(maker.intermediates[0])
    (folder / "maker-root.der").write_bytes(maker.root)


def _write_settings(path: Path, machine: EmulatedHost, url: str, fingerprint: str) -> None:
    folder = path.parent
    path.write_text(
        f'[authority]\nurl = "{url}"\nkeys = "{folder / "keys.json"}"\nfingerprint = "{fingerprint}"\n\n'
        f'[tpm]\naddress = "{machine.tpm_address}"\nevent_log = "{machine.event_log_path}"\n'
        f'runtime_log = "{machine.ima_log_path}"\nintermediates = ["{folder / "maker-intermediate.der"}"]\n\n'
        f'[host]\nstate = "{folder / "state"}"\n'
    )


def _until_signal() -> None:
    """Wait for SIGINT or SIGTERM; both are a success."""
    sys.stdout.flush()
    ended = threading.Event()
    with _handled(lambda *_: ended.set()):
        ended.wait()


@contextlib.contextmanager
def _handled(handler: Callable[..., None]) -> Iterator[None]:
    previous = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, before in previous.items():
            signal.signal(number, before)


def main() -> None:
    """Entry point; ends in ``SystemExit``."""
    try:
        cli.main(prog_name="python -m watchword.testing", standalone_mode=False)
    except click.ClickException as error:
        sys.exit(report_error(UsageError("usage", error.format_message()), as_json=False))
    except WatchwordError as error:
        sys.exit(report_error(error, as_json=False))


if __name__ == "__main__":
    main()
