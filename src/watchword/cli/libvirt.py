"""``watchword libvirt``: the hook that every start of a machine passes."""

from __future__ import annotations

import os
from pathlib import Path

import click

from watchword.cli.output import emit, json_option
from watchword.errors import UsageError
from watchword.integrations.libvirt import hook

__all__ = ["HOOK_NAME", "libvirt"]

HOOK_NAME = "50-watchword"
_PATH = click.Path(path_type=Path)
_SOCKET_LINE = 'SOCKET = "/run/watchword/agent.sock"'


@click.group()
def libvirt() -> None:
    """Check this host again at every start of a machine, by a hook of libvirt.

    \b
    Example:
      watchword libvirt install-hook
    """


@libvirt.command("install-hook")
@click.option(
    "--folder", type=_PATH, default="/etc/libvirt/hooks/qemu.d", show_default=True, help="Where libvirt looks."
)
@click.option(
    "--socket", type=_PATH, default="/run/watchword/agent.sock", show_default=True, help="Where the agent listens."
)
@json_option
def install_hook(folder: Path, socket: Path, as_json: bool) -> None:
    """Install the hook that asks the agent before a machine starts.

    Again after an update of Watchword. libvirt finds a new file there at its next start.

    \b
    Example:
      watchword libvirt install-hook
    """
    target = folder / HOOK_NAME
    text = Path(hook.__file__).read_text()
    quoted = str(socket)
    if not quoted.isprintable() or '"' in quoted or "\\" in quoted:
        raise UsageError("text", f"{quoted[:80]!r} cannot be the path of a socket")
    text = text.replace(_SOCKET_LINE, f'SOCKET = "{quoted}"')
    try:
        folder.mkdir(parents=True, exist_ok=True)
        temporary = folder.parent / f".{HOOK_NAME}.{os.getpid()}"
        temporary.write_text(text)
        temporary.chmod(0o755)
        temporary.replace(target)
    except OSError as error:
        raise UsageError("file-unwritable", f"{target} cannot be written: {error.strerror}") from None
    emit({"hook": str(target), "socket": quoted}, f"installed {target}; restart libvirtd if it runs", as_json=as_json)
