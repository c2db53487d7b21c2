"""``watchword known-hosts``: the machine's SSH host key, before there is a machine."""

from __future__ import annotations

import click

from watchword.cli.output import emit, json_option
from watchword.cli.verify import record_address
from watchword.tenant import launches
from watchword.tenant.ssh import known_hosts_line, known_hosts_name, parse_address

__all__ = ["known_hosts"]


@click.command("known-hosts")
@click.argument("name")
@click.argument("address", required=False, metavar="[HOST:PORT]")
@json_option
def known_hosts(name: str, address: str | None, as_json: bool) -> None:
    """Print the known_hosts line of the launch NAME, for OpenSSH.

    Its first name is the launch's own: with HostKeyAlias it fits wherever the machine turns up.

    \b
    Example:
      watchword known-hosts web1 > web1.known_hosts
      ssh -o UserKnownHostsFile=web1.known_hosts -o GlobalKnownHostsFile=none -o UpdateHostKeys=no \\
          -o StrictHostKeyChecking=yes -o HostKeyAlias=web1 root@192.0.2.7
    """
    record = launches.load(name)
    place = parse_address(address) if address else record_address(record)
    names = [record.name] + ([known_hosts_name(place)] if place else [])
    line = known_hosts_line(names, record.ssh_public_key)
    document = {"names": names, "ssh_public_key": record.ssh_public_key, "ssh_fingerprint": record.ssh_fingerprint}
    emit({**document, "line": line}, line, as_json=as_json)
