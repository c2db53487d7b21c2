"""Where things run: one machine split into a controller and compute hosts by namespaces of the kernel.

The whole run has mount, network, process, UTS and IPC namespaces of its own (``bin/openstack-e2e`` makes them), so
ports, bridges, mounts and processes end with it. A compute host has network, mount and UTS namespaces inside those.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

__all__ = ["AUTHORITY", "CONTROLLER", "HIDDEN", "TENANT_NET", "Compute", "prepare_controller", "run"]

CONTROLLER = "10.30.0.1"
AUTHORITY = "10.31.0.1"  # an address of the controller's that hosts reach only by a route of their own
TENANT_NET = "10.20.0"
TENANT_BRIDGE = "br-tenant"
_EMPTY, _COVERED = ("/tmp", "/run"), ("/etc", "/var/lib", "/var/cache")
HIDDEN = (*_EMPTY, *_COVERED)  # our own in the controller's namespace: nothing outside can be reached below them
_HOLDER = """
set -e
hostname {name}
mount -t sysfs sysfs /sys
mount -t tmpfs tmpfs /run
mkdir -p /run/libvirt/qemu /run/lock /run/watchword
for folder in {folders}; do mount --bind {state}/host$folder $folder; done
exec sleep infinity
"""
_OWN = ("/etc/libvirt", "/etc/watchword", "/var/lib/libvirt", "/var/cache/libvirt", "/var/lib/nova")


def run(*command: str | Path, check: bool = True, text: str = "") -> subprocess.CompletedProcess[str]:
    """Run a command to its end, ``text`` as its stdin; its output becomes part of the error when it fails."""
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, input=text)
    if check and done.returncode:
        raise RuntimeError(
            f"{' '.join(map(str, command))}: exit {done.returncode}: {(done.stderr + done.stdout)[-800:]}"
        )
    return done


@dataclass(frozen=True, slots=True)
class Compute:
    """Compute host ``number`` (from 1), with its files in ``state``."""

    number: int
    state: Path

    @property
    def name(self) -> str:
        return f"cmp{self.number}"

    @property
    def address(self) -> str:
        """On the management network."""
        return f"10.30.0.{10 + self.number}"

    def file(self, path: str) -> Path:
        """Where ``path``, as the host sees it, is for us; only below the folders that are the host's own."""
        return self.state / "host" / path.lstrip("/")

    def enter(self, holder: int) -> list[str]:
        """The beginning of a command that runs on this host."""
        return ["nsenter", "-t", str(holder), "-n", "-m", "-u", "--"]

    def start_holder(self) -> subprocess.Popen[bytes]:
        """Make the namespaces; they live as long as the process, and with them everything in them."""
        for folder in _OWN:
            self.file(folder).mkdir(parents=True, exist_ok=True)
        self.file("/var/lib/nova/instances").mkdir(exist_ok=True)  # nova reports no disk space without it
        script = _HOLDER.format(name=self.name, state=self.state, folders=" ".join(_OWN))
        command = ["unshare", "--net", "--mount", "--uts", "bash", "-c", script]
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)

    def connect(self, holder: int, *, routed: bool) -> None:
        """Two cables: one to the management network, one for tenants' machines, which ends in a bridge.

        Only a host that is ``routed`` reaches the authority.
        """
        inside = self.enter(holder)
        for kind, bridge in (("mgmt", "mgmt"), ("phys", "phys")):
            outer, inner = f"{kind}{self.number}", f"{kind}-in"
            run("ip", "link", "add", outer, "type", "veth", "peer", "name", inner, "netns", str(holder))
            run("ip", "link", "set", outer, "master", bridge, "up")
            run(*inside, "ip", "link", "set", inner, "up")
        run(*inside, "ip", "link", "set", "lo", "up")
        run(*inside, "ip", "address", "add", f"{self.address}/24", "dev", "mgmt-in")
        if routed:
            run(*inside, "ip", "route", "add", AUTHORITY, "via", CONTROLLER)
        run(*inside, "ip", "link", "add", TENANT_BRIDGE, "type", "bridge", "forward_delay", "0")
        run(*inside, "ip", "link", "set", TENANT_BRIDGE, "up")
        run(*inside, "ip", "link", "set", "phys-in", "master", TENANT_BRIDGE)


def prepare_controller(state: Path, computes: list[Compute]) -> None:
    """Mounts and networks of the controller. What is written to /etc and /var/lib stays in memory, and ends with us."""
    for folder in _EMPTY:
        run("mount", "-t", "tmpfs", "tmpfs", folder)
    for folder in _COVERED:
        upper, work = (Path("/run/above", folder.strip("/").replace("/", "-"), kind) for kind in ("upper", "work"))
        upper.mkdir(parents=True)
        work.mkdir()
        run("mount", "-t", "overlay", "overlay", "-o", f"lowerdir={folder},upperdir={upper},workdir={work}", folder)
    for path in _OWN:
        Path(path).mkdir(parents=True, exist_ok=True)
    _accounts()
    hosts = [f"{compute.address} {compute.name}" for compute in computes]
    Path("/etc/hosts").write_text("\n".join(["127.0.0.1 localhost", f"{CONTROLLER} controller", *hosts, ""]))
    run("hostname", "controller")
    run("ip", "link", "set", "lo", "up")
    run("ip", "address", "add", f"{AUTHORITY}/32", "dev", "lo")
    for bridge, address in (("mgmt", CONTROLLER), ("phys", f"{TENANT_NET}.1")):
        run("ip", "link", "add", bridge, "type", "bridge", "forward_delay", "0")
        run("ip", "address", "add", f"{address}/24", "dev", bridge)
        run("ip", "link", "set", bridge, "up")


def _accounts() -> None:
    """The account that libvirt looks up, which its Debian package for systems with systemd would make."""
    for name, line in (("passwd", "libvirt-qemu:x:64055:64055::/var/lib/libvirt:/usr/sbin/nologin\n"),
                       ("group", "libvirt-qemu:x:64055:\n")):  # fmt: skip
        path = Path("/etc", name)
        text = path.read_text()
        if "\nlibvirt-qemu:" not in text:
            path.write_text(text + line)


def fresh(folder: Path) -> Path:
    """``folder``, empty."""
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    os.chmod(folder, 0o755)
    return folder
