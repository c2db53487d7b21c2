"""``watchword agent serve``: the agent as a service of a compute host."""

from __future__ import annotations

import resource
import signal
import threading
from pathlib import Path
from typing import Any

import click

from watchword.agent import config as settings
from watchword.agent.journal import show_steps
from watchword.cli.output import emit, json_option
from watchword.integrations.openstack.doctor import examine
from watchword.integrations.openstack.service import AgentService
from watchword.integrations.openstack.settings import load_sections

__all__ = ["doctor", "serve"]

_PATH = click.Path(path_type=Path)


@click.command()
@click.option("--config", type=click.Path(path_type=Path), metavar="FILE", help="Settings (TOML).")
@json_option
def serve(config: Path | None, as_json: bool) -> None:
    """Answer nova on this host, and the libvirt hook, until SIGINT or SIGTERM.

    Nova asks it for the vendor data of each new machine; a machine whose metadata has a launch token gets its key, if
    this host may have it. The sections [serve] and [status] of the settings are for this command.

    \b
    Example:
      watchword agent serve --config /etc/watchword/agent.toml
    """
    sections = load_sections(config)
    show_steps()
    # A core file would hold secrets.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with AgentService(settings.load(config), *sections) as service:
        document: dict[str, Any] = {"url": service.url}
        emit(document, f"listening on {service.url}", as_json=as_json)
        stop.wait()


@click.command()
@click.option("--config", type=_PATH, metavar="FILE", help="Settings (TOML).")
@click.option(
    "--nova-conf", type=_PATH, multiple=True, default=("/etc/nova/nova.conf",), show_default=True, metavar="FILE",
    help="nova-compute's settings; again for each further file, in its order.",
)  # fmt: skip
@click.option(
    "--hook", type=_PATH, default="/etc/libvirt/hooks/qemu.d/50-watchword", show_default=True, help="The libvirt hook."
)
@json_option
def doctor(config: Path | None, nova_conf: tuple[Path, ...], hook: Path, as_json: bool) -> int:
    """Show what keeps this host from giving machines their keys, and what to do. Exit status 2 if something does.

    \b
    Example:
      watchword agent doctor --nova-conf /etc/nova/nova.conf --nova-conf /etc/nova/nova-compute.conf
    """
    found = examine(settings.load(config), *load_sections(config), nova_conf, hook)
    emit(found.document(), found.text(), as_json=as_json)
    return 0 if found.ready else 2
