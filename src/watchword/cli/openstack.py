"""``watchword openstack``: the tenant's launch in an OpenStack cloud, and the provider's scheduling by trust."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Console

from watchword.cli.openstack_provider import status, watch
from watchword.cli.output import emit, json_option, note, printable
from watchword.cli.token import make_token, token_options
from watchword.cli.verify import verdict_text
from watchword.errors import Unavailable, WatchwordError
from watchword.integrations.openstack.launcher import Choices, Cloud, ImageWord
from watchword.tenant import launches
from watchword.tenant.launcher import Order, Server, await_server
from watchword.tenant.split_verdict import verify as verify_launch
from watchword.tenant.ssh import Address, parse_address
from watchword.wire.trace import traced

__all__ = ["openstack"]

_CLOUD = click.option("--cloud", metavar="NAME", help="Of clouds.yaml; else OS_CLOUD and the other OS_ variables.")


@click.group()
def openstack() -> None:
    """Launch in an OpenStack cloud and verify; and for its provider: tell the scheduler which hosts are good.

    \b
    Example:
      watchword openstack launch --cloud mine --authority auditor --profile gold.json --disk guest.img \\
        --image guest --flavor m1.small --name web1
    """


openstack.add_command(status)
openstack.add_command(watch)


@openstack.command()
@_CLOUD
@token_options
@click.option("--image", required=True, metavar="NAME|ID", help="The image in the cloud, made from --disk.")
@click.option("--flavor", required=True, metavar="NAME|ID", help="The flavor.")
@click.option("--network", "networks", multiple=True, metavar="NAME|ID", help="Networks; 'none' for none.")
@click.option("--security-group", "groups", multiple=True, metavar="NAME", help="Security groups.")
@click.option("--availability-zone", default="", metavar="NAME", help="The availability zone.")
@click.option("--schedule-level", default="", metavar="LEVEL", help="Ask the scheduler for hosts of this level.")
@click.option("--timeout", type=click.FloatRange(1, 86400), default=600, show_default=True, help="Seconds to wait.")
@json_option
def launch(
    cloud: str | None, image: str, flavor: str, networks: tuple[str, ...], groups: tuple[str, ...],
    availability_zone: str, schedule_level: str, timeout: float, as_json: bool, **demands: Any,
) -> None:  # fmt: skip
    """Launch a server with a new token, and wait until the provider calls it running.

    That the provider calls it running proves nothing: verify it next.

    \b
    Example:
      watchword openstack launch --cloud mine --authority auditor --profile gold.json --disk guest.img \\
        --image guest --flavor m1.small --name web1
    """
    hints = {"watchword_level": schedule_level} if schedule_level else {}
    place = Cloud(cloud, Choices(flavor, networks, availability_zone, groups, hints))
    word = place.word_about(image, demands["disk"])
    note(word.sentence())
    bundle, record = make_token(**demands)
    user_data: Path | None = demands["user_data"]
    content = user_data.read_bytes() if user_data else b""
    server = _wait(place, Order(record.name, word.image, content, bundle.metadata()), record, timeout)
    note(f"the provider says that {record.name!r} is running; find out: watchword openstack verify {record.name}")
    text = f"{record.name} is server {server.id} at {printable(server.address)}, host key {record.ssh_fingerprint}"
    emit(_document(record, server, word), text, as_json=as_json)


def _wait(cloud: Cloud, order: Order, record: launches.LaunchRecord, timeout: float) -> Server:
    with Console(stderr=True).status(f"launching {record.name}") as shown:

        def show(server: Server) -> None:
            shown.update(f"launching {record.name}: {printable(server.status)}")

        server = cloud.create(order)
        known = msgspec.structs.replace(record, provider=f"openstack:{cloud.name}", server=server.id)
        launches.save(known, replace=True)
        try:
            server = await_server(cloud, server, timeout, show)
        except Unavailable as error:
            if error.code == "launch-failed":
                error.hint = f"the reason, signed by the authority: watchword openstack verify {record.name}"
            raise
    launches.save(msgspec.structs.replace(known, address=server.address, port=server.port), replace=True)
    return server


def _document(record: launches.LaunchRecord, server: Server, word: ImageWord) -> dict[str, Any]:
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
        "image_service": {"image": word.image, "algorithm": word.algorithm, "digest": word.digest},
        "own_file": {"algorithm": word.algorithm, "digest": word.own},
        "image_service_agrees": word.matches,
    }


@openstack.command()
@click.argument("server")
@click.argument("address", required=False, metavar="[HOST:PORT]")
@_CLOUD
@click.option("--launch", "name", metavar="NAME", help="The launch, when it has another name than the server.")
@click.option("--timeout", type=click.FloatRange(1, 3600), default=120, show_default=True, help="Seconds for SSH.")
@click.option("--releases", type=click.IntRange(1, 65535), default=1, show_default=True, help="Machines you started.")
@json_option
def verify(
    server: str, address: str | None, cloud: str | None, name: str | None, timeout: float, releases: int, as_json: bool
) -> None:
    """Look SERVER up in the cloud, and find out whether it is yours and what it runs on.

    Where it answers and why it failed is what the provider says; the verdict does not depend on it.

    \b
    Example:
      watchword openstack verify web1 --cloud mine
    """
    record = launches.load(name or server)
    found = _look_up(cloud, record.server or server) if address is None else None
    said = _told(found)
    place = parse_address(address) if address else _place(found)
    try:
        with traced(record.trace):
            verdict = verify_launch(record, place, timeout=timeout, releases=releases)
    except WatchwordError as error:
        error = _no_address(error, found) if error.code == "address-unknown" else error
        error.beside |= said
        raise error from None
    emit(verdict.document() | said, verdict_text(verdict), as_json=as_json)


def _told(found: Server | None) -> dict[str, Any]:
    """What the provider says, for the document; people get it on stderr."""
    if found is None:
        return {}
    if found.fault:
        note(f"the provider's own words, which prove nothing: {printable(found.fault)}")
    if found.reason:
        note(f"the provider says of its hosts, which proves nothing: {printable(found.reason)}")
    return {"provider": {"status": found.status, "fault": found.fault, "reason": found.reason}}


def _place(found: Server | None) -> Address | None:
    """Where the provider says that the machine answers, read as strictly as an argument."""
    if found is None or not found.address:
        return None
    return parse_address(f"[{found.address}]:{found.port}" if ":" in found.address else f"{found.address}:{found.port}")


def _no_address(error: WatchwordError, found: Server | None) -> WatchwordError:
    """The provider was asked and has none: that is no mistake of the tenant's."""
    if found is None:
        return error
    text = f"the provider calls the server {printable(found.status)} and says no address; nothing is proven"
    return Unavailable("address-none", text, hint="if you know where it answers, give HOST:PORT after the name")


def _look_up(cloud: str | None, server: str) -> Server | None:
    """What the provider says; when it says nothing, the authority's decisions still count."""
    try:
        return Cloud(cloud).find(server)
    except WatchwordError as error:
        if error.code == "extra-missing":
            raise
        note(f"the provider did not say where the server is: {printable(error.message)}")
        return None
