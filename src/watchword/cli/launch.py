"""``watchword launch``: make a token and order a machine with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Console

from watchword.cli.output import emit, json_option, note, printable
from watchword.cli.token import make_token, token_options
from watchword.tenant import launches
from watchword.tenant.launcher import HttpLauncher, Order, Server, await_server
from watchword.wire.trace import traced

__all__ = ["launch"]


@click.command()
@click.argument("provider_url")
@token_options
@click.option("--image", metavar="NAME", help="The provider's name of the image; the disk's file name otherwise.")
@click.option("--timeout", type=click.FloatRange(1, 86400), default=300, show_default=True, help="Seconds to wait.")
@json_option
def launch(provider_url: str, image: str | None, timeout: float, as_json: bool, **demands: Any) -> None:
    """Launch a virtual machine at PROVIDER_URL with a new token.

    That the provider calls it running proves nothing: verify it next.

    \b
    Example:
      watchword launch https://cloud.example --authority auditor --profile gold.json --disk guest.img --name web1
    """
    provider = HttpLauncher(provider_url)
    bundle, record = make_token(**demands)
    user_data: Path | None = demands["user_data"]
    order = Order(
        name=record.name,
        image=image or demands["disk"].name,
        user_data=user_data.read_bytes() if user_data else b"",
        metadata=bundle.metadata() | {"watchword_inputs": record.input_names},
    )
    with traced(record.trace):
        server = _wait(provider, order, record, timeout)
    note(f"the provider says that {record.name!r} is running; find out: watchword verify {record.name}")
    text = f"{record.name} at {printable(server.address)}:{server.port}, host key {record.ssh_fingerprint}"
    emit(_document(record, server), text, as_json=as_json)


def _wait(provider: HttpLauncher, order: Order, record: launches.LaunchRecord, timeout: float) -> Server:
    console = Console(stderr=True)
    with console.status(f"launching {record.name}") as status:

        def show(server: Server) -> None:
            status.update(f"launching {record.name}: {printable(server.status)[:40]}", spinner="dots")

        server = provider.create(order)
        launches.save(msgspec.structs.replace(record, provider=provider.url, server=server.id), replace=True)
        server = await_server(provider, server, timeout, show)
    known = msgspec.structs.replace(
        record, provider=provider.url, server=server.id, address=server.address[:253], port=server.port
    )
    launches.save(known, replace=True)
    return server


def _document(record: launches.LaunchRecord, server: Server) -> dict[str, Any]:
    return {
        "name": record.name,
        "server": server.id,
        "status": server.status,
        "address": server.address,
        "port": server.port,
        "trace": record.trace,
        "launch_id": record.launch_id,
        "ssh_public_key": record.ssh_public_key,
        "ssh_fingerprint": record.ssh_fingerprint,
    }
