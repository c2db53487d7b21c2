"""``watchword relay``: carry messages between hosts and an authority without being trusted by either."""

from __future__ import annotations

import contextlib
import signal
import threading
from pathlib import Path

import click

from watchword.cli.output import emit, json_option, note
from watchword.errors import UsageError
from watchword.relay.server import Relay

__all__ = ["relay"]

_MAX_PEM = 64 * 1024


@click.group()
def relay() -> None:
    """Carry messages between hosts and an authority.

    A relay is for hosts that may not open connections to the outside. It has no keys, reads nothing and keeps nothing.

    \b
    Example:
      watchword relay serve --authority https://authority.example:8443 --listen 192.0.2.10:8444
    """


@relay.command()
@click.option("--authority", required=True, metavar="URL", help="Address of the authority, https://HOST:PORT.")
@click.option(
    "--listen", default="127.0.0.1:8444", show_default=True, metavar="ADDRESS:PORT", help="Port 0: any free one."
)
@click.option(
    "--ca", type=click.Path(path_type=Path), metavar="FILE", help="Check the authority's TLS against this PEM file."
)
@click.option("--verbose", is_flag=True, help="One line on stderr for each exchange: status and size.")
@json_option
def serve(authority: str, listen: str, ca: Path | None, verbose: bool, as_json: bool) -> None:
    """Run a relay until SIGINT or SIGTERM.

    Prints its address once it listens.

    \b
    Example:
      watchword relay serve --authority https://authority.example:8443 --listen 127.0.0.1:0 --json
    """
    address, port = parse_listen(listen)
    server = Relay(address, port, authority, ca=_read_pem(ca), verbose=verbose)
    with server:
        url = f"http://{f'[{address}]' if ':' in address else address}:{server.port}"
        emit({"url": url, "authority": authority}, f"listening on {url}, carrying to {authority}", as_json=as_json)
        if ca is None and verbose:
            note("the authority's TLS is not checked; messages are sealed in any case")
        _until_signal(server)


def _until_signal(server: Relay) -> None:
    def stop(*_: object) -> None:
        # shutdown() waits for serve_forever(), which runs in the thread that got the signal.
        threading.Thread(target=server.shutdown, daemon=True).start()

    previous = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        server.serve_forever(poll_interval=0.2)
    finally:
        for number, handler in previous.items():
            with contextlib.suppress(TypeError):
                signal.signal(number, handler)


def parse_listen(text: str) -> tuple[str, int]:
    """``ADDRESS:PORT`` or ``[IPv6]:PORT`` as a pair. Raises :class:`UsageError`."""
    address, colon, port = text.rpartition(":")
    if not colon or not address or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise UsageError("listen", f"{text[:80]!r} is not ADDRESS:PORT")
    return address.removeprefix("[").removesuffix("]"), int(port)


def _read_pem(path: Path | None) -> str | None:
    if path is None:
        return None
    try:
        with path.open("rb") as file:
            return file.read(_MAX_PEM).decode("ascii", "replace")
    except OSError as error:
        raise UsageError("file-unreadable", f"{path} cannot be read: {error.strerror}") from None
